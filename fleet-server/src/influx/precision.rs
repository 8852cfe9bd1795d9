//! Units of time, as a request names them.

use std::str::FromStr;

/// What one unit of a line's time is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precision {
    #[default]
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
}

impl Precision {
    /// A time in milliseconds since 1970, rounded down. What is too far away for that is as far
    /// away as can be.
    pub(crate) fn to_millis(self, time: i64) -> i64 {
        match self {
            Self::Nanoseconds => time.div_euclid(1_000_000),
            Self::Microseconds => time.div_euclid(1_000),
            Self::Milliseconds => time,
            Self::Seconds => time.saturating_mul(1_000),
            Self::Minutes => time.saturating_mul(60_000),
            Self::Hours => time.saturating_mul(3_600_000),
        }
    }
}

/// A word that is no unit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be ns, us, ms, s, m or h")]
pub(crate) struct PrecisionError;

impl FromStr for Precision {
    type Err = PrecisionError;

    /// Both spellings of version 1 of the protocol's interface, and those of version 2.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ns" | "n" => Ok(Self::Nanoseconds),
            "us" | "u" | "µs" | "µ" => Ok(Self::Microseconds),
            "ms" => Ok(Self::Milliseconds),
            "s" => Ok(Self::Seconds),
            "m" => Ok(Self::Minutes),
            "h" => Ok(Self::Hours),
            _ => Err(PrecisionError),
        }
    }
}
