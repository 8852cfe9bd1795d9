//! Why the store said no, in one closed list that callers match on.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fleet_core::codec::CodecError;
use fleet_core::id::DeviceId;

use super::Refusal;
use super::revoked::{REVOKED_FILE, RevokedError};

/// Why a call did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing (any more); the word says what was looked for.
    #[error("no such {0}")]
    Missing(&'static str),
    /// Something that exists stands against it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The change itself declined, after it saw the device.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key may not be used.
    #[error(transparent)]
    KeyRefused(#[from] KeyRefusal),
    /// Larger than a stored value may be; the word says what.
    #[error("the {0} is too large to store")]
    TooLarge(&'static str),
    /// Too many changes wait already. Nothing is wrong; try again.
    #[error("the store has more changes waiting than it takes on")]
    Busy,
    /// The disk is too full for telemetry.
    #[error(transparent)]
    NoRoom(#[from] Shortage),
    /// One stored value does not read as what was written. All others are unharmed.
    #[error("the value {key} in {table} is damaged")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        source: Arc<CodecError>,
    },
    /// The database does not work at present. It repairs itself if it can.
    #[error("the database is not available")]
    Unavailable(#[source] Arc<Failure>),
}

/// Too little room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is almost full: {} are free, and telemetry is stored again when {} are",
    mebibytes(*free),
    mebibytes(*needed)
)]
pub struct Shortage {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that must be.
    pub needed: u64,
}

/// Bytes as a person reads them.
pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// What stands against a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another device goes by this id.
    #[error("another device is called {0}")]
    DeviceId(DeviceId),
    /// Another device has this key.
    #[error("another device has the same key")]
    DeviceKey,
    /// Something is stored under this number or id already; the word says what.
    #[error("this {0} exists already")]
    Exists(&'static str),
    /// The grant let in another device.
    #[error("the grant has let in another device")]
    GrantUsed,
    /// The configuration moved on.
    #[error("the configuration is at version {current}, not at {expected}")]
    Config {
        /// The version that the change was made for.
        expected: u64,
        /// Its latest version; 0 if there is none.
        current: u64,
    },
    /// There are so many layers of configurations.
    #[error("there are {0} layers of configurations already, and no more are kept")]
    LayersFull(usize),
    /// The device has so many commands to do.
    #[error("the device has {0} commands to do already: cancel some, or wait until some are over")]
    CommandsOpen(usize),
    /// There are so many commands that are not over.
    #[error("the server keeps {0} commands, and all of them are still to be done")]
    CommandsFull(u64),
    /// There are so many batches that are not over.
    #[error("{0} batches are under way already: cancel some, or wait until some are over")]
    BatchesOpen(u64),
    /// The database belongs to a server with another key.
    #[error("the database belongs to another server")]
    ServerKey,
}

/// Why a key may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// An operator withdrew it.
    #[error("the key was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// It has let in as many as it may.
    #[error("the key has no uses left")]
    Spent,
    /// Without it no operator could come in.
    #[error(
        "no other key that may do everything works for a week: create another first, of the role admin and without a scope"
    )]
    LastOperator,
}

/// What happened to the database.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The disk, or the file's own structure.
    #[error("the database failed")]
    Storage(#[source] Box<dyn Error + Send + Sync>),
    /// A defect that was contained.
    #[error("the database panicked: {0}")]
    Panic(String),
    /// A defect that was contained: others' changes must not be kept with half of that one.
    #[error("a change was given up half-way")]
    HalfWay,
    /// It failed a moment ago and is about to be opened anew.
    #[error("the database is being reopened")]
    Reopening,
    /// It could not be opened anew yet.
    #[error("the database could not be reopened")]
    Reopen(#[source] Box<OpenError>),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(Arc::new(failure))
    }
}

/// Why a database did not open. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its events.
    #[error("cannot read the events in the database")]
    Events(#[source] StoreError),
    /// Its devices.
    #[error("cannot read the devices in the database")]
    Devices(#[source] StoreError),
    /// What was revoked.
    #[error(
        "cannot rely on {REVOKED_FILE} beside the database: put back a copy of it, or remove it, and \
         whoever was revoked after a backup that the database is from may come in again"
    )]
    Revoked(#[source] RevokedError),
    /// Bringing that and the database together.
    #[error("cannot end in the database what was revoked")]
    Settle(#[source] StoreError),
    /// Its telemetry.
    #[error("cannot open the telemetry beside the database")]
    Telemetry(#[source] StoreError),
    /// Two servers on one file would destroy it.
    #[error("the database {} is in use by another fleets server", .0.display())]
    InUse(PathBuf),
    /// Some other file.
    #[error("{} is not a FleetD database", .0.display())]
    NotADatabase(PathBuf),
    /// Nothing is left of it, or of the start that should have made it.
    #[error(
        "the database {} is empty: restore it from a backup, or remove it to begin anew",
        .0.display()
    )]
    Empty(PathBuf),
    /// Cut short or altered.
    #[error("the database {} is damaged: restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Failure>,
    },
    /// A file or folder that this user may not use.
    #[error("no permission to use the database {}", path.display())]
    Permission {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder could not be made.
    #[error("the database's folder {} cannot be created", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk.
    #[error("the database {} cannot be opened", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// From the future.
    #[error(
        "the database {} has schema {found} and this release reads up to {known}: use the release that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema that this release reads.
        known: u32,
    },
    /// The thread that writes did not start.
    #[error("the database's writer cannot be started")]
    Thread(#[source] io::Error),
}
