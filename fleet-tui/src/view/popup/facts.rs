//! All that is known of something: a label and words, line by line.

use ratatui::layout::{Position, Rect};

use super::window;
use crate::layout;
use crate::state::Desk;
use crate::state::popup::{FACTS_LABEL_WIDTH, FACTS_WIDTH, Facts};
use crate::theme::Role;
use crate::view::Canvas;
use crate::widgets::scrollbar;

pub(super) fn paint(facts: &Facts, desk: &Desk, canvas: &mut Canvas<'_>) {
    let lines = facts.lines(desk.size.width);
    let height = lines.len().min(layout::popup_rows(desk.size)) + 2;
    let height = u16::try_from(height).unwrap_or(u16::MAX);
    let inside = window::open((FACTS_WIDTH, height), &facts.title, desk, canvas);
    let list = Rect { height: inside.height.saturating_sub(2), ..inside };
    let top = facts.top.min(lines.len().saturating_sub(usize::from(list.height)));
    for (row, (label, text)) in list.rows().zip(lines.iter().skip(top)) {
        canvas.put(row.x, row.y, row.right(), label, Role::Muted);
        canvas.put(row.x + FACTS_LABEL_WIDTH, row.y, row.right(), text, Role::Plain);
    }
    let track = Rect { x: list.right() + 1, width: 1, ..list };
    let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
    scrollbar::paint(track, canvas.buffer, theme, caps, lines.len(), top);
    canvas.painted.cursor = Some(Position::new(list.x, list.y));
    let is_whole = lines.len() <= usize::from(list.height);
    let keys = canvas.keys(if is_whole { "Esc close" } else { "↓ ↑ scroll · Esc close" });
    window::foot(inside, &keys, canvas);
}
