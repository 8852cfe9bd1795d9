//! Arguments that several commands take, and how they are written: durations, times, interfaces,
//! `key=value`.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use super::output::Output;
use crate::mdns;
use crate::time::{DURATION_MAX, DurationError, Timestamp, parse_duration};

/// Where to look for devices.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Interfaces {
    /// Look on this network interface only; may be given several times
    #[arg(long, env = "FLEETD_INTERFACE", value_delimiter = ',', value_name = "NAME")]
    interface: Vec<String>,
}

impl Interfaces {
    /// Where to look; a name that no interface has is told.
    pub fn options(self, output: &mut Output<'_>) -> io::Result<mdns::Options> {
        for name in missing_interfaces(&self.interface) {
            output.note(&format!("warning: there is no network interface {name} here"))?;
        }
        Ok(mdns::Options { interfaces: self.interface, address: None })
    }
}

/// Those names that no interface of this machine has now.
pub fn missing_interfaces(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).filter(|name| if_nametoindex(*name).is_err())
}

/// How long something may take: not no time at all.
pub fn time_limit(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
}

/// A duration on the command line: `30s`, `5m`, and for long ones also `30d` or `2w`.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let days = |text: &str, each: u64| {
        let count: u64 = text.parse().map_err(|_| DurationError)?;
        Ok(Duration::from_secs(count.checked_mul(each * 86_400).ok_or(DurationError)?))
    };
    let duration = match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(count), _) => days(count, 1),
        (_, Some(count)) => days(count, 7),
        _ => parse_duration(text),
    }?;
    if duration <= DURATION_MAX { Ok(duration) } else { Err(DurationError) }
}

/// A time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At this time.
    At(Timestamp),
    /// This long ago.
    Ago(Duration),
}

impl Moment {
    /// The time that is meant.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.minus(duration),
        }
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ago = || duration(text).map(Self::Ago);
        text.parse()
            .map(Self::At)
            .or_else(|_| ago())
            .map_err(|_| "must be a time like 2024-01-15T10:30:00Z, or a duration like 2h")
    }
}

/// `key=value`, `key:=JSON`, or `key-` to take it away.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// What it is about.
    pub key: String,
    /// Nothing where the key is to go.
    pub value: Option<serde_json::Value>,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => match key.strip_suffix(':') {
                Some(key) => {
                    let no_json = |_| {
                        format!(
                            "not JSON: {value:?} after {key}:= should be a number, true, false, \
                             null, [...], {{...}} or \"text\"; plain text goes after {key}="
                        )
                    };
                    (key, Some(serde_json::from_str(value).map_err(no_json)?))
                }
                None => (key, Some(value.into())),
            },
            None => (text.strip_suffix('-').ok_or("must be key=value, key:=JSON or key-")?, None),
        };
        if key.is_empty() {
            return Err("has no key before its value".to_owned());
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::listed::Format;
    use crate::cli::output::Terminal;
    use crate::cli::testing::written;

    #[test]
    fn durations_of_days_are_understood() {
        for (text, secs) in [("30s", 30), ("30d", 2_592_000), ("2w", 1_209_600), ("5", 5)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in ["d", "-1d", "1.5d", "99999999999999999999d", "9999999999999999d", "6000w", ""] {
            assert_eq!(duration(bad), Err(DurationError), "{bad}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_told_once() {
        let (mut output, _, err) = written(Format::Table, Terminal::default());
        let interface = vec!["lo".to_owned(), "nope0".to_owned()];
        let options = Interfaces { interface }.options(&mut output).unwrap();
        assert_eq!(options.interfaces, ["lo", "nope0"], "it may still come");
        assert_eq!(err.text(), "warning: there is no network interface nope0 here\n");
    }

    #[test]
    fn moments_are_times_or_ages() {
        let now = Timestamp::from_millis(1_705_314_600_000);
        let resolve = |text: &str| text.parse::<Moment>().unwrap().resolve(now).to_string();
        assert_eq!(resolve("2024-01-15T09:00:00Z"), "2024-01-15T09:00:00Z");
        assert_eq!(resolve("2h"), "2024-01-15T08:30:00Z");
        assert_eq!(resolve("1d"), "2024-01-14T10:30:00Z");
        assert!("yesterday".parse::<Moment>().is_err());
    }

    #[test]
    fn no_time_at_all_is_no_limit() {
        assert_eq!(time_limit("30s"), Ok(Duration::from_secs(30)));
        assert!(time_limit("0").is_err() && time_limit("0s").is_err());
    }

    #[test]
    fn assignments_are_text_json_or_removal() {
        for (text, key, value) in [
            ("site=Lab A", "site", Some(json!("Lab A"))),
            ("floor:=3", "floor", Some(json!(3))),
            ("a=b=c", "a", Some(json!("b=c"))),
            ("empty=", "empty", Some(json!(""))),
            ("site-", "site", None),
        ] {
            let expected = Assignment { key: key.to_owned(), value };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["", "=x", ":=1", "-", "site", "a:=nonsense"] {
            assert!(bad.parse::<Assignment>().is_err(), "{bad}");
        }
        let told = "a:=nonsense".parse::<Assignment>().unwrap_err();
        assert!(told.starts_with("not JSON: \"nonsense\""), "{told}");
        assert!(!told.contains("column"), "{told}");
    }
}
