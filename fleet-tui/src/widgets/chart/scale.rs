//! The scales of a chart: round numbers, and times that people count in.

use super::Chart;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Between two labels of the time.
const TIME_STEPS: [i64; 18] = [
    SECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
];
/// Columns that a label has at least, with the room beside it.
const LABEL_COLUMNS: u16 = 11;

/// The scale of the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Scale {
    /// A scale that holds every value and begins at 0, if none is below it.
    pub(super) fn of(chart: &Chart<'_>) -> Self {
        let points = chart.curves.iter().flat_map(|curve| curve.points);
        let seen =
            points.filter(|point| (chart.from_millis..=chart.to_millis).contains(&point.at_millis));
        let values = seen.flat_map(|point| [point.mean, point.low, point.high]);
        let (mut lowest, mut highest) = (0.0_f64, 0.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            lowest = lowest.min(value);
            highest = highest.max(value);
        }
        let high = match chart.highest {
            Some(given) if given.is_finite() && given > 0.0 => given,
            _ => round_up(highest),
        };
        Self { low: if lowest < 0.0 { -round_up(-lowest) } else { 0.0 }, high }
    }

    /// Where a value is, from 0 to 1.
    pub(super) fn share(self, value: f64) -> f64 {
        // Halves, because the whole of it may be more than there are numbers for.
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        share.clamp(0.0, 1.0)
    }
}

/// The next number that is 1, 2, 2.5 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    let next = steps.into_iter().find(|step| *step >= value * (1.0 - f64::EPSILON));
    next.filter(|next| next.is_finite() && *next > 0.0).unwrap_or(value)
}

/// A number in few characters: `97`, `2.5`, `1.2M`.
pub(super) fn number(value: f64) -> String {
    const SUFFIXES: [(f64, &str); 5] =
        [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let suffix = SUFFIXES.into_iter().find(|(unit, _)| value.abs() >= *unit);
    let (unit, suffix) = suffix.unwrap_or((1.0, ""));
    let scaled = value / unit;
    if scaled.abs() >= 1e4 {
        return format!("{value:.0e}");
    }
    let digits = match scaled.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let text = if text == "-0" { "0" } else { text };
    format!("{text}{suffix}")
}

/// Times to label and what to call them, from the latest back, so that they do not touch.
pub(super) fn time_labels(chart: &Chart<'_>, width: u16) -> Vec<(i64, String)> {
    let span = chart.to_millis.saturating_sub(chart.from_millis);
    if span <= 0 {
        return Vec::new();
    }
    let count = i64::from((width / LABEL_COLUMNS).max(1));
    let step = TIME_STEPS.into_iter().find(|step| span / step <= count);
    let step = step.unwrap_or_else(|| span / count + 1);
    let newest = chart.now_millis.saturating_sub(chart.to_millis).div_euclid(step);
    let mut labels = Vec::new();
    for index in newest..=newest.saturating_add(count + 1) {
        let ago_millis = index.saturating_mul(step);
        let at = chart.now_millis.saturating_sub(ago_millis);
        if (chart.from_millis..=chart.to_millis).contains(&at) {
            labels.push((at, ago(ago_millis)));
        }
    }
    labels.reverse();
    labels
}

/// How long ago, in at most two units: `now`, `-2m30s`, `-3d`.
pub(super) fn ago(millis: i64) -> String {
    let sign = if millis < 0 { "+" } else { "-" };
    let seconds = millis.unsigned_abs() / 1_000;
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let Some(first) = units.iter().position(|(unit, _)| seconds >= *unit) else {
        return "now".to_owned();
    };
    let (unit, letter) = units[first];
    let text = format!("{sign}{}{letter}", seconds / unit);
    match units.get(first + 1) {
        Some((next, letter)) if seconds % unit / next > 0 => {
            format!("{text}{}{letter}", seconds % unit / next)
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_round_and_short() {
        for (value, up) in [
            (0.0, 1.0),
            (0.03, 0.05),
            (1.0, 1.0),
            (3.0, 5.0),
            (97.0, 100.0),
            (100.0, 100.0),
            (101.0, 200.0),
            (230.0, 250.0),
            (1.2e6, 2e6),
        ] {
            assert!((round_up(value) - up).abs() < up * 1e-9, "{value}: {}", round_up(value));
        }
        for (value, text) in [
            (0.0, "0"),
            (97.0, "97"),
            (97.26, "97.3"),
            (2.5, "2.5"),
            (0.031, "0.03"),
            (100.4, "100"),
            (1_250.0, "1.25k"),
            (1.2e6, "1.2M"),
            (-40.0, "-40"),
            (-0.001, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn times_in_two_units() {
        for (millis, text) in [
            (0, "now"),
            (999, "now"),
            (1_000, "-1s"),
            (150_000, "-2m30s"),
            (3_600_000, "-1h"),
            (3_601_000, "-1h"),
            (93_600_000, "-1d2h"),
            (-5_000, "+5s"),
        ] {
            assert_eq!(ago(millis), text);
        }
    }

    proptest! {
        #[test]
        fn every_number_is_short_and_has_a_scale(value: f64) {
            prop_assume!(value.is_finite());
            prop_assert!(number(value).len() <= 9, "{}", number(value));
            let up = round_up(value);
            prop_assert!(up.is_finite() && up > 0.0 && up >= value * 0.999);
        }
    }
}
