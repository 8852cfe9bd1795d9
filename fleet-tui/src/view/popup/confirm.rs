//! A question: what to know before, what to type, and two buttons.

use ratatui::layout::Rect;

use super::window::{self, cells};
use crate::cells::wrapped;
use crate::layout;
use crate::state::Desk;
use crate::state::popup::{Confirm, Focus, Lock};
use crate::theme::Role;
use crate::view::Canvas;
use crate::widgets::field;

/// Cells of the inside.
const WIDTH: u16 = 70;
/// Cells of a label with the blanks after it.
const LABEL_WIDTH: u16 = 10;

/// A line of the question.
struct Line {
    label: &'static str,
    text: String,
    indent: u16,
}

pub(super) fn paint(confirm: &Confirm, desk: &Desk, canvas: &mut Canvas<'_>) {
    let available = layout::Frame::new(desk.size).body.width.saturating_sub(window::FRAME_WIDTH);
    let lines = lines(confirm, WIDTH.min(available));
    let below = below(confirm, desk);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(below);
    let inside = window::open((WIDTH, height), &confirm.title, desk, canvas);
    // The buttons stay in sight, whatever else has no room.
    let facts = Rect { height: inside.height.saturating_sub(below), ..inside };
    for (row, line) in facts.rows().zip(&lines) {
        canvas.put(row.x, row.y, row.right(), line.label, Role::Muted);
        canvas.put(row.x + line.indent, row.y, row.right(), &line.text, Role::Plain);
    }
    let mut y = facts.bottom() + 1;
    if let Lock::Typed { name, .. } = &confirm.lock {
        let row = Rect { y, height: 1, ..inside };
        answer(confirm, name, row, canvas);
        y += 2;
    }
    if let Some(reason) = confirm.why_not(desk) {
        canvas.put(inside.x, y, inside.right(), &format!("not now: {reason}"), Role::Crit);
        y += 1;
    }
    buttons(confirm, Rect { y, height: 1, ..inside }, canvas);
}

/// Lines below the facts: blanks, what is typed, why not, buttons.
fn below(confirm: &Confirm, desk: &Desk) -> u16 {
    let typed = if confirm.lock == Lock::Yes { 0 } else { 2 };
    2 + typed + u16::from(confirm.why_not(desk).is_some())
}

fn lines(confirm: &Confirm, width: u16) -> Vec<Line> {
    let has_labels = confirm.lines.iter().any(|(label, _)| !label.is_empty());
    let indent = if has_labels { LABEL_WIDTH } else { 0 };
    let mut lines = Vec::new();
    for (label, text) in &confirm.lines {
        let texts = wrapped(text, width.saturating_sub(indent).max(1).into());
        for (place, text) in texts.into_iter().enumerate() {
            let label = if place == 0 { label } else { "" };
            lines.push(Line { label, text, indent });
        }
    }
    lines
}

fn answer(confirm: &Confirm, name: &str, row: Rect, canvas: &mut Canvas<'_>) {
    let question = format!("type {name} to go on: ");
    let x = canvas.put(row.x, row.y, row.right(), &question, Role::Plain);
    let room = Rect { x, width: row.right().saturating_sub(x), ..row };
    let look = canvas.look;
    canvas.painted.cursor =
        field::paint(&confirm.answer, room, canvas.buffer, &look.theme, &look.caps);
    let role = if confirm.is_unlocked() { Role::Ok } else { Role::Accent };
    canvas.shade(room, role);
}

fn buttons(confirm: &Confirm, row: Rect, canvas: &mut Canvas<'_>) {
    let mut x = row.x + 2;
    for focus in [Focus::Cancel, Focus::Agree] {
        let is_locked = focus == Focus::Agree && !confirm.is_unlocked();
        let text = match focus {
            Focus::Cancel => "[ Cancel ]".to_owned(),
            Focus::Agree if is_locked => format!("  {} (locked until that matches)", confirm.verb),
            Focus::Agree if confirm.lock == Lock::Yes => format!("[ {} ]  y", confirm.verb),
            Focus::Agree => format!("[ {} ]", confirm.verb),
        };
        let role = if is_locked { Role::Muted } else { Role::Plain };
        let end = canvas.put(x, row.y, row.right(), &text, role);
        if confirm.focus == focus && !is_locked {
            let width = cells(text.trim_end_matches("  y")).min(end.saturating_sub(x));
            canvas.shade(Rect { x, width, ..row }, Role::Select);
            if confirm.lock == Lock::Yes {
                canvas.painted.cursor = Some(ratatui::layout::Position::new(x, row.y));
            }
        }
        x = end + 3;
    }
}
