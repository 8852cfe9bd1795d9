//! Lines of one ask that wait to be sent. There is an end to how many: what is of the past waits for
//! room, and what is new takes the place of the oldest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::wire::{LogEnd, LogLine};
use tokio::sync::Notify;

/// Lines that wait, and bytes of them.
const LINES_MAX: usize = 1_000;
const BYTES_MAX: usize = 256 * 1024;

/// Lines that wait.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Rung when there is something to send.
    bell: Arc<Notify>,
    /// Rung when there is room again.
    room: Notify,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<LogLine>,
    bytes: usize,
    dropped: u64,
    end: Option<LogEnd>,
}

impl Queue {
    pub(super) fn new(bell: Arc<Notify>) -> Self {
        Self { waiting: Mutex::default(), bell, room: Notify::new() }
    }

    /// Adds a new line; the oldest give way and are counted.
    pub(super) fn push(&self, line: LogLine) {
        let mut waiting = self.lock();
        waiting.add(line);
        while waiting.lines.len() > LINES_MAX || waiting.bytes > BYTES_MAX {
            if waiting.take_one().is_none() {
                break;
            }
            waiting.dropped += 1;
        }
        drop(waiting);
        self.bell.notify_one();
    }

    /// Adds a line of the past, as soon as there is room.
    pub(super) async fn push_past(&self, line: LogLine) {
        loop {
            {
                let mut waiting = self.lock();
                if waiting.has_room(&line) {
                    waiting.add(line);
                    break;
                }
            }
            self.room.notified().await;
        }
        self.bell.notify_one();
    }

    /// Counts lines that were left out.
    pub(super) fn drop_some(&self, count: u64) {
        if count > 0 {
            self.lock().dropped += count;
            self.bell.notify_one();
        }
    }

    /// Says that nothing more comes.
    pub(super) fn close(&self, end: LogEnd) {
        self.lock().end = Some(end);
        self.bell.notify_one();
    }

    /// Whether there is something to send.
    pub(super) fn has_news(&self) -> bool {
        let waiting = self.lock();
        !waiting.lines.is_empty() || waiting.dropped > 0 || waiting.end.is_some()
    }

    /// How many are left out; the oldest lines behind those, as many as fit; and that nothing comes
    /// after them.
    pub(super) fn take(
        &self,
        lines_max: usize,
        bytes_max: usize,
    ) -> (u64, Vec<LogLine>, Option<LogEnd>) {
        let mut waiting = self.lock();
        let dropped = std::mem::take(&mut waiting.dropped);
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < lines_max
            && let Some(next) = waiting.lines.front()
            && (lines.is_empty() || bytes + next.bytes() <= bytes_max)
        {
            bytes += next.bytes();
            lines.extend(waiting.take_one());
        }
        let is_last = waiting.lines.is_empty();
        let end = if is_last { waiting.end.take() } else { None };
        drop(waiting);
        self.room.notify_one();
        (dropped, lines, end)
    }

    /// No step of what is done under the lock ends in its middle by a panic.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn has_room(&self, line: &LogLine) -> bool {
        self.lines.is_empty()
            || (self.lines.len() < LINES_MAX && self.bytes + line.bytes() <= BYTES_MAX)
    }

    fn add(&mut self, line: LogLine) {
        self.bytes += line.bytes();
        self.lines.push_back(line);
    }

    fn take_one(&mut self) -> Option<LogLine> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.bytes();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::wire::Severity;
    use futures_util::FutureExt as _;

    use super::*;

    fn line(number: usize, bytes: usize) -> LogLine {
        let text = format!("{number}{}", " ".repeat(bytes));
        LogLine { at_millis: 0, unit: "agent".to_owned(), level: Severity::Info, text }
    }

    fn numbers(lines: &[LogLine]) -> Vec<usize> {
        lines.iter().map(|line| line.text.trim().parse().unwrap()).collect()
    }

    #[test]
    fn new_lines_take_the_place_of_the_oldest_and_those_are_counted() {
        let queue = Queue::new(Arc::default());
        for number in 0..LINES_MAX + 7 {
            queue.push(line(number, 0));
        }
        let (dropped, lines, end) = queue.take(usize::MAX, usize::MAX);
        assert_eq!((dropped, lines.len(), end), (7, LINES_MAX, None));
        assert_eq!(numbers(&lines)[0], 7);
        assert!(!queue.has_news());
        for number in 0..100 {
            queue.push(line(number, BYTES_MAX / 10));
        }
        assert_eq!(queue.take(4, usize::MAX).1.len(), 4);
        let (dropped, lines, _) = queue.take(usize::MAX, usize::MAX);
        assert_eq!((dropped, lines.len()), (0, 5));
    }

    #[test]
    fn the_end_comes_behind_the_last_line() {
        let queue = Queue::new(Arc::default());
        queue.push(line(1, 100));
        queue.push(line(2, 100));
        queue.close(LogEnd::Complete);
        let (_, lines, end) = queue.take(usize::MAX, 1);
        assert_eq!((numbers(&lines), end), (vec![1], None));
        let (_, lines, end) = queue.take(usize::MAX, 1);
        assert_eq!((numbers(&lines), end), (vec![2], Some(LogEnd::Complete)));
    }

    #[tokio::test]
    async fn lines_of_the_past_wait_for_room() {
        let queue = Queue::new(Arc::default());
        for number in 0..LINES_MAX {
            queue.push_past(line(number, 0)).await;
        }
        let mut next = std::pin::pin!(queue.push_past(line(LINES_MAX, 0)));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(queue.take(usize::MAX, 1).1.len(), 1);
        next.await;
        let (dropped, lines, _) = queue.take(usize::MAX, usize::MAX);
        assert_eq!((dropped, lines.len()), (0, LINES_MAX));
    }
}
