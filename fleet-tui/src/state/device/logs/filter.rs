//! Which lines: `unit=nginx level=warn`, and words that must be in them. The server and the device
//! look for them, so only those come.

use std::fmt;

use fleet_core::command::UnitName;
use fleet_core::limits::LOG_GREP_BYTES_MAX;
use fleet_core::untrusted::escaped;
use fleet_core::wire::Severity;

use crate::state::filter_line::ReadFilter;

/// Which lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Of this unit; the agent's own if absent.
    pub unit: Option<String>,
    /// How bad at least.
    pub level: Option<Severity>,
    /// What must be in them.
    pub grep: String,
}

impl ReadFilter for LogFilter {
    type Error = String;

    fn read(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        let mut words = Vec::new();
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some(("unit", "agent")) => filter.unit = None,
                Some(("unit", name)) => {
                    let unit: UnitName = name.parse().map_err(|error| format!("{error}"))?;
                    filter.unit = Some(unit.as_str().to_owned());
                }
                Some(("level", level)) => {
                    let found = level.parse().map_err(|_| {
                        let known: Vec<_> = Severity::ALL.iter().map(|it| it.word()).collect();
                        format!("no level {}; there are {}", escaped(level), known.join(", "))
                    })?;
                    filter.level = Some(found);
                }
                _ => words.push(word),
            }
        }
        filter.grep = words.join(" ");
        if filter.grep.len() > LOG_GREP_BYTES_MAX {
            return Err(format!("more than {LOG_GREP_BYTES_MAX} bytes to look for"));
        }
        Ok(filter)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit.as_ref().map(|unit| format!("unit={unit}"));
        let level = self.level.map(|level| format!("level={level}"));
        let grep = Some(self.grep.clone()).filter(|grep| !grep.is_empty());
        let words: Vec<String> = [unit, level, grep].into_iter().flatten().collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (text, written) in [
            ("", ""),
            ("  out of  memory ", "out of memory"),
            ("unit=nginx level=warn oom", "unit=nginx.service level=warn oom"),
            ("oom level=error", "level=error oom"),
            ("unit=agent a=b", "a=b"),
        ] {
            let filter = LogFilter::read(text).unwrap();
            assert_eq!(filter.to_string(), written);
            assert_eq!(LogFilter::read(written).unwrap(), filter);
        }
        for (text, problem) in
            [("unit=-x", "-x is not"), ("level=loud", "no level loud; there are trace, debug")]
        {
            let told = LogFilter::read(text).unwrap_err();
            assert!(told.starts_with(problem), "{told}");
        }
        assert!(LogFilter::read(&"x".repeat(257)).is_err());
    }
}
