//! Things to choose from, each with its letter.

use super::window::{self, cells};
use crate::layout;
use crate::state::Desk;
use crate::state::popup::Menu;
use crate::theme::Role;
use crate::view::Canvas;

/// Cells of a letter and the blanks after it.
const LETTER_WIDTH: u16 = 3;
/// Cells between a thing and more about it.
const GAP: u16 = 3;
/// Cells of more about a thing.
const DETAIL_WIDTH_MAX: u16 = 70;

pub(super) fn paint(menu: &Menu, desk: &Desk, canvas: &mut Canvas<'_>) {
    let text_width = menu.items.iter().map(|item| cells(&item.text)).max().unwrap_or_default();
    let details = menu.items.iter().map(|item| cells(&item.detail).min(DETAIL_WIDTH_MAX));
    let detail_width = details.max().unwrap_or_default();
    let height = menu.items.len().min(layout::popup_rows(desk.size));
    let height = u16::try_from(height).unwrap_or(u16::MAX);
    let width = LETTER_WIDTH + text_width + GAP + detail_width;
    let inside = window::open((width, height), &menu.title, desk, canvas);
    for (place, row) in window::rows(menu.items.len(), menu.cursor, inside, canvas) {
        let item = &menu.items[place];
        let is_there = item.command.is_some();
        let (key, text) =
            if is_there { (Role::Accent, Role::Plain) } else { (Role::Muted, Role::Muted) };
        canvas.put(row.x, row.y, row.right(), &item.key.to_string(), key);
        canvas.put(row.x + LETTER_WIDTH, row.y, row.right(), &item.text, text);
        let x = row.x + LETTER_WIDTH + text_width + GAP;
        canvas.put(x, row.y, row.right(), &item.detail, Role::Muted);
        if place == menu.cursor {
            window::select(row, canvas);
        }
    }
}
