//! The agent's own last log lines, in memory: its server may ask for them, wherever the log goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Lines that are kept.
const LINES_MAX: usize = 2_000;
/// Bytes of them.
const BYTES_MAX: usize = 256 * 1024;

/// The last lines. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct LogTail(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl LogTail {
    /// Adds a line, which ends as lines do. The oldest give way.
    pub fn push(&self, line: &str) {
        let Lines { lines, bytes } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes += line.len();
        lines.push_back(line.to_owned());
        while lines.len() > LINES_MAX || *bytes > BYTES_MAX {
            let Some(oldest) = lines.pop_front() else { break };
            *bytes -= oldest.len();
        }
    }

    /// The last so many lines.
    pub fn last(&self, count: usize) -> String {
        let Lines { lines, .. } = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept() {
        let tail = LogTail::default();
        for number in 0..LINES_MAX + 5 {
            tail.clone().push(&format!("{number}\n"));
        }
        assert_eq!(tail.last(2), format!("{}\n{}\n", LINES_MAX + 3, LINES_MAX + 4));
        assert!(tail.last(usize::MAX).starts_with("5\n"));
        for _ in 0..10 {
            tail.push(&"x".repeat(BYTES_MAX / 4));
        }
        assert_eq!(tail.last(usize::MAX).len(), BYTES_MAX);
        tail.push(&"y".repeat(2 * BYTES_MAX));
        assert_eq!(tail.last(usize::MAX), "");
    }
}
