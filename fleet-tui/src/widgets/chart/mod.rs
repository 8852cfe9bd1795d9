//! Curves over time.
//!
//! A gap in what was measured stays a gap. The line is the mean; where a step had lower and higher
//! values too, they are a shade behind it. Labels stand where their value is.

mod dots;
mod scale;

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr as _;

use crate::terminal::caps::{Caps, GraphLevel};
use crate::theme::{Role, Theme};
use dots::{Dots, Layer};
use fleet_core::glyph::Glyph;
use scale::Scale;

/// What was measured in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When, in milliseconds since 1970.
    pub at_millis: i64,
    /// The mean.
    pub mean: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

/// One curve.
#[derive(Clone, Copy, Debug)]
pub struct Curve<'a> {
    /// What was measured, oldest first. A point whose mean is no number ends the line.
    pub points: &'a [Point],
    /// Its colour.
    pub role: Role,
}

/// A chart.
#[derive(Clone, Copy, Debug)]
pub struct Chart<'a> {
    /// The curves; the first lies on top.
    pub curves: &'a [Curve<'a>],
    /// The beginning of the time shown, in milliseconds since 1970.
    pub from_millis: i64,
    /// The end of it.
    pub to_millis: i64,
    /// The time that labels count from.
    pub now_millis: i64,
    /// Milliseconds between two points; points further apart are not joined.
    pub step_millis: u64,
    /// What values are in: `%`, `B/s`.
    pub unit: &'a str,
    /// The top of the scale, if it is not to follow the values.
    pub highest: Option<f64>,
    /// The time whose values are told.
    pub cursor_millis: Option<i64>,
}

/// Rows and columns below which there is no room for labels.
const LABELLED_ROWS_MIN: u16 = 5;
const LABELLED_COLUMNS_MIN: u16 = 16;
/// Rows of the plot from which the middle of the scale is labelled too.
const MIDDLE_ROWS_MIN: u16 = 5;

/// Paints a chart over an area.
pub fn paint(chart: &Chart<'_>, area: Rect, buffer: &mut Buffer, theme: &Theme, caps: &Caps) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let painter = Painter { chart, theme, caps, scale: Scale::of(chart) };
    let plot = painter.axes(area, buffer);
    painter.curves(plot, buffer);
    painter.cursor(plot, buffer);
}

struct Painter<'a> {
    chart: &'a Chart<'a>,
    theme: &'a Theme,
    caps: &'a Caps,
    scale: Scale,
}

