//! The frame around a popup.

use ratatui::layout::{Position, Rect};
use unicode_width::UnicodeWidthStr as _;

use crate::layout;
use crate::state::Desk;
use crate::state::list;
use crate::theme::Role;
use crate::view::Canvas;
use crate::widgets::{panel, scrollbar};

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
    uncover(area, canvas);
    let look = canvas.look;
    let inside =
        panel::paint(area, canvas.buffer, &look.theme, &look.caps, (title, ""), Role::Muted);
    Rect { x: inside.x + 1, width: inside.width.saturating_sub(2), ..inside }
}

/// Rows that are scrolled so that the cursor is in sight: each one's number and line. The frame says
/// where they are among those that are not.
pub(super) fn rows(
    len: usize,
    cursor: usize,
    area: Rect,
    canvas: &mut Canvas<'_>,
) -> impl Iterator<Item = (usize, Rect)> + use<> {
    let top = list::follow(0, cursor, len, usize::from(area.height));
    let track = Rect { x: area.right() + 1, width: 1, ..area };
    let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
    scrollbar::paint(track, canvas.buffer, theme, caps, len, top);
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

/// Takes away a wide character that begins before a popup and would reach into it.
fn uncover(area: Rect, canvas: &mut Canvas<'_>) {
    let Some(x) = area.x.checked_sub(1) else { return };
    for y in area.y..area.bottom() {
        if let Some(cell) = canvas.buffer.cell_mut(Position::new(x, y))
            && cell.symbol().width() > 1
        {
            cell.reset();
        }
    }
}
