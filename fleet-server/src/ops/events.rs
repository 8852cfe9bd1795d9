//! Events: writing down what happened, and reading it again.
//!
//! What happens to commands, and what devices of a batch begin with, is told in the commit of the
//! change itself. Other events are written right after the change that they tell of, in a commit of their own. A server that crashes between
//! the two keeps the change and never tells of it; it never tells of a change that was not kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet_core::Chain;
use fleet_core::api::{EventKind, EventView};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::{Untrusted, cut};
use tokio::sync::watch;

use super::devices::find;
use super::{Access, OpsError, World};
use crate::store::{About, Device, Event, EventQuery};

/// Characters of an event's text.
const TEXT_CHARS_MAX: usize = 1_000;
/// Events that one commit adds, so that others need not wait long.
const WAVE_EVENTS_MAX: usize = 1_000;
/// Events that may wait to be written: a fleet that goes offline at once, twice over.
const WAITING_EVENTS_MAX: usize = 20_000;

/// What happened in the fleet.
pub(crate) struct Events {
    world: World,
    waiting: Mutex<Vec<Event>>,
    /// Held by the one who writes for all who wait.
    turn: tokio::sync::Mutex<()>,
}

/// Something that has just happened.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) kind: EventKind,
    /// Who did it, as [`Actor`](super::Actor) shows itself.
    pub(crate) actor: String,
    pub(crate) device: Option<(DeviceId, Uid)>,
    pub(crate) text: String,
}

/// Which events to look for.
#[derive(Debug)]
pub(crate) struct EventsAsked {
    /// About the device with this id or uid.
    pub(crate) device: Option<String>,
    /// Of these kinds; of all kinds if there is none.
    pub(crate) kinds: Vec<EventKind>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// With a number below this one.
    pub(crate) before: Option<u64>,
    pub(crate) limit: usize,
}

impl NewEvent {
    /// An event about a device.
    pub(crate) fn about(
        device: &Device,
        kind: EventKind,
        actor: impl ToString,
        text: impl Into<String>,
    ) -> Self {
        let device = Some((device.id.clone(), device.uid));
        Self { kind, actor: actor.to_string(), device, text: text.into() }
    }

    /// The event as it is stored.
    pub(crate) fn at(self, at: Timestamp) -> Event {
        let Self { kind, actor, device, text } = self;
        Event { at, kind, actor, device, text: cut(text, TEXT_CHARS_MAX) }
    }
}

