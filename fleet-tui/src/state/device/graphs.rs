//! A device's graphs: which time they show, with which points, and where the cursor over it is.
//!
//! The right edge is now, or it is held at a time: by freezing, panning or zooming into the past.
//! While it is held nothing moves. While it is now every report is appended as it comes; spans whose
//! steps are longer are asked for again step by step, which brings the reports into their steps.

use std::time::Duration;

use fleet_core::api::{LiveReport, SeriesReply};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::curve::{Curve, Point, Rhythm};
use super::metric::{self, Graph, METRICS, Metric};
use crate::effect::Request;
use crate::event::Failed;

/// A live span is asked for again not sooner than this.
const REFETCH_MIN: Duration = Duration::from_secs(10);
/// Reports are appended to spans of at most this step; longer steps would be drowned in them.
const APPENDED_STEP_MAX: Duration = Duration::from_secs(12);
/// The cursor steps over this part of the span.
const CURSOR_PART: u32 = 100;

/// A span of time that graphs can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it is called.
    pub word: &'static str,
    /// How long it is.
    pub length: Duration,
    /// How long one step of it is.
    pub step: Duration,
    /// Whether a key goes through it; the others are for zooming.
    pub is_main: bool,
}

/// Every span, the shortest first.
pub const SPANS: [Span; 7] = {
    const fn span(word: &'static str, secs: u64, step_secs: u64, is_main: bool) -> Span {
        let (length, step) = (Duration::from_secs(secs), Duration::from_secs(step_secs));
        Span { word, length, step, is_main }
    }
    [
        span("5m", 300, 1, true),
        span("15m", 900, 3, false),
        span("1h", 3_600, 12, true),
        span("6h", 21_600, 60, false),
        span("24h", 86_400, 300, true),
        span("3d", 259_200, 900, false),
        span("7d", 604_800, 1_800, true),
    ]
};

/// The time that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// How long one step is.
    pub step: Duration,
}

/// A device's graphs.
#[derive(Debug)]
pub struct Graphs {
    curves: [Curve; METRICS],
    /// What came last, whether it belongs to the window or not.
    newest: [Option<Point>; METRICS],
    /// Which metrics the device was ever seen to have.
    known: [bool; METRICS],
    span: usize,
    /// The newest time that there could be points of.
    now: Timestamp,
    /// The right edge, unless it is now.
    held: Option<Timestamp>,
    /// What was now when the edge was last held.
    held_at: Timestamp,
    /// Whether the picture is held still.
    pub is_frozen: bool,
    /// The time at the cursor.
    cursor: Option<Timestamp>,
    asked: Option<Window>,
    /// What was asked for last and answered, and when.
    taken: Option<(Window, Duration)>,
    /// Why it was not answered with curves.
    error: Option<String>,
    /// Curves that the server left out of its last answer.
    pub left_out: u32,
}

impl Default for Graphs {
    fn default() -> Self {
        Self {
            curves: Default::default(),
            newest: [None; METRICS],
            known: [false; METRICS],
            span: 0,
            now: Timestamp::default(),
            held: None,
            held_at: Timestamp::default(),
            is_frozen: false,
            cursor: None,
            asked: None,
            taken: None,
            error: None,
            left_out: 0,
        }
    }
}

impl Graphs {
    /// The points of a metric.
    pub fn curve(&self, metric: Metric) -> &Curve {
        &self.curves[metric as usize]
    }

    /// What came of a metric last.
    pub fn newest(&self, metric: Metric) -> Option<Point> {
        let (live, drawn) = (self.newest[metric as usize], self.curve(metric).newest());
        live.into_iter().chain(drawn).max_by_key(|point| point.at)
    }

    /// The graphs that there is something to show in; before anything has come, those that nearly
    /// every device has.
    pub fn shown(&self) -> Vec<Graph> {
        let is_known = |metric: &Metric| self.known[*metric as usize];
        let is_any = self.known.contains(&true);
        let is_shown = |graph: &Graph| {
            if is_any { graph.metrics().iter().any(is_known) } else { *graph != Graph::Temperature }
        };
        Graph::ALL.into_iter().filter(is_shown).collect()
    }

    /// The span that is shown.
    pub fn span(&self) -> Span {
        SPANS[self.span]
    }

    /// The time that is shown.
    pub fn window(&self) -> Window {
        let Span { length, step, .. } = self.span();
        let to = self.held.unwrap_or(self.now);
        Window { from: to.minus(length), to, step }
    }

    /// The time that the picture calls now: it stands still with the picture.
    pub fn told_from(&self) -> Timestamp {
        if self.is_live() { self.now } else { self.held_at }
    }

    /// Whether the right edge is now.
    pub fn is_live(&self) -> bool {
        self.held.is_none()
    }

    /// The time at the cursor, while it is in the window.
    pub fn cursor(&self) -> Option<Timestamp> {
        let window = self.window();
        self.cursor.filter(|at| (window.from..=window.to).contains(at))
    }

    /// Whether nothing is there yet because the first answer is still to come.
    pub fn is_loading(&self) -> bool {
        self.taken.is_none() && self.curves.iter().all(Curve::is_empty)
    }

    /// Why there are no curves, or only old ones.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// How often points can be expected of a device that reports in this interval.
    pub fn rhythm(&self, interval_secs: u32) -> Rhythm {
        let interval = Duration::from_secs(u64::from(interval_secs.max(1)));
        Rhythm { interval, step: self.span().step }
    }

