//! From the state to the terminal: frame after frame, each in as few bytes as what changed takes.

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};

use crate::state::App;
use crate::terminal::present::{Presented, Screen, ScrollHint};
use crate::view::{self, Look, Scrolled};

/// The frames of one terminal.
#[derive(Debug)]
pub struct Frames<W: Write> {
    screen: Screen<W>,
    buffer: Buffer,
    scrolled: Option<Scrolled>,
}

impl<W: Write> Frames<W> {
    /// Frames for a terminal of this size, of which nothing is known yet.
    pub fn new(out: W, size: Size) -> Self {
        let buffer = Buffer::empty(Rect::from(size));
        Self { screen: Screen::new(out, size), buffer, scrolled: None }
    }

    /// Shows the state as it is now.
    pub fn show(&mut self, app: &App, look: &Look) -> io::Result<Presented> {
        self.buffer.reset();
        let painted = view::paint(app, look, &mut self.buffer);
        let hint = self.scrolled.zip(painted.scrolled).and_then(|(before, after)| {
            let is_same = before.area == after.area;
            is_same.then(|| ScrollHint::of_list(after.area, before.first, after.first)).flatten()
        });
        self.scrolled = painted.scrolled;
        self.screen.present(&self.buffer, painted.cursor, hint)
    }

    /// Forgets what the terminal shows: the next frame paints every cell anew.
    pub fn invalidate(&mut self) {
        self.screen.invalidate();
        self.scrolled = None;
    }

    /// The terminal has this size now.
    pub fn resize(&mut self, size: Size) {
        self.buffer = Buffer::empty(Rect::from(size));
        self.screen.resize(size);
        self.scrolled = None;
    }

    /// How large the terminal is.
    pub fn size(&self) -> Size {
        self.screen.size()
    }

    /// Where frames are written.
    pub fn out(&mut self) -> &mut W {
        self.screen.out()
    }
}
