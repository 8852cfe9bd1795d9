//! Commands: what devices shall do, and what became of it.

use std::time::Duration;

use async_trait::async_trait;
use fleet_core::api::CommandState;
use fleet_core::command::Command;
use fleet_core::id::{DeviceId, Uid, UidEnding};
use fleet_core::time::Timestamp;

use super::{Device, Event, Refusal, StoreError, Tell};

/// How long after a device should have spoken it is given up.
const GRACE: Duration = Duration::from_secs(600);

/// The devices' commands. A command's id is given once, and ids of later commands sort after those
/// of earlier ones.
///
/// [`COMMANDS_MAX`](fleet_core::limits::COMMANDS_MAX) are kept, of which the oldest that are over
/// give way to new ones. They go with their device when it is purged.
#[async_trait]
pub trait CommandStore: Send + Sync {
    /// Adds commands, all in one commit or none. One whose id is there already, for the same device
    /// and with the same words, is what it is already; with others it is
    /// [`Conflict::Exists`](super::Conflict::Exists). In the same commit older ones of the same
    /// words that still wait are cancelled, where
    /// [`Command::is_superseded_by_its_like`] says so. A device has at most
    /// [`COMMANDS_PER_DEVICE_MAX`](fleet_core::limits::COMMANDS_PER_DEVICE_MAX) that are not over;
    /// more are a [`Conflict::CommandsOpen`](super::Conflict::CommandsOpen). `tell` makes the events of
    /// each one that is new. Returns what became of each.
    async fn command_insert(
        &self,
        commands: Vec<CommandRecord>,
        tell: Tell<Inserted>,
    ) -> Result<Vec<Inserted>, StoreError>;

    /// A command with what its program wrote.
    async fn command_get(&self, id: Uid) -> Result<Option<CommandRecord>, StoreError>;

    /// Commands that are asked for, newest first, without what their programs wrote. Damaged ones
    /// are left out, and health says so.
    async fn command_list(&self, query: CommandQuery) -> Result<Vec<CommandRecord>, StoreError>;

    /// A device's commands that are not over, oldest first. Damaged ones are left out, and health
    /// says so.
    async fn command_open(&self, device: Uid) -> Result<Vec<CommandRecord>, StoreError>;

    /// Changes a command in one piece: nobody else's change comes between what the closure reads
    /// and what it leaves. It may change anything but the id and the device, and returns the event
    /// that tells of it, if any, for the same commit. The closure runs on the writer's thread, so it
    /// only computes. Returns the command as it is now, with what its program
    /// wrote only if the closure put it there.
    async fn command_change(
        &self,
        id: Uid,
        change: CommandChange,
    ) -> Result<CommandRecord, StoreError>;

    /// Commands that are due at a time or were before, the longest first. Damaged ones are left out,
    /// and health says so.
    async fn command_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<CommandRecord>, StoreError>;
}

/// A change of a command, and what is to be told of it, or its reason not to.
pub type CommandChange =
    Box<dyn FnOnce(&mut CommandRecord) -> Result<Option<Event>, Refusal> + Send>;

/// A command, as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRecord {
    /// Its number.
    pub id: Uid,
    /// The device that it is for.
    pub device: Uid,
    /// What that device was called then.
    pub device_id: DeviceId,
    /// What is to be done.
    pub command: Command,
    /// Who asked for it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
    /// When it is too late to begin.
    pub expires_at: Timestamp,
    /// How long it may run.
    pub timeout: Duration,
    /// How far it has come.
    pub state: CommandState,
    /// Why it is in this state.
    pub why: String,
    /// When it came to be in this state.
    pub state_at: Timestamp,
    /// Who wants it taken back, if somebody does since it was sent.
    pub cancel_asked_by: Option<String>,
    /// When it was sent for the first time.
    pub sent_at: Option<Timestamp>,
    /// When the device said that it will do it.
    pub accepted_at: Option<Timestamp>,
    /// The code that its program ended with.
    pub exit_code: Option<i32>,
    /// What its program wrote. Lists are without it, and a change that leaves it absent leaves what
    /// is stored.
    pub output: Option<Vec<u8>>,
    /// How many bytes of that were not kept.
    pub output_left_out: u64,
}

impl CommandRecord {
    /// A command that waits for its device.
    pub fn queued(
        id: Uid,
        device: &Device,
        command: Command,
        author: String,
        (created_at, expires_at): (Timestamp, Timestamp),
        timeout: Duration,
    ) -> Self {
        Self {
            id,
            device: device.uid,
            device_id: device.id.clone(),
            command,
            author,
            created_at,
            expires_at,
            timeout,
            state: CommandState::Queued,
            why: "waits for the device".to_owned(),
            state_at: created_at,
            cancel_asked_by: None,
            sent_at: None,
            accepted_at: None,
            exit_code: None,
            output: None,
            output_left_out: 0,
        }
    }

    /// When it is given up if nothing is heard of it; never once it is over.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self.state {
            CommandState::Queued => Some(self.expires_at),
            CommandState::Sent | CommandState::Accepted | CommandState::Running => {
                let began = self.accepted_at.map(|at| at.plus(self.timeout));
                Some(began.map_or(self.expires_at, |end| end.max(self.expires_at)).plus(GRACE))
            }
            CommandState::Succeeded
            | CommandState::Failed
            | CommandState::Expired
            | CommandState::Cancelled
            | CommandState::Unknown
            | CommandState::Later(_) => None,
        }
    }

    /// Whether another one asks for the same of the same device.
    pub fn is_like(&self, other: &Self) -> bool {
        self.device == other.device && self.command == other.command
    }

    /// Makes way for a newer one of the same words.
    pub(super) fn give_way(&mut self, newer: &Self) {
        self.state = CommandState::Cancelled;
        self.why = format!("superseded by {}", newer.id);
        self.state_at = newer.created_at;
    }
}

/// What became of a command that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// It, as it is now.
    pub command: CommandRecord,
    /// Whether it was not there before.
    pub is_new: bool,
    /// The older ones that made way for it.
    pub superseded: Vec<CommandRecord>,
}

/// Which commands to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandQuery {
    /// Of one device.
    pub device: Option<Uid>,
    /// In these states; in all states if there is none.
    pub states: Vec<CommandState>,
    /// Whose ids end so.
    pub ending: Option<UidEnding>,
    /// Older than this one.
    pub before: Option<Uid>,
    /// At most so many; the caller bounds it, since that many are held in memory.
    pub limit: usize,
}

impl CommandQuery {
    /// Whether the command with an id is asked for, as far as the id says.
    pub fn names(&self, id: Uid) -> bool {
        self.before != Some(id) && self.ending.as_ref().is_none_or(|ending| ending.fits(id))
    }

    /// Whether a command is asked for, as far as its state says.
    pub fn wants(&self, command: &CommandRecord) -> bool {
        self.states.is_empty() || self.states.contains(&command.state)
    }
}