    /// Notes that time has passed on the server's clock. Pictures move by whole steps of a second.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = Timestamp::from_millis(now.millis().div_euclid(1_000).saturating_mul(1_000));
    }

    /// Notes that points were missed.
    pub fn lose(&mut self) {
        self.taken = None;
        self.asked = None;
    }

    /// What is to be asked for now.
    pub fn question(&mut self, device: Uid, since_start: Duration) -> Option<Request> {
        let window = self.window();
        if self.asked.is_some() || !self.is_due(window, since_start) {
            return None;
        }
        self.asked = Some(window);
        let Window { from, to, step } = window;
        let metrics = Metric::all().map(Metric::name).collect();
        Some(Request::Series { device, metrics, from, to, step })
    }

    fn is_due(&self, window: Window, since_start: Duration) -> bool {
        let Some((taken, at)) = self.taken else { return true };
        if taken.step != window.step || taken.from > window.from {
            return true;
        }
        if !self.is_live() {
            return taken.to < window.to;
        }
        let is_growing = window.step <= SPANS[0].step;
        !is_growing && since_start.saturating_sub(at) >= window.step.max(REFETCH_MIN)
    }

    /// Takes the answer to the question for a window.
    pub fn answered(
        &mut self,
        window: Window,
        answer: Result<SeriesReply, Failed>,
        since_start: Duration,
    ) {
        if self.asked != Some(window) {
            return;
        }
        self.asked = None;
        self.taken = Some((window, since_start));
        match answer {
            Ok(reply) => {
                self.error = None;
                self.left_out = reply.left_out;
                // Of reports that came meanwhile the newest belong to no step of the answer.
                let until =
                    if self.is_live() { window.to } else { Timestamp::from_millis(i64::MAX) };
                for (metric, points) in metric::of_reply(&reply, window.to) {
                    self.known[metric as usize] |= !points.is_empty();
                    self.curves[metric as usize].replace(points, until);
                }
            }
            Err(failed) => self.error = Some(failed.text),
        }
    }

    /// Takes a live report.
    pub fn reported(&mut self, report: &LiveReport) {
        if !self.is_live() {
            return;
        }
        for (metric, value) in metric::of_report(report) {
            self.known[metric as usize] = true;
            self.newest[metric as usize] = Some(Point::new(report.timestamp, value));
            if self.span().step <= APPENDED_STEP_MAX {
                self.curves[metric as usize].push(Point::new(report.timestamp, value));
            }
        }
    }

    /// Holds the picture still, or lets it go on from now.
    pub fn freeze(&mut self) {
        if self.is_frozen {
            self.go_live();
        } else {
            self.is_frozen = true;
            let Window { to, .. } = self.window();
            self.hold_at(to);
            // What came since the answer is there too.
            if let Some((taken, _)) = &mut self.taken {
                taken.to = taken.to.max(to);
            }
        }
    }

    /// Back to now.
    pub fn go_live(&mut self) {
        self.is_frozen = false;
        self.cursor = None;
        if self.held.take().is_some() {
            self.lose();
        }
    }

    /// Looks half a span further back.
    pub fn pan_back(&mut self) {
        let Window { to, .. } = self.window();
        self.hold_at(to.minus(self.span().length / 2));
        self.cursor = None;
    }

    /// Looks half a span further on; at the end that is now.
    pub fn pan_on(&mut self) {
        let Some(to) = self.held else { return };
        self.cursor = None;
        self.hold(to.plus(self.span().length / 2));
    }

    /// The next of the main spans; after the longest the shortest.
    pub fn next_span(&mut self) {
        let mut later = (self.span + 1..SPANS.len()).chain(0..=self.span);
        let next = later.find(|span| SPANS[*span].is_main);
        self.set_span(next.unwrap_or_default());
    }

    /// A shorter span. False if there is none.
    pub fn zoom_in(&mut self) -> bool {
        let shorter = self.span.checked_sub(1);
        shorter.map(|span| self.set_span(span)).is_some()
    }

    /// A longer span. False if there is none.
    pub fn zoom_out(&mut self) -> bool {
        let longer = Some(self.span + 1).filter(|span| *span < SPANS.len());
        longer.map(|span| self.set_span(span)).is_some()
    }

    /// Moves the cursor by a part of the span; the first time it comes to stand at the right edge.
    pub fn move_cursor(&mut self, is_back: bool) {
        let Window { from, to, step } = self.window();
        let by = (self.span().length / CURSOR_PART).max(step);
        self.cursor = Some(match self.cursor() {
            None => to,
            Some(at) if is_back => at.minus(by).max(from),
            Some(at) => at.plus(by).min(to),
        });
    }

    /// Puts the cursor at the left or right edge.
    pub fn cursor_to_edge(&mut self, is_left: bool) {
        let Window { from, to, .. } = self.window();
        self.cursor = Some(if is_left { from } else { to });
    }

    /// Takes the cursor away. False if there was none.
    pub fn drop_cursor(&mut self) -> bool {
        let was_seen = self.cursor().is_some();
        self.cursor = None;
        was_seen
    }

    /// Shows another span: about the cursor, or about the middle of what is held, or up to now.
    fn set_span(&mut self, span: usize) {
        let Window { to, .. } = self.window();
        let middle = to.minus(self.span().length / 2);
        let about = self.cursor().or_else(|| self.held.map(|_| middle));
        self.span = span;
        match about {
            Some(about) => self.hold(about.plus(self.span().length / 2)),
            None => self.held = None,
        }
    }

    /// Puts the right edge at a time, or at now if that is not later.
    fn hold(&mut self, to: Timestamp) {
        if to < self.now || self.is_frozen {
            self.hold_at(to.min(self.now));
        } else if self.held.take().is_some() {
            self.lose();
        }
    }

    fn hold_at(&mut self, to: Timestamp) {
        self.held = Some(to);
        self.held_at = self.now;
    }
}
