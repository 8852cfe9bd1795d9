//! What the server remembers.
//!
//! One narrow trait per noun, with its contract in words; [`Store`] is all of them. Callers hold
//! an `Arc<dyn Store>` or ask for the narrowest trait that will do. Behind the traits stand one
//! database file and, for telemetry, the engine beside it ([`RedbStore`]).
//!
//! What holds for every method: an `Ok` from one that writes means that the change is on the disk.
//! [`StoreError::Unavailable`] from one that writes means that it may or may not be, so such a
//! call is repeated or looked up. Every other error means that nothing changed, or, from a method
//! that works through many rows (purging, pruning), that it is done in part.

mod audit;
mod backup;
mod batches;
mod commands;
mod configs;
mod deleted;
mod devices;
mod directory;
mod doubles;
mod error;
mod events;
mod grants;
mod keys;
mod meta;
mod preauths;
mod profile;
mod redb;
pub(crate) mod revoked;
mod sessions;
mod telemetry;

pub use audit::{AuditQuery, AuditStore, AuditStretch, Sealer};
pub use backup::{BackupStore, Part, TakePart};
pub use batches::{
    Action, BatchChange, BatchRecord, BatchStore, Begun, Counts, MemberChange, MemberQuery,
    MemberRecord, Members, Place, Step,
};
pub use commands::{CommandChange, CommandQuery, CommandRecord, CommandStore, Inserted};
pub use configs::{ConfigStore, ConfigVersion, LayerStore, NewConfig};
pub use deleted::{Deleted, DeletedStore, Restored};
pub(crate) use devices::FORMER_KEYS_MAX;
pub use devices::{
    Admission, Change, Device, DeviceStore, NextKey, OtherKeys, Refusal, ReportedConfig,
    ReportedPhase,
};
pub use directory::{Directory, Listed};
pub use doubles::{DoubleRecord, DoubleStore};
pub(crate) use error::mebibytes;
pub use error::{Conflict, Failure, KeyRefusal, OpenError, Shortage, StoreError};
pub use events::{About, Event, EventQuery, EventStore, Tell};
pub use grants::{GrantRecord, GrantStore};
pub use keys::{KeyOrigin, KeyRecord, KeyStore};
pub(crate) use meta::Pacer;
pub use meta::{Checked, MetaStore, Pace, StoreHealth};
pub use preauths::{PreauthRecord, PreauthStore};
pub use profile::Profile;
pub use redb::RedbStore;
#[cfg(any(test, fuzzing))]
pub(crate) use redb::check_row;
pub(crate) use redb::{BALLAST_FILE, Loader, Settled, TELEMETRY_FOLDER, Turn, Words};
pub use sessions::{SessionRecord, SessionStore};
pub use telemetry::{
    Curve, Curves, CurvesAsked, Incoming, Keep, NamedValue, NewestValue, Outcome, Overview, Point,
    Query, STREAMS_PER_DEVICE_MAX, Stat, TelemetryStats, TelemetryStore, Tier, TierStats, Top,
    Visit,
};

/// Everything that the server remembers.
pub trait Store:
    DeviceStore
    + DeletedStore
    + KeyStore
    + GrantStore
    + ConfigStore
    + LayerStore
    + CommandStore
    + BatchStore
    + TelemetryStore
    + SessionStore
    + EventStore
    + AuditStore
    + DoubleStore
    + PreauthStore
    + MetaStore
    + BackupStore
    + Send
    + Sync
    + 'static
{
}

impl<T> Store for T where
    T: DeviceStore
        + DeletedStore
        + KeyStore
        + GrantStore
        + ConfigStore
        + LayerStore
        + CommandStore
        + BatchStore
        + TelemetryStore
        + SessionStore
        + EventStore
        + AuditStore
        + DoubleStore
        + PreauthStore
        + MetaStore
        + BackupStore
        + Send
        + Sync
        + 'static
{
}