impl Painter<'_> {
    /// Paints the axes where there is room for them; returns what is left for the curves.
    fn axes(&self, area: Rect, buffer: &mut Buffer) -> Rect {
        let labels =
            [self.scale.high, f64::midpoint(self.scale.high, self.scale.low), self.scale.low]
                .map(scale::number);
        let width = labels.iter().map(|label| label.width()).max().unwrap_or(0) as u16 + 1;
        if area.height < LABELLED_ROWS_MIN || area.width < LABELLED_COLUMNS_MIN.max(2 * width) {
            return area;
        }
        let plot =
            Rect { x: area.x + width, width: area.width - width, height: area.height - 2, ..area };
        let (bar, corner) = if self.caps.is_ascii() { ("|", "+") } else { ("│", "└") };
        let muted = self.theme.style(Role::Muted);
        for y in plot.rows().map(|row| row.y) {
            buffer.set_string(plot.x - 1, y, bar, muted);
        }
        buffer.set_string(plot.x - 1, plot.bottom(), corner, muted);
        let middle = plot.y + (plot.height - 1) / 2;
        let rows = [Some(plot.y), Some(middle), Some(plot.bottom() - 1)];
        for (at, (label, y)) in labels.iter().zip(rows).enumerate() {
            // Only an odd number of rows has a middle.
            let is_middle = at == 1;
            if is_middle && (plot.height < MIDDLE_ROWS_MIN || plot.height.is_multiple_of(2)) {
                continue;
            }
            if let Some(y) = y {
                let x = plot.x - 1 - label.width() as u16;
                buffer.set_string(x, y, label, muted);
            }
        }
        self.time_axis(plot, buffer);
        plot
    }

    fn time_axis(&self, plot: Rect, buffer: &mut Buffer) {
        let muted = self.theme.style(Role::Muted);
        let (line, tick) = if self.caps.is_ascii() { ("-", "+") } else { ("─", "┴") };
        for x in plot.x..plot.right() {
            buffer.set_string(x, plot.bottom(), line, muted);
        }
        let mut taken_until = plot.x;
        for (at, label) in scale::time_labels(self.chart, plot.width) {
            let Some(column) = self.label_column(at, plot.width) else { continue };
            let width = label.width() as u16;
            let centred = (plot.x + column).saturating_sub(width / 2).max(plot.x);
            let x = centred.min(plot.right().saturating_sub(width));
            if x < taken_until {
                continue;
            }
            buffer.set_string(plot.x + column, plot.bottom(), tick, muted);
            buffer.set_string(x, plot.bottom() + 1, &label, muted);
            taken_until = x + width + 1;
        }
    }

    fn curves(&self, plot: Rect, buffer: &mut Buffer) {
        let mut dots = Dots::new(plot.as_size(), self.caps.graphs);
        for (index, curve) in self.chart.curves.iter().enumerate() {
            self.curve(curve, index, &mut dots);
        }
        dots.paint(plot, buffer, |layer| {
            self.theme.style(match layer {
                Layer::Line(index) => self.chart.curves[index].role,
                Layer::Shade => Role::Muted,
            })
        });
    }

    fn curve(&self, curve: &Curve<'_>, index: usize, dots: &mut Dots) {
        let mut before: Option<(i64, (usize, usize))> = None;
        let joined =
            i64::try_from(self.chart.step_millis.saturating_mul(3) / 2).unwrap_or(i64::MAX);
        for point in curve.points {
            let at = Some(point.at_millis).filter(|_| point.mean.is_finite());
            let Some(x) = at.and_then(|at| self.dot_column(at, dots)) else {
                before = None;
                continue;
            };
            let row = |value: f64| dots.row(self.scale.share(value));
            if point.low.is_finite() && point.high.is_finite() {
                let (low, high) = (row(point.low), row(point.high));
                dots.shade(x, high, low);
            }
            let here = (x, dots.row(self.scale.share(point.mean)));
            let from = before.filter(|(at, _)| point.at_millis.saturating_sub(*at) <= joined);
            dots.line(from.map_or(here, |(_, from)| from), here, index);
            before = Some((point.at_millis, here));
        }
    }

    /// Marks the time of the cursor and tells the values there.
    fn cursor(&self, plot: Rect, buffer: &mut Buffer) {
        let Some(at) = self.chart.cursor_millis else { return };
        let Some(column) = self.column(at, plot.width) else { return };
        let accent = self.theme.style(Role::Accent);
        let bar = if self.caps.graphs == GraphLevel::Ascii { "|" } else { "│" };
        for y in plot.rows().map(|row| row.y) {
            let cell = &mut buffer[(plot.x + column, y)];
            if cell.symbol() == " " {
                cell.set_symbol(bar).set_style(accent);
            }
        }
        let text = self.reading(at);
        let width = text.width() as u16;
        let right = plot.x + column + 1;
        let x = if right + width <= plot.right() {
            right
        } else {
            (plot.x + column).saturating_sub(width).max(plot.x)
        };
        let room = plot.right().saturating_sub(x);
        let style = Style::reset().patch(self.theme.style(Role::Select));
        buffer.set_stringn(x, plot.y, text, room.into(), style);
    }

    /// The values at a time, such as `-2m30s 97%`.
    fn reading(&self, at: i64) -> String {
        let mut text = scale::ago(self.chart.now_millis.saturating_sub(at));
        for curve in self.chart.curves {
            let nearest = curve.points.iter().min_by_key(|point| point.at_millis.abs_diff(at));
            let found = nearest.filter(|point| {
                point.at_millis.abs_diff(at) <= self.chart.step_millis && point.mean.is_finite()
            });
            text.push(' ');
            match found {
                Some(point) => text.push_str(&(scale::number(point.mean) + self.chart.unit)),
                None => text.push(self.caps.glyph(Glyph::None)),
            }
        }
        text
    }

    /// The column of dots of a time, if that is shown. Which times share a column does not depend on
    /// the time shown, so that a curve moves as a whole and does not change its shape on the way.
    fn dot_column(&self, at: i64, dots: &Dots) -> Option<usize> {
        let (span, last) = self.span_to_last(at, dots)?;
        let dot = (span / last.max(1)).max(1);
        let behind = self.chart.to_millis.div_euclid(dot).saturating_sub(at.div_euclid(dot));
        usize::try_from(last.saturating_sub(behind).max(0)).ok()
    }

    /// The column of cells under which a time is written: as far from the end as it is in time, so
    /// that labels stand still while time goes on.
    fn label_column(&self, at: i64, width: u16) -> Option<u16> {
        let dots = Dots::new(Size::new(width, 0), self.caps.graphs);
        let (span, last) = self.span_to_last(at, &dots)?;
        let behind = self.chart.to_millis.saturating_sub(at) as f64 / span as f64;
        let column = (last as f64 * (1.0 - behind)).round();
        Some(dots.cell(column as usize))
    }

    /// The time shown, if this one is in it, and the number of the last column of dots.
    fn span_to_last(&self, at: i64, dots: &Dots) -> Option<(i64, i64)> {
        let (from, to) = (self.chart.from_millis, self.chart.to_millis);
        let last = i64::try_from(dots.columns().checked_sub(1)?).ok()?;
        (to > from && (from..=to).contains(&at)).then(|| (to.saturating_sub(from), last))
    }

    /// The column of cells that has the dot, so that a cursor and its curve meet.
    fn column(&self, at: i64, width: u16) -> Option<u16> {
        let dots = Dots::new(Size::new(width, 0), self.caps.graphs);
        self.dot_column(at, &dots).map(|column| dots.cell(column))
    }
}

#[cfg(test)]
mod tests;
