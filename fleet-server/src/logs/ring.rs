//! The last lines of one ask, numbered, for readers of any speed: the oldest give way.

use std::collections::VecDeque;
use std::sync::Arc;

use fleet_core::limits::LOG_LINES_MAX;
use fleet_core::wire::LogLine;

use super::SAME_TIME_MAX;

/// Bytes of the lines of one ask.
const BYTES_MAX: usize = 1024 * 1024;

/// The last lines.
#[derive(Default)]
pub(super) struct Ring {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// The number of the next line.
    next: u64,
    /// How many lines the device left out.
    left_out: u64,
}

/// How far a reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    next: u64,
    left_out: u64,
}

impl Ring {
    pub(super) fn push(&mut self, line: Arc<LogLine>) {
        self.bytes += line.bytes();
        self.next += 1;
        self.lines.push_back(line);
        while self.lines.len() > LOG_LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    /// Counts lines that the device left out.
    pub(super) fn leave_out(&mut self, count: u64) {
        self.left_out = self.left_out.saturating_add(count);
    }

    /// The newest line.
    pub(super) fn newest(&self) -> Option<&Arc<LogLine>> {
        self.lines.back()
    }

    /// Whether it has this very line, among the last of the same time.
    pub(super) fn has(&self, line: &LogLine) -> bool {
        let same = self.lines.iter().rev().filter(|held| held.at_millis == line.at_millis);
        same.take(SAME_TIME_MAX).any(|held| **held == *line)
    }

    /// Where a reader begins who wants the last so many lines.
    pub(super) fn place(&self, past: usize) -> Place {
        let held = self.lines.len().min(past) as u64;
        Place { next: self.next - held, left_out: self.left_out }
    }

    /// The next lines, at most so many bytes of them, and how many are lost before them.
    pub(super) fn take(&self, place: &mut Place, bytes_max: usize) -> (Vec<Arc<LogLine>>, u64) {
        let first = self.next - self.lines.len() as u64;
        let overtaken = first.saturating_sub(place.next);
        let lost = overtaken.saturating_add(self.left_out.saturating_sub(place.left_out));
        place.left_out = self.left_out;
        place.next += overtaken;
        let skip = usize::try_from(place.next - first).unwrap_or(usize::MAX);
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for line in self.lines.iter().skip(skip) {
            if !lines.is_empty() && bytes + line.bytes() > bytes_max {
                break;
            }
            bytes += line.bytes();
            lines.push(line.clone());
        }
        place.next += lines.len() as u64;
        (lines, lost)
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::wire::Severity;

    use super::*;

    fn push(ring: &mut Ring, number: i64) {
        let (unit, text) = ("agent".to_owned(), format!("line {number}"));
        ring.push(Arc::new(LogLine { at_millis: number, unit, level: Severity::Info, text }));
    }

    fn take(ring: &Ring, place: &mut Place, bytes_max: usize) -> (Vec<i64>, u64) {
        let (lines, lost) = ring.take(place, bytes_max);
        (lines.iter().map(|line| line.at_millis).collect(), lost)
    }

    #[test]
    fn each_reader_has_a_place_of_its_own() {
        let mut ring = Ring::default();
        let mut early = ring.place(10);
        for number in 0..3 {
            push(&mut ring, number);
        }
        ring.leave_out(5);
        let mut late = ring.place(2);
        assert_eq!(take(&ring, &mut early, 1), (vec![0], 5));
        assert_eq!(take(&ring, &mut early, usize::MAX), (vec![1, 2], 0));
        assert_eq!(take(&ring, &mut late, usize::MAX), (vec![1, 2], 0));
        assert_eq!(take(&ring, &mut late, usize::MAX), (vec![], 0));
        assert_eq!(ring.newest().map(|line| line.at_millis), Some(2));
    }

    #[test]
    fn a_line_is_looked_for_among_so_many_of_its_time() {
        let line = |at_millis: i64, text: usize| LogLine {
            at_millis,
            unit: String::new(),
            level: Severity::Info,
            text: text.to_string(),
        };
        let mut ring = Ring::default();
        for text in 0..=SAME_TIME_MAX {
            ring.push(Arc::new(line(1, text)));
            ring.push(Arc::new(line(2, text)));
        }
        assert!(ring.has(&line(1, 1)) && !ring.has(&line(1, 0)) && !ring.has(&line(3, 1)));
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
        let mut ring = Ring::default();
        let mut place = ring.place(0);
        for number in 0..LOG_LINES_MAX as i64 + 7 {
            push(&mut ring, number);
        }
        let (found, lost) = take(&ring, &mut place, usize::MAX);
        assert_eq!((found.len(), found[0], lost), (LOG_LINES_MAX, 7, 7));
        // However many the device says that it left out.
        ring.leave_out(u64::MAX);
        ring.leave_out(1);
        for number in 0..LOG_LINES_MAX as i64 + 7 {
            push(&mut ring, number);
        }
        assert_eq!(take(&ring, &mut place, usize::MAX).1, u64::MAX);
        let long = |_| LogLine {
            at_millis: 0,
            unit: String::new(),
            level: Severity::Info,
            text: "x".repeat(BYTES_MAX / 4),
        };
        (0..10).map(long).for_each(|line| ring.push(Arc::new(line)));
        assert_eq!(take(&ring, &mut place, usize::MAX).1, 7);
    }
}
