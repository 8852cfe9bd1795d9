//! A line to type a command in, and below it what it may become.

use ratatui::layout::Rect;

use super::window::{self, cells};
use crate::layout;
use crate::state::Desk;
use crate::state::popup::{Entry, Palette};
use crate::theme::Role;
use crate::view::Canvas;
use crate::widgets::field;

/// Cells of the inside.
const WIDTH: u16 = 72;
/// Completions in sight.
const ROWS_MAX: usize = 12;
/// The widest column of commands.
const TEXT_WIDTH_MAX: u16 = 32;

pub(super) fn paint(palette: &Palette, desk: &Desk, canvas: &mut Canvas<'_>) {
    // As high with few completions as with many: nothing jumps while one types.
    let rows = ROWS_MAX.min(layout::popup_rows(desk.size).saturating_sub(2).max(1));
    let height = u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(3);
    let inside = window::open((WIDTH, height), "Command", desk, canvas);
    let line = Rect { height: 1.min(inside.height), ..inside };
    let x = canvas.put(line.x, line.y, line.right(), ":", Role::Accent);
    let room = Rect { x, width: line.right().saturating_sub(x), ..line };
    let list = Rect { y: inside.y + 2, height: inside.height.saturating_sub(3), ..inside }
        .intersection(inside);
    let texts = palette.entries.iter().map(|entry| cells(&entry.text));
    let text_width = texts.max().unwrap_or_default().min(TEXT_WIDTH_MAX);
    for (place, row) in window::rows(palette.entries.len(), palette.cursor, list, canvas) {
        self::entry(&palette.entries[place], text_width, row, canvas);
        if place == palette.cursor {
            window::select(row, canvas);
        }
    }
    let look = canvas.look;
    canvas.painted.cursor =
        field::paint(&palette.field, room, canvas.buffer, &look.theme, &look.caps);
    match &palette.error {
        Some(error) => {
            canvas.put(inside.x, inside.y + 1, inside.right(), error, Role::Warn);
        }
        None if palette.entries.is_empty() => {
            canvas.put(inside.x, inside.y + 1, inside.right(), "nothing is called so", Role::Muted);
        }
        None => {}
    }
    let keys = canvas.keys("Tab completes · ↓ chooses · ↑ commands of before · Esc closes");
    window::foot(inside, &keys, canvas);
    if palette.more > 0 {
        let more = format!("{} more", palette.more);
        let y = inside.bottom().saturating_sub(1);
        canvas.put_right(inside.x + cells(&keys) + 1, y, inside.right(), &more, Role::Muted);
    }
}

fn entry(entry: &Entry, text_width: u16, row: Rect, canvas: &mut Canvas<'_>) {
    let needs_more = entry.command.is_none() && entry.text.ends_with(' ');
    let role = if entry.command.is_some() || needs_more { Role::Plain } else { Role::Muted };
    let right = (row.x + text_width).min(row.right());
    canvas.put(row.x, row.y, right, entry.text.trim_end(), role);
    let key = canvas.keys(entry.key);
    let key = canvas.put_right(row.x, row.y, row.right(), &key, Role::Accent);
    let x = row.x + text_width + 2;
    canvas.put(x, row.y, key.saturating_sub(1), &entry.detail, Role::Muted);
}
