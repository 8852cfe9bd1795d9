//! What `journalctl -o json` writes: an entry a line, whose fields are text, bytes where they are no
//! UTF-8, several of either, or null. Whatever wrote them, an entry becomes lines that have an end.

use std::fmt;

use fleet_core::command::UnitName;
use fleet_core::wire::{CUT_MARK, LogLine, Severity};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes of one entry's line.
pub(super) const ENTRY_BYTES_MAX: usize = 512 * 1024;
/// Lines of one entry's message; what is below is left out.
const MESSAGE_LINES_MAX: usize = 100;
/// Bytes of a unit's name, as systemd has it.
const UNIT_BYTES_MAX: usize = 255;

/// The fields that are asked for; time and cursor come by themselves.
pub(super) const FIELDS: &str = "MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT";

/// An entry of the journal.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Entry {
    /// Where to go on behind it.
    #[serde(rename = "__CURSOR", default)]
    pub(super) cursor: Field,
    #[serde(rename = "__REALTIME_TIMESTAMP", default)]
    micros: Field,
    #[serde(rename = "MESSAGE", default)]
    message: Field,
    #[serde(rename = "PRIORITY", default)]
    priority: Field,
    /// What systemd itself says is about this one.
    #[serde(rename = "UNIT", default)]
    about: Field,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    unit: Field,
}

impl Entry {
    /// Reads a line.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The lines of its message, and how many of them are left out. What does not say which unit it is
    /// about is about the one that was asked for.
    pub(super) fn lines(self, asked: &UnitName) -> (Vec<LogLine>, u64) {
        let micros: i64 = self.micros.0.parse().unwrap_or_default();
        let named = [self.about.0, self.unit.0].into_iter().find(|unit| !unit.is_empty());
        let named = named.filter(|unit| unit.len() <= UNIT_BYTES_MAX);
        let unit = named.unwrap_or_else(|| asked.to_string());
        let level = severity(&self.priority.0);
        let line = |text: &str| {
            let unit = unit.clone();
            LogLine { at_millis: micros / 1000, unit, level, text: text.to_owned() }.cut()
        };
        let text = self.message.0.trim_end_matches('\n');
        let mut lines: Vec<LogLine> = text.split('\n').take(MESSAGE_LINES_MAX).map(line).collect();
        let left_out = text.split('\n').count() - lines.len();
        if left_out > 0
            && let Some(last) = lines.last_mut()
        {
            last.text.push_str(CUT_MARK);
        }
        (lines, left_out as u64)
    }
}

/// How bad a priority of syslog's is.
fn severity(priority: &str) -> Severity {
    match priority {
        "0" | "1" | "2" | "3" => Severity::Error,
        "4" => Severity::Warn,
        "7" => Severity::Debug,
        _ => Severity::Info,
    }
}

/// The least of syslog's priorities that is still so bad.
pub(super) fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "3",
        Severity::Warn => "4",
        Severity::Info => "6",
        Severity::Debug | Severity::Trace => "7",
    }
}

/// A field's text. Of several values the first counts.
#[derive(Debug, Default)]
pub(super) struct Field(pub(super) String);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(|value| match value {
            Value::Text(text) => Self(text),
            Value::Byte(_) | Value::Nothing => Self::default(),
        })
    }
}

/// What stands in a field, or in a list of it.
enum Value {
    Text(String),
    Byte(u8),
    Nothing,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, bytes, a list of either, or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(u8::try_from(number).map_or(Value::Nothing, Value::Byte))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let (mut bytes, mut first) = (Vec::new(), None);
        while let Some(item) = items.next_element()? {
            match item {
                Value::Byte(byte) => bytes.push(byte),
                Value::Text(text) if first.is_none() => first = Some(text),
                Value::Text(_) | Value::Nothing => {}
            }
        }
        Ok(match first {
            Some(text) => Value::Text(text),
            None if bytes.is_empty() => Value::Nothing,
            None => Value::Text(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Nothing)
    }
}

/// Takes bytes apart into lines, of which each has an end.
#[derive(Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    /// The line that is under way is too long, and left out.
    is_too_long: bool,
}

