//! Those who read lines: as they come, or once.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use fleet_core::wire::{LogEnd, LogLine};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::ring::{Next, Place};
use super::{Ask, End, Full, Logs, Wish};

/// So many times the patience for one news is waited for all of them.
const PATIENCE_TIMES: u32 = 4;

/// Somebody reads lines, until this is dropped.
pub(crate) struct Reader {
    logs: Arc<Logs>,
    uid: Uid,
    ask: u64,
    place: Place,
    news: watch::Receiver<()>,
}

/// What there is for a reader.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The next lines.
    pub(crate) lines: Vec<Arc<LogLine>>,
    /// How many are lost before them.
    pub(crate) lost: u64,
    /// Whether lines may be missing before them, and nobody knows how many.
    pub(crate) is_torn: bool,
    /// Whether the device is connected.
    pub(crate) is_linked: bool,
    /// Why nothing more comes, once all lines are taken.
    pub(super) over: Option<End>,
}

/// Lines that were read once.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The lines, oldest first.
    pub(crate) lines: Vec<Arc<LogLine>>,
    /// How many are left out.
    pub(crate) lost: u64,
    /// When they were seen, if they are remembered because the device is not connected.
    pub(crate) seen: Option<Timestamp>,
}

/// Why there are no lines.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLines {
    #[error("it is not connected, and no such lines of it are remembered")]
    NotConnected,
    #[error("it did not answer in time")]
    Silent,
    /// It says no: its policy, or what hinders it.
    #[error("{0}")]
    Said(String),
    #[error(transparent)]
    Full(#[from] Full),
}

impl Reader {
    pub(super) fn new(logs: Arc<Logs>, uid: Uid, ask: &Ask) -> Self {
        let place = ask.ring.place(ask.wish.past);
        Self { logs, uid, ask: ask.number, place, news: ask.news.subscribe() }
    }

    /// Takes what there is, at most so many bytes of lines.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Taken {
        // Looked at before the rest is: what comes meanwhile ends the next wait.
        self.news.mark_unchanged();
        let state = self.logs.lock();
        let device = state.devices.get(&self.uid);
        let is_linked = device.is_some_and(|device| device.link.is_some());
        let asks = device.map(|device| device.asks.as_slice()).unwrap_or_default();
        let Some(ask) = asks.iter().find(|ask| ask.number == self.ask) else {
            let over = Some(End::Left);
            return Taken { lines: Vec::new(), lost: 0, is_torn: false, is_linked, over };
        };
        let Next { lines, lost, is_torn } = ask.ring.take(&mut self.place, bytes_max);
        let over = if lines.is_empty() { ask.end.clone() } else { None };
        Taken { lines, lost, is_torn, is_linked, over }
    }

    /// Whether the device is connected.
    pub(crate) fn is_linked(&self) -> bool {
        let state = self.logs.lock();
        state.devices.get(&self.uid).is_some_and(|device| device.link.is_some())
    }

    /// Why nothing more comes, once that is so.
    fn end(&mut self) -> Option<End> {
        self.news.mark_unchanged();
        let state = self.logs.lock();
        let asks = state.devices.get(&self.uid).map(|device| device.asks.as_slice());
        match asks.unwrap_or_default().iter().find(|ask| ask.number == self.ask) {
            Some(ask) => ask.end.clone(),
            None => Some(End::Left),
        }
    }

    /// Waits until there may be more to take. May be dropped while it waits.
    pub(crate) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // An ask is there for as long as its readers are.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.logs.lock();
        let Some(device) = state.devices.get_mut(&self.uid) else { return };
        let Some(at) = device.asks.iter().position(|ask| ask.number == self.ask) else { return };
        device.asks[at].readers -= 1;
        if device.asks[at].readers > 0 {
            return;
        }
        let ask = device.asks.remove(at);
        let to_tell = ask.told.filter(|_| ask.end.is_none());
        device.given_up.extend(to_tell);
        state.tidy(self.uid);
        drop(state);
        if to_tell.is_some() {
            self.logs.hub.ring(self.uid);
        }
    }
}

impl Taken {
    /// Why nothing more comes, and whether that is the device's policy.
    pub(crate) fn over(&self) -> Option<(bool, String)> {
        self.over.as_ref().map(|end| match end {
            End::Told(LogEnd::Refused(why)) => (true, why.clone()),
            End::Told(LogEnd::Failed(why)) => (false, why.clone()),
            End::Told(LogEnd::Complete) => (false, "the device has ended it".to_owned()),
            End::Left => (false, "the device has gone".to_owned()),
        })
    }
}

