//! Commands: what operators have devices do, on its way there and back.
//!
//! A change of a command is on the disk, and with it the event that tells of it, before anything
//! follows from it: before its order is sent, before the device is told that its word was noted. So
//! a crash in between costs nothing: an order that was about to be sent is sent again, and the device
//! answers for what it has done already.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{CommandRequest, CommandState, CommandView, EventKind, Right};
use fleet_core::command::{COMMAND_TIMEOUT_DEFAULT, COMMAND_TIMEOUT_MAX, Command};
use fleet_core::id::{Uid, UidEnding};
use fleet_core::identity::PrivateKey;
use fleet_core::limits::{COMMAND_EXPIRY_DEFAULT, COMMAND_EXPIRY_MAX, PAGE_ROWS_MAX};
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::parse_duration;
use fleet_core::untrusted::{Untrusted, cut};
use fleet_core::wire::{CommandNews, CommandOrder, Progress, ToAgent};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

use super::command_state::{self, Input, apply};
use super::devices::find;
use super::events::NewEvent;
use super::holder::{self, Holder};
use super::waiting::{Place, Waiting};
use super::{Access, Actor, OpsError, Presence, World};
use crate::bell::Bell;
use crate::hub::Hub;
use crate::meters::Meters;
use crate::store::{Admission, CommandQuery, CommandRecord, Device, Event, Inserted, StoreError};

/// Between two looks at what is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Commands that one look settles at a time.
const DUE_MAX: usize = 500;
/// How long a device may be away that begins anew; as long as it gives itself.
pub(super) const BEGINS_ANEW: Duration = Duration::from_secs(300);
/// Characters of an event's text that say why.
const WHY_CHARS_MAX: usize = 500;

/// Operations on commands.
pub(crate) struct Commands {
    pub(crate) world: World,
    pub(crate) hub: Arc<Hub>,
    pub(crate) server: Arc<PrivateKey>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) waiting: Waiting,
    /// Rings for commands that are over, as the batches that they are of want to know.
    pub(crate) ended: Arc<Bell>,
}

/// Which commands to look for.
#[derive(Debug)]
pub(crate) struct CommandsAsked {
    /// Of the device with this id or uid.
    pub(crate) device: Option<String>,
    /// In these states; in all states if there is none.
    pub(crate) states: Vec<CommandState>,
    /// Whose ids end so.
    pub(crate) ending: Option<UidEnding>,
    /// Older than this one.
    pub(crate) before: Option<Uid>,
    pub(crate) limit: usize,
}

impl Commands {
    /// Has a device do something. The same under the same number is no new command; whether it is
    /// one is told.
    pub(crate) async fn create(
        &self,
        access: &Access,
        request: CommandRequest,
        actor: &Actor,
    ) -> Result<(CommandView, bool), OpsError> {
        let wish = Wish::read(&request)?;
        require_might(access, &wish.command)?;
        let device = find(&self.world, access, &request.device_id).await?;
        if let Some(id) = request.id
            && let Some(known) = self.world.store.command_get(id).await?
        {
            // What stands against it by now did not when it was asked for first.
            let is_the_same = known.device == device.uid && known.command == wish.command;
            let other = || OpsError::Conflict(format!("another command has the id {id}"));
            return if is_the_same { Ok((view(known), false)) } else { Err(other()) };
        }
        require_able(&device)?;
        let now = self.world.now();
        let mut command = CommandRecord::queued(
            request.id.unwrap_or_else(Uid::new),
            &device,
            wish.command,
            actor.to_string(),
            (now, now.plus(wish.expires_in)),
            wish.timeout,
        );
        self.send_if_connected(&mut command);
        let told = Box::new(told);
        let inserted = self.world.store.command_insert(vec![command], told).await?;
        let inserted = inserted.into_iter().next().ok_or(OpsError::Defect)?;
        self.given(&inserted);
        Ok((view(inserted.command), inserted.is_new))
    }

    /// A command for a device that is connected is on its way as soon as it is stored, which saves
    /// it a commit of its own. If the device leaves just then it gets it when it comes again, as one
    /// that got lost on its way.
    pub(super) fn send_if_connected(&self, command: &mut CommandRecord) {
        if self.hub.is_connected(command.device) {
            command_state::send(command);
        }
    }

    /// Has a command that was just stored go its way.
    pub(super) fn given(&self, inserted: &Inserted) {
        if inserted.is_new {
            inserted.superseded.iter().for_each(|older| self.ring(older));
            self.hub.ring(inserted.command.device);
        }
    }

    /// Tells those who want to know of a command to look at it.
    fn ring(&self, command: &CommandRecord) {
        self.waiting.ring(command.id);
        if command.state.is_over() {
            self.ended.ring(command.id);
        }
    }

