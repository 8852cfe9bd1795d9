//! Lines of devices' logs, between those who read them and the links of the devices.
//!
//! ```text
//! http, page ─ wish ─▶ ask ─ bell ─▶ link ─▶ device
//!      ▲                                        │
//!      └── reader ◀─ ring, one an ask ◀─ lines ─┘
//! ```
//!
//! Who wants the very same shares one ask. Lines go into the ask's ring, and each reader takes them
//! from there when it can; so one that is slow loses the oldest, which it is told, and holds up
//! neither the device nor others. An ask ends with its last reader. One that follows outlives the
//! device's link: it is asked again on the next one, from the last line on. If that one does not come
//! again, the device has more lines than can be asked for, or has lost some: readers are told so.

mod reader;
mod ring;
mod seen;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::id::Uid;
use fleet_core::limits::{ERROR_CHARS_MAX, LOG_ASKS_MAX, LOG_LINES_MAX, LOG_NEWS_LINES_MAX};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::cut;
use fleet_core::wire::{LogAsk, LogEnd, LogLine, LogNews, LogSource, Severity, ToAgent};
use tokio::sync::watch;

use crate::hub::Hub;
pub(crate) use reader::{Fetched, NoLines, Reader};
use ring::Ring;
use seen::Seen;

/// Asks of all devices at one time.
const ASKS_MAX: usize = 128;
/// Bytes of a unit's name, as systemd has it.
const UNIT_BYTES_MAX: usize = 255;
/// Lines of one and the same time that a line is compared with, to find out whether it came before.
const SAME_TIME_MAX: usize = 64;

/// What is asked of devices, and what came of it.
pub(crate) struct Logs {
    hub: Arc<Hub>,
    state: Mutex<State>,
}

/// Which lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) source: LogSource,
    /// How bad at least.
    pub(crate) level: Severity,
    /// What must be in them.
    pub(crate) grep: String,
    /// Of the past not before, by the device's clock, in milliseconds since 1970.
    pub(crate) since_millis: Option<i64>,
    /// How many of the past.
    pub(crate) past: usize,
    /// Whether those to come, too.
    pub(crate) follow: bool,
}

/// There are as many asks as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("{LOG_ASKS_MAX} different wishes for lines of this device are under way already")]
    Device,
    #[error("{ASKS_MAX} logs are being read, and there may be no more")]
    All,
}

#[derive(Default)]
struct State {
    devices: HashMap<Uid, Device>,
    /// The last number that was given, to an ask or to a link.
    number: u64,
    seen: Seen,
}

#[derive(Default)]
struct Device {
    /// The number of its link, while it has one.
    link: Option<u64>,
    asks: Vec<Ask>,
    /// Asks that its link was told of and nobody wants any more.
    given_up: Vec<u64>,
}

struct Ask {
    number: u64,
    wish: Wish,
    readers: usize,
    /// The number that the device's link knows it by.
    told: Option<u64>,
    /// When the last line came that was there before the link was lost.
    resumed_millis: Option<i64>,
    /// That line, until lines come that it has to be among.
    resumed: Option<Arc<LogLine>>,
    ring: Ring,
    end: Option<End>,
    /// Rung when there is something to take.
    news: watch::Sender<()>,
}

/// Why nothing more comes of an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The device says so.
    Told(LogEnd),
    /// The device has gone meanwhile.
    Left,
}

/// A device's link, as far as lines go; given up when this is dropped.
pub(crate) struct Link {
    logs: Arc<Logs>,
    uid: Uid,
    number: u64,
}

