//! Curves: what a device measured over a time, drawn as lines with their bands, and as numbers.
//!
//! A step in which nothing was measured is a gap, unless the device's own interval explains it.

use std::fmt::Write as _;
use std::time::Duration;

use fleet_core::api::{Series, SeriesPoint, SeriesReply};
use fleet_core::time::Timestamp;

use super::html::Html;
use super::words;

/// The drawing's own units, which a browser stretches to the room there is.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 100.0;
/// Reports that may be missing before a line is broken.
const MISSING_MAX: f64 = 2.5;

/// A time up to now that curves are drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Its name in URLs and on screens.
    pub(super) name: &'static str,
    /// How long it is.
    pub(super) length: Duration,
    /// One step of it.
    pub(super) step: Duration,
}

/// The times to choose from.
pub(super) const RANGES: [Range; 4] = [
    Range::new("5m", 5 * 60, 5),
    Range::new("1h", 3_600, 30),
    Range::new("24h", 86_400, 15 * 60),
    Range::new("7d", 7 * 86_400, 2 * 3_600),
];

/// The metrics of all curves.
pub(super) const METRICS: [&str; 5] = ["cpu_usage", "memory_usage", "disk_usage", RECEIVED, SENT];
const RECEIVED: &str = "network_receive_bytes_per_second";
const SENT: &str = "network_transmit_bytes_per_second";

impl Range {
    const fn new(name: &'static str, secs: u64, step_secs: u64) -> Self {
        Self { name, length: Duration::from_secs(secs), step: Duration::from_secs(step_secs) }
    }

    /// The one of a name, or the usual one.
    pub(super) fn named(name: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or("1h");
        RANGES.into_iter().find(|range| range.name == name)
    }
}

/// One drawing.
struct Panel<'a> {
    title: String,
    curves: Vec<(&'static str, &'a Series)>,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    Percent,
    BytesPerSecond,
}

impl Unit {
    fn say(self, value: f64) -> String {
        match self {
            Self::Percent => words::percent(value),
            Self::BytesPerSecond => format!("{}/s", words::bytes(value)),
        }
    }

    /// The top of the scale for values up to this one.
    fn top(self, highest: f64) -> f64 {
        match self {
            Self::Percent => 100.0,
            // The next power of two, so that the scale seldom moves.
            Self::BytesPerSecond => 2_f64.powf(highest.max(1024.0).log2().ceil()),
        }
    }
}

/// All drawings, and all numbers.
pub(super) fn section(html: &mut Html, reply: &SeriesReply, range: Range, interval: Duration) {
    html.raw("<section id=\"curves\"><div class=\"panels\">");
    let panels = panels(reply);
    for panel in &panels {
        draw(html, panel, reply, range, interval);
    }
    if panels.is_empty() {
        html.raw("<p class=\"muted\">Nothing was measured in this time.</p>");
    }
    html.raw("</div>");
    if !panels.is_empty() {
        numbers(html, reply, &panels);
    }
    html.raw("</section>");
}

fn panels(reply: &SeriesReply) -> Vec<Panel<'_>> {
    let mut panels = Vec::new();
    for (metric, title) in
        [("cpu_usage", "CPU"), ("memory_usage", "Memory"), ("disk_usage", "Disk")]
    {
        let curve = reply.series.iter().find(|s| s.metric == metric && s.labels.is_empty());
        panels.extend(curve.filter(|curve| !curve.points.is_empty()).map(|curve| Panel {
            title: title.to_owned(),
            curves: vec![("", curve)],
            unit: Unit::Percent,
        }));
    }
    panels.extend(network(reply));
    panels
}

/// The traffic of the interface that has most.
fn network(reply: &SeriesReply) -> Option<Panel<'_>> {
    let received = reply.series.iter().filter(|series| series.metric == RECEIVED);
    let busiest = received.max_by(|a, b| total(a).total_cmp(&total(b)))?;
    let sent =
        reply.series.iter().find(|series| series.metric == SENT && series.labels == busiest.labels);
    let interface = busiest.labels.get("interface");
    let title = interface.map_or_else(|| "Network".to_owned(), |name| format!("Network {name}"));
    let mut curves = vec![("received", busiest)];
    curves.extend(sent.map(|sent| ("sent", sent)));
    curves.retain(|(_, curve)| !curve.points.is_empty());
    (!curves.is_empty()).then_some(Panel { title, curves, unit: Unit::BytesPerSecond })
}