impl Logs {
    /// Reads lines once, from the device if it is connected and answers in time, and otherwise from
    /// memory. The patience begins anew with each news, and has an end in all. Lines whose end does not
    /// come in time are given all the same; what is missing counts as one line that is left out.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        uid: Uid,
        wish: Wish,
        patience: Duration,
    ) -> Result<Fetched, NoLines> {
        if !self.hub.is_connected(uid) {
            return self.remembered(uid, &wish).ok_or(NoLines::NotConnected);
        }
        let mut reader = self.read(uid, wish.clone())?;
        let end = ended(&mut reader, patience).await;
        match end {
            None | Some(End::Told(LogEnd::Complete)) => {
                let Taken { mut lines, mut lost, .. } = reader.take(usize::MAX);
                if end.is_none() {
                    if lines.is_empty() {
                        return Err(NoLines::Silent);
                    }
                    lost = lost.saturating_add(1);
                }
                lines.drain(..lines.len().saturating_sub(wish.past));
                Ok(Fetched { lines, lost, seen: None })
            }
            Some(End::Told(LogEnd::Refused(why) | LogEnd::Failed(why))) => Err(NoLines::Said(why)),
            Some(End::Left) => self.remembered(uid, &wish).ok_or(NoLines::NotConnected),
        }
    }

    /// What was seen of a device before.
    pub(crate) fn remembered(&self, uid: Uid, wish: &Wish) -> Option<Fetched> {
        let (lines, at) = self.lock().seen.find(uid, wish)?;
        Some(Fetched { lines, lost: 0, seen: Some(at) })
    }
}

/// Waits until nothing more comes of what is read once; nothing if the patience ends before. Until then
/// the lines stay in their ring, so there is an end to how many there are.
async fn ended(reader: &mut Reader, patience: Duration) -> Option<End> {
    let begun = Instant::now();
    loop {
        if let Some(end) = reader.end() {
            return Some(end);
        }
        let until = due(begun, Instant::now(), patience);
        timeout_at(until, reader.changed()).await.ok()?;
    }
}

/// When the next news must have come, if the last one came now.
fn due(begun: Instant, now: Instant, patience: Duration) -> Instant {
    (now + patience).min(begun + patience * PATIENCE_TIMES)
}

#[cfg(test)]
mod tests {
    use fleet_core::wire::{LogNews, LogSource, Severity, ToAgent};

    use super::*;
    use crate::hub::Hub;

    #[test]
    fn patience_begins_anew_with_each_news_and_has_an_end() {
        let begun = Instant::now();
        let after = |secs| begun + Duration::from_secs(secs);
        for (now, until) in [(0, 15), (14, 29), (44, 59), (45, 60), (50, 60), (60, 60)] {
            assert_eq!(due(begun, after(now), Duration::from_secs(15)), after(until), "{now}");
        }
    }

    #[tokio::test]
    async fn lines_without_an_end_are_given_and_said_to_be_incomplete() {
        let (hub, uid) = (Arc::new(Hub::default()), Uid::new());
        let logs = Arc::new(Logs::new(hub.clone()));
        let (seat, link) = (hub.sit(uid, std::net::Ipv4Addr::LOCALHOST.into()), logs.link(uid));
        let device = async {
            seat.woken().await;
            let Some(ToAgent::Logs(ask)) = link.frames().pop() else { panic!("an ask") };
            let (unit, text) = ("agent".to_owned(), "one".to_owned());
            let line = LogLine { at_millis: 0, unit, level: Severity::Info, text };
            let news = LogNews { ask: ask.ask, dropped: 3, lines: vec![line], end: None };
            link.heard(news, Timestamp::from_millis(0));
            std::future::pending::<()>().await;
        };
        let (source, level) = (LogSource::Agent, Severity::Trace);
        let (grep, since_millis) = (String::new(), None);
        let wish = Wish { source, level, grep, since_millis, past: 10, follow: false };
        let found = tokio::select! {
            // Whenever the reader is looked at, the device has said what it had to say.
            biased;
            () = device => panic!("the device stays"),
            found = logs.fetch(uid, wish, Duration::from_millis(20)) => found.unwrap(),
        };
        assert_eq!((found.lines.len(), found.lost, found.seen), (1, 4, None));
    }
}
