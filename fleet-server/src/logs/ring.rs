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
    /// The numbers of held lines before which others may be missing, and whether the next is one.
    gaps: VecDeque<u64>,
    is_torn: bool,
}

/// The next lines for a reader.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) lines: Vec<Arc<LogLine>>,
    /// How many are lost before them.
    pub(super) lost: u64,
    /// Whether lines may be missing before them, and nobody knows how many.
    pub(super) is_torn: bool,
}

/// How far a reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    next: u64,
    /// Where the reader began: what is missing before that is not missed.
    first: u64,
    left_out: u64,
}

impl Ring {
    pub(super) fn push(&mut self, line: Arc<LogLine>) {
        self.bytes += line.bytes();
        if std::mem::take(&mut self.is_torn) {
            self.gaps.push_back(self.next);
        }
        self.next += 1;
        self.lines.push_back(line);
        while self.lines.len() > LOG_LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
        let first = self.next - self.lines.len() as u64;
        while self.gaps.front().is_some_and(|gap| *gap < first) {
            self.gaps.pop_front();
        }
    }

    /// Takes note that lines may be missing before the next one.
    pub(super) fn tear(&mut self) {
        self.is_torn = true;
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
        let next = self.next - held;
        Place { next, first: next, left_out: self.left_out }
    }

    /// The next lines, at most so many bytes of them, and none behind the next gap.
    pub(super) fn take(&self, place: &mut Place, bytes_max: usize) -> Next {
        let first = self.next - self.lines.len() as u64;
        let overtaken = first.saturating_sub(place.next);
        let lost = overtaken.saturating_add(self.left_out.saturating_sub(place.left_out));
        place.left_out = self.left_out;
        place.next += overtaken;
        let skip = usize::try_from(place.next - first).unwrap_or(usize::MAX);
        let is_torn = place.next > place.first && self.gaps.contains(&place.next);
        let gap = self.gaps.iter().find(|gap| **gap > place.next);
        let count =
            gap.map_or(usize::MAX, |gap| usize::try_from(gap - place.next).unwrap_or(usize::MAX));
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for line in self.lines.iter().skip(skip).take(count) {
            if !lines.is_empty() && bytes + line.bytes() > bytes_max {
                break;
            }
            bytes += line.bytes();
            lines.push(line.clone());
        }
        place.next += lines.len() as u64;
        Next { lines, lost, is_torn }
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
        let Next { lines, lost, .. } = ring.take(place, bytes_max);
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
    fn a_gap_is_told_where_it_is_to_those_who_saw_what_is_before_it() {
        let mut ring = Ring::default();
        let (mut early, mut never) = (ring.place(1), ring.place(1));
        push(&mut ring, 1);
        ring.tear();
        push(&mut ring, 2);
        push(&mut ring, 3);
        let mut late = ring.place(2);
        let told = |place: &mut Place| {
            let Next { lines, lost, is_torn } = ring.take(place, usize::MAX);
            assert_eq!(lost, 0);
            (lines.iter().map(|line| line.at_millis).collect::<Vec<_>>(), is_torn)
        };
        assert_eq!(told(&mut early), (vec![1], false));
        assert_eq!(told(&mut early), (vec![2, 3], true));
        assert_eq!(told(&mut early), (vec![], false));
        assert_eq!(told(&mut late), (vec![2, 3], false));
        // What has given way takes its gaps along.
        for number in 0..LOG_LINES_MAX as i64 {
            push(&mut ring, number);
        }
        assert!(ring.gaps.is_empty());
        assert_eq!(take(&ring, &mut never, usize::MAX).1, 3);
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
