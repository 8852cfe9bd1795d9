//! One batch and its devices.
//!
//! ```text
//! ┌ restart nginx.service ───────────────────────────────────── ⟳ running 41s ┐   head
//!  ██████████▎·····  ✗ 3 failed  ⟳ 20 running  · 53 waiting  ✓ 138 succeeded       line, or the banner
//!    DEVICE          STATE         SINCE  WHY                                      titles
//!  ›✗ pump-eu-0044   failed           4s  exit code 125                           rows
//! ```

use fleet_core::api::{BatchMember, BatchView, MemberState};
use fleet_core::glyph::Glyph;
use fleet_core::time::Timestamp;
use ratatui::layout::{Position, Rect};

use super::{author, glyph, limits, member_glyph, member_role, share};
use crate::cells::{self, wrapped};
use crate::layout;
use crate::state::App;
use crate::state::batches::{Known, OneBatch, goes_on};
use crate::theme::Role;
use crate::view::fleet::{banner, grouped};
use crate::view::{Canvas, Scrolled};
use crate::widgets::{panel, scrollbar};

/// Cells before the first column: the cursor.
const BEFORE: u16 = 2;
/// Cells of a label in the head.
const LABEL_WIDTH: u16 = 9;
/// Cells of a state with its glyph and the blank after it.
const STATE_WIDTH: u16 = 12;
/// Cells of a time span with the blanks around it.
const AGE_WIDTH: u16 = 7;

/// Paints the batch.
pub(in crate::view) fn paint(app: &App, canvas: &mut Canvas<'_>) {
    let parts = layout::batch(app.desk.size);
    let Some(open) = &app.batches.open else { return };
    let known = app.batches.known(open.id);
    let now = app.desk.link.server_time(app.desk.now.wall);
    if let Some(known) = known {
        head(known, now, parts.head, canvas);
    }
    line(app, open, known, parts.line, canvas);
    let Some(known) = known.filter(|_| !open.members.is_empty()) else {
        empty(app, open, known, parts.titles.union(parts.rows), canvas);
        return;
    };
    let columns = columns(parts.rows);
    titles(columns, parts.titles, canvas);
    for (area, (place, member)) in
        parts.rows.rows().zip(open.members.rows().enumerate().skip(open.top))
    {
        let area = Rect { width: area.width.saturating_sub(1), ..area };
        row(member, columns, now, area, canvas);
        if place == open.place() {
            let glyph = canvas.glyph(Glyph::Cursor).to_string();
            canvas.put(area.x + 1, area.y, area.right(), &glyph, Role::Accent);
            let selected = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area };
            canvas.shade(selected, Role::Select);
            canvas.painted.cursor = Some(Position::new(area.x + 1, area.y));
        }
    }
    let track = Rect { x: parts.rows.right().saturating_sub(1), width: 1, ..parts.rows };
    let look = canvas.look;
    let len = open.members.total().max(open.members.len());
    scrollbar::paint(track, canvas.buffer, &look.theme, &look.caps, len, open.top);
    detail(open, &known.view, parts.detail, canvas);
    canvas.painted.scrolled = Some(Scrolled { area: parts.rows, first: open.top });
    if !app.desk.link.is_live() && app.desk.link.heard.is_some() {
        canvas.shade(parts.rows, Role::Stale);
    }
}

/// What the batch is.
fn head(known: &Known, now: Timestamp, area: Rect, canvas: &mut Canvas<'_>) {
    let (look, view) = (canvas.look, &known.view);
    let (sign, role) = glyph(view);
    let word = format!("{} {}", canvas.glyph(sign), view.state.word());
    let since = cells::age(now.since(view.state_at));
    let note = if goes_on(view) { format!("{word} {since}") } else { word };
    let titles = (known.words.as_str(), note.as_str());
    let inside = panel::paint(area, canvas.buffer, &look.theme, &look.caps, titles, role);
    let begun = format!("{} by {}", cells::second(view.created_at), author(view));
    let mut facts = vec![("why", view.why.to_string()), ("how", limits(view)), ("begun", begun)];
    let mut more: Vec<String> = Vec::new();
    more.extend(view.reason.as_ref().map(|reason| format!("reason {reason}")));
    more.extend(view.filter.as_ref().map(|filter| format!("filter {filter}")));
    more.extend(view.retry_of.map(|id| format!("tries {id} again")));
    if goes_on(view) {
        more.push(format!("waits until {}", cells::second(view.expires_at)));
    }
    more.push(format!("number {}", view.id));
    let dot = format!(" {} ", canvas.glyph(Glyph::Dot));
    facts.push(("", more.join(&dot)));
    let mut rows = inside.rows();
    for (label, text) in facts {
        let width = usize::from(inside.width.saturating_sub(LABEL_WIDTH)).max(1);
        let mut label = Some(label);
        for text in wrapped(&text, width) {
            let Some(row) = rows.next() else { return };
            canvas.put(row.x, row.y, row.right(), label.take().unwrap_or_default(), Role::Muted);
            canvas.put(row.x + LABEL_WIDTH, row.y, row.right(), &text, Role::Plain);
        }
    }
}

