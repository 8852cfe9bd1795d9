//! One command: all that is known of it, and what its program wrote.

use ratatui::layout::Rect;

use super::window;
use crate::layout;
use crate::state::Desk;
use crate::state::popup::{LABEL_WIDTH, Line, Outcome};
use crate::theme::Role;
use crate::view::{Canvas, command};
use crate::widgets::scrollbar;

pub(super) fn paint(outcome: &Outcome, desk: &Desk, canvas: &mut Canvas<'_>) {
    let body = layout::Frame::new(desk.size).body;
    let inside = (
        body.width.saturating_sub(window::FRAME_WIDTH),
        body.height.saturating_sub(window::FRAME_HEIGHT),
    );
    window::open(inside, &outcome.title, desk, canvas);
    let area = layout::help(desk.size);
    let lines = outcome.lines();
    for (row, text) in area.rows().zip(lines.iter().skip(outcome.top)) {
        line(text, row, canvas);
    }
    let track = Rect { x: area.right() + 1, width: 1, ..area };
    let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
    scrollbar::paint(track, canvas.buffer, theme, caps, lines.len(), outcome.top);
    canvas.painted.cursor = Some(ratatui::layout::Position::new(area.x, area.y));
    let foot = Rect { y: area.bottom(), height: 1, ..area };
    let scroll = if lines.len() > usize::from(area.height) { "↓ ↑ g G scroll · " } else { "" };
    let take_back = if outcome.can_be_taken_back() { "K take back · " } else { "" };
    let keys = canvas.keys(&format!("{scroll}{take_back}y copy · Esc close"));
    window::foot(foot, &keys, canvas);
}

fn line(line: &Line, row: Rect, canvas: &mut Canvas<'_>) {
    let x = row.x + u16::try_from(LABEL_WIDTH).unwrap_or(u16::MAX);
    match line {
        Line::State(state, why) => {
            let glyph = command::glyph(*state);
            let role = Role::from(glyph.spec().tone);
            let text = format!("{} {}", canvas.glyph(glyph), state.word());
            let x = canvas.put(row.x, row.y, row.right(), &text, role) + 2;
            canvas.put(x, row.y, row.right(), why, Role::Plain);
        }
        Line::Fact(label, text) => {
            canvas.put(row.x, row.y, x, label, Role::Muted);
            canvas.put(x, row.y, row.right(), text, Role::Plain);
        }
        Line::Head(text) => {
            canvas.put(row.x, row.y, row.right(), text, Role::Head);
        }
        Line::Output(text) => {
            canvas.put(row.x, row.y, row.right(), text, Role::Plain);
        }
        Line::Error(text) => {
            canvas.put(row.x, row.y, row.right(), text, Role::Warn);
        }
    }
}
