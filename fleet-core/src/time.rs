//! Points in time, and the one door through which the wall clock enters.
//!
//! JSON shows RFC 3339 in UTC; links and disks hold milliseconds since 1970.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z. Always a time that RFC 3339 can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 9999-12-30, the last day that every time zone can show.
const MILLIS_MAX: i64 = 253_402_207_200_000;
/// Year -9999 is of no use; a device without a clock starts in 1970.
const MILLIS_MIN: i64 = 0;

impl Timestamp {
    /// A time from milliseconds since 1970, moved into the years that can be shown.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(MILLIS_MIN, MILLIS_MAX))
    }

    /// A time as HTTP's `Date` has it.
    pub fn from_http(text: &str) -> Option<Self> {
        let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self::from_millis(time.as_millisecond()))
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// This time, later by a duration.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This time, earlier by a duration.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; nothing if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Text::of(*self).as_str())
    }
}

/// A time as RFC 3339 shows it, in UTC. Answers are full of these, so no memory is asked for.
struct Text {
    bytes: [u8; Self::LENGTH_MAX],
    length: usize,
}

impl Text {
    const LENGTH_MAX: usize = "9999-12-30T22:00:00.000Z".len();

    fn of(time: Timestamp) -> Self {
        TimeTexts::default().text(time)
    }

    fn as_str(&self) -> &str {
        // Digits and signs alone.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or("?")
    }
}

/// Writes times one after the other. Mostly they are of one day, whose date is found once.
#[derive(Clone, Debug)]
pub struct TimeTexts {
    day: u64,
    date: [u8; DATE_LENGTH],
}

const DATE_LENGTH: usize = "1970-01-01".len();

impl Default for TimeTexts {
    fn default() -> Self {
        Self { day: 0, date: *b"1970-01-01" }
    }
}

impl TimeTexts {
    /// Appends the text that a time is shown as, which has nothing in it that JSON would escape.
    pub fn put(&mut self, time: Timestamp, out: &mut Vec<u8>) {
        let text = self.text(time);
        // All of it and then less again: so much is copied faster than nobody knows how much.
        out.extend_from_slice(&text.bytes);
        out.truncate(out.len() - (Text::LENGTH_MAX - text.length));
    }

    /// Whole seconds have no fraction, as in "2024-01-15T10:30:00Z", and no fraction ends with 0.
    fn text(&mut self, time: Timestamp) -> Text {
        const DAY_SECS: u64 = 24 * 3600;
        let millis = time.0.unsigned_abs();
        let (secs, fraction) = (millis / 1000, millis % 1000);
        let (day, secs) = (secs / DAY_SECS, secs % DAY_SECS);
        if day != self.day {
            let (year, month, of_month) = date(day);
            let pairs = [(0, year / 100), (2, year % 100), (5, month), (8, of_month)];
            for (place, number) in pairs {
                put_pair(&mut self.date, place, number);
            }
            self.day = day;
        }
        let mut bytes = *b"0000-00-00T00:00:00.000Z";
        bytes[..DATE_LENGTH].copy_from_slice(&self.date);
        let pairs = [(11, secs / 3600), (14, secs / 60 % 60), (17, secs % 60), (20, fraction / 10)];
        for (place, number) in pairs {
            put_pair(&mut bytes, place, number);
        }
        bytes[22] = b'0' + (fraction % 10) as u8;
        let mut length = match fraction {
            0 => 19,
            _ if fraction % 100 == 0 => 21,
            _ if fraction % 10 == 0 => 22,
            _ => 23,
        };
        bytes[length] = b'Z';
        length += 1;
        Text { bytes, length }
    }
}

/// Writes the last two digits of a number.
fn put_pair(bytes: &mut [u8], place: usize, number: u64) {
    bytes[place] = b'0' + (number / 10 % 10) as u8;
    bytes[place + 1] = b'0' + (number % 10) as u8;
}

