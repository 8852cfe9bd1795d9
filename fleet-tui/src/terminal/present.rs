//! How a frame gets onto the terminal: what changed, in one write, shown at once.
//!
//! The screen remembers what the terminal shows. A frame that changes nothing writes nothing. Rows
//! that moved are moved by the terminal when that is shorter; whether a hint was right is no matter,
//! because what is written is the difference to what the terminal shows after the move.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect, Size};

use super::cells::Grid;
use super::paint::Brush;

/// Tells the terminal to show nothing until the frame is complete.
const FRAME_BEGIN: &[u8] = b"\x1b[?2026h";
const FRAME_END: &[u8] = b"\x1b[?2026l";

/// Rows that moved since the last frame: those from `top` to `bottom`, both included, up by `by`,
/// or down if it is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrollHint {
    /// The first row.
    pub top: u16,
    /// The last row.
    pub bottom: u16,
    /// How far up.
    pub by: i16,
}

/// What a frame cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// Bytes that were written.
    pub bytes: usize,
    /// How long the write took; long where the way to the terminal is slow.
    pub took: Duration,
}

/// The terminal's screen.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
    /// What the terminal shows; none where that is not certain.
    shown: Option<Grid>,
    size: Size,
    brush: Brush,
    is_cursor_shown: Option<bool>,
}

impl<W: Write> Screen<W> {
    /// A screen of which nothing is known yet. What is written to `out` must get to the terminal
    /// unchanged, and at the latest with its `flush`.
    pub fn new(out: W, size: Size) -> Self {
        Self { out, shown: None, size, brush: Brush::default(), is_cursor_shown: None }
    }

    /// Forgets what the terminal shows: the next frame paints all of it.
    pub fn invalidate(&mut self) {
        self.shown = None;
        self.brush = Brush::default();
        self.is_cursor_shown = None;
    }

    /// The terminal has this size now. The next frame paints all of it.
    pub fn resize(&mut self, size: Size) {
        self.size = size;
        self.invalidate();
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Where frames are written.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Shows a frame, and the cursor if it is to be seen.
    pub fn present(
        &mut self,
        next: &Buffer,
        cursor: Option<Position>,
        scroll: Option<ScrollHint>,
    ) -> io::Result<Presented> {
        if next.area.as_size() != self.size {
            self.resize(next.area.as_size());
        }
        let next = Grid::of(next);
        let cursor = cursor.filter(|at| at.x < self.size.width && at.y < self.size.height);
        let mut brush = self.difference(&next, scroll);
        let is_cursor_moved = cursor.is_some_and(|at| brush.at != Some(at));
        if brush.out.is_empty()
            && !is_cursor_moved
            && self.is_cursor_shown == Some(cursor.is_some())
        {
            return Ok(Presented::default());
        }
        if let Some(at) = cursor {
            brush.go(at);
        }
        if self.is_cursor_shown != Some(cursor.is_some()) {
            let shown = if cursor.is_some() { b"\x1b[?25h" } else { b"\x1b[?25l" };
            brush.out.extend_from_slice(shown);
        }
        let frame = [FRAME_BEGIN, &brush.out, FRAME_END].concat();
        brush.out.clear();
        self.brush = brush;
        self.is_cursor_shown = Some(cursor.is_some());
        let took = self.write(&frame)?;
        self.shown = Some(next);
        Ok(Presented { bytes: frame.len(), took })
    }

    /// What has to be written, with the terminal's help or without, whichever is shorter.
    fn difference(&self, next: &Grid, scroll: Option<ScrollHint>) -> Brush {
        let mut plain = self.brush.clone();
        let Some(shown) = &self.shown else {
            plain.clear();
            plain.paint(&Grid::blank(next.size), next);
            return plain;
        };
        plain.paint(shown, next);
        let Some(hint) = scroll.filter(|hint| hint.is_possible(self.size)) else { return plain };
        let mut moved = self.brush.clone();
        moved.scroll(hint);
        moved.paint(&shown.scrolled(hint.top, hint.bottom, hint.by), next);
        if moved.out.len() < plain.out.len() { moved } else { plain }
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<Duration> {
        let started = Instant::now();
        let written = self.out.write_all(frame).and_then(|()| self.out.flush());
        if written.is_err() {
            // Nobody knows how much of it arrived.
            self.invalidate();
        }
        written.map(|()| started.elapsed())
    }
}

impl ScrollHint {
    /// The hint of a list in `area` whose first row was `before` and is `after`; none if it is the
    /// same, or too far away for a row to be seen in both.
    pub fn of_list(area: Rect, before: usize, after: usize) -> Option<Self> {
        let rows = isize::try_from(area.height).ok()?;
        let by = isize::try_from(after).ok()?.checked_sub(isize::try_from(before).ok()?)?;
        if by == 0 || by.abs() >= rows {
            return None;
        }
        let by = i16::try_from(by).ok()?;
        Some(Self { top: area.y, bottom: area.bottom() - 1, by })
    }

    fn is_possible(self, size: Size) -> bool {
        let rows = i32::from(self.bottom) - i32::from(self.top) + 1;
        self.top < self.bottom
            && self.bottom < size.height
            && self.by != 0
            && i32::from(self.by).abs() < rows
    }
}
