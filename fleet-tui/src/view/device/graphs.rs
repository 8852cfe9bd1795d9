//! A device's graphs: one that is large, and the others as small ones below it.

use fleet_core::glyph::{self, Glyph};
use ratatui::layout::Rect;

use crate::layout::{self, Pane};
use crate::state::App;
use crate::state::device::DeviceScreen;
use crate::state::device::curve::{Point, Rhythm};
use crate::state::device::metric::{Graph, Metric, Unit};
use crate::theme::Role;
use crate::view::{Canvas, pane};
use crate::widgets::chart::{self, Chart};

/// A graph with its border and its labels needs so many rows and columns.
const ROWS_MIN: u16 = 7;
const COLUMNS_MIN: u16 = 24;
/// Small graphs stand side by side while each has so many columns.
const COLUMNS_GOOD: u16 = 38;
/// How high the large graph is when a small one is five.
const LARGE_TO_FIVE: u16 = 6;
/// Binary bytes of a gibibyte.
const GIB: f64 = 1_073_741_824.0;

/// Paints the graphs that there is room for.
pub(super) fn paint(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let mut graphs = device.graphs.shown();
    // The large one comes first; the others keep their order.
    let large = graphs.iter().position(|graph| *graph == device.large).unwrap_or_default();
    if large < graphs.len() {
        graphs[..=large].rotate_right(1);
    }
    let is_alone = device.is_full && layout::is_low(app.desk.size);
    let areas = divided(area, if is_alone { 1 } else { graphs.len() });
    let are_all_in_sight = areas.len() >= graphs.len();
    for (place, (graph, area)) in graphs.iter().zip(areas).enumerate() {
        let mut title = title(device, *graph, area.width);
        if place == 0 && !are_all_in_sight {
            title = format!("{title}  {}/{}", large + 1, graphs.len());
        }
        let is_focused = device.focus == Pane::Graphs && place == 0;
        let notes = notes(app, device, *graph, canvas);
        let inside = pane::paint(area, &title, &notes, is_focused, canvas);
        plot(device, *graph, inside, canvas);
        nothing(device, *graph, inside, canvas);
    }
}

/// Divides an area among so many graphs, or as many as there is room for: the first across the top,
/// the others in rows below it.
fn divided(area: Rect, count: usize) -> Vec<Rect> {
    let small = u16::try_from(count).unwrap_or(u16::MAX).saturating_sub(1);
    let rows_max = area.height.saturating_sub(ROWS_MIN) / ROWS_MIN;
    if small == 0 || rows_max == 0 {
        return vec![area];
    }
    let columns_max = (area.width / COLUMNS_MIN).max(1);
    let good = (area.width / COLUMNS_GOOD).clamp(1, small);
    let columns = good.max(small.div_ceil(rows_max)).min(columns_max);
    let small = small.min(rows_max.saturating_mul(columns));
    let rows = small.div_ceil(columns);
    let large_height = area.height * LARGE_TO_FIVE / (LARGE_TO_FIVE + 5 * rows);
    let large_height = large_height.max(ROWS_MIN);
    let mut areas = vec![Rect { height: large_height, ..area }];
    let (y, height) = (area.y + large_height, area.height - large_height);
    let lower = Rect { y, height, ..area };
    for row in 0..rows {
        let (y, bottom) = (part(lower.height, row, rows), part(lower.height, row + 1, rows));
        // The last row may have fewer, which then are wider.
        let columns = columns.min(small - row * columns);
        for column in 0..columns {
            let (x, right) =
                (part(lower.width, column, columns), part(lower.width, column + 1, columns));
            areas.push(Rect::new(lower.x + x, lower.y + y, right - x, bottom - y));
        }
    }
    areas
}

/// Where the n-th of several equal parts begins.
fn part(whole: u16, place: u16, parts: u16) -> u16 {
    let begin = u32::from(whole) * u32::from(place) / u32::from(parts.max(1));
    u16::try_from(begin).unwrap_or(whole)
}

/// What stands in a graph that has no curve.
fn nothing(device: &DeviceScreen, graph: Graph, inside: Rect, canvas: &mut Canvas<'_>) {
    let window = device.graphs.window();
    let mut points = graph
        .metrics()
        .iter()
        .flat_map(|metric| device.graphs.curve(*metric).within(window.from, window.to));
    if points.next().is_some() {
        return;
    }
    let (text, role) = match device.graphs.error() {
        Some(error) => (format!("^r tries again: {error}"), Role::Warn),
        None if device.graphs.is_loading() => ("loading …".to_owned(), Role::Muted),
        None => ("nothing measured".to_owned(), Role::Muted),
    };
    let middle = inside.y + inside.height.saturating_sub(2) / 2;
    canvas.put(inside.x + 5, middle, inside.right(), &text, role);
}

