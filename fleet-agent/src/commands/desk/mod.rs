//! The commands of this device without the doing: which come in, which is next, what there is to
//! say of them. Every step is in the journal before anything follows from it.
//!
//! It reads no clock and waits for nothing, so that a test can end it anywhere.

mod intake;
mod news;
mod recover;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::command::{COMMAND_TIMEOUT_MAX, Command};
use fleet_core::disk::Disk;
use fleet_core::identity::ServerIdentity;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::{CommandResult, Outcome};

use super::outcome::{Performed, result, with_output};
use crate::config::CommandPolicy;
use crate::journal::{self, About, Begun, CommandId, Entry, Journal, Stage, Words};
use crate::spool::Moment;
use news::News;

/// How long what ends this run of the agent may take after it was asked for, in milliseconds.
const ASKED_MAX: u64 = 5 * 60 * 1000;
/// Between tries to write what the disk did not take, in milliseconds.
const RETRY: u64 = 5_000;

/// Opens the journal's folder, which is made if need be.
pub(super) type Ground = Box<dyn Fn() -> io::Result<Arc<dyn Disk>> + Send>;

/// What tells this run of the agent from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here {
    /// Its own random number.
    pub(super) run: [u8; 16],
    /// The machine's boot, where that has a name.
    pub(super) boot: Option<[u8; 16]>,
}

/// The commands of this device.
pub(super) struct Desk {
    ground: Ground,
    here: Here,
    policy: CommandPolicy,
    /// Who gives orders. Nothing is done before that is known.
    server: Option<ServerIdentity>,
    /// None before that is known, and while the disk does not let it be read.
    journal: Option<Journal>,
    /// What will be done, in this order.
    waiting: VecDeque<CommandId>,
    /// When orders that came in this run are too late, by the clock that does not jump.
    late_at: HashMap<CommandId, u64>,
    at_hand: Option<AtHand>,
    /// What is over and is not in the journal yet.
    unsaved: VecDeque<(CommandId, CommandResult)>,
    /// Whether the disk did not take the last that was written.
    is_refused: bool,
    news: News,
}

/// What is done now.
enum AtHand {
    /// This.
    Doing(CommandId),
    /// This was asked for and will end this run of the agent, or it fails at this time.
    Asked(CommandId, u64),
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// This.
    Do(Job),
    /// Nothing before this time, in milliseconds since the boot, or before there are orders.
    Rest(Option<u64>),
}

/// Something to be done.
#[derive(Debug)]
pub struct Job {
    /// The number of its order.
    pub id: CommandId,
    /// What.
    pub command: Command,
    /// How long it may take.
    pub time: Duration,
}

impl Desk {
    pub(super) fn new(ground: Ground, here: Here, policy: CommandPolicy) -> Self {
        Self {
            ground,
            here,
            policy,
            server: None,
            journal: None,
            waiting: VecDeque::new(),
            late_at: HashMap::new(),
            at_hand: None,
            unsaved: VecDeque::new(),
            is_refused: false,
            news: News::default(),
        }
    }

    /// Takes note of whose orders the device takes. Says whether that is news; then what another
    /// one gave is let go of.
    pub(super) fn serve(&mut self, server: ServerIdentity, now: Moment) -> bool {
        let is_news = self.server != Some(server);
        if is_news {
            self.let_go();
            self.journal = None;
            self.server = Some(server);
            self.ready(now);
        }
        is_news
    }

    /// Forgets everything, for another server.
    pub(super) fn forget(&mut self) {
        self.let_go();
        self.server = None;
        self.journal = None;
        // What the disk keeps in spite of an error has no effect at another server.
        if let Err(error) = (self.ground)().and_then(|disk| journal::clear(disk.as_ref())) {
            let error = Chain(&error);
            tracing::warn!(%error, "the old server's commands were left behind");
        }
    }

    fn let_go(&mut self) {
        self.waiting.clear();
        self.late_at.clear();
        self.at_hand = None;
        self.unsaved.clear();
        self.news.clear();
    }

