//! What the server can do, by noun. `http` and `link` call these and nothing below them.
//!
//! Every operation takes input from outside, decides, and goes to the store; none knows who asks
//! over what. [`OpsError`] is the one vocabulary of refusals, which ingress translates.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod audit_chain;
pub(crate) mod backup;
pub(crate) mod batches;
#[cfg(any(test, fuzzing))]
pub(crate) mod check;
mod command_state;
pub(crate) mod commands;
pub(crate) mod configs;
pub(crate) mod database;
pub(crate) mod deleted;
pub(crate) mod devices;
pub(crate) mod doubles;
mod drafts;
pub(crate) mod enrol;
mod enrol_key;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod fleetwide;
pub(crate) mod grants;
pub(crate) mod holder;
pub(crate) mod judgement;
mod key_room;
pub(crate) mod keys;
pub(crate) mod lines;
pub(crate) mod preauths;
pub(crate) mod presence;
mod recent;
pub(crate) mod revoked;
pub(crate) mod senders;
pub(crate) mod series;
pub(crate) mod sessions;
pub(crate) mod status;
mod tags;
pub(crate) mod telemetry;
mod templates;
pub(crate) mod vitals;
pub(crate) mod waiting;

use std::fmt;
use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::time::{Clock, Timestamp};
use tokio::sync::oneshot;

use crate::store::{
    Conflict, Device, Failure, KeyRefusal, Refusal, Store, StoreError, StoreHealth,
};

pub(crate) use access::Access;
pub(crate) use audit::Audit;
pub(crate) use backup::Backups;
pub(crate) use batches::Batches;
pub(crate) use commands::Commands;
pub(crate) use configs::Configs;
pub(crate) use database::Database;
pub(crate) use devices::Devices;
pub(crate) use doubles::Doubles;
pub(crate) use enrol::Enrolment;
pub(crate) use events::Events;
pub(crate) use export::Exports;
pub(crate) use grants::Grants;
pub(crate) use keys::Keys;
pub(crate) use preauths::Preauths;
pub(crate) use presence::Presence;
pub(crate) use senders::Senders;
pub(crate) use sessions::Sessions;
pub(crate) use telemetry::Telemetry;

/// The operations, ready to be handed out.
pub(crate) struct Ops {
    pub(crate) devices: Devices,
    pub(crate) telemetry: Telemetry,
    pub(crate) configs: Configs,
    pub(crate) commands: Arc<Commands>,
    pub(crate) batches: Arc<Batches>,
    pub(crate) grants: Grants,
    pub(crate) enrolment: Enrolment,
    pub(crate) preauths: Preauths,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
    pub(crate) events: Arc<Events>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) doubles: Doubles,
    pub(crate) world: World,
}

/// What every operation stands on.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl World {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn health(&self) -> StoreHealth {
        self.store.health()
    }

    /// Changes a device in one piece, and brings back what the change found to tell.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        uid: Uid,
        change: impl FnOnce(&mut Device) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(Device, T), StoreError> {
        let (tell, told) = oneshot::channel();
        let change = move |device: &mut Device| {
            // Whoever asked may have gone; the change holds all the same.
            drop(tell.send(change(device)?));
            Ok(())
        };
        let device = self.store.device_update(uid, Box::new(change)).await?;
        Ok((device, told.await.map_err(|_| Failure::Closed)?))
    }
}

/// Who has something done, as records of it say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// An operator, by the id of the key.
    Operator(String),
    /// Whoever brings devices in, by the id of the enrolment key.
    Enrol(String),
    /// A device, for itself.
    Device,
    /// The server.
    Server,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(key) => write!(f, "operator:{key}"),
            Self::Enrol(key) => write!(f, "enrol:{key}"),
            Self::Device => f.write_str("device"),
            Self::Server => f.write_str("server"),
        }
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpsError {
    /// What was asked for is not there.
    #[error("there is no {0}")]
    NotFound(String),
    /// A value that does not do, and where it stands.
    #[error("{field}: {problem}")]
    Invalid { field: String, problem: String },
    /// Not in this state.
    #[error("{0}")]
    Conflict(String),
    /// Somebody else changed the configuration first.
    #[error("the configuration is at version {current}, not at {expected}")]
    Stale { expected: u64, current: u64 },
    /// Not with this key.
    #[error("{0}")]
    Forbidden(String),
    /// More than one request may bring.
    #[error("{0}")]
    TooLarge(String),
    /// A defect of ours.
    #[error("the server made a mistake")]
    Defect,
    /// The store.
    #[error(transparent)]
    Store(StoreError),
}

impl OpsError {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Invalid { field: field.into(), problem: problem.to_string() }
    }
}

impl From<StoreError> for OpsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(what) => Self::NotFound(format!("such {what}")),
            StoreError::Conflict(Conflict::Config { expected, current }) => {
                Self::Stale { expected, current }
            }
            StoreError::Conflict(conflict) => Self::Conflict(conflict.to_string()),
            StoreError::Refused(Refusal(reason)) => Self::Conflict(reason),
            StoreError::KeyRefused(refusal @ KeyRefusal::LastOperator) => {
                Self::Conflict(refusal.to_string())
            }
            StoreError::KeyRefused(refusal) => Self::Forbidden(refusal.to_string()),
            other => Self::Store(other),
        }
    }
}
