//! One stream: asks what is new as often as its reader takes it, and says it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::{EventView, Health, Hello, LiveReport, LiveSample, Ping, StreamView};
use fleet_core::untrusted::Untrusted;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::board::Counts;
use super::looking::Looking;
use super::position::Position;
use super::seen::Seen;
use super::sse::Piece;
use super::streams::Place;
use super::{Live, Wish};
use crate::ops::OpsError;
use crate::ops::sessions::SessionSecret;
use crate::store::StoreHealth;
use crate::watched::{Watch, WatchedReport};

/// Between two looks at what is new.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Between signs of life.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Between looks at whether the key is still good.
const KEY_INTERVAL: Duration = Duration::from_secs(4);
/// Events that one look brings.
const EVENTS_MAX: usize = 100;
/// Events that a reader may be behind. What is older it finds in the list, if it wants it.
const EVENTS_BEHIND_MAX: u64 = 1_000;
/// Bytes of names and labels in one live report; more would not fit a line, escaped.
const REPORT_BYTES_MAX: usize = 64 * 1024;

/// A stream's reader, seen from here.
pub(super) struct Reader {
    live: Arc<Live>,
    place: Place,
    session: Option<SessionSecret>,
    seen: Seen,
    has_all_events: bool,
    /// What it has seen, and what there was as it began.
    position: Position,
    begun: u64,
    is_resumed: bool,
    is_complete: bool,
    looking: Looking,
    watch: Option<Watch>,
    counts: Counts,
    /// As it was last said.
    health: StoreHealth,
    ping_due: Instant,
    key_due: Instant,
}

