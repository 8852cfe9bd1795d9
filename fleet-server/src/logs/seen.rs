//! The last lines that were seen of each device, for when it is not there to be asked. In memory, with
//! an end for each device and for all: then those of whom nobody has asked for the longest are
//! forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::limits::LOG_LINES_MAX;
use fleet_core::time::Timestamp;
use fleet_core::wire::{LogLine, LogSource};

use super::{SAME_TIME_MAX, Wish};

/// Bytes of the lines of one device, and of all.
const DEVICE_BYTES_MAX: usize = 256 * 1024;
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    devices: HashMap<Uid, Device>,
    bytes: usize,
    /// Grows with each look.
    looks: u64,
}

/// What was seen of one device, in the order of its clock.
struct Device {
    lines: VecDeque<Held>,
    bytes: usize,
    look: u64,
}

/// A line that was seen.
struct Held {
    source: LogSource,
    line: Arc<LogLine>,
    /// When it was seen last.
    at: Timestamp,
}

impl Seen {
    /// Takes a line. What several ask for is kept once.
    pub(super) fn note(
        &mut self,
        uid: Uid,
        source: &LogSource,
        line: &Arc<LogLine>,
        now: Timestamp,
    ) {
        self.looks += 1;
        let fresh = || Device { lines: VecDeque::new(), bytes: 0, look: 0 };
        let device = self.devices.entry(uid).or_insert_with(fresh);
        device.look = self.looks;
        let before = device.bytes;
        device.add(source, line, now);
        self.bytes = self.bytes - before + device.bytes;
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.devices.iter().min_by_key(|(_, device)| device.look) else {
                break;
            };
            self.forget(*oldest.0);
        }
    }

    /// Forgets a device.
    pub(super) fn forget(&mut self, uid: Uid) {
        if let Some(device) = self.devices.remove(&uid) {
            self.bytes -= device.bytes;
        }
    }

    /// The last lines that are wanted, and when the newest of them was seen; nothing if there are none.
    pub(super) fn find(&self, uid: Uid, wish: &Wish) -> Option<(Vec<Arc<LogLine>>, Timestamp)> {
        let device = self.devices.get(&uid)?;
        let wanted = device.lines.iter().filter(|Held { source, line, .. }| {
            *source == wish.source
                && line.level >= wish.level
                && wish.since_millis.is_none_or(|since| line.at_millis >= since)
                && line.text.contains(&wish.grep)
        });
        let mut shown: Vec<&Held> = wanted.rev().take(wish.past).collect();
        shown.reverse();
        let at = shown.iter().map(|held| held.at).max()?;
        Some((shown.into_iter().map(|held| held.line.clone()).collect(), at))
    }
}

impl Device {
    fn add(&mut self, source: &LogSource, line: &Arc<LogLine>, now: Timestamp) {
        let at = self.lines.partition_point(|held| held.line.at_millis <= line.at_millis);
        let of_the_time = self.lines.range_mut(..at).rev();
        let same = of_the_time.take_while(|held| held.line.at_millis == line.at_millis);
        let mut same = same.take(SAME_TIME_MAX);
        if let Some(held) = same.find(|held| held.source == *source && held.line == *line) {
            held.at = now;
            return;
        }
        self.bytes += line.bytes();
        self.lines.insert(at, Held { source: source.clone(), line: line.clone(), at: now });
        while self.lines.len() > LOG_LINES_MAX || self.bytes > DEVICE_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.line.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::wire::Severity;

    use super::*;

    const OWN: LogSource = LogSource::Agent;

    fn line(at_millis: i64, text: &str) -> Arc<LogLine> {
        let (unit, level) = ("agent".to_owned(), Severity::Info);
        Arc::new(LogLine { at_millis, unit, level, text: text.to_owned() })
    }

    fn wish() -> Wish {
        Wish {
            source: OWN,
            level: Severity::Info,
            grep: String::new(),
            since_millis: None,
            past: 10,
            follow: false,
        }
    }

    fn texts(seen: &Seen, uid: Uid, wish: &Wish) -> Vec<String> {
        let found = seen.find(uid, wish).map(|(lines, _)| lines).unwrap_or_default();
        found.iter().map(|line| line.text.clone()).collect()
    }

    #[test]
    fn lines_are_found_again_in_their_order_and_once() {
        let (mut seen, uid) = (Seen::default(), Uid::new());
        let now = Timestamp::from_millis(9);
        for (at, text) in [(2, "b"), (1, "a"), (2, "c"), (2, "b"), (3, "d")] {
            seen.note(uid, &OWN, &line(at, text), now);
        }
        seen.note(uid, &LogSource::Unit("x".to_owned()), &line(2, "other"), now);
        assert_eq!(texts(&seen, uid, &wish()), ["a", "b", "c", "d"]);
        assert_eq!(texts(&seen, uid, &Wish { past: 2, ..wish() }), ["c", "d"]);
        assert_eq!(texts(&seen, uid, &Wish { grep: "b".to_owned(), ..wish() }), ["b"]);
        assert_eq!(texts(&seen, uid, &Wish { since_millis: Some(3), ..wish() }), ["d"]);
        assert!(seen.find(uid, &Wish { level: Severity::Warn, ..wish() }).is_none());
        assert_eq!(seen.find(uid, &wish()).unwrap().1, now);
        seen.forget(uid);
        assert_eq!(seen.bytes, 0);
    }

    #[test]
    fn the_newest_of_the_shown_lines_says_until_when_they_were_seen() {
        let (mut seen, uid) = (Seen::default(), Uid::new());
        let other = LogSource::Unit("x".to_owned());
        let [first, second, third] = [1, 2, 3].map(Timestamp::from_millis);
        seen.note(uid, &OWN, &line(1, "a"), first);
        seen.note(uid, &OWN, &line(2, "b"), first);
        seen.note(uid, &other, &line(3, "c"), second);
        let until = |seen: &Seen, wish: &Wish| seen.find(uid, wish).unwrap().1;
        assert_eq!(until(&seen, &wish()), first);
        assert_eq!(until(&seen, &Wish { source: other, ..wish() }), second);
        // What is seen again was there until then.
        seen.note(uid, &OWN, &line(1, "a"), third);
        assert_eq!(until(&seen, &wish()), third);
        assert_eq!(until(&seen, &Wish { past: 1, ..wish() }), first);
    }

    #[test]
    fn there_is_an_end_for_each_device_and_for_all() {
        let mut seen = Seen::default();
        let now = Timestamp::from_millis(0);
        let uid = Uid::new();
        for at in 0..LOG_LINES_MAX as i64 + 5 {
            seen.note(uid, &OWN, &line(at, "x"), now);
        }
        assert_eq!(seen.devices[&uid].lines.len(), LOG_LINES_MAX);
        let text = "y".repeat(DEVICE_BYTES_MAX - 1024);
        let uids: Vec<Uid> = (0..BYTES_MAX / DEVICE_BYTES_MAX + 3).map(|_| Uid::new()).collect();
        for uid in &uids {
            seen.note(*uid, &OWN, &line(0, &text), now);
        }
        assert!(seen.bytes <= BYTES_MAX);
        let bytes: usize = seen.devices.values().map(|device| device.bytes).sum();
        assert_eq!(bytes, seen.bytes);
        assert!(seen.find(uid, &wish()).is_none() && seen.find(uids[0], &wish()).is_none());
        assert!(seen.find(*uids.last().unwrap(), &wish()).is_some());
    }
}
