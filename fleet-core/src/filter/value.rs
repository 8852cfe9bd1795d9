//! What a field is compared with: read as the field's kind asks for, with advice where it is not
//! one of those.

use std::fmt;
use std::time::Duration;

use super::error::quoted;
use super::pattern::Pattern;
use super::tree::{Op, Target, write_value};
use crate::api::ConfigState;
use crate::api::DeviceStatus;
use crate::field::{Field, Kind};
use crate::near;
use crate::time::{DURATION_MAX, parse_duration};

/// Digits up to which numbers are compared as such; longer ones lose their last digits in an `f64`.
const NUMBER_DIGITS_MAX: usize = 15;
/// Bytes of a number.
const NUMBER_BYTES_MAX: usize = 32;
/// Degrees Celsius that anything has.
const CELSIUS_MAX: f64 = 1_000.0;
/// Percents that anything has.
const PERCENT_MAX: f64 = 100.0;

/// How long each unit is, the longest first.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A value of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A text, and the number that it is if it is one.
    Text(Pattern, Option<f64>),
    /// Numbers with dots.
    Version(String),
    /// Percents or degrees.
    Number(f64),
    /// How long ago.
    Age(Duration),
}

/// What is wrong with an operator or a value, and what would do.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Value {
    /// Reads a value that a target is compared with.
    pub(super) fn read(target: &Target, op: Op, raw: &str) -> Result<Self, Misfit> {
        if let Some(words) = closed_words(target) {
            return one_of(target, op, raw, &words);
        }
        match target.kind() {
            Kind::Text | Kind::Status | Kind::Words => Ok(Self::text(op, raw)),
            Kind::Version if op == Op::Like || raw.contains('*') && !op.is_order() => {
                Ok(Self::text(op, raw))
            }
            Kind::Version if op.is_order() && !is_version(raw) => {
                Err(misfit(target, raw, "numbers with dots", "<1.4.2"))
            }
            Kind::Version => Ok(Self::Version(raw.to_owned())),
            Kind::Percent => {
                let percent = number(raw.trim_end_matches('%').trim_end());
                let percent = percent.filter(|percent| (0.0..=PERCENT_MAX).contains(percent));
                let wanted = || misfit(target, raw, "a number from 0 to 100", ">90");
                percent.map(Self::Number).ok_or_else(wanted)
            }
            Kind::Celsius => {
                let degrees = number(raw.trim_end_matches(['C', 'c']).trim_end_matches('°'));
                let degrees = degrees.filter(|degrees| degrees.abs() <= CELSIUS_MAX);
                let wanted = || misfit(target, raw, "degrees Celsius", ">70");
                degrees.map(Self::Number).ok_or_else(wanted)
            }
            Kind::Age => {
                let wanted = || misfit(target, raw, "a duration", ">10m");
                duration(raw).map(Self::Age).ok_or_else(wanted)
            }
        }
    }

    /// A text, and the number that it is if it is one.
    pub(super) fn text(op: Op, raw: &str) -> Self {
        let pattern = if op == Op::Like { Pattern::like(raw) } else { Pattern::equal(raw) };
        Self::Text(pattern, number(raw))
    }
}

/// Says so if a target is not compared in this way.
pub(super) fn check_operator(target: &Target, op: Op) -> Result<(), Misfit> {
    let order = Op::is_order as fn(Op) -> bool;
    let (is_wrong, known): (bool, &str) = match target.kind() {
        _ if closed_words(target).is_some() => (order(op), "= != ~ and in"),
        Kind::Words => (order(op), "= != ~ and in"),
        Kind::Percent | Kind::Celsius => (op == Op::Like, "= != < <= > >= and in"),
        Kind::Age => (!order(op), "< <= > and >="),
        Kind::Text | Kind::Status | Kind::Version => return Ok(()),
    };
    if !is_wrong {
        return Ok(());
    }
    let message = format!("{target} takes {known}, not {}", op.symbol());
    let hint = (target.kind() == Kind::Age)
        .then(|| format!("write {target}>10m for longer ago than ten minutes"));
    Err(Misfit { message, hint })
}