    /// The journal, if its server is known and the disk lets it be used.
    fn ready(&mut self, now: Moment) -> Option<&mut Journal> {
        let server = self.server?;
        if self.journal.is_none() {
            match self.open(now) {
                Ok(journal) => {
                    self.journal = Some(journal);
                    self.recover(server, now);
                }
                Err(error) => self.refused(&error),
            }
        }
        self.journal.as_mut()
    }

    fn open(&self, now: Moment) -> io::Result<Journal> {
        Journal::open((self.ground)()?, now.wall.millis())
    }

    /// What is next, which from here on counts as begun.
    pub(super) fn next(&mut self, now: Moment) -> Next {
        if self.server.is_none() {
            return Next::Rest(None);
        }
        let retry = Next::Rest(Some(now.up_millis.saturating_add(RETRY)));
        if self.ready(now).is_none() || !self.save(now) {
            return retry;
        }
        match self.at_hand {
            Some(AtHand::Doing(_)) => return Next::Rest(None),
            Some(AtHand::Asked(_, until)) if now.up_millis < until => {
                return Next::Rest(Some(until));
            }
            Some(AtHand::Asked(id, _)) => {
                self.at_hand = None;
                self.over(id, self.not_begun_anew(&id), now);
                return self.next(now);
            }
            None => {}
        }
        while let Some(at) = self.waiting.iter().position(|id| !self.is_held(id, now)) {
            let id = self.waiting[at];
            match self.begin(id, now) {
                Ok(Some(job)) => {
                    self.is_refused = false;
                    self.waiting.remove(at);
                    self.late_at.remove(&id);
                    self.at_hand = Some(AtHand::Doing(id));
                    return Next::Do(job);
                }
                Ok(None) => {
                    self.waiting.remove(at);
                    self.late_at.remove(&id);
                }
                Err(error) => {
                    self.refused(&error);
                    return retry;
                }
            }
        }
        if self.unsaved.is_empty() { Next::Rest(None) } else { retry }
    }

    /// Whether the server must say again that a command shall be done: it came in another boot, and
    /// how long the device was off since only a clock can tell that may have stood still meanwhile.
    fn is_held(&self, id: &CommandId, now: Moment) -> bool {
        let entry = self.journal.as_ref().and_then(|journal| journal.entry(id));
        let words = entry.and_then(|entry| entry.words.as_ref());
        let booted_millis = now.wall.minus(Duration::from_millis(now.up_millis)).millis();
        !self.late_at.contains_key(id)
            && words.is_some_and(|words| {
                words.taken_millis < booted_millis && too_late(words, None, now).is_none()
            })
    }

    /// Notes that a command begins. Without a job it is over.
    fn begin(&mut self, id: CommandId, now: Moment) -> io::Result<Option<Job>> {
        let late_at = self.late_at.get(&id).copied();
        let Some(journal) = &mut self.journal else { return Ok(None) };
        let Some(Entry { about, words: Some(words), stage, .. }) = journal.entry(&id) else {
            return Ok(None);
        };
        let attempts = match stage {
            Stage::Accepted => 0,
            Stage::Running(begun) => begun.attempt,
            Stage::Done(_) => return Ok(None),
        };
        let objection = match Command::read(&words.word, &words.args) {
            Err(error) => Err(result(Outcome::Failed, format!("this agent: {error}"))),
            Ok(command) => match too_late(words, late_at, now) {
                Some(why) if attempts == 0 => Err(result(Outcome::Expired, why)),
                Some(_) => Err(recover::interrupted()),
                None => match self.policy.permits(&command) {
                    Err(why) => Err(result(Outcome::Failed, why)),
                    Ok(()) => Ok(command),
                },
            },
        };
        let time = Duration::from_millis(words.timeout_millis).min(COMMAND_TIMEOUT_MAX);
        let about = about.clone();
        let wall_millis = now.wall.millis();
        match objection {
            Err(result) => {
                journal.finish(about, result, wall_millis)?;
                self.tell(id);
                Ok(None)
            }
            Ok(command) => {
                let Here { run, boot } = self.here;
                let attempt = attempts.saturating_add(1);
                let begun = Begun { run, boot, up_millis: now.up_millis, attempt };
                journal.begin(about, begun, wall_millis)?;
                tracing::info!(command = shown(&command), "begins a command");
                self.tell(id);
                Ok(Some(Job { id, command, time }))
            }
        }
    }