impl Lines {
    /// Hands out the lines that are whole now; nothing for one that was too long.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Option<&[u8]>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            self.hold(line);
            take((!self.is_too_long).then_some(&self.held));
            self.held.clear();
            self.is_too_long = false;
        }
        self.hold(bytes);
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.is_too_long || self.held.len() + bytes.len() > ENTRY_BYTES_MAX {
            self.is_too_long = true;
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::limits::LOG_LINE_BYTES_MAX;
    use proptest::prelude::*;

    use super::super::check::any_bytes;
    use super::*;

    fn asked() -> UnitName {
        "asked".parse().unwrap()
    }

    fn lines(entry: &str) -> Vec<(i64, String, Severity, String)> {
        let (lines, _) = Entry::read(entry.as_bytes()).unwrap().lines(&asked());
        let line = |line: LogLine| (line.at_millis, line.unit, line.level, line.text);
        lines.into_iter().map(line).collect()
    }

    #[test]
    fn an_entry_is_read_whatever_its_fields_are() {
        let nginx = |level, text: &str| {
            (1_705_314_600_123, "nginx.service".to_owned(), level, text.to_owned())
        };
        let at = r#""__REALTIME_TIMESTAMP":"1705314600123456","_SYSTEMD_UNIT":"nginx.service""#;
        for (fields, level, text) in [
            (r#""PRIORITY":"3","MESSAGE":"no room""#, Severity::Error, "no room"),
            (r#""PRIORITY":"4","MESSAGE":[104,255,105]"#, Severity::Warn, "h\u{fffd}i"),
            (r#""PRIORITY":"7","MESSAGE":["one","two"]"#, Severity::Debug, "one"),
            (r#""PRIORITY":["6","7"],"MESSAGE":[[104,105],"two"]"#, Severity::Info, "hi"),
            (r#""MESSAGE":null,"X":{"a":[1]}"#, Severity::Info, ""),
            (r#""PRIORITY":9,"MESSAGE":{"a":1.5}"#, Severity::Info, ""),
            (r#""MESSAGE":"\u001b[2J\r""#, Severity::Info, "\u{1b}[2J\r"),
        ] {
            assert_eq!(lines(&format!("{{{at},{fields}}}")), [nginx(level, text)], "{fields}");
        }
        let about = r#"{"UNIT":"a.service","_SYSTEMD_UNIT":"init.scope","MESSAGE":"Started"}"#;
        assert_eq!(lines(about)[0].1, "a.service");
        assert_eq!(lines(r#"{"MESSAGE":"x"}"#)[0].1, "asked.service");
        assert!(Entry::read(b"-- No entries --").is_none());
    }

    #[test]
    fn a_message_becomes_lines_that_have_an_end() {
        let texts = |message: &str| {
            let entry = serde_json::json!({"MESSAGE": message}).to_string();
            let (lines, left_out) = Entry::read(entry.as_bytes()).unwrap().lines(&asked());
            (lines.into_iter().map(|line| line.text).collect::<Vec<_>>(), left_out)
        };
        assert_eq!(texts("a\nb\n"), (vec!["a".to_owned(), "b".to_owned()], 0));
        let (many, left_out) = texts(&"x\n".repeat(500));
        assert_eq!((many.len(), left_out), (MESSAGE_LINES_MAX, 400));
        assert_eq!(many[MESSAGE_LINES_MAX - 1], "x… [cut]");
        let (long, _) = texts(&"x".repeat(1_000_000 / 8));
        assert!(long[0].len() <= LOG_LINE_BYTES_MAX && long[0].ends_with(CUT_MARK));
    }

    #[test]
    fn a_line_without_an_end_is_left_out_and_the_next_one_is_not() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut take = |line: Option<&[u8]>| found.push(line.map(<[u8]>::to_vec));
        for _ in 0..ENTRY_BYTES_MAX / 1000 + 2 {
            lines.feed(&[b'x'; 1000], &mut take);
        }
        assert_eq!(lines.held.capacity(), 0);
        lines.feed(b"x\nnext\n", &mut take);
        assert_eq!(found, [None, Some(b"next".to_vec())]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_lines_that_have_an_end(
            bytes in proptest::collection::vec(
                proptest::sample::select(b"\x00\x03\n{}[]\":,MESAG104\xff".to_vec()), 0..200),
        ) {
            any_bytes(&bytes);
        }
    }
}