/// The number that a text is, if it is one that can be compared exactly.
pub(super) fn number(text: &str) -> Option<f64> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if !begins || text.len() > NUMBER_BYTES_MAX || !(1..=NUMBER_DIGITS_MAX).contains(&digits) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The words that a target holds, where there are no others.
pub(super) fn closed_words(target: &Target) -> Option<Vec<&'static str>> {
    match target {
        Target::Field(Field::Status) => {
            Some(DeviceStatus::ALL.iter().map(DeviceStatus::word).collect())
        }
        Target::Field(Field::Config) => Some(ConfigState::ALL.map(ConfigState::word).to_vec()),
        _ => None,
    }
}

/// A word or pattern that at least one of the words fits.
fn one_of(target: &Target, op: Op, raw: &str, words: &[&str]) -> Result<Value, Misfit> {
    let value = Value::text(op, raw);
    if let Value::Text(pattern, _) = &value
        && words.iter().any(|word| pattern.matches(word))
    {
        return Ok(value);
    }
    let near = near::nearest(&raw.to_lowercase(), words.iter().copied());
    let shown = quoted(raw);
    Err(Misfit {
        message: format!("{target} is never {shown}, it is one of {}", words.join(", ")),
        hint: near.map(|near| format!("did you mean {target}{}{near}?", op.symbol())),
    })
}

fn misfit(target: &Target, raw: &str, wanted: &str, example: &str) -> Misfit {
    let shown = quoted(raw);
    Misfit {
        message: format!("{target} is compared with {wanted}, which {shown} is not"),
        hint: Some(format!("write it like {target}{example}")),
    }
}

fn is_version(text: &str) -> bool {
    text.trim_start_matches(['v', 'V']).starts_with(|c: char| c.is_ascii_digit())
}

/// `10m`, `1h30m`, `2d`, a number of seconds, or what settings files take.
fn duration(text: &str) -> Option<Duration> {
    let duration = match units(text) {
        Some(millis) => Duration::from_millis(millis),
        // Finer than the clocks that it is compared with.
        None => Duration::from_millis(u64::try_from(parse_duration(text).ok()?.as_millis()).ok()?),
    };
    Some(duration).filter(|duration| *duration <= DURATION_MAX)
}

/// The milliseconds of numbers with units, the longest first: `1d12h`.
fn units(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut millis = None;
    while !rest.is_empty() {
        let count: u64 = rest[..number_end(rest)].parse().ok()?;
        rest = rest[number_end(rest)..].trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, length) = UNITS.iter().find(|(unit, _)| *unit == &rest[..end])?;
        rest = rest[end..].trim_start();
        millis = Some(count.checked_mul(*length)?.checked_add(millis.unwrap_or(0))?);
    }
    millis
}

fn number_end(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(pattern, _) => pattern.fmt(f),
            Self::Version(version) => write_value(f, version),
            Self::Number(number) => number.fmt(f),
            Self::Age(age) => write_age(f, *age),
        }
    }
}

fn write_age(f: &mut fmt::Formatter<'_>, age: Duration) -> fmt::Result {
    let mut rest = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return f.write_str("0s");
    }
    // Days read better than weeks, however many.
    for (unit, length) in &UNITS[1..] {
        if rest >= *length {
            write!(f, "{}{unit}", rest / length)?;
            rest %= length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, secs, shown) in [
            ("10m", 600, "10m"),
            ("90s", 90, "1m30s"),
            ("90", 90, "1m30s"),
            ("1h 30m", 5_400, "1h30m"),
            ("2d", 172_800, "2d"),
            ("2w", 1_209_600, "14d"),
            ("1.5h", 5_400, "1h30m"),
            ("10 minutes", 600, "10m"),
            ("0", 0, "0s"),
        ] {
            let age = duration(text).unwrap();
            assert_eq!(age, Duration::from_secs(secs), "{text}");
            assert_eq!(Value::Age(age).to_string(), shown);
            assert_eq!(duration(shown), Some(age));
        }
        assert_eq!(Value::Age(duration("1500ms").unwrap()).to_string(), "1s500ms");
        for text in ["", "m", "10x", "-5m", "soon", "99999999999999999999d", "99999d", "1m2"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_exact_or_none() {
        for (text, found) in [
            ("90", Some(90.0)),
            ("-1.5", Some(-1.5)),
            (".5", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("9007199254740993", None),
            ("1.4.2", None),
            ("nan", None),
            ("-inf", None),
            ("infinity", None),
            ("1e999", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(number(text), found, "{text}");
        }
    }
}