fn total(series: &Series) -> f64 {
    series.points.iter().map(|point| point.1).sum()
}

fn draw(html: &mut Html, panel: &Panel<'_>, reply: &SeriesReply, range: Range, interval: Duration) {
    let points = || panel.curves.iter().flat_map(|(_, curve)| &curve.points);
    let top = panel.unit.top(points().map(|point| point.3).fold(0.0, f64::max));
    html.raw("<figure><figcaption><b>").text(&panel.title).raw("</b>");
    let mut spoken = format!("{}, last {}", panel.title, range.name);
    for (position, (name, curve)) in panel.curves.iter().enumerate() {
        let said = extremes(panel.unit, curve);
        html.raw(if position > 0 { "; <span" } else { " <span" });
        html.raw(" class=\"muted\">").text(name).raw(" ").text(&said).raw("</span>");
        write!(spoken, "; {name} {said}").expect("writing to a String cannot fail");
    }
    html.raw("</figcaption><div class=\"plot\"><svg viewBox=\"0 0 600 100\" role=\"img\" ");
    html.raw("preserveAspectRatio=\"none\" aria-label=\"").text(&spoken).raw("\">");
    html.raw("<path class=\"grid\" d=\"M0 0H600M0 50H600M0 100H600\"/>");
    let frame = Frame { steps: f64::from(reply.steps.max(1)), top };
    let gap = gap_steps(reply.step_millis, interval);
    for (position, (_, curve)) in panel.curves.iter().enumerate() {
        let class = if position == 0 { "first" } else { "second" };
        let runs: Vec<_> = runs(&curve.points, gap).collect();
        html.raw("<g class=\"").raw(class).raw("\"><path class=\"band\" d=\"");
        for run in &runs {
            html.text(frame.band(run));
        }
        html.raw("\"/><path class=\"line\" d=\"");
        for run in &runs {
            html.text(frame.line(run));
        }
        html.raw("\"/></g>");
    }
    html.raw("</svg><span class=\"top\" aria-hidden=\"true\">").text(panel.unit.say(top));
    html.raw("</span></div><div class=\"scale\" aria-hidden=\"true\"><span>").text(range.name);
    html.raw(" ago</span><span>now</span></div></figure>");
}

/// What a curve comes to: its last value, and between what it was.
fn extremes(unit: Unit, curve: &Series) -> String {
    let lowest = curve.points.iter().map(|point| point.2).fold(f64::INFINITY, f64::min);
    let highest = curve.points.iter().map(|point| point.3).fold(f64::NEG_INFINITY, f64::max);
    let last = curve.points.last().map_or(0.0, |point| point.1);
    format!("{}, between {} and {}", unit.say(last), unit.say(lowest), unit.say(highest))
}

/// How many steps a line may bridge.
fn gap_steps(step_millis: u64, interval: Duration) -> u32 {
    let steps = interval.as_millis() as f64 * MISSING_MAX / step_millis.max(1) as f64;
    (steps.ceil() as u32).max(1)
}

/// The points between gaps.
fn runs(points: &[SeriesPoint], gap: u32) -> impl Iterator<Item = &[SeriesPoint]> {
    points.chunk_by(move |a, b| b.0.saturating_sub(a.0) <= gap)
}

/// Where a value stands in the drawing.
struct Frame {
    steps: f64,
    top: f64,
}

impl Frame {
    fn line(&self, run: &[SeriesPoint]) -> String {
        let mut path = String::new();
        self.through(&mut path, 'M', run.iter().map(|point| (point.0, point.1)));
        if run.len() == 1 {
            // A line of no length, whose round ends make a dot.
            path.push_str("h0");
        }
        path
    }

    fn band(&self, run: &[SeriesPoint]) -> String {
        let mut path = String::new();
        self.through(&mut path, 'M', run.iter().map(|point| (point.0, point.3)));
        self.through(&mut path, 'L', run.iter().rev().map(|point| (point.0, point.2)));
        path.push('Z');
        path
    }

    fn through(&self, path: &mut String, first: char, points: impl Iterator<Item = (u32, f64)>) {
        let mut command = first;
        for (step, value) in points {
            let x = (f64::from(step) + 0.5) / self.steps * WIDTH;
            let y = HEIGHT - (value / self.top).clamp(0.0, 1.0) * HEIGHT;
            write!(path, "{command}{x:.1} {y:.1}").expect("writing to a String cannot fail");
            command = 'L';
        }
    }
}