impl Events {
    pub(crate) fn new(world: World) -> Self {
        Self { world, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The time by the server's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Writes down what has happened. When this returns, the event is on the disk; if the store
    /// fails, it is in the log instead, because what it tells of is done all the same.
    pub(crate) async fn record(&self, new: NewEvent) {
        self.record_all(vec![new]).await;
    }

    /// The same for many events, which share their commits.
    pub(crate) async fn record_all(&self, new: Vec<NewEvent>) {
        let at = self.world.now();
        self.wait_in_line(new.into_iter().map(|new| new.at(at)));
        // While one wave is being written the next gathers. So there is one job in the store's
        // queue, however many events come, and telemetry does not wait behind them.
        let _turn = self.turn.lock().await;
        let mut due = self.waiting().len();
        while due > 0 {
            let wave: Vec<Event> = self.waiting().drain(..due.min(WAVE_EVENTS_MAX)).collect();
            due -= wave.len();
            self.write(wave).await;
        }
    }

    /// Events after a number, oldest first.
    pub(crate) async fn after(&self, seq: u64, limit: usize) -> Result<Vec<EventView>, OpsError> {
        let events = self.world.store.event_after(seq, limit.min(PAGE_ROWS_MAX)).await?;
        Ok(events.into_iter().map(view).collect())
    }

    /// Whether somebody may see what happened.
    pub(crate) fn is_for(&self, access: &Access, event: &EventView) -> bool {
        access.has_event(self.world.store.directory(), event.uid, event.actor.raw())
    }

    /// Events that are asked for, newest first.
    pub(crate) async fn list(
        &self,
        access: &Access,
        asked: EventsAsked,
    ) -> Result<Vec<EventView>, OpsError> {
        let about = match &asked.device {
            Some(name) => Some(self.about(access, name).await?),
            None => None,
        };
        let limit = asked.limit.min(PAGE_ROWS_MAX);
        let mut query = EventQuery {
            about,
            kinds: asked.kinds,
            since: asked.since.unwrap_or(Timestamp::from_millis(0)),
            until: asked.until.unwrap_or(Timestamp::from_millis(i64::MAX)),
            before: asked.before.unwrap_or(u64::MAX),
            limit,
        };
        if access.scope().is_none() {
            let events = self.world.store.event_list(query).await?;
            return Ok(events.into_iter().map(view).collect());
        }
        // There are as many events as there may be, so this ends.
        query.limit = PAGE_ROWS_MAX;
        let mut found = Vec::new();
        loop {
            let events = self.world.store.event_list(query.clone()).await?;
            let is_last = events.len() < query.limit;
            query.before = events.last().map_or(0, |(seq, _)| *seq);
            let seen = events.into_iter().map(view).filter(|event| self.is_for(access, event));
            found.extend(seen.take(limit - found.len()));
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// The number of the newest event, now and whenever it grows.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.world.store.event_news()
    }

    /// The device that a name means; one that is gone still has its events.
    async fn about(&self, access: &Access, name: &str) -> Result<About, OpsError> {
        match (find(&self.world, access, name).await, name.parse(), name.parse()) {
            (Ok(device), _, _) => Ok(About::Device(device.uid)),
            (Err(OpsError::NotFound(_)), Ok(uid), _) => Ok(About::Device(uid)),
            (Err(OpsError::NotFound(_)), Err(_), Ok(id)) => Ok(About::Called(id)),
            (Err(error), _, _) => Err(error),
        }
    }

    fn wait_in_line(&self, events: impl ExactSizeIterator<Item = Event>) {
        let mut waiting = self.waiting();
        let room = WAITING_EVENTS_MAX - waiting.len();
        let lost = events.len().saturating_sub(room);
        waiting.extend(events.take(room));
        if lost > 0 {
            tracing::error!(lost, "more happens than can be written down");
        }
    }

    async fn write(&self, wave: Vec<Event>) {
        let Err(error) = self.world.store.event_append(wave.clone()).await else { return };
        for event in wave {
            let (kind, actor) = (event.kind.word(), event.actor);
            let device = event.device.map(|(id, uid)| format!("{id} {uid}"));
            let text = Untrusted::new(event.text);
            tracing::warn!(error = %Chain(&error), kind, actor, ?device, %text, "an event was not stored");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn view((seq, event): (u64, Event)) -> EventView {
    let (device_id, uid) = event.device.unzip();
    EventView {
        seq,
        timestamp: event.at,
        kind: event.kind,
        actor: Untrusted::new(event.actor),
        device_id,
        uid,
        text: Untrusted::new(event.text),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_core::time::SystemClock;
    use futures_util::future::join_all;

    use super::*;
    use crate::ops::Actor;
    use crate::store::{EventStore as _, RedbStore};

    fn events() -> (Arc<RedbStore>, Events) {
        let store = Arc::new(RedbStore::in_memory());
        let world = World { store: store.clone(), clock: Arc::new(SystemClock) };
        (store, Events::new(world))
    }

    fn new(text: impl ToString) -> NewEvent {
        let (kind, actor) = (EventKind::ServerStarted, Actor::Server.to_string());
        NewEvent { kind, actor, device: None, text: text.to_string() }
    }

    #[tokio::test]
    async fn a_burst_shares_commits_and_keeps_its_order() {
        let (store, events) = events();
        let mut newest = events.subscribe();
        join_all((0..5_000).map(|n| events.record(new(n)))).await;
        assert!(newest.has_changed().unwrap());
        assert_eq!(*newest.borrow_and_update(), 5_000);
        let commits = store.commits();
        assert!((1..=50).contains(&commits), "{commits} commits for 5000 events");
        let found = events.after(4_000, 3).await.unwrap();
        let found: Vec<_> = found.iter().map(|event| (event.seq, event.text.raw())).collect();
        assert_eq!(found, [(4_001, "4000"), (4_002, "4001"), (4_003, "4002")]);
        assert_eq!(events.after(5_000, 3).await.unwrap(), []);
    }

    #[tokio::test]
    async fn no_more_wait_than_there_is_room_for() {
        let (store, events) = events();
        events.record_all((0..WAITING_EVENTS_MAX + 5).map(new).collect()).await;
        assert_eq!(store.event_newest().await.unwrap(), WAITING_EVENTS_MAX as u64);
        events.record_all(Vec::new()).await;
        events.record(new("room again")).await;
        assert_eq!(*events.subscribe().borrow(), WAITING_EVENTS_MAX as u64 + 1);
    }

    #[tokio::test]
    async fn what_the_store_does_not_take_holds_up_nobody() {
        let (_, events) = events();
        events.record(NewEvent { actor: "x".repeat(2 << 20), ..new("lost") }).await;
        assert_eq!(*events.subscribe().borrow(), 0);
        events.record(new("kept")).await;
        assert_eq!(*events.subscribe().borrow(), 1);
        assert_eq!(events.after(0, 9).await.unwrap()[0].text.raw(), "kept");
    }

    #[tokio::test]
    async fn a_long_text_is_cut_with_a_mark() {
        let (_, events) = events();
        events.record(new("ü".repeat(TEXT_CHARS_MAX + 1))).await;
        let found = events.after(0, 1).await.unwrap();
        assert_eq!(found[0].text.raw(), format!("{}…", "ü".repeat(TEXT_CHARS_MAX)));
    }
}
