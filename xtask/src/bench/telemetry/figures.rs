//! Each figure with its goal, and the table of them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::peers::Kind;
use super::questions::Latency;
use super::stages::Stage;
use crate::bench::figures::Unit;

/// A figure, as the command line names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Key {
    Bulk,
    BulkWall,
    Single,
    SingleWall,
    Link,
    Lost,
    Disk,
    Raw,
    Average,
    Latest,
    Top,
    Overview,
    Memory,
    Restart,
    Recovery,
}

/// One line of the table.
pub(super) struct Figure {
    pub(super) key: Key,
    pub(super) stage: Stage,
    name: &'static str,
    unit: Unit,
    goal: Goal,
}

enum Goal {
    /// FleetD's figure to the other's.
    TimesMin(f64),
    TimesMax(f64),
    /// FleetD's figure alone.
    Min(f64),
    Max(f64),
    None,
}

/// What was measured.
#[derive(Clone, Copy)]
pub(super) enum Value {
    One(f64),
    /// Of which the p99 has the goal.
    Latency(Latency),
}

/// What one server's stages have measured, or why not.
pub(super) type Findings = BTreeMap<Key, anyhow::Result<Value>>;

const fn figure(key: Key, stage: Stage, name: &'static str, unit: Unit, goal: Goal) -> Figure {
    Figure { key, stage, name, unit, goal }
}

pub(super) const FIGURES: [Figure; 15] = [
    figure(
        Key::Bulk,
        Stage::Day,
        "samples per core-second, 1,000 reports a request",
        Unit::Millions,
        Goal::TimesMin(2.0),
    ),
    figure(Key::BulkWall, Stage::Day, "that per second", Unit::Millions, Goal::None),
    figure(
        Key::Single,
        Stage::Single,
        "samples per core-second, one report a request",
        Unit::Millions,
        Goal::TimesMin(1.5),
    ),
    figure(Key::SingleWall, Stage::Single, "that per second", Unit::Millions, Goal::None),
    figure(
        Key::Link,
        Stage::Link,
        "reports per core-second, agents' links",
        Unit::Count,
        Goal::Min(60_000.0),
    ),
    figure(
        Key::Lost,
        Stage::Crash,
        "acknowledged samples lost by kill -9",
        Unit::Count,
        Goal::Max(0.0),
    ),
    figure(Key::Disk, Stage::Day, "bytes on disk per sample", Unit::Bytes, Goal::TimesMax(0.65)),
    figure(
        Key::Raw,
        Stage::Day,
        "an hour of one metric, p50 / p99",
        Unit::Seconds,
        Goal::TimesMax(0.4),
    ),
    figure(
        Key::Average,
        Stage::Day,
        "a day of one metric as 300 averages",
        Unit::Seconds,
        Goal::TimesMax(0.8),
    ),
    figure(
        Key::Latest,
        Stage::Day,
        "latest of 3 metrics of all devices",
        Unit::Seconds,
        Goal::TimesMax(0.2),
    ),
    figure(
        Key::Top,
        Stage::Day,
        "top 10 devices by an average over 5 min",
        Unit::Seconds,
        Goal::TimesMax(0.5),
    ),
    figure(
        Key::Overview,
        Stage::Hour,
        "latest of 3 metrics of a large fleet",
        Unit::Seconds,
        Goal::Max(0.005),
    ),
    figure(
        Key::Memory,
        Stage::Hour,
        "peak memory (RSS) with a large fleet",
        Unit::Mebibytes,
        Goal::TimesMax(0.7),
    ),
    figure(Key::Restart, Stage::Day, "restart to first answer", Unit::Seconds, Goal::Max(0.5)),
    figure(
        Key::Recovery,
        Stage::Crash,
        "start after kill -9 to first answer",
        Unit::Seconds,
        Goal::Max(5.0),
    ),
];

impl Value {
    /// What has the goal.
    fn main(self) -> f64 {
        match self {
            Self::One(value) => value,
            Self::Latency(latency) => latency.p99,
        }
    }

    fn show(self, unit: Unit) -> String {
        match self {
            Self::One(value) => unit.show(value),
            Self::Latency(Latency { p50, p99 }) => {
                format!("{} / {}", unit.show(p50), unit.show(p99))
            }
        }
    }
}

impl Goal {
    fn show(&self, unit: Unit) -> String {
        match *self {
            Self::TimesMin(goal) => format!("≥ {}", Unit::Times.show(goal)),
            Self::TimesMax(goal) => format!("≤ {}", Unit::Times.show(goal)),
            Self::Min(goal) => format!("≥ {}", unit.show(goal)),
            Self::Max(goal) => format!("≤ {}", unit.show(goal)),
            Self::None => String::new(),
        }
    }