/// The same as numbers, for whoever does not see drawings.
fn numbers(html: &mut Html, reply: &SeriesReply, panels: &[Panel<'_>]) {
    let columns: Vec<(String, Unit, &Series)> = panels
        .iter()
        .flat_map(|panel| {
            let title = &panel.title;
            panel
                .curves
                .iter()
                .map(move |(name, curve)| (format!("{title} {name}"), panel.unit, *curve))
        })
        .collect();
    html.raw("<details><summary>Numbers</summary><div class=\"wide\" role=\"region\" ");
    html.raw("aria-label=\"Numbers\" tabindex=\"0\"><table class=\"numbers\"><thead><tr>");
    html.raw("<th scope=\"col\">Time</th>");
    for (title, ..) in &columns {
        html.raw("<th scope=\"col\">").text(title.trim_end()).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
    for step in (0..reply.steps).rev() {
        let at = |curve: &Series| {
            let found = curve.points.binary_search_by_key(&step, |point| point.0).ok()?;
            curve.points.get(found).copied()
        };
        let values: Vec<_> = columns.iter().map(|(_, unit, curve)| (*unit, at(curve))).collect();
        if values.iter().all(|(_, value)| value.is_none()) {
            continue;
        }
        let begun = Duration::from_millis(reply.step_millis.saturating_mul(u64::from(step)));
        html.raw("<tr><th scope=\"row\">").text(clock(reply.from.plus(begun))).raw("</th>");
        for (unit, value) in values {
            html.raw("<td>");
            match value {
                Some(SeriesPoint(_, mean, ..)) => html.text(unit.say(mean)),
                None => html.raw("—"),
            };
            html.raw("</td>");
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table></div></details>");
}

/// A time as a table says it.
fn clock(at: Timestamp) -> String {
    at.to_string().replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u32, value: f64) -> SeriesPoint {
        SeriesPoint(step, value, value - 10.0, value + 10.0)
    }

    #[test]
    fn a_silence_breaks_the_line_and_the_interval_does_not() {
        let points = [point(0, 10.0), point(2, 20.0), point(4, 30.0), point(11, 40.0)];
        // A report a minute in steps of 30 seconds: two of five steps may be bridged.
        let gap = gap_steps(30_000, Duration::from_secs(60));
        let lengths: Vec<_> = runs(&points, gap).map(<[_]>::len).collect();
        assert_eq!((gap, lengths), (5, vec![3, 1]));
        assert_eq!(gap_steps(7_200_000, Duration::from_secs(60)), 1);
        assert_eq!(gap_steps(0, Duration::ZERO), 1);
    }

    #[test]
    fn lines_stay_in_their_frame() {
        let frame = Frame { steps: 10.0, top: 100.0 };
        assert_eq!(frame.line(&[point(0, 0.0), point(9, 100.0)]), "M30.0 100.0L570.0 0.0");
        assert_eq!(frame.line(&[point(4, 250.0)]), "M270.0 0.0h0");
        assert_eq!(
            frame.band(&[point(0, 50.0), point(1, 50.0)]),
            "M30.0 40.0L90.0 40.0L90.0 60.0L30.0 60.0Z"
        );
    }

    #[test]
    fn the_busiest_interface_is_drawn() {
        let series = |metric: &str, interface: &str, value: f64| Series {
            metric: metric.to_owned(),
            labels: [("interface".to_owned(), interface.into())].into(),
            points: vec![point(0, value)],
        };
        let reply = SeriesReply {
            step_millis: 30_000,
            steps: 120,
            series: vec![
                series(RECEIVED, "wlan0", 10.0),
                series(RECEIVED, "eth0<", 5_000.0),
                series(SENT, "eth0<", 20.0),
            ],
            ..SeriesReply::default()
        };
        let mut html = Html::default();
        section(&mut html, &reply, RANGES[1], Duration::from_secs(60));
        let markup = html.into_string();
        assert!(markup.contains("Network eth0&lt;") && !markup.contains("wlan0"), "{markup}");
        assert!(markup.contains("8.0\u{202f}KiB/s"), "{markup}");
    }
}
