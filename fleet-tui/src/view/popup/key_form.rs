//! What a new key is to be, place by place; what does not do stands below its place.

use fleet_core::api::{Right, Role as KeyRole};
use fleet_core::secret::KeyKind;
use fleet_core::untrusted::escaped;
use ratatui::layout::{Position, Rect};

use super::window::{self, cells};
use crate::cells::wrapped;
use crate::layout;
use crate::state::Desk;
use crate::state::api_keys::may;
use crate::state::deed;
use crate::state::popup::{KeyForm, KeyPlace};
use crate::theme::Role;
use crate::view::Canvas;
use crate::widgets::field::{self, Field};

/// Cells of the inside.
const WIDTH: u16 = 74;
/// Cells of a label with the blanks after it.
const LABEL_WIDTH: u16 = 10;
/// Cells of what is typed where a word on it stands behind.
const SHORT_WIDTH: u16 = 20;
/// Lines of what does not do.
const ERROR_LINES_MAX: usize = 4;

pub(super) fn paint(form: &KeyForm, desk: &Desk, canvas: &mut Canvas<'_>) {
    let title =
        form.old.as_ref().map_or("New key".to_owned(), |(_, name)| format!("Rotate {name}"));
    let available = layout::Frame::new(desk.size).body.width.saturating_sub(window::FRAME_WIDTH);
    let width = WIDTH.min(available);
    let facts = facts(form, desk, width);
    let error = error_lines(form, width);
    let places = form.places().len();
    let height = facts.len() + error.len() + places + 3;
    let inside =
        window::open((WIDTH, u16::try_from(height).unwrap_or(u16::MAX)), &title, desk, canvas);
    let mut rows = inside.rows();
    let mut next = || rows.next().unwrap_or(Rect { height: 0, ..inside });
    for text in &facts {
        let row = next();
        canvas.put(row.x, row.y, row.right(), text.0, Role::Muted);
        canvas.put(row.x + LABEL_WIDTH, row.y, row.right(), &text.1, Role::Plain);
    }
    let place = form.error.as_ref().and_then(|(place, _)| *place);
    for at in form.places() {
        if *at == KeyPlace::Button {
            // What is wrong with the whole of it stands above the button.
            next();
            if place.is_none() {
                for text in &error {
                    let row = next();
                    canvas.put(row.x, row.y, row.right(), text, Role::Crit);
                }
            }
        }
        let row = next();
        paint_place(form, *at, row, canvas);
        if place == Some(*at) {
            for text in &error {
                let row = next();
                canvas.put(row.x + LABEL_WIDTH, row.y, row.right(), text, Role::Crit);
            }
        }
    }
    window::foot(inside, &canvas.keys(keys(form)), canvas);
}

/// What one should know before a key gets a successor.
fn facts(form: &KeyForm, desk: &Desk, width: u16) -> Vec<(&'static str, String)> {
    let mut facts = vec![("server", deed::server(desk))];
    if form.old.is_some() {
        let effect = "a new key that may do the same, for as long; the old one goes on beside it for \
                      a while and then ends by itself";
        facts.push(("effect", effect.to_owned()));
        if form.is_own {
            let you =
                "This console is signed in with it: give it the new key before the old one ends.";
            facts.push(("YOU", you.to_owned()));
        }
    }
    let room = usize::from(width.saturating_sub(LABEL_WIDTH)).max(1);
    let mut lines = Vec::new();
    for (label, text) in facts {
        for (place, text) in wrapped(&text, room).into_iter().enumerate() {
            lines.push((if place == 0 { label } else { "" }, text));
        }
    }
    lines.push(("", String::new()));
    lines
}

fn error_lines(form: &KeyForm, width: u16) -> Vec<String> {
    let Some((_, error)) = &form.error else { return Vec::new() };
    // One cell is left for what tells that there is more.
    let mut lines = wrapped(error, width.saturating_sub(LABEL_WIDTH + 1).into());
    let is_cut = lines.len() > ERROR_LINES_MAX;
    lines.truncate(ERROR_LINES_MAX);
    if let Some(last) = lines.last_mut().filter(|_| is_cut) {
        last.push('…');
    }
    lines
}

