//! How the state looks: pure functions from the state to cells. Nothing here changes anything.

mod api_keys;
mod batches;
mod command;
mod device;
mod discover;
mod events;
mod fleet;
mod frame;
mod pane;
mod pending;
mod popup;
#[cfg(test)]
mod snapshots;

use fleet_core::glyph::Glyph;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr as _;

use crate::layout;
use crate::state::{App, Screen};
use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

/// With what things are painted.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Which colours.
    pub theme: Theme,
    /// What the terminal can show.
    pub caps: Caps,
}

/// What a painted picture says beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Painted {
    /// Where the terminal's cursor belongs.
    pub cursor: Option<Position>,
    /// The part that scrolls, and which row is its first.
    pub scrolled: Option<Scrolled>,
}

/// A part of the picture that scrolls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrolled {
    /// Where it is.
    pub area: Rect,
    /// The number of the row that is its first.
    pub first: usize,
}

/// What is painted on.
pub struct Canvas<'a> {
    /// The cells.
    pub buffer: &'a mut Buffer,
    /// With what.
    pub look: &'a Look,
    /// What is said beside.
    pub painted: Painted,
}

/// Paints the whole console.
pub fn paint(app: &App, look: &Look, buffer: &mut Buffer) -> Painted {
    let mut canvas = Canvas { buffer, look, painted: Painted::default() };
    let size = app.desk.size;
    if !layout::Frame::has_room(size) {
        frame::too_small(app, &mut canvas);
        return canvas.painted;
    }
    let parts = layout::Frame::new(size);
    frame::header(app, parts.header, &mut canvas);
    frame::tabs(app, parts.tabs, &mut canvas);
    match app.desk.screen() {
        Screen::Fleet => fleet::paint(app, &mut canvas),
        Screen::Pending => pending::paint(app, &mut canvas),
        Screen::Events => events::paint(app, &mut canvas),
        Screen::Batches => batches::list::paint(app, &mut canvas),
        Screen::Batch => batches::one::paint(app, &mut canvas),
        Screen::Keys => api_keys::paint(app, &mut canvas),
        Screen::Device => {
            if let Some(device) = &app.device {
                device::paint(app, device, &mut canvas);
            }
        }
        Screen::Discover => discover::paint(app, &mut canvas),
    }
    frame::notice(app, parts.notice, &mut canvas);
    frame::hints(app, parts.hints, &mut canvas);
    if let Some(popup) = &app.desk.popup {
        popup::paint(popup, app, &mut canvas);
    }
    if look.caps.is_ascii() {
        spell_plainly(canvas.buffer);
    }
    canvas.painted
}

/// What the terminal's title says: what is wrong, and where.
pub fn title(app: &App) -> String {
    frame::title(app)
}

/// Replaces what is not ASCII, in our own words and in others', by what comes near it.
fn spell_plainly(buffer: &mut Buffer) {
    for cell in buffer.content.iter_mut().filter(|cell| !cell.symbol().is_ascii()) {
        let plain = match cell.symbol() {
            "…" => ".",
            "·" | "—" | "–" => "-",
            "×" => "x",
            "→" | "›" => ">",
            "←" => "<",
            "↑" => "^",
            "↓" => "v",
            _ => "?",
        };
        cell.set_symbol(plain);
    }
}

impl Canvas<'_> {
    /// How a role looks.
    pub fn style(&self, role: Role) -> Style {
        self.look.theme.style(role)
    }

    /// A glyph.
    pub fn glyph(&self, glyph: Glyph) -> char {
        self.look.caps.glyph(glyph)
    }

    /// Names of keys as this terminal can spell them: an arrow that looked like a `v` would be
    /// another key.
    pub fn keys(&self, names: &str) -> String {
        if !self.look.caps.is_ascii() {
            return names.to_owned();
        }
        let arrows = [("←", "Left"), ("→", "Right"), ("↑", "Up"), ("↓", "Down")];
        arrows.iter().fold(names.to_owned(), |names, (arrow, name)| names.replace(arrow, name))
    }

    /// Writes text that is safe to show, as far as there is room; returns the column after it.
    pub fn put(&mut self, x: u16, y: u16, right: u16, text: &str, role: Role) -> u16 {
        let area = self.buffer.area;
        let right = right.min(area.right());
        if x >= right || y >= area.bottom() || x < area.x || y < area.y {
            return x;
        }
        let style = self.style(role);
        if text.width() <= usize::from(right - x) {
            return self.buffer.set_stringn(x, y, text, usize::from(right - x), style).0;
        }
        let (end, _) = self.buffer.set_stringn(x, y, text, usize::from(right - x - 1), style);
        let ellipsis = self.glyph(Glyph::Ellipsis).to_string();
        self.buffer.set_stringn(end, y, ellipsis, 1, style).0
    }

    /// Writes text so that it ends before `right`; returns the column where it begins.
    pub fn put_right(&mut self, left: u16, y: u16, right: u16, text: &str, role: Role) -> u16 {
        let room = right.saturating_sub(left);
        let width = u16::try_from(text.width()).unwrap_or(u16::MAX).min(room);
        let x = right.saturating_sub(width);
        self.put(x, y, right, text, role);
        x
    }

    /// Lays a role over cells that are painted.
    pub fn shade(&mut self, area: Rect, role: Role) {
        let area = area.intersection(self.buffer.area);
        self.buffer.set_style(area, self.look.theme.style(role));
    }
}