    /// Takes in what came of the job at hand.
    pub(super) fn performed(&mut self, id: CommandId, performed: Performed, now: Moment) {
        // Whoever wanted it may have been forgotten meanwhile.
        if !matches!(self.at_hand, Some(AtHand::Doing(doing)) if doing == id) {
            return;
        }
        self.at_hand = None;
        match performed {
            Performed::Over(result) => self.over(id, result, now),
            Performed::Asked => {
                let until = now.up_millis.saturating_add(ASKED_MAX);
                self.at_hand = Some(AtHand::Asked(id, until));
            }
            // The next run does again what can be done again.
            Performed::Interrupted(output) => match self.command(&id) {
                Some(Command::Exec(_)) | None => {
                    self.over(id, with_output(recover::interrupted(), output), now);
                }
                Some(_) => self.at_hand = Some(AtHand::Doing(id)),
            },
        }
    }

    /// Notes that a command is over, as soon as the disk takes it.
    fn over(&mut self, id: CommandId, result: CommandResult, now: Moment) {
        self.unsaved.push_back((id, result));
        self.save(now);
    }

    /// Writes down what is over. Says whether all of it is.
    fn save(&mut self, now: Moment) -> bool {
        while let Some((id, result)) = self.unsaved.front() {
            let (id, result) = (*id, result.clone());
            let Some(journal) = &mut self.journal else { return false };
            if let Some(about) = journal.entry(&id).map(|entry| entry.about.clone()) {
                let outcome = result.outcome;
                if let Err(error) = journal.finish(about, result, now.wall.millis()) {
                    self.refused(&error);
                    return false;
                }
                tracing::info!(?outcome, "a command is over");
            }
            self.is_refused = false;
            self.unsaved.pop_front();
            self.tell(id);
        }
        true
    }

    fn command(&self, id: &CommandId) -> Option<Command> {
        let words = self.journal.as_ref()?.entry(id)?.words.as_ref()?;
        Command::read(&words.word, &words.args).ok()
    }

    fn not_begun_anew(&self, id: &CommandId) -> CommandResult {
        let who = match self.command(id) {
            Some(Command::Reboot) => "the device has not rebooted",
            _ => "the agent has not begun anew",
        };
        result(Outcome::Failed, who)
    }

    /// Says once that the disk takes nothing.
    fn refused(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_refused, true) {
            tracing::warn!(error = %Chain(error), "commands wait: their journal cannot be written");
        }
    }
}

/// A command in the log, which others may read: what a program is told stays between the two.
fn shown(command: &Command) -> String {
    match command {
        Command::Exec(argv) => {
            format!("exec {}", Untrusted::from(argv.first().map_or("", String::as_str)))
        }
        other => other.to_string(),
    }
}

/// Whether a command cannot be begun any more, and why. After a restart there is only the wall
/// clock to go by, and where that was set back it cannot tell.
fn too_late(words: &Words, late_at: Option<u64>, now: Moment) -> Option<&'static str> {
    let wall_millis = now.wall.millis();
    match late_at {
        Some(late_at) => {
            (now.up_millis >= late_at).then_some("its time was over before it was begun")
        }
        None if wall_millis < words.taken_millis => {
            Some("the device's clock was set back, so it cannot tell whether the time was over")
        }
        None => {
            (wall_millis >= words.late_millis).then_some("its time was over before it was begun")
        }
    }
}

/// What is known of an order at any time.
fn about(id: CommandId, server: ServerIdentity, came: Option<i64>, expires_millis: i64) -> About {
    About { id, server: server.to_string(), came_millis: came, expires_millis }
}
