//! A part of a screen with a border, a title and a note about it.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr as _;

use super::Canvas;
use crate::theme::Role;

/// Columns and rows that a border takes on both sides together.
const BORDERS: u16 = 2;
/// The least space between title and note.
const BETWEEN: u16 = 2;

/// What borders are made of.
struct Strokes {
    corners: [&'static str; 4],
    flat: &'static str,
    upright: &'static str,
}

const LINES: Strokes =
    Strokes { corners: ["┌", "┐", "└", "┘"], flat: "─", upright: "│" };
const ASCII: Strokes = Strokes { corners: ["+", "+", "+", "+"], flat: "-", upright: "|" };

/// Paints the border of a pane; returns what is inside. Of the notes, which say ever less, the first
/// stands there that there is room for. The border of the pane that keys are for is bold.
pub(super) fn paint(
    area: Rect,
    title: &str,
    notes: &[String],
    is_focused: bool,
    canvas: &mut Canvas<'_>,
) -> Rect {
    if area.width < BORDERS || area.height < BORDERS {
        return Rect { width: 0, height: 0, ..area };
    }
    let role = if is_focused { Role::Head } else { Role::Plain };
    border(area, role, canvas);
    let end = area.right() - 1;
    let x = canvas.put(area.x + 1, area.y, end, &format!(" {title} "), role);
    let room = usize::from(end.saturating_sub(x + BETWEEN));
    if let Some(note) = notes.iter().find(|note| !note.is_empty() && note.width() + 2 <= room) {
        canvas.put_right(x, area.y, end - 1, &format!(" {note} "), role);
    }
    let (width, height) = (area.width - BORDERS, area.height - BORDERS);
    Rect { x: area.x + 1, y: area.y + 1, width, height }
}

fn border(area: Rect, role: Role, canvas: &mut Canvas<'_>) {
    let Strokes { corners, flat, upright } =
        if canvas.look.caps.is_ascii() { ASCII } else { LINES };
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    let flat = flat.repeat(usize::from(area.width - BORDERS));
    let rows = [(area.y, corners[0], corners[1]), (bottom, corners[2], corners[3])];
    for (y, left_corner, right_corner) in rows {
        let row = format!("{left_corner}{flat}{right_corner}");
        canvas.put(area.x, y, area.right(), &row, role);
    }
    for y in area.y + 1..bottom {
        canvas.put(area.x, y, area.right(), upright, role);
        canvas.put(right, y, area.right(), upright, role);
    }
}