fn paint_place(form: &KeyForm, at: KeyPlace, row: Rect, canvas: &mut Canvas<'_>) {
    let is_here = form.place == at && !form.is_asking();
    if at == KeyPlace::Button {
        return button(form, is_here, row, canvas);
    }
    let label = match at {
        KeyPlace::Kind => "kind",
        KeyPlace::Label => "label",
        KeyPlace::Device => "device",
        KeyPlace::Role => "role",
        KeyPlace::Rights => "rights",
        KeyPlace::Scope => "scope",
        KeyPlace::Uses => "uses",
        KeyPlace::Expires => "expires",
        KeyPlace::Overlap => "old key",
        KeyPlace::Button => "",
    };
    let role = if is_here { Role::Accent } else { Role::Muted };
    canvas.put(row.x, row.y, row.right(), label, role);
    let x = row.x + LABEL_WIDTH;
    let value = Rect { x, width: row.right().saturating_sub(x), ..row };
    match at {
        KeyPlace::Kind => {
            let all = [KeyKind::Operator, KeyKind::Enrol, KeyKind::Device];
            let words = all.map(|kind| (kind.to_string(), kind == form.kind));
            let note = if form.kind == KeyKind::Operator {
                String::new()
            } else {
                format!("may {}", may(form.kind, None))
            };
            choices(&words, &note, is_here, value, canvas);
        }
        KeyPlace::Role => {
            let words = KeyRole::ALL.map(|role| (role.to_string(), role == form.role));
            let note = format!("may {}", may(KeyKind::Operator, Some(form.role)));
            choices(&words, &note, is_here, value, canvas);
        }
        KeyPlace::Rights => rights(form, is_here, value, canvas),
        KeyPlace::Label => typed(&form.label, "", "what it is for", is_here, value, canvas),
        KeyPlace::Device => typed(&form.device, "", "the device's id", is_here, value, canvas),
        KeyPlace::Scope => {
            let none = "all devices; or a filter such as site=lyon";
            typed(&form.scope, "", none, is_here, value, canvas);
        }
        KeyPlace::Uses => {
            typed(&form.uses, "how many devices it lets in", "", is_here, value, canvas);
        }
        KeyPlace::Expires => typed(&form.expires, "30d, 12h, or never", "", is_here, value, canvas),
        KeyPlace::Overlap => {
            typed(
                &form.overlap,
                "more, and then it ends; 0s ends it at once",
                "",
                is_here,
                value,
                canvas,
            );
        }
        KeyPlace::Button => {}
    }
}

/// Words of which one holds.
fn choices(
    words: &[(String, bool)],
    note: &str,
    is_here: bool,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let mut x = area.x;
    for (word, holds) in words {
        let (text, role) = match (holds, is_here) {
            (true, true) => (format!("[{word}]"), Role::Accent),
            (true, false) => (format!("[{word}]"), Role::Plain),
            (false, _) => (format!(" {word} "), Role::Muted),
        };
        if *holds && is_here && !area.is_empty() {
            canvas.painted.cursor = Some(Position::new(x + 1, area.y));
        }
        x = canvas.put(x, area.y, area.right(), &text, role) + 1;
    }
    canvas.put(x + 1, area.y, area.right(), note, Role::Muted);
}

fn rights(form: &KeyForm, is_here: bool, area: Rect, canvas: &mut Canvas<'_>) {
    if form.role == KeyRole::Admin {
        canvas.put(area.x, area.y, area.right(), "all of them, as an admin", Role::Muted);
        if is_here && !area.is_empty() {
            canvas.painted.cursor = Some(Position::new(area.x, area.y));
        }
        return;
    }
    let mut x = area.x;
    for (place, right) in Right::ALL.into_iter().enumerate() {
        let sign = if form.rights.contains(&right) { 'x' } else { ' ' };
        let is_at = is_here && place == form.right;
        let role = match (is_at, form.can_have(right)) {
            (true, _) => Role::Accent,
            (false, true) => Role::Plain,
            (false, false) => Role::Muted,
        };
        if is_at && !area.is_empty() {
            canvas.painted.cursor = Some(Position::new(x + 1, area.y));
        }
        x = canvas.put(x, area.y, area.right(), &format!("[{sign}] {right}"), role) + 3;
    }
}

/// What was typed, or what it means that nothing was; a word on it stands behind.
fn typed(
    field: &Field,
    note: &str,
    none: &str,
    is_here: bool,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let width = if note.is_empty() { area.width } else { SHORT_WIDTH.min(area.width) };
    let room = Rect { width, ..area };
    if room.is_empty() {
        return;
    }
    if is_here {
        let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
        canvas.painted.cursor = field::paint(field, room, canvas.buffer, theme, caps);
        canvas.shade(room, Role::Accent);
    } else {
        canvas.put(room.x, room.y, room.right(), &escaped(field.text()), Role::Plain);
    }
    if field.is_empty() {
        // Behind the cursor, where there is one.
        canvas.put(room.x + 2 * u16::from(is_here), room.y, room.right(), none, Role::Muted);
    }
    canvas.put(room.right() + 1, area.y, area.right(), note, Role::Muted);
}

fn button(form: &KeyForm, is_here: bool, row: Rect, canvas: &mut Canvas<'_>) {
    if form.is_asking() {
        canvas.put(row.x + 2, row.y, row.right(), "asking the server …", Role::Busy);
        return;
    }
    let text = if form.old.is_some() { "[ Make its successor ]" } else { "[ Make the key ]" };
    canvas.put(row.x + 2, row.y, row.right(), text, Role::Plain);
    if is_here && !row.is_empty() {
        let button = Rect { x: row.x + 2, width: cells(text), ..row };
        canvas.shade(button, Role::Select);
        canvas.painted.cursor = Some(Position::new(button.x, row.y));
    }
}

/// What one can press.
fn keys(form: &KeyForm) -> &'static str {
    match form.place {
        _ if form.is_asking() => "Esc closes; the key is shown when it comes",
        KeyPlace::Kind | KeyPlace::Role => "← → choose · Tab next · Esc closes",
        KeyPlace::Rights => "← → walk · Space gives or takes · Tab next · Esc closes",
        KeyPlace::Button => "Enter makes it · S-Tab back · Esc closes",
        _ => "Tab next · Esc closes",
    }
}