    /// One command.
    pub(crate) async fn get(&self, access: &Access, id: Uid) -> Result<CommandView, OpsError> {
        Ok(view(self.load(access, id).await?))
    }

    /// The command that a place is about, as soon as its state is another one than `after`, or when
    /// the time is up, or the server stops. Without `after` it is the state of now, and what is over
    /// is not waited for. Whose key ends meanwhile is told nothing.
    pub(crate) async fn wait(
        &self,
        access: &Access,
        place: &Place,
        after: Option<CommandState>,
        patience: Duration,
        holder: &Holder<'_>,
        tasks: &Tasks,
    ) -> Result<CommandView, OpsError> {
        let now = Instant::now();
        let (end, mut access_due) = (now + patience, now + holder::LOOK_INTERVAL);
        let mut after = after;
        loop {
            // A change after this look rings already.
            let ring = place.ring();
            if Instant::now() >= access_due {
                access_due = Instant::now() + holder::LOOK_INTERVAL;
                holder.require_good().await?;
            }
            let command = self.load(access, place.id()).await?;
            let is_news = match after {
                Some(after) => command.state != after,
                None => command.state.is_over(),
            };
            after.get_or_insert(command.state);
            if is_news || Instant::now() >= end || tasks.is_stopping() {
                return Ok(view(command));
            }
            tokio::select! {
                () = ring => {}
                () = sleep_until(end.min(access_due)) => {}
                () = tasks.stopping() => {}
            }
        }
    }

