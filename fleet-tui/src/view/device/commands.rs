//! What a device was to do, and what came of it: a line each, newest first.

use fleet_core::api::{CommandState, CommandView};
use ratatui::layout::{Position, Rect};

use super::text::{boxed, missing, scrollbar_of};
use crate::cells;
use crate::layout::Pane;
use crate::state::App;
use crate::state::deed::view_words;
use crate::state::device::DeviceScreen;
use crate::theme::Role;
use crate::view::{Canvas, command};

/// A pane from this width on says who asked, and why it is so.
const WIDE: u16 = 70;
/// Cells of a state with its glyph and the blank after it.
const STATE_WIDTH: u16 = 12;
/// Cells of an age with the blank before it.
const AGE_WIDTH: u16 = 5;
/// Cells of who asked, with the blank before.
const AUTHOR_WIDTH: u16 = 11;

/// Paints what the device was to do.
pub(super) fn paint(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let commands = &device.commands;
    let open = commands.open();
    let notes = if open > 0 { vec![format!("{open} not over")] } else { Vec::new() };
    let inside = boxed(device, Pane::Commands, &notes, area, canvas);
    let Some(views) = commands.known() else {
        missing(commands.error(), "loading commands …", inside, canvas);
        return;
    };
    if views.is_empty() {
        canvas.put(inside.x, inside.y, inside.right(), "none yet: x gives one", Role::Muted);
        return;
    }
    scrollbar_of(device, Pane::Commands, views.len(), area, inside, canvas);
    let graphs = &device.graphs;
    // A picture that is held still has the ages of then.
    let now = if graphs.is_frozen {
        graphs.window().to
    } else {
        app.desk.link.server_time(app.desk.now.wall)
    };
    let rows = views.iter().enumerate().skip(device.top(Pane::Commands));
    for (y, (place, view)) in (inside.y..inside.bottom()).zip(rows) {
        let row = Rect { y, height: 1, ..inside };
        line(view, &cells::age(now.since(view.created_at)), row, canvas);
        if device.focus == Pane::Commands && place == commands.place() {
            canvas.shade(row, Role::Select);
            canvas.painted.cursor = Some(Position::new(row.x, row.y));
        }
    }
}

fn line(view: &CommandView, age: &str, row: Rect, canvas: &mut Canvas<'_>) {
    let glyph = command::glyph(view.state);
    let state = format!("{} {}", canvas.glyph(glyph), view.state.word());
    let role = Role::from(glyph.spec().tone);
    let x = row.x + STATE_WIDTH;
    canvas.put(row.x, row.y, x - 1, &state, role);
    let end = row.right().saturating_sub(AGE_WIDTH);
    let words = view_words(view);
    let why = view.why.to_string();
    if row.width >= WIDE {
        let middle = x + (end.saturating_sub(x + AUTHOR_WIDTH)) * 2 / 5;
        canvas.put(x, row.y, middle, &words, Role::Plain);
        canvas.put(middle + 1, row.y, end.saturating_sub(AUTHOR_WIDTH), &why, Role::Muted);
        let author = view.author.to_string();
        // That it was an operator goes without saying.
        let author = author.strip_prefix("operator:").unwrap_or(&author);
        canvas.put(end.saturating_sub(AUTHOR_WIDTH) + 1, row.y, end, author, Role::Muted);
    } else {
        let x = canvas.put(x, row.y, end, &words, Role::Plain) + 1;
        if view.state != CommandState::Succeeded {
            canvas.put(x, row.y, end, &why, Role::Muted);
        }
    }
    canvas.put_right(end, row.y, row.right(), age, Role::Muted);
}
