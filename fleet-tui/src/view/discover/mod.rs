//! Finding devices on the local networks, and configuring them.
//!
//! ```text
//! ┌ mDNS _fleetd._tcp on eth0 ── listening 12 s · 8 found ┐┌ Configure 4 devices ─────┐
//! │    DEVICE     HOST        ADDRESS     VERSION  STATE  ││ Server URL  https://…    │
//! │[x] rpi4-001   rpi4.local  10.0.0.4    0.1.0    new    ││ ✓ the server answers     │
//! └───────────────────────────────────────────────────────┘└──────────────────────────┘
//! ┌ Progress ────────────────────────────────────────────── 3 of 4 done · 1 failed · 18 s ┐
//! ```

mod form;
mod list;
mod run;
#[cfg(test)]
mod tests;

use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::Canvas;
use super::fleet::banner;
use crate::cells::wrapped;
use crate::state::App;
use crate::theme::Role;

/// Paints the list, the form, and the last run.
pub(super) fn paint(app: &App, canvas: &mut Canvas<'_>) {
    let parts = app.discover.parts(&app.desk);
    if let Some(area) = parts.banner {
        let text = banner(app, canvas);
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Crit);
    }
    list::paint(app, &parts, canvas);
    if let Some(area) = parts.form {
        form::paint(app, area, canvas);
    }
    if let Some(area) = parts.run {
        run::paint(app, area, &parts, canvas);
    }
}

/// Writes text that is safe to show over several lines; what does not fit ends in an ellipsis.
/// Returns how many lines it took.
fn lines(text: &str, area: Rect, role: Role, canvas: &mut Canvas<'_>) -> u16 {
    let texts = wrapped(text, usize::from(area.width).max(1));
    let room = usize::from(area.height);
    let is_cut = texts.len() > room;
    for (place, (row, text)) in area.rows().zip(&texts).enumerate() {
        if is_cut && place + 1 == room {
            // All that is left, so that it is cut where it is seen to be.
            let rest = texts.get(place..).unwrap_or_default().join(" ");
            canvas.put(row.x, row.y, row.right(), &rest, role);
        } else {
            canvas.put(row.x, row.y, row.right(), text, role);
        }
    }
    u16::try_from(texts.len().min(room)).unwrap_or(area.height)
}

/// Marks the row at the cursor: reversed where keys go, bold elsewhere.
fn select(row: Rect, is_focused: bool, canvas: &mut Canvas<'_>) {
    if is_focused {
        canvas.shade(row, Role::Select);
        canvas.painted.cursor = Some(ratatui::layout::Position::new(row.x, row.y));
    } else {
        let area = row.intersection(canvas.buffer.area);
        canvas.buffer.set_style(area, ratatui::style::Style::new().add_modifier(Modifier::BOLD));
    }
}