/// How far it is: the bar, and how many devices have come how far, those first that failed.
fn line(app: &App, open: &OneBatch, known: Option<&Known>, area: Rect, canvas: &mut Canvas<'_>) {
    let desk = &app.desk;
    if desk.link.wants_banner(desk.now.since_start) {
        let text = banner(app, canvas);
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Crit);
        return;
    }
    let Some(Known { view, .. }) = known else { return };
    if let Some(error) = &open.error {
        let text = format!("nothing newer is known: {error}");
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Warn);
        return;
    }
    let width = if layout::is_low(desk.size) { 6 } else { 30 };
    share(view, Rect { x: area.x + 1, width, height: 1, ..area }, canvas);
    let mut x = area.x + width + 3;
    for state in ORDER {
        let count = view.counts.get(&state).copied().unwrap_or_default();
        if count > 0 {
            let sign = canvas.glyph(member_glyph(state));
            let text = format!("{sign} {} {}", grouped(count), state.word());
            x = canvas.put(x, area.y, area.right(), &text, member_role(state)) + 2;
        }
    }
    let of = match open.members.shown() {
        Some(words) => format!("only {words} (Esc)"),
        None => format!("of {}", grouped(view.total)),
    };
    canvas.put(x, area.y, area.right().saturating_sub(1), &of, Role::Muted);
}

/// The order of counts.
const ORDER: [MemberState; 8] = [
    MemberState::Failed,
    MemberState::Unknown,
    MemberState::Expired,
    MemberState::Running,
    MemberState::Waiting,
    MemberState::Cancelled,
    MemberState::Skipped,
    MemberState::Succeeded,
];

/// Where device, state, span and reason begin.
fn columns(area: Rect) -> [u16; 4] {
    let device = area.x + BEFORE;
    let width = match area.width {
        0..70 => 16,
        70..100 => 22,
        _ => 34,
    };
    let state = device + width;
    let since = state + STATE_WIDTH;
    [device, state, since, since + AGE_WIDTH]
}

fn titles([device, state, since, why]: [u16; 4], area: Rect, canvas: &mut Canvas<'_>) {
    for (x, right, title) in
        [(device, state, "DEVICE"), (state, since, "STATE"), (why, area.right(), "WHY")]
    {
        canvas.put(x, area.y, right, title, Role::Head);
    }
    canvas.put_right(since, area.y, why - 2, "SINCE", Role::Head);
}

fn row(
    member: &BatchMember,
    [device, state, since, why]: [u16; 4],
    now: Timestamp,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let y = area.y;
    canvas.put(device, y, state - 1, member.device_id.as_str(), Role::Plain);
    let sign = canvas.glyph(member_glyph(member.state));
    let word = format!("{sign} {}", member.state.word());
    canvas.put(state, y, since - 1, &word, member_role(member.state));
    let age = cells::age(now.since(member.state_at));
    canvas.put_right(since, y, why - 2, &age, Role::Muted);
    canvas.put(why, y, area.right(), &member.why.to_string(), Role::Plain);
}

/// Why the device at the cursor is in its state, and where more is to be read.
fn detail(open: &OneBatch, view: &BatchView, area: Rect, canvas: &mut Canvas<'_>) {
    let Some(member) = open.at_cursor() else { return };
    let more = match (member.command_id, member.config_version) {
        (Some(_), _) => "Enter shows its command".to_owned(),
        (None, Some(version)) => format!("Enter shows its configuration, version {version}"),
        (None, None) if view.command.is_some() => "it has no command yet".to_owned(),
        (None, None) => "it has no version of it yet".to_owned(),
    };
    let text = member.why.to_string();
    let width = usize::from(area.width.saturating_sub(2)).max(1);
    let mut lines = wrapped(&text, width);
    lines.push(more);
    for (row, text) in area.rows().zip(lines) {
        canvas.put(row.x + 1, row.y, row.right(), &text, Role::Muted);
    }
}

/// What to say in the place of rows.
fn empty(app: &App, open: &OneBatch, known: Option<&Known>, area: Rect, canvas: &mut Canvas<'_>) {
    let text = match (&open.error, known) {
        (Some(error), None) => format!("The batch did not come: {error}"),
        (_, None) if !app.desk.link.is_live() => "The server is away.".to_owned(),
        (_, None) => "loading the batch …".to_owned(),
        (_, Some(_)) if open.members.total() == 0 => match open.members.shown() {
            Some(words) => format!("no device is {words}; Esc shows all"),
            None => "no devices".to_owned(),
        },
        (_, Some(_)) => "loading its devices …".to_owned(),
    };
    canvas.put(area.x + 4, area.y + 1, area.right(), &text, Role::Plain);
}
