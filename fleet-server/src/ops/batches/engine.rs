//! The one task that has batches go on: it looks at those of which something is to come, does what
//! is next, and waits for a bell or a second.
//!
//! What it holds in memory is only a copy. Whenever the store does not do what it is asked, that copy
//! is thrown away and read anew, so nothing is done from what is not so any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{BatchState, CommandState, EventKind, MemberState};
use fleet_core::id::Uid;
use fleet_core::limits::BATCH_DEVICES_MAX;
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::cut;
use futures_util::future::join_all;

use super::begin::said;
use super::machine::{Member, Next, Plan, next};
use super::view::{counted, words};
use super::{Batches, event};
use crate::ops::commands::BEGINS_ANEW;
use crate::ops::{Access, Actor, OpsError};
use crate::store::{
    Action, BatchRecord, CommandRecord, Device, MemberChange, MemberQuery, MemberRecord, StoreError,
};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Batches that a device's word about its configuration is noted in.
const REPORTED_MAX: usize = 64;
/// Commands that are taken back at once, so that they share their commits.
const TAKEN_BACK_MAX: usize = 100;
/// Ends that are noted at once, so that they share their commits.
const NOTED_AT_ONCE: usize = 500;
/// Characters of a reason that are kept with a member.
const WHY_CHARS_MAX: usize = 500;

/// What is to be noted of members, by batches and places.
type Notes = BTreeMap<Uid, Vec<(u32, MemberChange)>>;

/// The batches of which something is to come, as far as they are known.
#[derive(Default)]
struct Open {
    batches: BTreeMap<Uid, Live>,
    /// Those to look at now.
    due: BTreeSet<Uid>,
}

pub(super) struct Live {
    pub(super) batch: BatchRecord,
    pub(super) members: Vec<Seat>,
    /// What waited for devices when it was cancelled has been taken back.
    is_called_off: bool,
}

/// A member, without what does not decide.
pub(super) struct Seat {
    pub(super) ordinal: u32,
    pub(super) device: Uid,
    member: Member,
    command: Option<Uid>,
}

impl Seat {
    fn new(ordinal: u32, record: &MemberRecord) -> Self {
        let member = Member { state: record.state, begun_at: record.begun_at };
        Self { ordinal, device: record.device, member, command: record.command }
    }
}

impl Live {
    fn plan(&self) -> Plan {
        let batch = &self.batch;
        Plan {
            state: batch.state,
            window: batch.window as usize,
            canary: batch.canary as usize,
            max_fail: batch.max_fail as usize,
            forgiven: batch.forgiven as usize,
            timeout: self.time(),
            expires_at: batch.expires_at,
        }
    }

    /// How long each device may take. One that begins anew cannot speak meanwhile.
    fn time(&self) -> Duration {
        let Action::Command(command) = &self.batch.action else { return self.batch.timeout };
        let anew = if command.begins_anew() { BEGINS_ANEW } else { Duration::ZERO };
        self.batch.timeout.saturating_add(anew)
    }

    /// Takes over how many are how far; the state is not theirs to say.
    pub(super) fn note(&mut self, batch: &BatchRecord) {
        // Of two answers the one that came later may be the earlier one: what is left never grows.
        if batch.counts.left() <= self.batch.counts.left() {
            self.batch.counts = batch.counts;
        }
    }

    /// Takes over what the store says now of a member.
    pub(super) fn note_member(&mut self, ordinal: u32, record: &MemberRecord) {
        if let Ok(at) = self.members.binary_search_by_key(&ordinal, |seat| seat.ordinal) {
            self.members[at] = Seat::new(ordinal, record);
        }
    }
}

