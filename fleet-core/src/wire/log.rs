//! Log lines on the link.
//!
//! ```text
//! server → ToAgent::Logs         an ask: lines of the past, those to come, or both
//! agent  → ToServer::Logs        lines of that ask, oldest first; the last news has its end
//! server → ToAgent::LogsNoted    they have come, so more may be sent: on a slow link, no lines
//!                                pile up before what matters more
//! server → ToAgent::LogsEnd      the ask is taken back, and nothing more comes of it
//! ```
//!
//! An ask ends with its link: whoever wants to go on asks again on the next one. Lines are cut, and
//! may be left out where there are too many; what is left out is counted.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::LOG_LINE_BYTES_MAX;

/// What stands at the end of a line that was cut.
pub const CUT_MARK: &str = "… [cut]";

/// A wish for lines of a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogAsk {
    /// Its number, which no other ask of the same link has.
    pub ask: u64,
    /// Whose lines.
    pub source: LogSource,
    /// How bad they are at least.
    pub level: Severity,
    /// What must be in their text; all lines if this is empty.
    pub grep: String,
    /// Of the past not before this time by the device's clock, in milliseconds since 1970.
    pub since_millis: Option<i64>,
    /// How many of the past, at most: the newest.
    pub past: u32,
    /// Whether those to come are wanted, too.
    pub follow: bool,
}

/// Whose lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum LogSource {
    /// The agent's own.
    Agent,
    /// Those of a unit of systemd's, from the journal.
    Unit(String),
}

/// How bad what a line tells is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Severity {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What is not as it should be.
    Warn,
    /// What went wrong.
    Error,
}

/// Lines of an ask, as they come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogNews {
    /// The ask's number.
    pub ask: u64,
    /// How many lines are left out before these.
    pub dropped: u64,
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// That nothing more comes, and why.
    pub end: Option<LogEnd>,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogLine {
    /// When, by the device's clock, in milliseconds since 1970.
    pub at_millis: i64,
    /// The unit that it is about; `agent` for the agent's own.
    pub unit: String,
    /// How bad it is.
    pub level: Severity,
    /// What it says.
    pub text: String,
}

/// Why nothing more comes of an ask.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LogEnd {
    /// All that there is was sent.
    Complete,
    /// The device's policy does not let its server read this.
    Refused(String),
    /// It cannot be read, or no longer.
    Failed(String),
}

impl Severity {
    /// Every severity, from the least on.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The word in JSON and on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Severity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|severity| severity.word() == text);
        found.ok_or("must be error, warn, info, debug or trace")
    }
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

impl LogLine {
    /// The same with a text of at most [`LOG_LINE_BYTES_MAX`], whose end says if it was cut.
    #[must_use]
    pub fn cut(mut self) -> Self {
        if self.text.len() > LOG_LINE_BYTES_MAX {
            let room = LOG_LINE_BYTES_MAX - CUT_MARK.len();
            let end = (0..=room).rev().find(|end| self.text.is_char_boundary(*end));
            self.text.truncate(end.unwrap_or_default());
            self.text.push_str(CUT_MARK);
        }
        self
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.unit.len() + self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_have_an_order_and_words() {
        assert!(Severity::ALL.is_sorted());
        for severity in Severity::ALL {
            assert_eq!(severity.word().parse(), Ok(severity));
            let json = serde_json::to_string(&severity).unwrap();
            assert_eq!(serde_json::from_str::<Severity>(&json).unwrap(), severity);
        }
        assert!("fatal".parse::<Severity>().is_err());
    }

    #[test]
    fn a_long_line_is_cut_where_a_character_ends() {
        let line = |text: String| LogLine {
            at_millis: 0,
            unit: "agent".to_owned(),
            level: Severity::Info,
            text,
        };
        let whole = line("x".repeat(LOG_LINE_BYTES_MAX));
        assert_eq!(whole.clone().cut(), whole);
        let cut = line("é".repeat(LOG_LINE_BYTES_MAX)).cut();
        assert!(cut.text.len() <= LOG_LINE_BYTES_MAX && cut.text.ends_with("é… [cut]"));
    }
}
