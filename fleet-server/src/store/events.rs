//! Events: what happened, in the order in which it was written down.

use async_trait::async_trait;
use fleet_core::api::EventKind;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::time::Timestamp;
use tokio::sync::watch;

use super::StoreError;

/// What happened in the fleet. Numbers count from 1 without gaps, and none is given twice.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Adds events under the next numbers, in their order and all in one commit. The newest
    /// [`EVENTS_MAX`](fleet_core::limits::EVENTS_MAX) are kept: in the same commit the oldest give
    /// way. Returns the newest number.
    async fn event_append(&self, events: Vec<Event>) -> Result<u64, StoreError>;

    /// The newest number; 0 if nothing has happened yet.
    async fn event_newest(&self) -> Result<u64, StoreError>;

    /// The newest number, now and whenever it grows.
    fn event_news(&self) -> watch::Receiver<u64>;

    /// Events after a number, oldest first. Damaged ones are left out, and health says so.
    async fn event_after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, Event)>, StoreError>;

    /// Events that are asked for, newest first. Damaged ones are left out, and health says so.
    async fn event_list(&self, query: EventQuery) -> Result<Vec<(u64, Event)>, StoreError>;
}

/// Makes the events that tell of a change, which are added in the change's own commit: the one is
/// never there without the other. Runs on the writer's thread, so it only computes.
pub type Tell<T> = Box<dyn Fn(&T) -> Vec<Event> + Send>;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: EventKind,
    /// Who did it.
    pub actor: String,
    /// The device it is about, under the id that it had then.
    pub device: Option<(DeviceId, Uid)>,
    /// What happened, in words.
    pub text: String,
}

/// Which events to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// About one device.
    pub about: Option<About>,
    /// Of these kinds; of all kinds if there is none.
    pub kinds: Vec<EventKind>,
    /// Not before.
    pub since: Timestamp,
    /// Not after.
    pub until: Timestamp,
    /// With a number below this one.
    pub before: u64,
    /// At most so many; the caller bounds it, since that many are held in memory.
    pub limit: usize,
}

/// A device that events are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The device itself, whatever it was called.
    Device(Uid),
    /// Whoever was called so.
    Called(DeviceId),
}
