//! Batches: the same thing done to many devices, and how far each of them has come.

use std::time::Duration;

use async_trait::async_trait;
use fleet_core::api::{BatchState, MemberState, WhenOffline};
use fleet_core::command::Command;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::time::Timestamp;

use super::{CommandRecord, ConfigVersion, Inserted, NewConfig, Refusal, StoreError, Tell};

/// Batches and their members. A batch's id is given once, and ids of later batches sort after those
/// of earlier ones. A batch's counts are always those of its members.
///
/// [`BATCHES_MAX`](fleet_core::limits::BATCHES_MAX) are kept; [`batch_trim`](Self::batch_trim) has
/// the oldest that are over give way.
#[async_trait]
pub trait BatchStore: Send + Sync {
    /// Adds a batch and all its members, in one commit or not at all. Members have their places in
    /// the order in which they come. One whose id is there already is a
    /// [`Conflict::Exists`](super::Conflict::Exists); so many that are not over are a
    /// [`Conflict::BatchesOpen`](super::Conflict::BatchesOpen).
    async fn batch_insert(
        &self,
        batch: BatchRecord,
        members: Vec<MemberRecord>,
    ) -> Result<BatchRecord, StoreError>;

    /// A batch.
    async fn batch_get(&self, id: Uid) -> Result<Option<BatchRecord>, StoreError>;

    /// Batches older than one, newest first. Damaged ones are left out, and health says so.
    async fn batch_list(
        &self,
        before: Option<Uid>,
        limit: usize,
    ) -> Result<Vec<BatchRecord>, StoreError>;

    /// All batches of which something is still to come, oldest first.
    async fn batch_open(&self) -> Result<Vec<BatchRecord>, StoreError>;

    /// Changes a batch in one piece. It may change anything but the id, the total and the counts.
    /// The closure runs on the writer's thread, so it only computes.
    async fn batch_change(&self, id: Uid, change: BatchChange) -> Result<BatchRecord, StoreError>;

    /// Members of a batch that are asked for, by their places. Damaged ones are left out, and health
    /// says so.
    async fn batch_members(
        &self,
        query: MemberQuery,
    ) -> Result<Vec<(u32, MemberRecord)>, StoreError>;

    /// Has members that wait begin, in one commit: what each is to do is stored, and that it is at
    /// it. Refused if the batch is not running; a member is if it does not wait. `tell` makes the
    /// events of each that begins. Returns what became of each.
    async fn batch_begin(
        &self,
        batch: Uid,
        at: Timestamp,
        steps: Vec<(u32, Step)>,
        tell: Tell<Begun>,
    ) -> Result<Members<Begun>, StoreError>;

    /// Changes members of a batch, each in one piece and all in one commit. A change may change
    /// anything but the device and what it was given, and runs on the writer's thread, so it only
    /// computes. Returns what became of each.
    async fn batch_members_change(
        &self,
        batch: Uid,
        changes: Vec<(u32, MemberChange)>,
    ) -> Result<Members<MemberRecord>, StoreError>;

    /// Those of some commands that members were given, without what their programs wrote. Damaged
    /// ones are left out, and health says so.
    async fn batch_commands(
        &self,
        commands: Vec<Uid>,
    ) -> Result<Vec<(Place, CommandRecord)>, StoreError>;

    /// The members that were given versions of a device's configuration up to one, the latest first.
    async fn batch_of_config(
        &self,
        device: Uid,
        version: u64,
        limit: usize,
    ) -> Result<Vec<Place>, StoreError>;

    /// Removes some of what is kept beyond enough. Whether there may be more.
    async fn batch_trim(&self) -> Result<bool, StoreError>;
}

/// A change of a batch, or its reason not to.
pub type BatchChange = Box<dyn FnOnce(&mut BatchRecord) -> Result<(), Refusal> + Send>;

/// A change of a member.
pub type MemberChange = Box<dyn FnOnce(&mut MemberRecord) + Send>;

/// What became of some members of a batch.
#[derive(Debug)]
pub struct Members<T> {
    /// The batch as it is now.
    pub batch: BatchRecord,
    /// The members by their places, in the order in which they were asked for.
    pub members: Vec<(u32, Result<T, StoreError>)>,
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its batch.
    pub batch: Uid,
    /// Which of that batch's members it is.
    pub ordinal: u32,
}