/// Year, month and day of a number of days since 1970 in the calendar of today: counted in eras of
/// 400 years, and in years that begin in March, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    /// From the first of March of the year 0 to 1970.
    const BEFORE_1970: u64 = 719_468;
    let days = days + BEFORE_1970;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / (ERA_DAYS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next = month >= 10;
    let month = if is_next { month - 9 } else { month + 3 };
    (era * 400 + year + u64::from(is_next), month, day)
}

/// A text that is no RFC 3339 time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a time like 2024-01-15T10:30:00Z")]
pub struct TimestampError;

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text.parse().map_err(|_| TimestampError)?;
        let millis = time.as_millisecond();
        if (MILLIS_MIN..=MILLIS_MAX).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(TimestampError)
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Text::of(*self).as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a program reads the wall clock, so that a test can hold it.
pub trait Clock: Send + Sync {
    /// The time now. May jump; never decides who may do what.
    fn now(&self) -> Timestamp;

    /// How long the program has run, by a clock that never jumps; nothing if the wall clock does not
    /// either, as one in a test's hand.
    fn running(&self) -> Option<Duration> {
        None
    }
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        let since_1970 = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Timestamp::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    fn running(&self) -> Option<Duration> {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Some(START.elapsed())
    }
}

/// The longest duration that anybody may ask for, a hundred years: it can be added to any time.
pub const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Parses `60s`, `5m`, `1h 30m`, whole days or weeks such as `7d` and `2w`, or a bare number of
/// seconds; at most [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    const DAY_SECS: u64 = 24 * 3600;
    let units = [("w", 7 * DAY_SECS), ("d", DAY_SECS), ("", 1)];
    let whole = units.iter().find_map(|(unit, secs)| {
        text.strip_suffix(unit)?.parse::<u64>().ok().map(|count| count.saturating_mul(*secs))
    });
    let duration = match whole {
        Some(secs) => Duration::from_secs(secs),
        None => {
            let parsed: jiff::SignedDuration = text.parse().map_err(|_| DurationError)?;
            Duration::try_from(parsed).map_err(|_| DurationError)?
        }
    };
    if duration <= DURATION_MAX { Ok(duration) } else { Err(DurationError) }
}

/// A text that is no duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a duration like 30s, 5m, 1h or 7d")]
pub struct DurationError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_time_is_shown_as_others_show_it(millis in MILLIS_MIN..=MILLIS_MAX, round in 0_u32..4) {
            let millis = millis / 10_i64.pow(round) * 10_i64.pow(round);
            let shown = jiff::Timestamp::from_millisecond(millis).unwrap().to_string();
            prop_assert_eq!(Timestamp::from_millis(millis).to_string(), shown);
        }
    }

    #[test]
    fn every_day_is_shown_as_others_show_it() {
        let mut texts = TimeTexts::default();
        for day in 0..200_000 {
            let millis = day * 86_400_000;
            let shown = jiff::Timestamp::from_millisecond(millis).unwrap().to_string();
            assert_eq!(Timestamp::from_millis(millis).to_string(), shown);
            // Also by one that has just shown another day, or the very same one.
            for _ in 0..2 {
                let mut out = Vec::new();
                texts.put(Timestamp::from_millis(millis), &mut out);
                assert_eq!(str::from_utf8(&out), Ok(&*shown));
            }
        }
    }

    #[test]
    fn times_read_and_print_as_rfc_3339() {
        let time: Timestamp = "2024-01-15T10:30:00Z".parse().unwrap();
        assert_eq!(time.millis(), 1_705_314_600_000);
        assert_eq!(time.to_string(), "2024-01-15T10:30:00Z");
        assert_eq!("2024-01-15T11:30:00+01:00".parse(), Ok(time));
        assert_eq!("yesterday".parse::<Timestamp>(), Err(TimestampError));
        assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::from_millis(0));
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, secs) in [
            ("60s", 60),
            ("5m", 300),
            ("1h 30m", 5400),
            ("30", 30),
            ("1h", 3600),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for text in ["", "-5s", "soon", "5x", "18446744073709551615", "9223372036854775807s"] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
    }
}