fn title(device: &DeviceScreen, graph: Graph, width: u16) -> String {
    let memory = device.record().and_then(|record| record.facts.memory_bytes);
    match (graph, memory) {
        (Graph::Memory, Some(bytes)) if width >= COLUMNS_GOOD => {
            format!("{} of {:.1} GiB", graph.title(), bytes as f64 / GIB)
        }
        _ => graph.title().to_owned(),
    }
}

/// What the title says of the curves, the longest first.
fn notes(app: &App, device: &DeviceScreen, graph: Graph, canvas: &Canvas<'_>) -> Vec<String> {
    let dot = format!(" {} ", canvas.glyph(Glyph::Dot));
    let window = device.graphs.window();
    let unit = graph.unit();
    let is_live = device.graphs.is_live() && app.desk.link.is_live() && !device.is_gone;
    let word = match (device.graphs.cursor(), is_live) {
        (Some(_), _) => "here",
        (None, true) => "now",
        (None, false) => "last",
    };
    let none = canvas.glyph(Glyph::None).to_string();
    let told = |metric: Metric| {
        told(device, metric).map_or_else(|| none.clone(), |point| number(point.mean, unit))
    };
    let summary = |metric: Metric| device.graphs.curve(metric).summary(window.from, window.to);
    match *graph.metrics() {
        [metric] => {
            let short = format!("{} {word}", told(metric));
            let long = summary(metric).map(|summary| {
                let (mean, max) = (number(summary.mean, unit), number(summary.max, unit));
                format!("{short}{dot}{mean} avg{dot}{max} max")
            });
            long.into_iter().chain([short]).collect()
        }
        [first, second] => {
            let [first_sign, second_sign] = signs(graph, canvas);
            let short = format!("{first_sign}{} {second_sign}{}", told(first), told(second));
            let max = [first, second].map(|metric| summary(metric).map(|summary| summary.max));
            let long = match max {
                [Some(a), Some(b)] => {
                    let (a, b) = (number(a, unit), number(b, unit));
                    Some(format!("{short} {word}{dot}{first_sign}{a} {second_sign}{b} max"))
                }
                _ => None,
            };
            let tight = |metric: Metric| told(metric).replace("B/s", "").replace(' ', "");
            let tight = format!("{first_sign}{} {second_sign}{}", tight(first), tight(second));
            long.into_iter().chain([format!("{short} {word}"), short, tight]).collect()
        }
        _ => Vec::new(),
    }
}

/// What stands before the numbers of two curves.
fn signs(graph: Graph, canvas: &Canvas<'_>) -> [String; 2] {
    match graph {
        Graph::Network => {
            [Glyph::Inward, Glyph::Outward].map(|sign| canvas.glyph(sign).to_string())
        }
        _ => ["r ".to_owned(), "w ".to_owned()],
    }
}

/// The point whose value the title tells: the one at the cursor, or the newest while it holds.
fn told(device: &DeviceScreen, metric: Metric) -> Option<Point> {
    let rhythm = rhythm(device);
    if let Some(at) = device.graphs.cursor() {
        return device.graphs.curve(metric).near(at, rhythm);
    }
    let window = device.graphs.window();
    if !device.graphs.is_live() {
        return device.graphs.curve(metric).within(window.from, window.to).last().copied();
    }
    let newest = device.graphs.newest(metric)?;
    (window.to.since(newest.at) <= rhythm.reach()).then_some(newest)
}

fn rhythm(device: &DeviceScreen) -> Rhythm {
    device.graphs.rhythm(device.row().map_or(60, |row| row.index.interval_secs))
}

