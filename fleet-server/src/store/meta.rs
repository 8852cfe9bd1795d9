//! What the store knows about itself.

use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleet_core::api::Health;
use fleet_core::identity::PublicKey;

use super::StoreError;

/// The store's owner and its state.
#[async_trait]
pub trait MetaStore: Send + Sync {
    /// The key of the server that the store belongs to; none before the first start.
    async fn server_key(&self) -> Result<Option<PublicKey>, StoreError>;

    /// Makes the store this server's. Repeating it changes nothing; another server's key is
    /// [`Conflict::ServerKey`](super::Conflict::ServerKey).
    async fn claim_server_key(&self, key: PublicKey) -> Result<(), StoreError>;

    /// How the store is, at once and without touching the disk.
    fn health(&self) -> StoreHealth;

    /// What of what is stored cannot be read, as far as anybody has tried.
    fn damage(&self) -> Option<String>;

    /// Reads all that is stored, and so finds out what of it is damaged, which health says from then
    /// on. What is not in chunks yet is in memory, and is not read.
    async fn check(&self, pace: Pace) -> Result<Checked, StoreError>;
}

impl From<&StoreHealth> for Health {
    fn from(health: &StoreHealth) -> Self {
        match health {
            StoreHealth::Healthy => Self { status: "ok".to_owned(), reason: None },
            StoreHealth::Degraded(reason) => {
                Self { status: "degraded".to_owned(), reason: Some(reason.clone()) }
            }
        }
    }
}

/// How fast something long is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it goes.
    Fast,
    /// With pauses, so that others hardly notice.
    Gentle,
}

/// How long is worked gently before there is a pause, and how many times as long as that it is.
const WORK_GENTLE: Duration = Duration::from_millis(20);
const PAUSES_GENTLE: u32 = 4;

/// Keeps a pace. Who works looks at it between two small pieces of work.
pub(crate) struct Pacer {
    pace: Pace,
    begun: Instant,
}

impl Pacer {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, begun: Instant::now() }
    }

    /// Whether a pause is due.
    pub(crate) fn is_due(&self) -> bool {
        self.pace == Pace::Gentle && self.begun.elapsed() >= WORK_GENTLE
    }

    /// Pauses, if that is due. Nothing is held meanwhile that others need.
    pub(crate) fn rest(&mut self) {
        if self.is_due() {
            thread::sleep(self.begun.elapsed() * PAUSES_GENTLE);
            self.begun = Instant::now();
        }
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows of tables.
    pub rows: u64,
    /// Chunks of telemetry, of all resolutions.
    pub chunks: u64,
    /// Reports that are kept as they came.
    pub reports: u64,
    /// What of all that is damaged.
    pub damage: Option<String>,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// Nothing to say.
    Healthy,
    /// It works in part, or not at present; the text says what is wrong, for a person.
    Degraded(String),
}
