//! The columns of the fleet's table: which are shown, and in which order.

use fleet_core::glyph::Glyph;

use super::window;
use crate::layout;
use crate::state::Desk;
use crate::state::popup::Columns;
use crate::theme::Role;
use crate::view::Canvas;

/// Cells of the inside, as many as 80 columns leave.
const WIDTH: u16 = 76;
/// Cells before a column's title.
const BEFORE: u16 = 3;
/// Cells of a column's title with the blanks after it.
const TITLE_WIDTH: u16 = 12;
const KEYS: &str = "Space show or hide · J K move · d the usual · Enter take";

pub(super) fn paint(columns: &Columns, desk: &Desk, canvas: &mut Canvas<'_>) {
    let len = columns.fields.len();
    let height = len.min(layout::popup_rows(desk.size)) + 1;
    let height = u16::try_from(height).unwrap_or(u16::MAX);
    let inside = window::open((WIDTH, height), "Columns", desk, canvas);
    let list = ratatui::layout::Rect { height: inside.height.saturating_sub(1), ..inside };
    for (place, row) in window::rows(len, columns.cursor, list, canvas) {
        let (field, is_shown) = columns.fields[place];
        let spec = field.spec();
        let role = if is_shown { Role::Plain } else { Role::Muted };
        if is_shown {
            let glyph = canvas.glyph(Glyph::Marked).to_string();
            canvas.put(row.x, row.y, row.right(), &glyph, Role::Accent);
        }
        canvas.put(row.x + BEFORE, row.y, row.right(), spec.title, role);
        canvas.put(row.x + BEFORE + TITLE_WIDTH, row.y, row.right(), spec.help, Role::Muted);
        if place == columns.cursor {
            window::select(row, canvas);
        }
    }
    window::foot(inside, KEYS, canvas);
}

#[cfg(test)]
mod tests {
    use fleet_core::field::Field;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    #[test]
    fn what_a_column_shows_is_said_whole_on_80_columns() {
        // One cell is the scroll bar's.
        let room = usize::from(WIDTH - BEFORE - TITLE_WIDTH - 1);
        for spec in Field::all().map(Field::spec) {
            assert!(spec.help.width() <= room, "{}: {}", spec.name, spec.help);
            assert!(spec.title.width() < usize::from(TITLE_WIDTH), "{}", spec.title);
        }
    }
}
