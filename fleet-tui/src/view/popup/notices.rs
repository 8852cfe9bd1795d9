//! What was said, newest first.

use fleet_core::glyph::Glyph;
use ratatui::layout::Rect;

use super::window;
use crate::cells::wrapped;
use crate::layout;
use crate::state::Desk;
use crate::state::popup::Notices;
use crate::theme::Role;
use crate::view::Canvas;

/// Cells of the inside, where there is room.
const WIDTH: u16 = 100;
/// Cells of the time and the glyph.
const BEFORE: u16 = 11;

/// A line of a message.
struct Line {
    /// Which message; 0 is the newest.
    place: usize,
    /// The time, before its first line.
    time: Option<String>,
    text: String,
    is_error: bool,
}

pub(super) fn paint(notices: &Notices, desk: &Desk, canvas: &mut Canvas<'_>) {
    let available = layout::Frame::new(desk.size).body.width.saturating_sub(window::FRAME_WIDTH);
    let width = WIDTH.min(available);
    let lines = lines(desk, width.saturating_sub(BEFORE));
    let height = lines.len().clamp(1, layout::popup_rows(desk.size)) + 1;
    let height = u16::try_from(height).unwrap_or(u16::MAX);
    let inside = window::open((width, height), "Messages", desk, canvas);
    let list = Rect { height: inside.height.saturating_sub(1), ..inside };
    if lines.is_empty() {
        canvas.put(list.x, list.y, list.right(), "Nothing was said yet.", Role::Muted);
    }
    // The last line of the message at the cursor is in sight, and so are those before it.
    let last = lines.iter().rposition(|line| line.place == notices.cursor).unwrap_or_default();
    for (place, row) in window::rows(lines.len(), last, list, canvas) {
        let line = &lines[place];
        let role = if line.is_error { Role::Crit } else { Role::Plain };
        if let Some(time) = &line.time {
            let glyph = if line.is_error { Glyph::Failed } else { Glyph::Cursor };
            let x = canvas.put(row.x, row.y, row.right(), time, Role::Muted) + 1;
            let glyph = canvas.glyph(glyph).to_string();
            canvas.put(x, row.y, row.right(), &glyph, role);
        }
        canvas.put(row.x + BEFORE, row.y, row.right(), &line.text, role);
        if line.place == notices.cursor {
            window::select(row, canvas);
        }
    }
    window::foot(inside, "y copy · Esc close", canvas);
}

fn lines(desk: &Desk, width: u16) -> Vec<Line> {
    let mut lines = Vec::new();
    for (place, (notice, at)) in desk.notices.iter().rev().enumerate() {
        let time = at.to_string();
        let mut time = time.get(11..19).map(str::to_owned);
        for text in wrapped(&notice.text, width.into()) {
            lines.push(Line { place, time: time.take(), text, is_error: notice.is_error });
        }
    }
    lines
}