    /// Commands that are asked for, newest first.
    pub(crate) async fn list(
        &self,
        access: &Access,
        asked: CommandsAsked,
    ) -> Result<Vec<CommandView>, OpsError> {
        let device = match &asked.device {
            Some(name) => Some(self.whose(access, name).await?),
            None => None,
        };
        let limit = asked.limit.min(PAGE_ROWS_MAX);
        let mut query = CommandQuery {
            device,
            states: asked.states,
            ending: asked.ending,
            before: asked.before,
            limit: if access.scope().is_some() { PAGE_ROWS_MAX } else { limit },
        };
        let directory = self.world.store.directory();
        let mut found = Vec::new();
        // With a scope some of a page may be nobody's business, and further ones are looked at.
        loop {
            let commands = self.world.store.command_list(query.clone()).await?;
            let is_last = commands.len() < query.limit;
            query.before = commands.last().map(|command| command.id);
            let seen = commands.into_iter().filter(|of| access.has_listed(directory, of.device));
            found.extend(seen.take(limit - found.len()).map(view));
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// Takes a command back, if the device has not begun. One that is on its way is taken back by
    /// the device, which is told so.
    pub(crate) async fn cancel(
        &self,
        access: &Access,
        id: Uid,
        actor: &Actor,
    ) -> Result<CommandView, OpsError> {
        let before = self.load(access, id).await?;
        let by = actor.to_string();
        let changed = self.change(&before, Input::Cancel { by }, actor).await?;
        // Whoever has it on its way looks again.
        self.hub.ring(changed.device);
        Ok(view(changed))
    }

    /// Takes back all that has not begun on a device, which is told nothing any more.
    pub(crate) async fn call_off(&self, device: Uid, actor: &Actor) -> Result<(), OpsError> {
        let mut outcome = Ok(());
        for command in self.world.store.command_open(device).await? {
            let by = actor.to_string();
            match self.change(&command, Input::Cancel { by }, actor).await {
                // The device is at it, or was quicker.
                Ok(_) | Err(StoreError::Refused(_)) => {}
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }

    /// Notes what a device says of a command; whether the device need not say it again. What it says
    /// of commands that are not its own, or that nobody gave, or that cannot be read any more, is
    /// counted and left alone; to say it again would help nobody.
    pub(crate) async fn heard(&self, device: Uid, news: CommandNews) -> Result<bool, OpsError> {
        let id = Uid::from_bytes(news.id);
        let is_end = matches!(news.progress, Progress::Done(_));
        let known = match self.world.store.command_get(id).await {
            Err(StoreError::Damaged { .. }) => None,
            known => known?,
        };
        let Some(before) = known.filter(|command| command.device == device) else {
            self.meters.news_ignored();
            tracing::debug!(uid = %device, command = %id, "news of a command that is not the device's");
            return Ok(is_end);
        };
        let input = Input::News(news.progress);
        // What is no news costs no commit, however often it comes.
        let mut tried = before.clone();
        if apply(&mut tried, input.clone(), self.world.now()).is_ok() && tried != before {
            self.change(&before, input, &Actor::Device).await?;
        }
        Ok(is_end)
    }

    /// A device's commands that are not over, oldest first.
    pub(crate) async fn open(&self, device: Uid) -> Result<Vec<CommandRecord>, OpsError> {
        Ok(self.world.store.command_open(device).await?)
    }

    /// The order to send for a command, once it is noted that it is sent; nothing if there is
    /// nothing to send any more.
    pub(crate) async fn order(&self, command: CommandRecord) -> Result<Option<ToAgent>, OpsError> {
        let now = self.world.now();
        let command = match command.state {
            // It is about to expire.
            CommandState::Queued if command.expires_at <= now => return Ok(None),
            CommandState::Queued => self.change(&command, Input::Sent, &Actor::Server).await?,
            _ => command,
        };
        if command.state.is_over() || is_taken_back(&command) {
            return Ok(None);
        }
        let order = CommandOrder {
            id: command.id.bytes(),
            word: command.command.word().to_owned(),
            args: command.command.args(),
            expires_millis: command.expires_at.millis(),
            // By a clock that was set back no more is left than there was.
            expires_in_millis: millis(command.expires_at.since(now.max(command.created_at))),
            timeout_millis: millis(command.timeout),
            signature: [0; 64],
        };
        let order = order.signed(command.device.bytes(), &self.server);
        Ok(Some(ToAgent::Command(Box::new(order))))
    }

    /// Gives up what is due, every second, until the server stops.
    pub(crate) async fn run(&self, tasks: &Tasks) {
        let mut is_failing = false;
        loop {
            match self.settle().await {
                Ok(()) => is_failing = false,
                Err(error) if !is_failing => {
                    is_failing = true;
                    tracing::warn!(error = %Chain(&error), "commands that are due were not looked at");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tasks.stopping() => return,
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    /// Gives up what is due.
    async fn settle(&self) -> Result<(), StoreError> {
        loop {
            let due = self.world.store.command_due(self.world.now(), DUE_MAX).await?;
            // All at once, so that they share their commits.
            let settle = |before| self.change(before, Input::Due, &Actor::Server);
            let settled = join_all(due.iter().map(settle)).await;
            let is_none_over = !settled.iter().flatten().any(|changed| changed.state.is_over());
            for changed in settled {
                changed?;
            }
            if due.len() < DUE_MAX || is_none_over {
                return Ok(());
            }
        }
    }

    async fn load(&self, access: &Access, id: Uid) -> Result<CommandRecord, OpsError> {
        let directory = self.world.store.directory();
        let found = self.world.store.command_get(id).await?;
        let found = found.filter(|command| access.has_listed(directory, command.device));
        found.ok_or_else(|| OpsError::NotFound(format!("command {id}")))
    }

    /// Has the store make of a command what an input makes of it then, and write down if that is
    /// an end; tells those who wait. Returns the command with what its program wrote as far as that
    /// is known here.
    async fn change(
        &self,
        command: &CommandRecord,
        input: Input,
        actor: &Actor,
    ) -> Result<CommandRecord, StoreError> {
        let (now, actor) = (self.world.now(), actor.to_string());
        let change = move |command: &mut CommandRecord| {
            let before = command.state;
            apply(command, input, now)?;
            let end = kind(command.state).filter(|_| command.state != before);
            Ok(end.map(|kind| event(command, kind, &actor).at(now)))
        };
        let after = self.world.store.command_change(command.id, Box::new(change)).await?;
        self.ring(&after);
        self.expect_back(&after);
        let output = after.output.or_else(|| command.output.clone());
        Ok(CommandRecord { output, ..after })
    }

    /// Nobody need worry about a device that is silent because it begins anew.
    fn expect_back(&self, command: &CommandRecord) {
        if !command.command.begins_anew() {
            return;
        }
        let (device, id) = (command.device, command.id);
        if command.state == CommandState::Running {
            self.presence.expect_back(device, id, command.state_at.plus(BEGINS_ANEW));
        } else if command.state.is_over() && self.presence.expect_no_more(device, id) {
            // If it is silent all the same, that is to be told now.
            self.hub.wake(device);
        }
    }

    /// The device that a name means; one that is gone still has its commands for a while.
    async fn whose(&self, access: &Access, name: &str) -> Result<Uid, OpsError> {
        match (find(&self.world, access, name).await, name.parse()) {
            (Ok(device), _) => Ok(device.uid),
            (Err(OpsError::NotFound(_)), Ok(uid)) => Ok(uid),
            (Err(error), _) => Err(error),
        }
    }
}

/// Refuses whoever may not have a command done.
pub(super) fn require_might(access: &Access, command: &Command) -> Result<(), OpsError> {
    match command {
        Command::Exec(_) => access.require_right(Right::Exec),
        Command::Restart
        | Command::RestartService(_)
        | Command::Reboot
        | Command::Collect
        | Command::Logs { .. }
        | Command::RotateKey => Ok(()),
    }
}

/// Whether all that the device is to hear of a command is that it is taken back.
pub(crate) fn is_taken_back(command: &CommandRecord) -> bool {
    command.state == CommandState::Sent && command.cancel_asked_by.is_some()
}

/// What is wished for, read.
struct Wish {
    command: Command,
    expires_in: Duration,
    timeout: Duration,
}

impl Wish {
    fn read(request: &CommandRequest) -> Result<Self, OpsError> {
        if request.id.is_some_and(|id| !is_in_order(id)) {
            let problem = "must be a UUID of version 7, so that commands are in their order";
            return Err(OpsError::invalid("id", problem));
        }
        let command = match &request.args {
            Some(args) => Command::read(&request.command, args),
            None => request.command.parse(),
        };
        Ok(Self {
            command: command.map_err(|error| OpsError::invalid("command", error))?,
            expires_in: duration(
                "expires_in",
                request.expires_in.as_deref(),
                COMMAND_EXPIRY_DEFAULT,
                COMMAND_EXPIRY_MAX,
            )?,
            timeout: duration(
                "timeout",
                request.timeout.as_deref(),
                COMMAND_TIMEOUT_DEFAULT,
                COMMAND_TIMEOUT_MAX,
            )?,
        })
    }
}

/// A duration that somebody wishes for, or the usual one.
pub(super) fn duration(
    field: &str,
    text: Option<&str>,
    usual: Duration,
    max: Duration,
) -> Result<Duration, OpsError> {
    let Some(text) = text else { return Ok(usual) };
    let duration = parse_duration(text).map_err(|error| OpsError::invalid(field, error))?;
    if duration.is_zero() || duration > max {
        let problem = format!("must be more than nothing and at most {} s", max.as_secs());
        return Err(OpsError::invalid(field, problem));
    }
    Ok(duration)
}

/// Whether ids like this one sort as they were made.
pub(super) fn is_in_order(id: Uid) -> bool {
    id.bytes()[6] >> 4 == 7
}

/// Whether a device takes commands.
pub(crate) fn require_able(device: &Device) -> Result<(), OpsError> {
    let id = &device.id;
    let problem = match device.state {
        Admission::Active if device.key.is_none() => {
            format!("the device {id} is reported by a third party and takes no commands")
        }
        Admission::Active => return Ok(()),
        Admission::Pending => format!("the device {id} is pending: accept it first"),
        Admission::Rejected => format!("the device {id} was rejected and takes no commands"),
        Admission::Revoked | Admission::Deleted => {
            format!("the device {id} was revoked and takes no commands")
        }
    };
    Err(OpsError::Conflict(problem))
}

/// The event that tells of a state; none for one on the way.
fn kind(state: CommandState) -> Option<EventKind> {
    match state {
        CommandState::Succeeded => Some(EventKind::CommandSucceeded),
        CommandState::Failed => Some(EventKind::CommandFailed),
        CommandState::Expired => Some(EventKind::CommandExpired),
        CommandState::Cancelled => Some(EventKind::CommandCancelled),
        CommandState::Unknown => Some(EventKind::CommandUnknown),
        CommandState::Queued
        | CommandState::Sent
        | CommandState::Accepted
        | CommandState::Running
        | CommandState::Later(_) => None,
    }
}

fn event(command: &CommandRecord, kind: EventKind, actor: &str) -> NewEvent {
    let why = cut(command.why.clone(), WHY_CHARS_MAX);
    let device = Some((command.device_id.clone(), command.device));
    let text = format!("{}: {why}", words(command));
    NewEvent { kind, actor: actor.to_owned(), device, text }
}

/// What is told of a command that was just added, by its author.
pub(super) fn told(inserted: &Inserted) -> Vec<Event> {
    let command = &inserted.command;
    let (kind, actor) = (EventKind::CommandQueued, command.author.clone());
    let device = Some((command.device_id.clone(), command.device));
    let text = format!("{}, until {}", words(command), command.expires_at);
    let older = inserted.superseded.iter();
    let mut told: Vec<_> =
        older.map(|older| event(older, EventKind::CommandCancelled, &actor)).collect();
    told.push(NewEvent { kind, actor, device, text });
    told.into_iter().map(|new| new.at(command.created_at)).collect()
}

/// A command in an event: its number first, since the words may be many.
fn words(command: &CommandRecord) -> String {
    format!("{} {}", command.id, command.command)
}

fn view(command: CommandRecord) -> CommandView {
    let args = command.command.args();
    CommandView {
        id: command.id,
        device_id: command.device_id,
        uid: command.device,
        command: Untrusted::from(command.command.word()),
        args: args.into_iter().map(Untrusted::new).collect(),
        state: command.state,
        why: Untrusted::new(command.why),
        state_at: command.state_at,
        author: Untrusted::new(command.author),
        created_at: command.created_at,
        expires_at: command.expires_at,
        exit_code: command.exit_code,
        output: command
            .output
            .map(|output| Untrusted::new(String::from_utf8_lossy(&output).into_owned())),
        output_left_out: command.output_left_out,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
