//! A line to fill in.

use ratatui::layout::Rect;

use super::window;
use crate::state::Desk;
use crate::state::deed;
use crate::state::popup::Form;
use crate::theme::Role;
use crate::view::Canvas;
use crate::widgets::field;

/// Cells of the inside.
const WIDTH: u16 = 66;

pub(super) fn paint(form: &Form, desk: &Desk, canvas: &mut Canvas<'_>) {
    let hints = u16::try_from(form.hints.len()).unwrap_or(u16::MAX);
    let inside = window::open((WIDTH, hints.saturating_add(5)), &form.title, desk, canvas);
    let row = |place: u16| Rect { y: inside.y + place, height: 1, ..inside }.intersection(inside);
    let line = row(0);
    let x = canvas.put(line.x, line.y, line.right(), &format!("{}  ", form.label), Role::Muted);
    let room = Rect { x, width: line.right().saturating_sub(x), ..line };
    let look = canvas.look;
    canvas.painted.cursor = field::paint(&form.field, room, canvas.buffer, &look.theme, &look.caps);
    canvas.shade(room, Role::Accent);
    if let Some(error) = &form.error {
        let row = row(1);
        canvas.put(row.x, row.y, row.right(), error, Role::Warn);
    } else if let Some(reason) = desk.why_not_change() {
        let row = row(1);
        canvas.put(row.x, row.y, row.right(), &format!("not now: {reason}"), Role::Crit);
    } else if let Some(text) = deed::preview(form.deed, form.field.text()) {
        let row = row(1);
        canvas.put(row.x, row.y, row.right(), &text, Role::Ok);
    }
    for (place, hint) in (2..).zip(&form.hints) {
        let row = row(place);
        canvas.put(row.x, row.y, row.right(), hint, Role::Muted);
    }
    window::foot(inside, "Enter goes on · Esc closes", canvas);
}