impl Logs {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, state: Mutex::default() }
    }

    /// Begins to read: with the same ask as others who want the very same.
    pub(crate) fn read(self: &Arc<Self>, uid: Uid, wish: Wish) -> Result<Reader, Full> {
        let mut state = self.lock();
        let asks: usize = state.devices.values().map(|device| device.asks.len()).sum();
        let number = state.next();
        let device = state.devices.entry(uid).or_default();
        let open = |ask: &&mut Ask| ask.end.is_none() && ask.wish == wish;
        if let Some(ask) = device.asks.iter_mut().find(open) {
            ask.readers += 1;
            return Ok(Reader::new(self.clone(), uid, ask));
        }
        let full = if asks >= ASKS_MAX {
            Some(Full::All)
        } else if device.asks.iter().filter(|ask| ask.end.is_none()).count() >= LOG_ASKS_MAX {
            Some(Full::Device)
        } else {
            None
        };
        if let Some(full) = full {
            state.tidy(uid);
            return Err(full);
        }
        let ask = Ask {
            number,
            wish,
            readers: 1,
            told: None,
            resumed_millis: None,
            resumed: None,
            ring: Ring::default(),
            end: None,
            news: watch::Sender::new(()),
        };
        let reader = Reader::new(self.clone(), uid, &ask);
        device.asks.push(ask);
        drop(state);
        self.hub.ring(uid);
        Ok(reader)
    }

    /// Takes note of a device's link.
    pub(crate) fn link(self: &Arc<Self>, uid: Uid) -> Link {
        let mut state = self.lock();
        let number = state.next();
        let device = state.devices.entry(uid).or_default();
        device.unlink();
        device.link = Some(number);
        device.ring_all();
        Link { logs: self.clone(), uid, number }
    }

    /// Forgets what was seen of a device.
    pub(crate) fn forget(&self, uid: Uid) {
        self.lock().seen.forget(uid);
    }

    /// No step of what is done under the lock ends in its middle by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Lets go of a device of which there is nothing to know.
    fn tidy(&mut self, uid: Uid) {
        let is_idle = |device: &Device| device.link.is_none() && device.asks.is_empty();
        if self.devices.get(&uid).is_some_and(is_idle) {
            self.devices.remove(&uid);
        }
    }
}

impl Device {
    /// The link is lost: what is read once is over, and what is followed waits for the next one.
    fn unlink(&mut self) {
        self.link = None;
        self.given_up.clear();
        for ask in &mut self.asks {
            if ask.told.take().is_some() && !ask.wish.follow && ask.end.is_none() {
                ask.end = Some(End::Left);
            }
        }
    }

    fn ring_all(&self) {
        for ask in &self.asks {
            ask.news.send_replace(());
        }
    }
}

impl Ask {
    /// The wish as a link is told it. What has come already is not wanted again.
    fn frame(&mut self, number: u64) -> ToAgent {
        let Wish { source, level, grep, since_millis, past, follow } = self.wish.clone();
        self.told = Some(number);
        self.resumed = self.ring.newest().cloned();
        self.resumed_millis = self.resumed.as_ref().map(|line| line.at_millis);
        let past = if self.resumed_millis.is_some() { LOG_LINES_MAX } else { past };
        ToAgent::Logs(Box::new(LogAsk {
            ask: number,
            source,
            level,
            grep,
            since_millis: self.resumed_millis.or(since_millis),
            past: u32::try_from(past).unwrap_or(u32::MAX),
            follow,
        }))
    }
}

impl Link {
    /// What the device is to be told now of what is wanted, and no longer.
    pub(crate) fn frames(&self) -> Vec<ToAgent> {
        let mut state = self.logs.lock();
        let State { devices, number, .. } = &mut *state;
        let Some(device) = devices.get_mut(&self.uid) else { return Vec::new() };
        if device.link != Some(self.number) {
            return Vec::new();
        }
        let given_up = device.given_up.drain(..).map(|ask| ToAgent::LogsEnd { ask });
        let mut frames: Vec<ToAgent> = given_up.collect();
        let untold = device.asks.iter_mut().filter(|ask| ask.told.is_none() && ask.end.is_none());
        for ask in untold {
            *number += 1;
            frames.push(ask.frame(*number));
        }
        frames
    }

    /// Takes what the device says.
    pub(crate) fn heard(&self, mut news: LogNews, now: Timestamp) {
        // Of more lines than any agent sends the oldest are left out. What takes long is done before
        // the lock is taken, which the links of all devices share.
        let surplus = news.lines.len().saturating_sub(LOG_NEWS_LINES_MAX);
        let lines: Vec<_> = news.lines.drain(..).skip(surplus).map(heard_line).collect();
        let mut state = self.logs.lock();
        let State { devices, seen, .. } = &mut *state;
        let Some(device) = devices.get_mut(&self.uid) else { return };
        let current = device.link == Some(self.number);
        let mut asks = device.asks.iter_mut();
        let Some(ask) = asks.find(|ask| current && ask.told == Some(news.ask)) else { return };
        ask.ring.leave_out(news.dropped);
        ask.ring.leave_out(surplus as u64);
        if !lines.is_empty()
            && let Some(last) = ask.resumed.take()
            && !lines.contains(&last)
        {
            ask.ring.tear();
        }
        for line in lines {
            if ask.resumed_millis == Some(line.at_millis) && ask.ring.has(&line) {
                continue;
            }
            seen.note(self.uid, &ask.wish.source, &line, now);
            ask.ring.push(line);
        }
        if let Some(end) = news.end {
            ask.end = Some(End::Told(heard_end(end)));
        }
        ask.news.send_replace(());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut state = self.logs.lock();
        let Some(device) = state.devices.get_mut(&self.uid) else { return };
        if device.link == Some(self.number) {
            device.unlink();
            device.ring_all();
            state.tidy(self.uid);
        }
    }
}

