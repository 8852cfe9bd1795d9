//! Looks for the instances of one service type until it is dropped. A handle and its private
//! loop.
//!
//! Queries go out at once, then after about 1, 2, 4 … 60 seconds; the first ones have all answer, the
//! later ones those who are not known. A reader that is slow misses no
//! state, only steps in between: the loop keeps what is known, and tells what differs from what it
//! told before, a batch at a time.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::cache::{Cache, Inquiry};
use super::claim::Source;
use super::instance::Event;
use super::links::{Family, Incoming, Links, Outgoing, To};
use super::{Options, RESCAN_INTERVAL, jitter, packet, records, spawn};

const QUERY_INTERVAL_MIN: Duration = Duration::from_secs(1);
const QUERY_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// While claims are being pushed out by others, whoever is real must be able to come back.
const QUERY_INTERVAL_UNDER_PRESSURE: Duration = Duration::from_secs(4);
/// Events that are handed over at once. One at a time, what is real would come out late of a flood.
const EVENTS_TOGETHER: usize = 256;
/// How often the cache is looked through for what has lapsed or must be asked for again.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A search in progress. Dropping it ends its task.
#[derive(Debug)]
pub struct Browser {
    batches: mpsc::Receiver<VecDeque<Event>>,
    /// The rest of the batch that is being read.
    batch: VecDeque<Event>,
    _task: AbortOnDropHandle<()>,
}

/// Starts to look for a service type such as `_fleetd._tcp`, on links that are there now and on
/// those that come later.
///
/// Fails if that is no service type, or if there are links but port 5353 can be opened on none.
pub fn browse(options: Options, service_type: &str) -> io::Result<Browser> {
    let cache = Cache::new(records::service_name(service_type)?);
    let links = Links::open(options)?;
    let (sender, batches) = mpsc::channel(1);
    let actor = Actor { cache, links, schedule: Schedule::new(Instant::now()) };
    let batch = VecDeque::new();
    Ok(Browser { batches, batch, _task: spawn("mdns browser", actor.run(sender)) })
}

impl Browser {
    /// The next event. May be dropped while it waits; nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        while self.batch.is_empty() {
            self.batch = self.batches.recv().await?;
        }
        self.batch.pop_front()
    }

    /// The next event, if it has been handed over already.
    pub fn next_at_hand(&mut self) -> Option<Event> {
        self.batch.pop_front()
    }
}

struct Actor {
    cache: Cache,
    links: Links,
    schedule: Schedule,
}

/// When to do what next.
struct Schedule {
    query_at: Instant,
    query_interval: Duration,
    upkeep_at: Instant,
    rescan_at: Instant,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self {
            query_at: now,
            query_interval: QUERY_INTERVAL_MIN,
            upkeep_at: now + UPKEEP_INTERVAL,
            rescan_at: now + RESCAN_INTERVAL,
        }
    }

    fn next_at(&self) -> Instant {
        self.query_at.min(self.upkeep_at).min(self.rescan_at)
    }
}

impl Actor {
    async fn run(mut self, sender: mpsc::Sender<VecDeque<Event>>) {
        loop {
            let wake_at = self.schedule.next_at();
            tokio::select! {
                incoming = self.links.receive() => self.take(&incoming),
                permit = sender.reserve(), if self.cache.has_events() => {
                    let Ok(permit) = permit else { return };
                    let events = std::iter::from_fn(|| self.cache.next_event());
                    permit.send(events.take(EVENTS_TOGETHER).collect());
                }
                () = sleep_until(wake_at) => self.act(Instant::now()),
            }
        }
    }

    fn take(&mut self, incoming: &Incoming) {
        let Some(packet) = packet::parse(&incoming.bytes) else { return };
        let source =
            Source { ip: incoming.source.ip(), link: incoming.link, loopback: incoming.loopback };
        let now = Instant::now();
        let claims_before = self.cache.claims_made();
        self.cache.on_packet(source, incoming.source.port(), &packet, now);
        if self.cache.claims_made() != claims_before {
            // What a new claim lacks is asked for without waiting, but not for each in a flood.
            self.schedule.upkeep_at = self.schedule.upkeep_at.min(now + Duration::from_millis(50));
        }
    }

    fn act(&mut self, now: Instant) {
        if now >= self.schedule.rescan_at {
            self.schedule.rescan_at = now + RESCAN_INTERVAL;
            if !self.links.rescan().is_empty() {
                self.schedule.query_at = now;
                self.schedule.query_interval = QUERY_INTERVAL_MIN;
                self.cache.begin_anew();
            }
        }
        if now >= self.schedule.query_at {
            self.query(now);
        }
        if now >= self.schedule.upkeep_at {
            self.schedule.upkeep_at = now + UPKEEP_INTERVAL;
            self.cache.expire(now);
            for (link, inquiry) in self.cache.follow_up(now) {
                self.ask(link, To::All, inquiry);
            }
        }
    }

    fn query(&mut self, now: Instant) {
        let is_pressed = self.cache.begin_round();
        let all: Vec<u32> = self.links.links().iter().map(|link| link.index).collect();
        for link in all {
            // What was heard in one family is still to be heard in the other: only there is it known
            // that a host has its address of that family.
            for family in Family::BOTH {
                let inquiry = self.cache.inquiry(link, family, now);
                self.ask(link, To::AllOf(family), inquiry);
            }
        }
        let interval = self.schedule.query_interval;
        let pause = if is_pressed { interval.min(QUERY_INTERVAL_UNDER_PRESSURE) } else { interval };
        // Two browsers on one machine that stay in step could have each other's known answers
        // taken for their own.
        self.schedule.query_at = now + jitter(pause * 3 / 4, pause * 5 / 4);
        self.schedule.query_interval = (interval * 2).min(QUERY_INTERVAL_MAX);
    }

    fn ask(&mut self, link: u32, to: To, inquiry: Inquiry) {
        for bytes in packet::queries(inquiry.questions, inquiry.known) {
            self.links.send(&Outgoing { link, to, bytes });
        }
    }
}
