//! Lines of a device's log: `GET /api/v1/devices/{}/logs`, as an array with the newest last, or with
//! `follow=true` as a stream of server-sent events.
//!
//! A stream begins with `hello`. Then come `lines`, and `link` whenever the device's link is lost or
//! is there again; it ends with `over`, or when either side leaves. A reader that is slow loses the
//! oldest lines, and is told how many.

use serde::{Deserialize, Serialize};

use super::Ping;
use crate::id::{DeviceId, Uid};
use crate::time::Timestamp;
use crate::untrusted::Untrusted;
use crate::wire::{LogLine, Severity};

/// The header that says how many lines are left out of an answer.
pub const LOGS_DROPPED: &str = "fleetd-dropped";
/// The header that says when the lines of an answer were seen, if they do not come from the device
/// now but from what the server remembers.
pub const LOGS_SEEN: &str = "fleetd-seen";

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When, by the device's clock.
    pub timestamp: Timestamp,
    /// The unit that it is about; `agent` for the agent's own.
    pub unit: Untrusted,
    /// How bad it is.
    pub level: Severity,
    /// What it says.
    pub text: Untrusted,
}

impl From<&LogLine> for LogEntry {
    fn from(line: &LogLine) -> Self {
        Self {
            timestamp: Timestamp::from_millis(line.at_millis),
            unit: Untrusted::from(line.unit.as_str()),
            level: line.level,
            text: Untrusted::from(line.text.as_str()),
        }
    }
}

/// What a stream of lines says, named as its `event:` line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogMessage {
    /// The beginning.
    Hello(LogHello),
    /// Lines, oldest first.
    Lines(LogEntries),
    /// The device has come or gone.
    Link(LogLink),
    /// Nothing more comes.
    Over(LogOver),
    /// The server lives.
    Ping(Ping),
}

/// The first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHello {
    /// The device.
    pub device_id: DeviceId,
    /// The server's own name for it.
    pub uid: Uid,
    /// Whether it is connected.
    pub connected: bool,
}

/// Some lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntries {
    /// The lines, oldest first.
    pub lines: Vec<LogEntry>,
    /// How many are left out before these.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// The device has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLink {
    /// Whether it is connected now. While it is not, the stream waits for it, and goes on behind the
    /// last line when it comes back.
    pub connected: bool,
}

/// The last message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOver {
    /// What kind of end it is.
    pub kind: LogOverKind,
    /// Why, in words.
    pub reason: Untrusted,
}

/// What kind of end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogOverKind {
    /// The device's policy does not let its server read this.
    Refused,
    /// The device cannot read it, or no longer.
    Failed,
    /// The reader may not read any more.
    Access,
    /// The device is no longer in the fleet.
    Gone,
    /// What only a later release knows.
    #[serde(other)]
    Later,
}

impl LogMessage {
    /// Reads a message from its `event:` word and its `data:`; nothing for a word that only a later
    /// release knows.
    pub fn read(word: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match word {
            "hello" => Self::Hello(serde_json::from_str(data)?),
            "lines" => Self::Lines(serde_json::from_str(data)?),
            "link" => Self::Link(serde_json::from_str(data)?),
            "over" => Self::Over(serde_json::from_str(data)?),
            "ping" => Self::Ping(serde_json::from_str(data)?),
            _ => return Ok(None),
        }))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_by_their_words() {
        fn read(word: &str, data: &str) -> Option<LogMessage> {
            LogMessage::read(word, data).unwrap()
        }
        let line =
            r#"{"timestamp":"2024-01-15T10:30:00Z","unit":"agent","level":"warn","text":"x"}"#;
        let Some(LogMessage::Lines(lines)) = read("lines", &format!(r#"{{"lines":[{line}]}}"#))
        else {
            panic!("lines")
        };
        assert_eq!((lines.lines[0].level, lines.dropped), (Severity::Warn, 0));
        assert_eq!(serde_json::to_string(&lines.lines[0]).unwrap(), line);
        let over = read("over", r#"{"kind":"moved","reason":"why"}"#);
        let kind = LogOverKind::Later;
        assert_eq!(over, Some(LogMessage::Over(LogOver { kind, reason: "why".into() })));
        assert_eq!(read("later", "{}"), None);
        assert!(LogMessage::read("lines", "{}").is_err());
    }
}