fn plot(device: &DeviceScreen, graph: Graph, area: Rect, canvas: &mut Canvas<'_>) {
    let window = device.graphs.window();
    let rhythm = rhythm(device);
    let points: Vec<Vec<chart::Point>> = graph
        .metrics()
        .iter()
        .map(|metric| {
            let lines = device.graphs.curve(*metric).lines(window.from, window.to, rhythm);
            broken(&lines, rhythm)
        })
        .collect();
    let roles = roles(device, graph);
    let curves: Vec<_> =
        points.iter().zip(roles).map(|(points, role)| chart::Curve { points, role }).collect();
    let chart = Chart {
        curves: &curves,
        from_millis: window.from.millis(),
        to_millis: window.to.millis(),
        now_millis: device.graphs.told_from().millis(),
        // Which points belong together is told by the breaks between them.
        step_millis: u64::try_from(rhythm.reach().as_millis()).unwrap_or(u64::MAX),
        unit: match graph.unit() {
            Unit::Percent => "%",
            Unit::BytesPerSecond => "B/s",
            Unit::Celsius => "",
        },
        highest: (graph.unit() != Unit::BytesPerSecond).then_some(100.0),
        cursor_millis: device.graphs.cursor().map(fleet_core::time::Timestamp::millis),
    };
    let look = canvas.look;
    chart::paint(&chart, area, canvas.buffer, &look.theme, &look.caps);
}

/// The points of lines one after the other, with points that are no number where lines end.
fn broken(lines: &[Vec<Point>], rhythm: Rhythm) -> Vec<chart::Point> {
    let step = i64::try_from(rhythm.step.as_millis()).unwrap_or(i64::MAX);
    let gap = |at_millis| chart::Point { at_millis, mean: f64::NAN, low: f64::NAN, high: f64::NAN };
    let mut points = Vec::new();
    for line in lines {
        if let (Some(first), false) = (line.first(), points.is_empty()) {
            points.push(gap(first.at.millis().saturating_sub(step)));
        }
        points.extend(line.iter().map(|point| chart::Point {
            at_millis: point.at.millis(),
            mean: point.mean,
            low: point.min,
            high: point.max,
        }));
        if let Some(last) = line.last() {
            points.push(gap(last.at.millis().saturating_add(step)));
        }
    }
    // The end of the last line is open.
    points.pop();
    points
}

/// The colours of the curves: of a use by how high it is, of two that are told apart.
fn roles(device: &DeviceScreen, graph: Graph) -> [Role; 2] {
    match (graph.unit(), graph.metrics()) {
        (Unit::Percent, [metric]) => {
            let value = told(device, *metric).map(|point| glyph::level(point.mean));
            let role = value.map(Role::from).filter(|role| *role != Role::Plain);
            [role.unwrap_or(Role::Ok), Role::Plain]
        }
        (_, [_, _]) => [Role::Accent, Role::Warn],
        _ => [Role::Ok, Role::Plain],
    }
}

/// A value in few characters.
fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent | Unit::Celsius => format!("{value:.0}"),
        Unit::BytesPerSecond => bytes(value),
    }
}

/// Bytes in a second, readably: `5.2 MB/s`.
fn bytes(value: f64) -> String {
    const UNITS: [&str; 4] = ["B/s", "kB/s", "MB/s", "GB/s"];
    let mut value = value.max(0.0);
    let mut unit = 0;
    // What would be shown as 1000 is one of the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_readable() {
        for (value, text) in [
            (0.0, "0 B/s"),
            (-1.0, "0 B/s"),
            (999.4, "999 B/s"),
            (999.6, "1.0 kB/s"),
            (5_240_000.0, "5.2 MB/s"),
            (99_960.0, "100 kB/s"),
            (3e12, "3000 GB/s"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn graphs_are_as_many_as_can_be_read() {
        let low = divided(Rect::new(0, 4, 80, 17), 5);
        assert_eq!(low.len(), 4);
        assert_eq!((low[0].height, low[1].width, low[3].bottom()), (9, 26, 21));
        let wide = divided(Rect::new(0, 4, 80, 29), 5);
        assert_eq!(wide.len(), 5);
        assert_eq!((wide[0].height, wide[1].width, wide[4].bottom()), (10, 40, 33));
        assert_eq!(divided(Rect::new(0, 4, 80, 29), 6).len(), 6);
        assert_eq!(divided(Rect::new(0, 4, 60, 9), 5).len(), 1);
    }

    proptest! {
        #[test]
        fn graphs_stand_side_by_side_within_their_area(
            width in 0..300_u16, height in 0..100_u16, count in 0..7_usize,
        ) {
            let area = Rect::new(0, 4, width, height);
            let areas = divided(area, count);
            prop_assert!(areas.len() <= count.max(1));
            for (place, one) in areas.iter().enumerate() {
                prop_assert_eq!(one.intersection(area), *one);
                prop_assert!(areas[place + 1..].iter().all(|other| !one.intersects(*other)));
            }
        }
    }
}