/// Why a stream ends from our side.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("its key is no longer good")]
    Key,
    #[error("its session is over")]
    Session,
    #[error("it is too far behind and must begin anew")]
    Behind,
    #[error("a message cannot be written")]
    Encode(#[from] serde_json::Error),
    #[error("something cannot be read")]
    Ops(#[from] OpsError),
}

impl Reader {
    pub(super) fn new(live: Arc<Live>, place: Place, since: Option<Position>, wish: Wish) -> Self {
        let board = &live.board;
        let resumed = since.filter(|since| {
            let (revision, instance) = (since.revision, since.instance);
            // Nobody knows which rows have left a scope meanwhile.
            wish.access.scope().is_none()
                && instance == live.instance
                && board.after(revision, revision, None).is_some()
        });
        let event = *live.ops.events.subscribe().borrow();
        let fresh = Position { instance: live.instance, revision: 0, event };
        let begun = resumed.map_or_else(|| board.revision(), |since| since.revision);
        let now = Instant::now();
        Self {
            place,
            session: wish.session,
            has_all_events: wish.only.is_none() || wish.has_all_events,
            seen: Seen::new(wish.access, wish.only, live.ops.world.store.directory()),
            position: resumed.unwrap_or(fresh),
            begun,
            is_resumed: resumed.is_some(),
            is_complete: false,
            looking: Looking::default(),
            watch: None,
            counts: Counts::new(),
            health: StoreHealth::Healthy,
            ping_due: now + PING_INTERVAL,
            key_due: now + KEY_INTERVAL,
            live,
        }
    }

    /// Says what is new until either side ends the stream.
    pub(super) async fn run(mut self, sender: mpsc::Sender<Bytes>) {
        let tasks = self.live.tasks.clone();
        let ended = tokio::select! {
            () = tasks.stopping() => return,
            () = sender.closed() => return,
            ended = self.talk(&sender) => ended,
        };
        if let Err(end) = ended {
            tracing::debug!(stream = %self.place.stream, reason = %Chain(&end), "a stream was ended");
        }
    }

    async fn talk(&mut self, sender: &mpsc::Sender<Bytes>) -> Result<(), End> {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut piece = Piece::default();
        self.say_hello(&mut piece).await?;
        loop {
            // What is said is found out when there is room for it, not before.
            let room = timeout(self.live.patience, sender.reserve()).await;
            let Ok(Ok(room)) = room else { return Ok(()) };
            // Also before a page of the index: one who reads slowly is at that for long.
            self.check_access().await?;
            self.say_index(&mut piece)?;
            if self.is_complete {
                self.say_news(&mut piece).await?;
            }
            if let Some(bytes) = std::mem::take(&mut piece).into_bytes() {
                room.send(bytes.into());
            }
            if self.is_complete {
                ticks.tick().await;
            }
        }
    }

    async fn say_hello(&mut self, piece: &mut Piece) -> Result<(), End> {
        let label = self.live.ops.keys.label(&self.place.key).await?;
        let hello = Hello {
            stream: self.place.stream,
            instance: self.live.instance,
            version: fleet_core::VERSION.to_owned(),
            time: self.live.ops.world.now(),
            key: Untrusted::new(label),
            devices: match self.seen.access().scope() {
                None => u32::try_from(self.live.board.len()).unwrap_or(u32::MAX),
                Some(_) => self.live.counts(self.seen.access()).values().sum(),
            },
            resumed: self.is_resumed,
        };
        Ok(piece.add("hello", None, &hello)?)
    }

    /// Says one page of what changed in the index.
    fn say_index(&mut self, piece: &mut Piece) -> Result<(), End> {
        let board = &self.live.board;
        let moved = self.seen.look(self.live.ops.world.store.directory(), board);
        let was_complete = std::mem::replace(&mut self.is_complete, self.seen.is_settled());
        let is_same = moved.rows.is_empty() && moved.gone.is_empty();
        if was_complete && is_same && board.revision() == self.position.revision {
            return Ok(());
        }
        let mut delta = board
            .after(self.position.revision, self.begun, self.seen.shown())
            .ok_or(End::Behind)?;
        self.position.revision = delta.revision;
        self.is_complete &= delta.is_complete;
        // What is new of a row comes after what it was as its device came into the scope.
        delta.rows.splice(0..0, moved.rows);
        delta.gone.extend(moved.gone);
        delta.is_complete = self.is_complete;
        if !was_complete || !delta.rows.is_empty() || !delta.gone.is_empty() {
            piece.add_index(self.position, &delta)?;
        }
        Ok(())
    }

    /// Ends the stream of whoever may not read it any more.
    async fn check_access(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now < self.key_due {
            return Ok(());
        }
        self.key_due = now + KEY_INTERVAL;
        if !self.live.ops.keys.is_good(&self.place.key).await? {
            return Err(End::Key);
        }
        if let Some(session) = &self.session
            && self.live.ops.sessions.find(session).await?.is_none()
        {
            return Err(End::Session);
        }
        Ok(())
    }

    /// Says all that is not the index.
    async fn say_news(&mut self, piece: &mut Piece) -> Result<(), End> {
        let now = Instant::now();
        let view = self.place.view.borrow().clone();
        self.say_health(piece)?;
        self.say_events(piece).await?;
        self.say_counts(piece)?;
        self.say_values(&view, now, piece)?;
        self.say_reports(&view, piece)?;
        if now >= self.ping_due {
            self.ping_due = now + PING_INTERVAL;
            let ping = Ping { time: self.live.ops.world.now(), skipped: self.looking.skipped };
            piece.add("ping", None, &ping)?;
        }
        Ok(())
    }

    /// Says how the store is, when that is not as it was.
    fn say_health(&mut self, piece: &mut Piece) -> Result<(), End> {
        let health = self.live.ops.world.health();
        if health != self.health {
            piece.add("health", None, &Health::from(&health))?;
            self.health = health;
        }
        Ok(())
    }

    /// Says what happened.
    async fn say_events(&mut self, piece: &mut Piece) -> Result<(), End> {
        let events = &self.live.ops.events;
        let newest = *events.subscribe().borrow();
        if newest <= self.position.event {
            return Ok(());
        }
        self.position.event = self.position.event.max(newest.saturating_sub(EVENTS_BEHIND_MAX));
        let news = events.after(self.position.event, EVENTS_MAX).await?;
        if news.is_empty() {
            // They are damaged, and the store's health says so.
            self.position.event = newest;
        }
        for event in news {
            self.position.event = event.seq;
            if self.is_wanted(&event) {
                piece.add("event", Some(self.position), &event)?;
            }
        }
        Ok(())
    }

    /// Whether something that happened is what the stream is about.
    fn is_wanted(&self, event: &EventView) -> bool {
        let is_own = |uid| self.seen.only().is_some_and(|only| only.contains(&uid));
        (self.has_all_events || event.uid.is_some_and(is_own))
            && self.live.ops.events.is_for(self.seen.access(), event)
    }

    /// Says how many devices have each status to who does not see them all.
    fn say_counts(&mut self, piece: &mut Piece) -> Result<(), End> {
        if self.seen.only().is_none() {
            return Ok(());
        }
        let counts = self.live.counts(self.seen.access());
        if counts != self.counts {
            piece.add("counts", None, &counts)?;
            self.counts = counts;
        }
        Ok(())
    }

    fn say_values(
        &mut self,
        view: &StreamView,
        now: Instant,
        piece: &mut Piece,
    ) -> Result<(), End> {
        let (board, presence) = (&self.live.board, &self.live.ops.presence);
        let only = self.seen.only().into_iter().flatten().copied();
        let own: Vec<u32> = board.slots(only).into_iter().flatten().collect();
        let shown = self.seen.shown();
        for values in self.looking.look(view, &own, shown, board, presence, now) {
            piece.add("values", None, &values)?;
        }
        Ok(())
    }

    /// Says what the watched device reported.
    fn say_reports(&mut self, view: &StreamView, piece: &mut Piece) -> Result<(), End> {
        let Some(wanted) = &view.watch else {
            self.watch = None;
            return Ok(());
        };
        let found = self.live.board.uids([wanted.slot].into_iter());
        let Some(uid) = found.into_iter().flatten().find(|uid| self.seen.has(*uid)) else {
            self.watch = None;
            return Ok(());
        };
        let watch = match self.watch.take().filter(|watch| watch.uid() == uid) {
            Some(watch) => watch,
            None => self.live.watched.watch(uid),
        };
        let (reports, lost) = self.watch.insert(watch).take();
        self.looking.skipped += lost;
        for report in reports {
            piece.add("report", None, &live_report(wanted.slot, &report, &wanted.metrics))?;
        }
        Ok(())
    }
}

/// The metrics of a report that a view names.
fn live_report(slot: u32, report: &WatchedReport, metrics: &[String]) -> LiveReport {
    let mut bytes = 0;
    let wanted = report.samples.iter().filter(|sample| metrics.contains(&sample.name));
    let samples = wanted
        .take_while(|sample| {
            let labels = sample.labels.iter().map(|(name, value)| name.len() + value.len());
            bytes += sample.name.len() + labels.sum::<usize>();
            bytes <= REPORT_BYTES_MAX
        })
        .map(|sample| LiveSample {
            metric: sample.name.clone(),
            labels: sample
                .labels
                .iter()
                .map(|(name, value)| (name.clone(), Untrusted::from(value.as_str())))
                .collect(),
            value: sample.value,
        });
    LiveReport { slot, timestamp: report.at, samples: samples.collect() }
}