/// A line with an end to its unit's name and to its text.
fn heard_line(mut line: LogLine) -> Arc<LogLine> {
    line.unit.truncate(cut_at(&line.unit, UNIT_BYTES_MAX));
    Arc::new(line.cut())
}

/// An end whose reason has an end, too, with a mark where it was cut.
fn heard_end(mut end: LogEnd) -> LogEnd {
    if let LogEnd::Refused(why) | LogEnd::Failed(why) = &mut end {
        *why = cut(std::mem::take(why), ERROR_CHARS_MAX);
    }
    end
}

fn cut_at(text: &str, bytes_max: usize) -> usize {
    let end = bytes_max.min(text.len());
    (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(past: usize, follow: bool) -> Wish {
        let (source, level) = (LogSource::Agent, Severity::Trace);
        Wish { source, level, grep: String::new(), since_millis: None, past, follow }
    }

    fn news(ask: u64, numbers: &[i64], end: Option<LogEnd>) -> LogNews {
        let line = |number: &i64| LogLine {
            at_millis: *number / 10,
            unit: "agent".to_owned(),
            level: Severity::Info,
            text: number.to_string(),
        };
        LogNews { ask, dropped: 0, lines: numbers.iter().map(line).collect(), end }
    }

    fn asked(frames: &[ToAgent]) -> LogAsk {
        match frames {
            [ToAgent::Logs(ask)] => (**ask).clone(),
            other => panic!("not one ask: {other:?}"),
        }
    }

    fn numbers(reader: &mut Reader) -> Vec<i64> {
        reader.take(usize::MAX).lines.iter().map(|line| line.text.parse().unwrap()).collect()
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(0)
    }

    #[tokio::test]
    async fn who_wants_the_same_shares_one_ask_that_ends_with_the_last() {
        let hub = Arc::new(Hub::default());
        let (logs, uid) = (Arc::new(Logs::new(hub.clone())), Uid::new());
        let (seat, link) = (hub.sit(uid, std::net::Ipv4Addr::LOCALHOST.into()), logs.link(uid));
        let mut one = logs.read(uid, wish(2, true)).unwrap();
        seat.woken().await;
        let told = asked(&link.frames());
        assert_eq!((told.past, told.follow, told.since_millis), (2, true, None));
        link.heard(news(told.ask, &[11, 12, 13], None), now());
        let mut other = logs.read(uid, wish(2, true)).unwrap();
        assert_eq!(link.frames(), []);
        assert_eq!((numbers(&mut one), numbers(&mut other)), (vec![11, 12, 13], vec![12, 13]));
        link.heard(news(told.ask, &[14], None), now());
        drop(one);
        assert_eq!(numbers(&mut other), [14]);
        assert_eq!(link.frames(), []);
        drop(other);
        seat.woken().await;
        assert_eq!(link.frames(), [ToAgent::LogsEnd { ask: told.ask }]);
        // What comes of it nevertheless is nobody's.
        link.heard(news(told.ask, &[15], None), now());
        drop(link);
        assert!(logs.lock().devices.is_empty());
    }

    #[tokio::test]
    async fn who_follows_goes_on_behind_the_last_line_on_the_next_link() {
        let (logs, uid) = (Arc::new(Logs::new(Arc::default())), Uid::new());
        let mut reader = logs.read(uid, wish(2, true)).unwrap();
        assert!(!reader.take(usize::MAX).is_linked);
        let link = logs.link(uid);
        let told = asked(&link.frames());
        link.heard(news(told.ask, &[10, 20, 21], None), now());
        assert_eq!(numbers(&mut reader), [10, 20, 21]);
        // The newer link is there before the older one is gone.
        let next = logs.link(uid);
        assert_eq!(link.frames(), []);
        drop(link);
        let again = asked(&next.frames());
        assert_ne!(again.ask, told.ask);
        assert_eq!((again.since_millis, again.past), (Some(2), LOG_LINES_MAX as u32));
        next.heard(news(told.ask, &[98], None), now());
        next.heard(news(again.ask, &[20, 21, 22, 30], None), now());
        assert_eq!(numbers(&mut reader), [22, 30]);
        drop(next);
        let taken = reader.take(usize::MAX);
        assert!(!taken.is_linked && taken.over.is_none());
    }

    #[tokio::test]
    async fn who_follows_is_told_that_lines_may_be_missing() {
        let (logs, uid) = (Arc::new(Logs::new(Arc::default())), Uid::new());
        let mut reader = logs.read(uid, wish(2, true)).unwrap();
        let link = logs.link(uid);
        link.heard(news(asked(&link.frames()).ask, &[10, 20], None), now());
        assert_eq!(numbers(&mut reader), [10, 20]);
        // What the device left out, it says; the last line may come behind that.
        let link = logs.link(uid);
        let ask = asked(&link.frames()).ask;
        link.heard(LogNews { dropped: 1, ..news(ask, &[], None) }, now());
        link.heard(news(ask, &[20, 30], None), now());
        let taken = reader.take(usize::MAX);
        assert_eq!((taken.lines.len(), taken.lost, taken.is_torn), (1, 1, false));
        // The line of the same time is another one.
        let link = logs.link(uid);
        let ask = asked(&link.frames()).ask;
        link.heard(news(ask, &[31, 40], None), now());
        link.heard(news(ask, &[50], None), now());
        let taken = reader.take(usize::MAX);
        assert_eq!((taken.lines.len(), taken.lost, taken.is_torn), (3, 0, true));
        assert!(!reader.take(usize::MAX).is_torn);
    }

    #[test]
    fn more_lines_than_an_agent_sends_at_once_are_left_out_and_counted() {
        let (logs, uid) = (Arc::new(Logs::new(Arc::default())), Uid::new());
        let mut reader = logs.read(uid, wish(LOG_LINES_MAX, true)).unwrap();
        let link = logs.link(uid);
        let ask = asked(&link.frames()).ask;
        let sent: Vec<i64> = (0..150_000).collect();
        let mut many = news(ask, &sent, None);
        for line in &mut many.lines {
            line.at_millis = 0;
        }
        link.heard(many, now());
        let taken = reader.take(usize::MAX);
        assert_eq!(taken.lines.len(), LOG_NEWS_LINES_MAX);
        assert_eq!(taken.lost, (sent.len() - LOG_NEWS_LINES_MAX) as u64);
        assert_eq!(taken.lines.last().unwrap().text, "149999");
    }

    #[tokio::test]
    async fn what_is_read_once_is_over_with_the_link() {
        let (logs, uid) = (Arc::new(Logs::new(Arc::default())), Uid::new());
        let link = logs.link(uid);
        let mut reader = logs.read(uid, wish(2, false)).unwrap();
        asked(&link.frames());
        drop(link);
        assert_eq!(reader.take(usize::MAX).over, Some(End::Left));
    }

    #[test]
    fn a_devices_reason_is_cut() {
        let (logs, uid) = (Arc::new(Logs::new(Arc::default())), Uid::new());
        let link = logs.link(uid);
        let cut = format!("{}…", "ü".repeat(ERROR_CHARS_MAX));
        for make in [LogEnd::Refused, LogEnd::Failed] {
            let mut reader = logs.read(uid, wish(1, false)).unwrap();
            let ask = asked(&link.frames()).ask;
            let end = make("ü".repeat(ERROR_CHARS_MAX + 1));
            link.heard(news(ask, &[], Some(end)), now());
            let over = reader.take(usize::MAX).over;
            assert_eq!(over, Some(End::Told(make(cut.clone()))));
        }
    }

    #[test]
    fn there_is_an_end_to_what_is_asked() {
        let (logs, uid) = (Arc::new(Logs::new(Arc::default())), Uid::new());
        let mut readers: Vec<_> =
            (1..=LOG_ASKS_MAX).map(|past| logs.read(uid, wish(past, true)).unwrap()).collect();
        assert_eq!(logs.read(uid, wish(9, true)).err(), Some(Full::Device));
        assert!(logs.read(uid, wish(1, true)).is_ok(), "the same is no other ask");
        for _ in LOG_ASKS_MAX..ASKS_MAX {
            readers.push(logs.read(Uid::new(), wish(1, true)).unwrap());
        }
        assert_eq!(logs.read(Uid::new(), wish(1, true)).err(), Some(Full::All));
        drop(readers);
        assert!(logs.lock().devices.is_empty());
    }
}