impl Batches {
    /// Has batches go on, until the server stops.
    pub(crate) async fn run(&self, tasks: &Tasks) {
        let mut open = Open::default();
        let mut is_known = false;
        let mut is_failing = false;
        loop {
            let outcome = if is_known {
                self.round(&mut open, tasks).await
            } else {
                self.begin_all(&mut open).await.inspect(|()| is_known = true)
            };
            match outcome {
                Ok(()) => is_failing = false,
                Err(error) if !is_failing => {
                    is_failing = true;
                    tracing::warn!(error = %Chain(&error), "batches do not go on at present");
                }
                Err(_) => {}
            }
            if tasks.is_stopping() {
                return;
            }
            let outcome = tokio::select! {
                () = tasks.stopping() => return,
                came = self.hub.came() => {
                    open.touch(&came.into_iter().collect());
                    Ok(())
                }
                ended = self.commands.ended.rung() => self.commands_ended(&mut open, ended).await,
                said = self.reports.rung() => self.configs_reported(&mut open, said).await,
                told = self.told.rung() => self.told(&mut open, told).await,
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    open.due.extend(open.batches.keys());
                    self.trim().await
                }
            };
            if let Err(error) = outcome {
                // What was rung for is found again in what the store says.
                tracing::debug!(error = %Chain(&error), "batches are read anew");
                is_known = false;
            }
        }
    }

    /// Reads all batches of which something is to come, and what became of them meanwhile.
    async fn begin_all(&self, open: &mut Open) -> Result<(), OpsError> {
        *open = Open::default();
        for batch in self.world.store.batch_open().await? {
            self.take(open, batch).await?;
        }
        Ok(())
    }

    /// Looks at each batch that is due until nothing is to be done at this moment, in turn.
    async fn round(&self, open: &mut Open, tasks: &Tasks) -> Result<(), OpsError> {
        let mut outcome = Ok(());
        while let Some(id) = open.due.pop_first() {
            if tasks.is_stopping() {
                return outcome;
            }
            match self.step(open, id).await {
                Ok(true) => drop(open.due.insert(id)),
                Ok(false) => {}
                Err(error) => {
                    // Somebody paused it a moment ago, or the like: that is no failure.
                    if !matches!(error, OpsError::Conflict(_)) {
                        outcome = Err(error);
                    }
                    // The next look, a second later, begins with what the store says.
                    let batch = if_sound(self.world.store.batch_get(id).await)?.flatten();
                    if let Some(batch) = batch {
                        self.take(open, batch).await?;
                        open.due.remove(&id);
                    } else {
                        open.batches.remove(&id);
                    }
                }
            }
            // Who has waited for a turn has it before this batch's next one.
            tokio::task::yield_now().await;
        }
        outcome
    }

    /// Takes a batch in, or reads it anew.
    async fn take(&self, open: &mut Open, batch: BatchRecord) -> Result<(), OpsError> {
        let id = batch.id;
        if !batch.is_open() {
            open.batches.remove(&id);
            return Ok(());
        }
        let query =
            MemberQuery { batch: id, states: Vec::new(), after: None, limit: BATCH_DEVICES_MAX };
        let members = self.world.store.batch_members(query).await?;
        let running: Vec<_> = members
            .iter()
            .filter(|(_, member)| member.state == MemberState::Running)
            .map(|(_, member)| (member.command, member.device))
            .collect();
        let members = members.iter().map(|(ordinal, member)| Seat::new(*ordinal, member)).collect();
        open.batches.insert(id, Live { batch, members, is_called_off: false });
        open.due.insert(id);
        let (commands, devices): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|(command, _)| command.is_some());
        let commands = commands.into_iter().filter_map(|(command, _)| command).collect();
        self.commands_ended(open, commands).await?;
        let devices = devices.into_iter().map(|(_, device)| device).collect();
        self.configs_reported(open, devices).await
    }

    /// Somebody wants something of batches.
    async fn told(&self, open: &mut Open, ids: Vec<Uid>) -> Result<(), OpsError> {
        for id in ids {
            let batch = if_sound(self.world.store.batch_get(id).await)?.flatten();
            let Some(batch) = batch else { continue };
            match open.batches.get_mut(&id) {
                Some(live) => {
                    live.batch = batch;
                    open.due.insert(id);
                }
                None => self.take(open, batch).await?,
            }
        }
        Ok(())
    }

    /// Does what is next for a batch; whether there may be more to do.
    async fn step(&self, open: &mut Open, id: Uid) -> Result<bool, OpsError> {
        let Some(live) = open.batches.get_mut(&id) else { return Ok(false) };
        if live.batch.state == BatchState::Cancelled && !live.is_called_off {
            let told = live.members.iter().filter(|seat| may_begin_yet(seat));
            let told: Vec<Uid> = told.filter_map(|seat| seat.command).collect();
            for some in told.chunks(TAKEN_BACK_MAX) {
                let taken = join_all(some.iter().map(|id| self.take_back(*id))).await;
                taken.into_iter().collect::<Result<Vec<_>, _>>()?;
            }
            live.is_called_off = true;
        }
        let now = self.world.now();
        let members: Vec<_> = live.members.iter().map(|seat| seat.member).collect();
        let is_connected = |place: usize| self.hub.is_connected(live.members[place].device);
        match next(&live.plan(), &members, is_connected, now) {
            Next::Begin(places) => self.begin_some(live, &places).await?,
            Next::Expire(places) => {
                let why = format!("it did not come before {}", live.batch.expires_at);
                self.settle_some(live, &places, MemberState::Expired, &why).await?;
            }
            Next::CallOff(places) => {
                let why = format!("the batch was {}", live.batch.why);
                self.settle_some(live, &places, MemberState::Cancelled, &why).await?;
            }
            Next::GiveUp(places) => {
                let told: Vec<Uid> =
                    places.iter().filter_map(|place| live.members[*place].command).collect();
                let are_over = join_all(told.iter().map(|id| self.take_back(*id))).await;
                let are_over = are_over.into_iter().collect::<Result<Vec<_>, _>>()?;
                let ended = told.into_iter().zip(are_over).filter(|(_, is_over)| *is_over);
                self.commands_ended(open, ended.map(|(id, _)| id).collect()).await?;
                let Some(live) = open.batches.get_mut(&id) else { return Ok(false) };
                // Whatever was not told of these by now: they are not looked at for ever.
                let is_silent =
                    |place: &usize| live.members[*place].member.state == MemberState::Running;
                let silent: Vec<usize> = places.into_iter().filter(is_silent).collect();
                let why = format!("no answer within {} s", live.time().as_secs());
                self.settle_some(live, &silent, MemberState::Unknown, &why).await?;
            }
            Next::Pause { failures, at } => {
                let failed = if failures == 1 { "device" } else { "devices" };
                let why = format!("{failures} {failed} failed, and it pauses at {at}");
                self.turn(live, BatchState::Paused, Some(why), EventKind::BatchPaused, now).await?;
            }
            Next::Done => {
                self.turn(live, BatchState::Done, None, EventKind::BatchDone, now).await?;
            }
            Next::Wait => {
                if !live.batch.is_open() {
                    open.batches.remove(&id);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings a batch into another state of its own accord; where no reason is given, how far its
    /// devices have come is the reason.
    async fn turn(
        &self,
        live: &mut Live,
        state: BatchState,
        why: Option<String>,
        kind: EventKind,
        now: Timestamp,
    ) -> Result<(), OpsError> {
        let before = live.batch.state;
        let change = move |batch: &mut BatchRecord| {
            // Somebody may have said something else meanwhile.
            if batch.state == before {
                let why = why.unwrap_or_else(|| counted(batch));
                (batch.state, batch.state_at, batch.why) = (state, now, why);
            }
            Ok(())
        };
        live.batch = self.world.store.batch_change(live.batch.id, Box::new(change)).await?;
        if live.batch.state == state {
            let mut text = format!("{}: {}", words(&live.batch), live.batch.why);
            if state != BatchState::Done {
                text = format!("{text}; {}", counted(&live.batch));
            }
            self.events.record(event(kind, &Actor::Server, text)).await;
        }
        Ok(())
    }

    /// Brings members into a state in which nothing is to come.
    async fn settle_some(
        &self,
        live: &mut Live,
        places: &[usize],
        state: MemberState,
        why: &str,
    ) -> Result<(), OpsError> {
        let seats = places.iter().map(|place| &live.members[*place]);
        let changes = seats.map(|seat| {
            (seat.ordinal, self.settled(Some(seat.member.state), state, why.to_owned()))
        });
        let changes = changes.collect();
        self.change_members(live, changes).await
    }

    /// Changes members; all of them have to be there.
    pub(super) async fn change_members(
        &self,
        live: &mut Live,
        changes: Vec<(u32, MemberChange)>,
    ) -> Result<(), OpsError> {
        if changes.is_empty() {
            return Ok(());
        }
        let changed = self.world.store.batch_members_change(live.batch.id, changes).await?;
        live.note(&changed.batch);
        for (ordinal, member) in changed.members {
            live.note_member(ordinal, &member?);
        }
        Ok(())
    }

    /// The change of a member from one state, or from any, to another one.
    pub(super) fn settled(
        &self,
        from: Option<MemberState>,
        state: MemberState,
        why: String,
    ) -> MemberChange {
        let (now, why) = (self.world.now(), cut(why, WHY_CHARS_MAX));
        Box::new(move |member| {
            if member.state != state && from.is_none_or(|from| from == member.state) {
                (member.state, member.state_at, member.why) = (state, now, why);
            }
        })
    }

    /// Takes a command back, unless its device has said that it will do it. Whether it is over.
    async fn take_back(&self, id: Uid) -> Result<bool, OpsError> {
        let command = if_sound(self.world.store.command_get(id).await)?.flatten();
        let Some(command) = command else { return Ok(false) };
        if matches!(command.state, CommandState::Queued | CommandState::Sent) {
            match self.commands.cancel(&Access::server(), id, &Actor::Server).await {
                // It is too late, and goes on.
                Ok(_) | Err(OpsError::Conflict(_) | OpsError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(command.state.is_over())
    }

    /// Notes what became of commands that are over and of batches, some at a time.
    async fn commands_ended(&self, open: &mut Open, ids: Vec<Uid>) -> Result<(), OpsError> {
        for some in ids.chunks(NOTED_AT_ONCE) {
            let mut notes = Notes::new();
            for (place, command) in self.world.store.batch_commands(some.to_vec()).await? {
                if let Some(change) = self.ended(command) {
                    notes.entry(place.batch).or_default().push((place.ordinal, change));
                }
            }
            self.note(open, notes).await?;
        }
        Ok(())
    }

    /// What the end of a command makes of its member.
    fn ended(&self, command: CommandRecord) -> Option<MemberChange> {
        let state = match command.state {
            CommandState::Succeeded => MemberState::Succeeded,
            CommandState::Failed => MemberState::Failed,
            CommandState::Expired => MemberState::Expired,
            CommandState::Cancelled => MemberState::Cancelled,
            CommandState::Unknown => MemberState::Unknown,
            CommandState::Queued
            | CommandState::Sent
            | CommandState::Accepted
            | CommandState::Running
            | CommandState::Later(_) => return None,
        };
        let (now, why) = (self.world.now(), cut(command.why, WHY_CHARS_MAX));
        // What the device says of the end is the truth, whatever was supposed before. That it was
        // taken back from a device that did not answer is no such word.
        Some(Box::new(move |member| {
            let is_given_up =
                member.state == MemberState::Unknown && state == MemberState::Cancelled;
            if member.state != state && !is_given_up {
                (member.state, member.state_at, member.why) = (state, now, why);
            }
        }))
    }

    /// Notes what devices say of their configurations, where a batch waits for it or gave it up.
    async fn configs_reported(&self, open: &mut Open, uids: Vec<Uid>) -> Result<(), OpsError> {
        let store = &self.world.store;
        for some in uids.chunks(NOTED_AT_ONCE) {
            let mut notes = Notes::new();
            for uid in some {
                let device = if_sound(store.device_get(*uid).await)?.flatten();
                let Some(device) = device.map(Arc::new) else { continue };
                let Some(reported) = &device.reported else { continue };
                let places = store.batch_of_config(*uid, reported.version, REPORTED_MAX).await;
                for place in if_sound(places)?.unwrap_or_default() {
                    let change = (place.ordinal, self.reported(device.clone()));
                    notes.entry(place.batch).or_default().push(change);
                }
            }
            self.note(open, notes).await?;
        }
        Ok(())
    }

    /// What a device's word about its configuration makes of a member that was given a version.
    fn reported(&self, device: Arc<Device>) -> MemberChange {
        let now = self.world.now();
        Box::new(move |member| {
            let is_open = matches!(member.state, MemberState::Running | MemberState::Unknown);
            let said = said(&device, member.version.unwrap_or(0)).filter(|_| is_open);
            if let Some((state, why)) = said {
                (member.state, member.state_at, member.why) = (state, now, cut(why, WHY_CHARS_MAX));
            }
        })
    }

    /// Notes what became of members, and has their batches looked at if something of them is to
    /// come.
    async fn note(&self, open: &mut Open, notes: Notes) -> Result<(), OpsError> {
        for (id, changes) in notes {
            let changed = match self.world.store.batch_members_change(id, changes).await {
                // It has given way, or cannot be read, which health says.
                Err(StoreError::Missing(_) | StoreError::Damaged { .. }) => continue,
                changed => changed?,
            };
            let Some(live) = open.batches.get_mut(&id) else { continue };
            live.note(&changed.batch);
            for (ordinal, member) in changed.members {
                // So may a member.
                if let Ok(member) = member {
                    live.note_member(ordinal, &member);
                }
            }
            open.due.insert(id);
        }
        Ok(())
    }

    /// Removes batches beyond those that are kept, a piece at a time.
    async fn trim(&self) -> Result<(), OpsError> {
        while self.world.store.batch_trim().await? {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

impl Open {
    /// Has batches looked at in which one of some devices waits.
    fn touch(&mut self, devices: &BTreeSet<Uid>) {
        let waits = |seat: &Seat| {
            seat.member.state == MemberState::Waiting && devices.contains(&seat.device)
        };
        let touched = self.batches.iter().filter(|(_, live)| live.members.iter().any(waits));
        self.due.extend(touched.map(|(id, _)| *id));
    }
}

/// Whether a member's device may have something to do that it has not begun.
fn may_begin_yet(seat: &Seat) -> bool {
    matches!(seat.member.state, MemberState::Running | MemberState::Unknown)
}

/// What was found, or nothing where it is damaged, which health says: one row that cannot be read
/// holds up nothing else.
fn if_sound<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(StoreError::Damaged { .. }) => Ok(None),
        found => found.map(Some),
    }
}
