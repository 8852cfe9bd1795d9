//! Where one stream of lines goes on behind another that broke off: what comes a second time is
//! known again by it, and what may be missing is noticed.

use crate::api::LogEntry;
use crate::time::Timestamp;

/// Lines of one time that are told apart from those that come a second time.
const SAME_TIME_MAX: usize = 256;

/// What is remembered of the lines that came.
#[derive(Debug, Default)]
pub struct LogSeam {
    /// Whether a stream has begun.
    has_begun: bool,
    /// When the last of them was written.
    at: Option<Timestamp>,
    /// Those that were written at that time.
    last: Vec<LogEntry>,
    /// Those of them that may come again.
    again: Vec<LogEntry>,
    /// How the next line stands to them.
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// It is the next one.
    #[default]
    On,
    /// It is of another stream, and none was met yet.
    Apart,
    /// It is of another stream, which has brought one that is known.
    Met,
}

/// What a line is to whoever has those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// The next one.
    Next,
    /// The next one, but others between it and the last one may be missing.
    Apart,
    /// One that came before.
    Again,
}

impl LogSeam {
    /// From when on another stream is to be asked for; all that one wants if nothing came yet.
    pub fn since(&self) -> Option<Timestamp> {
        self.at
    }

    /// Another stream begins.
    pub fn begin(&mut self) {
        self.again.clone_from(&self.last);
        self.stage = if self.has_begun { Stage::Apart } else { Stage::On };
        self.has_begun = true;
    }

    /// Takes the next line.
    pub fn take(&mut self, line: &LogEntry) -> Came {
        if self.stage != Stage::On && self.at == Some(line.timestamp) {
            if let Some(place) = self.again.iter().position(|known| known == line) {
                self.again.swap_remove(place);
                self.stage = Stage::Met;
                return Came::Again;
            }
            self.note(line);
            return Came::Next;
        }
        // Also one of an earlier time: none of those was asked for, so the device's clock was set.
        self.note(line);
        match std::mem::take(&mut self.stage) {
            Stage::Apart => Came::Apart,
            Stage::On | Stage::Met => Came::Next,
        }
    }

    fn note(&mut self, line: &LogEntry) {
        if self.at != Some(line.timestamp) {
            self.at = Some(line.timestamp);
            self.last.clear();
        }
        if self.last.len() < SAME_TIME_MAX {
            self.last.push(line.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Came::{Again, Apart, Next};
    use super::*;
    use crate::wire::Severity;

    fn line(at: i64, text: &str) -> LogEntry {
        LogEntry {
            timestamp: Timestamp::from_millis(at),
            unit: "agent".into(),
            level: Severity::Info,
            text: text.into(),
        }
    }

    fn took(seam: &mut LogSeam, lines: &[(i64, &str)]) -> Vec<Came> {
        lines.iter().map(|(at, text)| seam.take(&line(*at, text))).collect()
    }

    #[test]
    fn what_comes_again_is_known() {
        let mut seam = LogSeam::default();
        seam.begin();
        assert_eq!(took(&mut seam, &[(1, "a"), (2, "b"), (2, "b")]), [Next, Next, Next]);
        assert_eq!(seam.since(), Some(Timestamp::from_millis(2)));
        seam.begin();
        let lines = [(2, "b"), (2, "b"), (2, "b"), (2, "c"), (3, "d"), (3, "d")];
        assert_eq!(took(&mut seam, &lines), [Again, Again, Next, Next, Next, Next]);
    }

    #[test]
    fn where_the_last_one_does_not_come_again_some_may_be_missing() {
        let mut seam = LogSeam::default();
        took(&mut seam, &[(1, "a")]);
        for _ in 0..2 {
            seam.begin();
        }
        assert_eq!(took(&mut seam, &[(5, "e"), (6, "f")]), [Apart, Next]);
        // A clock that was set back holds nothing up.
        assert_eq!(took(&mut seam, &[(3, "g")]), [Next]);
        seam.begin();
        assert_eq!(took(&mut seam, &[(1, "h"), (1, "h")]), [Apart, Next]);
    }
}
