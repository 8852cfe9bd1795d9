//! The agent's own last log lines, in memory: its server may ask for them, wherever the log goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::time::Timestamp;
use fleet_core::wire::{LogLine, Severity};
use tokio::sync::watch;

/// Lines that are kept.
const LINES_MAX: usize = 2_000;
/// Bytes of them.
const BYTES_MAX: usize = 256 * 1024;
/// What the agent's own lines are about.
const UNIT: &str = "agent";

/// The last lines. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct LogTail(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    held: Mutex<Held>,
    /// How many lines there were.
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Held {
    lines: VecDeque<Line>,
    bytes: usize,
    count: u64,
}

#[derive(Debug)]
struct Line {
    at: Timestamp,
    level: Severity,
    /// As it is in the log.
    whole: String,
}

impl LogTail {
    /// Adds a line as the log has it. The oldest give way.
    pub fn push(&self, at: Timestamp, level: Severity, line: &str) {
        let mut held = self.lock();
        let Held { lines, bytes, count } = &mut *held;
        *bytes += line.len();
        *count += 1;
        lines.push_back(Line { at, level, whole: line.to_owned() });
        while lines.len() > LINES_MAX || *bytes > BYTES_MAX {
            let Some(oldest) = lines.pop_front() else { break };
            *bytes -= oldest.whole.len();
        }
        let count = *count;
        drop(held);
        self.0.count.send_replace(count);
    }

    /// The last so many lines.
    pub fn last(&self, count: usize) -> String {
        let Held { lines, .. } = &*self.lock();
        let first = lines.len().saturating_sub(count);
        lines.iter().skip(first).map(|line| line.whole.as_str()).collect()
    }

    /// How many lines there were, and whenever there are more.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.count.subscribe()
    }

    /// The lines that came after so many, how many of those are gone already, and how many there
    /// were by now.
    pub fn after(&self, seen: u64) -> (Vec<LogLine>, u64, u64) {
        let Held { lines, count, .. } = &*self.lock();
        let news = count.saturating_sub(seen);
        let held = lines.len() as u64;
        let kept = usize::try_from(news.min(held)).unwrap_or(lines.len());
        let found = lines.iter().skip(lines.len() - kept).map(Line::told).collect();
        (found, news.saturating_sub(held), *count)
    }

    /// No step of what is done under the lock ends in its middle by a panic.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The line for the server: time and severity are not a part of its text.
    fn told(&self) -> LogLine {
        let mark = self.level.word().to_ascii_uppercase() + " ";
        let text = self.whole.split_once(&mark).map_or(self.whole.as_str(), |(_, text)| text);
        let line = LogLine {
            at_millis: self.at.millis(),
            unit: UNIT.to_owned(),
            level: self.level,
            text: text.trim_end_matches('\n').to_owned(),
        };
        line.cut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(tail: &LogTail, text: &str) {
        tail.push(Timestamp::from_millis(5), Severity::Warn, text);
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let tail = LogTail::default();
        for number in 0..LINES_MAX + 5 {
            push(&tail.clone(), &format!("{number}\n"));
        }
        assert_eq!(tail.last(2), format!("{}\n{}\n", LINES_MAX + 3, LINES_MAX + 4));
        assert!(tail.last(usize::MAX).starts_with("5\n"));
        for _ in 0..10 {
            push(&tail, &"x".repeat(BYTES_MAX / 4));
        }
        assert_eq!(tail.last(usize::MAX).len(), BYTES_MAX);
        push(&tail, &"y".repeat(2 * BYTES_MAX));
        assert_eq!(tail.last(usize::MAX), "");
    }

    #[test]
    fn lines_are_told_from_where_one_has_come() {
        let tail = LogTail::default();
        push(&tail, "2024-01-15T10:30:00.000001Z  WARN no link WARN error=x\n");
        let (lines, gone, count) = tail.after(0);
        let told: Vec<_> = lines.iter().map(|line| (line.level, line.text.as_str())).collect();
        assert_eq!(told, [(Severity::Warn, "no link WARN error=x")]);
        assert_eq!((lines[0].at_millis, gone, count), (5, 0, 1));
        assert_eq!(tail.after(count), (Vec::new(), 0, 1));
        for _ in 0..LINES_MAX + 3 {
            push(&tail, "more\n");
        }
        let (lines, gone, count) = tail.after(1);
        assert_eq!((lines.len(), gone), (LINES_MAX, 3));
        assert_eq!((tail.after(count - 2).0.len(), *tail.subscribe().borrow()), (2, count));
    }
}
