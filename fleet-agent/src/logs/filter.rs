//! Which lines are wanted. Decided here, before anything is sent.

use fleet_core::wire::{LogAsk, LogLine, Severity};

/// Which lines are wanted.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// How bad at least.
    pub(super) level: Severity,
    /// What must be in the text.
    pub(super) grep: String,
    /// Of the past not before this, in milliseconds since 1970.
    pub(super) since_millis: Option<i64>,
}

impl Filter {
    pub(super) fn of(ask: &LogAsk) -> Self {
        Self { level: ask.level, grep: ask.grep.clone(), since_millis: ask.since_millis }
    }

    /// Whether a line of the past is wanted.
    pub(super) fn takes(&self, line: &LogLine) -> bool {
        self.takes_new(line) && self.since_millis.is_none_or(|since| line.at_millis >= since)
    }

    /// Whether a line that has just come is wanted. It is new whatever the device's clock says, which
    /// may have been wrong before, or be wrong now.
    pub(super) fn takes_new(&self, line: &LogLine) -> bool {
        line.level >= self.level && line.text.contains(&self.grep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_asked_for_must_hold() {
        let line = |at_millis, level, text: &str| LogLine {
            at_millis,
            unit: "agent".to_owned(),
            level,
            text: text.to_owned(),
        };
        let filter =
            Filter { level: Severity::Warn, grep: "disk".to_owned(), since_millis: Some(5) };
        assert!(filter.takes(&line(5, Severity::Warn, "the disk is full")));
        assert!(filter.takes(&line(6, Severity::Error, "disk")));
        assert!(!filter.takes(&line(4, Severity::Error, "disk")));
        assert!(filter.takes_new(&line(4, Severity::Error, "disk")));
        assert!(!filter.takes_new(&line(5, Severity::Info, "disk")));
        assert!(!filter.takes(&line(5, Severity::Info, "disk")));
        assert!(!filter.takes(&line(5, Severity::Warn, "Disk")));
        let any = Filter { level: Severity::Trace, grep: String::new(), since_millis: None };
        assert!(any.takes(&line(0, Severity::Trace, "")));
    }
}
