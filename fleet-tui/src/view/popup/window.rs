//! The frame around a popup.

use ratatui::layout::{Position, Rect};
use unicode_width::UnicodeWidthStr as _;

use crate::layout;
use crate::state::Desk;
use crate::state::list;
use crate::theme::Role;
use crate::view::Canvas;

/// Cells that a popup needs beside what is in it: frame and blanks.
pub(super) const FRAME_WIDTH: u16 = 4;
/// Lines of the frame.
pub(super) const FRAME_HEIGHT: u16 = 2;

/// Clears the place of a popup with so much in it, and frames it; returns what is inside.
pub(super) fn open(inside: (u16, u16), title: &str, desk: &Desk, canvas: &mut Canvas<'_>) -> Rect {
    let (width, height) = inside;
    let title_width = cells(title).saturating_add(2);
    let area = layout::popup(
        desk.size,
        width.max(title_width).saturating_add(FRAME_WIDTH),
        height.saturating_add(FRAME_HEIGHT),
    );
    clear(area, canvas);
    frame(area, title, canvas);
    Rect {
        x: area.x + 2,
        y: area.y + 1,
        width: area.width.saturating_sub(FRAME_WIDTH),
        height: area.height.saturating_sub(FRAME_HEIGHT),
    }
}

/// A frame with a title.
pub(in crate::view) fn frame(area: Rect, title: &str, canvas: &mut Canvas<'_>) {
    let area = area.intersection(canvas.buffer.area);
    if area.width < 2 || area.height < 2 {
        return;
    }
    let [corners, across, down] = if canvas.look.caps.is_ascii() {
        ["++++", "-", "|"]
    } else {
        ["┌┐└┘", "─", "│"]
    };
    let corners: Vec<String> = corners.chars().map(String::from).collect();
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    for x in area.x + 1..right {
        canvas.put(x, area.y, x + 1, across, Role::Muted);
        canvas.put(x, bottom, x + 1, across, Role::Muted);
    }
    for y in area.y + 1..bottom {
        canvas.put(area.x, y, area.x + 1, down, Role::Muted);
        canvas.put(right, y, right + 1, down, Role::Muted);
    }
    let places = [(area.x, area.y), (right, area.y), (area.x, bottom), (right, bottom)];
    for ((x, y), corner) in places.into_iter().zip(&corners) {
        canvas.put(x, y, x + 1, corner, Role::Muted);
    }
    if !title.is_empty() && area.width > 4 {
        canvas.put(area.x + 1, area.y, right, &format!(" {title} "), Role::Head);
    }
}

/// Rows that are scrolled so that the cursor is in sight: each one's number and line.
pub(super) fn rows(len: usize, cursor: usize, area: Rect) -> impl Iterator<Item = (usize, Rect)> {
    let height = usize::from(area.height);
    let top = list::follow(0, cursor, len, height);
    (top..len).zip(area.rows())
}

/// Marks the row at the cursor.
pub(super) fn select(row: Rect, canvas: &mut Canvas<'_>) {
    canvas.shade(row, Role::Select);
    canvas.painted.cursor = Some(Position::new(row.x, row.y));
}

/// A line of what one can press, where the frame ends.
pub(super) fn foot(inside: Rect, text: &str, canvas: &mut Canvas<'_>) {
    if inside.height > 0 {
        canvas.put(inside.x, inside.bottom() - 1, inside.right(), text, Role::Muted);
    }
}

/// How many cells a text takes.
pub(super) fn cells(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}

fn clear(area: Rect, canvas: &mut Canvas<'_>) {
    let whole = canvas.buffer.area;
    // A wide character that begins before the popup would reach into it.
    let area = Rect { x: area.x.saturating_sub(1), width: area.width + 1, ..area };
    for position in area.intersection(whole).positions() {
        let Some(cell) = canvas.buffer.cell_mut(position) else { continue };
        if position.x > area.x || cell.symbol().width() > 1 {
            cell.reset();
        }
    }
}