    /// Empty where there is nothing to judge.
    fn verdict(&self, value: Option<f64>, times: Option<f64>) -> &'static str {
        let judged = |value: Option<f64>, is_reached: &dyn Fn(f64) -> bool, else_word| match value {
            None => "",
            Some(value) if is_reached(value) => "reached",
            Some(_) => else_word,
        };
        match *self {
            Self::TimesMin(goal) => judged(times, &|times| times >= goal, "under"),
            Self::TimesMax(goal) => judged(times, &|times| times <= goal, "over"),
            Self::Min(goal) => judged(value, &|value| value >= goal, "under"),
            Self::Max(goal) => judged(value, &|value| value <= goal, "over"),
            Self::None => "",
        }
    }
}

/// Prints the figures that were asked for; says whether each was measured.
pub(super) fn print(
    figures: &[&Figure],
    findings: &[(Kind, Findings)],
    out: &mut impl Write,
) -> io::Result<bool> {
    let [fleetd, other] = Kind::ALL;
    writeln!(
        out,
        "{:<48} {:>19} {:>19} {:>9} {:>10}",
        "FIGURE",
        fleetd.name(),
        other.name(),
        "RATIO",
        "GOAL"
    )?;
    // Often one reason keeps many figures from being measured.
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for figure in figures {
        let mut find = |kind| {
            let (_, found) = findings.iter().find(|(of, _)| *of == kind)?;
            match found.get(&figure.key)? {
                Ok(value) => Some(*value),
                Err(error) => {
                    let why = format!("{}: {error:#}", kind.name());
                    missing.entry(why).or_default().push(figure.name);
                    None
                }
            }
        };
        let (ours, theirs) = (find(fleetd), find(other));
        let times = ours.zip(theirs).map(|(ours, theirs)| ours.main() / theirs.main());
        let times = times.filter(|times| times.is_finite());
        let show = |value: Option<Value>| value.map_or("–".to_owned(), |it| it.show(figure.unit));
        let line = format!(
            "{:<48} {:>19} {:>19} {:>9} {:>10} {}",
            figure.name,
            show(ours),
            show(theirs),
            times.map_or(String::new(), |times| Unit::Times.show(times)),
            figure.goal.show(figure.unit),
            figure.goal.verdict(ours.map(Value::main), times)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    for (why, names) in &missing {
        writeln!(out, "not measured of {why}\n  {}", names.join("\n  "))?;
    }
    Ok(missing.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_their_side() {
        for (goal, value, times, expected) in [
            (Goal::TimesMin(2.0), Some(5.0), Some(2.1), "reached"),
            (Goal::TimesMin(2.0), Some(5.0), Some(1.9), "under"),
            (Goal::TimesMin(2.0), Some(5.0), None, ""),
            (Goal::TimesMax(0.5), Some(5.0), Some(0.6), "over"),
            (Goal::Max(0.0), Some(0.0), None, "reached"),
            (Goal::Max(0.0), Some(1.0), None, "over"),
            (Goal::Min(10.0), Some(9.0), None, "under"),
            (Goal::None, Some(9.0), Some(1.0), ""),
        ] {
            assert_eq!(goal.verdict(value, times), expected);
        }
    }

    #[test]
    fn a_table_has_every_figure_and_says_what_is_missing() {
        let mut ours = Findings::new();
        ours.insert(Key::Bulk, Ok(Value::One(4e6)));
        for key in [Key::Raw, Key::Top] {
            ours.insert(key, Err(anyhow::anyhow!("no answer")));
        }
        let mut theirs = Findings::new();
        theirs.insert(Key::Bulk, Ok(Value::One(1.6e6)));
        theirs.insert(Key::Raw, Ok(Value::Latency(Latency { p50: 0.000_2, p99: 0.000_5 })));
        let findings = [(Kind::FleetD, ours), (Kind::VictoriaMetrics, theirs)];
        let figures: Vec<&Figure> = FIGURES.iter().collect();
        let mut out = Vec::new();
        assert!(!print(&figures, &findings, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1 + FIGURES.len() + 3, "{text}");
        assert!(text.contains("4.00 M              1.60 M    2.50 ×   ≥ 2.00 × reached"), "{text}");
        assert!(text.contains("0.20 ms / 0.50 ms"), "{text}");
        let tail = "not measured of FleetD: no answer\n  an hour of one metric, p50 / p99\n";
        assert!(text.contains(tail), "{text}");
    }
}