/// What a batch does to each of its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It has them do something.
    Command(Command),
    /// It changes their configurations; a JSON merge patch.
    Config(String),
}

/// A batch, as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its number.
    pub id: Uid,
    /// What is to be done.
    pub action: Action,
    /// How it is doing.
    pub state: BatchState,
    /// Why.
    pub why: String,
    /// Since when.
    pub state_at: Timestamp,
    /// The filter that its devices were found by.
    pub filter: Option<String>,
    /// How many members it has.
    pub total: u32,
    /// How many of them have come how far.
    pub counts: Counts,
    /// How many failures were known when somebody last had it go on: these count no more.
    pub forgiven: u32,
    /// How many are at it at once.
    pub window: u32,
    /// How many go first, alone.
    pub canary: u32,
    /// At how many failures it pauses.
    pub max_fail: u32,
    /// How long each device may take.
    pub timeout: Duration,
    /// What becomes of devices that are not connected when it begins.
    pub offline: WhenOffline,
    /// When it gives up waiting.
    pub expires_at: Timestamp,
    /// Who began it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
    /// Why, in the author's words.
    pub reason: Option<String>,
    /// The batch whose failures it tries anew.
    pub retry_of: Option<Uid>,
}

impl BatchRecord {
    /// Whether something is still to come.
    pub fn is_open(&self) -> bool {
        match self.state {
            BatchState::Running | BatchState::Paused => true,
            BatchState::Cancelled => self.counts.left() > 0,
            BatchState::Done | BatchState::Later(_) => false,
        }
    }
}

/// How many members have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; MemberState::ALL.len()]);

impl Counts {
    /// Those of some members.
    pub fn of<'a>(members: impl IntoIterator<Item = &'a MemberRecord>) -> Self {
        let mut counts = Self::default();
        for member in members {
            counts.add(member.state);
        }
        counts
    }

    /// How many are in a state.
    pub fn get(&self, state: MemberState) -> u32 {
        place(state).map_or(0, |place| self.0[place])
    }

    /// How many count as failed.
    pub fn failures(&self) -> u32 {
        self.get(MemberState::Failed) + self.get(MemberState::Unknown)
    }

    /// How many are not over.
    pub fn left(&self) -> u32 {
        self.get(MemberState::Waiting) + self.get(MemberState::Running)
    }

    /// Adds one that is in a state.
    pub fn add(&mut self, state: MemberState) {
        if let Some(place) = place(state) {
            self.0[place] += 1;
        }
    }

    /// Says how many are in a state.
    pub(super) fn set(&mut self, state: MemberState, count: u32) {
        if let Some(place) = place(state) {
            self.0[place] = count;
        }
    }

    pub(super) fn moved(&mut self, from: MemberState, to: MemberState) {
        if let Some(place) = place(from) {
            self.0[place] = self.0[place].saturating_sub(1);
        }
        self.add(to);
    }
}

/// A state's place among all states; none for one of a later release, which no server makes.
fn place(state: MemberState) -> Option<usize> {
    MemberState::ALL.iter().position(|known| *known == state)
}

/// A device of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its uid.
    pub device: Uid,
    /// What it was called when the batch began.
    pub device_id: DeviceId,
    /// How far it has come.
    pub state: MemberState,
    /// Why.
    pub why: String,
    /// Since when.
    pub state_at: Timestamp,
    /// When it began.
    pub begun_at: Option<Timestamp>,
    /// The command that it was given.
    pub command: Option<Uid>,
    /// The version of its configuration that it was given.
    pub version: Option<u64>,
}

/// What a member begins with.
#[derive(Clone, Debug)]
pub enum Step {
    /// A command.
    Command(Box<CommandRecord>),
    /// The next version of its configuration.
    Config {
        /// The version that it follows; it must still be the latest.
        expected: u64,
        /// What it says; nothing if that version says so already.
        config: Option<NewConfig>,
    },
}

/// A member that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// It.
    pub member: MemberRecord,
    /// What became of its command.
    pub command: Option<Inserted>,
    /// The version that was added.
    pub config: Option<ConfigVersion>,
}

/// Which members to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberQuery {
    /// Of this batch.
    pub batch: Uid,
    /// In these states; in all states if there is none.
    pub states: Vec<MemberState>,
    /// Whose device's id comes after this one.
    pub after: Option<DeviceId>,
    /// At most so many; the caller bounds it, since that many are held in memory.
    pub limit: usize,
}
