//! The keys, the filters, the glyphs.

use ratatui::layout::Rect;

use super::window;
use crate::help::{self, Kind, Line};
use crate::layout;
use crate::state::Desk;
use crate::state::popup::Help;
use crate::theme::Role;
use crate::view::Canvas;

const TITLE: &str = "Keys here · press one to see what it does";

pub(super) fn paint(help: &Help, desk: &Desk, canvas: &mut Canvas<'_>) {
    let body = layout::Frame::new(desk.size).body;
    let inside = (
        body.width.saturating_sub(window::FRAME_WIDTH),
        body.height.saturating_sub(window::FRAME_HEIGHT),
    );
    window::open(inside, TITLE, desk, canvas);
    let area = layout::help(desk.size);
    let lines = help::lines(help.scope, area.width);
    let top = help.top.min(lines.len().saturating_sub(usize::from(area.height)));
    for (row, pieces) in area.rows().zip(lines.iter().skip(top)) {
        line(pieces, row, canvas);
    }
    let below = lines.len().saturating_sub(top + usize::from(area.height));
    let y = area.bottom();
    let keys = if top + below > 0 { "↓ ↑ scroll · ? Esc close" } else { "? Esc close" };
    let keys = canvas.keys(keys);
    let right = canvas.put_right(area.x, y, area.right(), &keys, Role::Muted);
    match &help.about {
        Some(about) => {
            canvas.put(area.x, y, right.saturating_sub(1), &canvas.keys(about), Role::Accent)
        }
        None if below > 0 => canvas.put(
            area.x,
            y,
            right.saturating_sub(1),
            &format!("{below} more lines"),
            Role::Muted,
        ),
        None => area.x,
    };
}

fn line(pieces: &Line, row: Rect, canvas: &mut Canvas<'_>) {
    for (place, piece) in pieces.iter().enumerate() {
        let x = row.x + piece.x;
        // Each ends before the next one begins.
        let right = pieces.get(place + 1).map_or(row.right(), |next| row.x + next.x);
        match piece.kind {
            Kind::Head => canvas.put(x, row.y, right, &piece.text, Role::Head),
            Kind::Key => canvas.put(x, row.y, right, &canvas.keys(&piece.text), Role::Accent),
            Kind::Text => canvas.put(x, row.y, right, &piece.text, Role::Plain),
            Kind::Glyph(glyph) => {
                let role = Role::from(glyph.spec().tone);
                let glyph = canvas.glyph(glyph).to_string();
                canvas.put(x, row.y, right, &glyph, role)
            }
        };
    }
}
