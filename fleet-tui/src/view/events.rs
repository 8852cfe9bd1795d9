//! What happened, newest first, and the one at the cursor in full.

use fleet_core::api::{EventKind, EventView};
use fleet_core::glyph::Glyph;
use fleet_core::untrusted::escaped;
use ratatui::layout::{Position, Rect};

use super::fleet::{banner, grouped};
use super::{Canvas, Scrolled, command};
use crate::cells::wrapped;
use crate::layout;
use crate::state::App;
use crate::state::events::Range;
use crate::state::link::Phase;
use crate::theme::Role;
use crate::widgets::{field, panel, scrollbar};

/// Cells before the first column: the cursor.
const BEFORE: u16 = 2;
/// Cells of a label in the pane below.
const LABEL_WIDTH: u16 = 9;

/// Where the columns begin; the last one goes to the end.
struct Columns {
    time: u16,
    actor: u16,
    kind: u16,
    device: u16,
    what: u16,
}

impl Columns {
    fn new(area: Rect, is_low: bool) -> Self {
        let time = area.x + BEFORE;
        let widths: [u16; 4] = if is_low { [9, 13, 17, 17] } else { [16, 21, 18, 23] };
        let [time_width, actor_width, kind_width, device_width] = widths;
        let actor = time + time_width;
        let kind = actor + actor_width;
        let device = kind + kind_width;
        Self { time, actor, kind, device, what: device + device_width }
    }
}

/// Paints the list and what stands above and below it.
pub(super) fn paint(app: &App, canvas: &mut Canvas<'_>) {
    let parts = layout::events(app.desk.size);
    line(app, parts.line, canvas);
    let events = &app.events;
    if events.is_empty() {
        empty(app, parts.titles.union(parts.rows), canvas);
        return;
    }
    let is_low = layout::is_low(app.desk.size);
    let columns = Columns::new(parts.rows, is_low);
    titles(&columns, parts.titles, is_low, canvas);
    let height = usize::from(parts.rows.height);
    let cursor = events.at_cursor().map(|event| event.seq);
    for (area, event) in parts.rows.rows().zip(events.in_sight(height)) {
        let area = Rect { width: area.width.saturating_sub(1), ..area };
        row(event, &columns, is_low, area, canvas);
        if cursor == Some(event.seq) {
            let glyph = canvas.glyph(Glyph::Cursor).to_string();
            canvas.put(area.x + 1, area.y, area.right(), &glyph, Role::Accent);
            let selected = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area };
            canvas.shade(selected, Role::Select);
            if !events.filter.is_typing() {
                canvas.painted.cursor = Some(Position::new(area.x + 1, area.y));
            }
        }
    }
    let track = Rect { x: parts.rows.right().saturating_sub(1), width: 1, ..parts.rows };
    let look = canvas.look;
    scrollbar::paint(track, canvas.buffer, &look.theme, &look.caps, events.len(), events.top);
    if let Some(event) = events.at_cursor() {
        detail(event, parts.detail, canvas);
    }
    canvas.painted.scrolled = Some(Scrolled { area: parts.rows, first: events.top });
    if !app.desk.link.is_live() && app.desk.link.heard.is_some() {
        canvas.shade(parts.rows, Role::Stale);
    }
}

fn line(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, events) = (&app.desk, &app.events);
    if desk.link.wants_banner(desk.now.since_start) {
        let text = banner(app, canvas);
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Crit);
        return;
    }
    let mut x = following(app, area, canvas);
    if let Some(typing) = events.filter.field() {
        x = canvas.put(x, area.y, area.right(), "/", Role::Accent);
        let room = Rect { x, width: area.right().saturating_sub(x) / 2, ..area };
        let look = canvas.look;
        canvas.painted.cursor = field::paint(typing, room, canvas.buffer, &look.theme, &look.caps);
        x = room.right() + 1;
        if let Some(error) = events.filter.error() {
            canvas.put(x, area.y, area.right(), error, Role::Warn);
            return;
        }
    } else if !events.filter.text().is_empty() {
        let text = format!("filter {}", escaped(events.filter.text()));
        x = canvas.put(x, area.y, area.right(), &text, Role::Accent) + 2;
    }
    if events.range != Range::All {
        let text = format!("last {}", events.range.word());
        x = canvas.put(x, area.y, area.right(), &text, Role::Accent) + 2;
    }
    if let Some(failure) = &events.failure {
        let text = format!("older ones did not come: {failure}; move to try again");
        canvas.put(x, area.y, area.right(), &text, Role::Warn);
        return;
    }
    canvas.put_right(x, area.y, area.right().saturating_sub(1), &counted(app), Role::Muted);
}

fn following(app: &App, area: Rect, canvas: &mut Canvas<'_>) -> u16 {
    let events = &app.events;
    let (x, y, right) = (area.x + 1, area.y, area.right());
    if events.is_frozen {
        return canvas.put(x, y, right, "frozen (z)", Role::Warn) + 3;
    }
    if events.is_following {
        let text = format!("follow {}", canvas.glyph(Glyph::Live));
        return canvas.put(x, y, right, &text, Role::Ok) + 3;
    }
    let text = format!("{} {} new, F", canvas.glyph(Glyph::SortUp), grouped(events.unseen));
    let role = if events.unseen > 0 { Role::Warn } else { Role::Muted };
    canvas.put(x, y, right, &text, role) + 3
}

fn counted(app: &App) -> String {
    let events = &app.events;
    let (shown, kept) = (grouped(events.len()), grouped(events.kept()));
    let counts = if shown == kept { kept } else { format!("{shown} of {kept}") };
    let rest = if events.dropped > 0 {
        format!(", {} older ones dropped here", grouped(events.dropped))
    } else if events.is_loading() {
        ", loading …".to_owned()
    } else if !events.has_all() {
        ", older ones below".to_owned()
    } else {
        String::new()
    };
    format!("{counts} events{rest}")
}

fn titles(columns: &Columns, area: Rect, is_low: bool, canvas: &mut Canvas<'_>) {
    let time = if is_low { "TIME" } else { "TIME (UTC)" };
    for (x, right, title) in [
        (columns.time, columns.actor, time),
        (columns.actor, columns.kind, "ACTOR"),
        (columns.kind, columns.device, "KIND"),
        (columns.device, columns.what, "DEVICE"),
        (columns.what, area.right(), "WHAT"),
    ] {
        canvas.put(x, area.y, right, title, Role::Head);
    }
}

fn row(event: &EventView, columns: &Columns, is_low: bool, area: Rect, canvas: &mut Canvas<'_>) {
    let time = event.timestamp.to_string();
    // Month and day only where there is room: `08-23 14:03:22`.
    let time = if is_low { time.get(11..19) } else { time.get(5..19) };
    let time = time.unwrap_or_default().replace('T', " ");
    let device = event.device_id.as_ref().map(ToString::to_string).unwrap_or_default();
    for (x, right, text, role) in [
        (columns.time, columns.actor, time, Role::Muted),
        (columns.actor, columns.kind, event.actor.to_string(), Role::Plain),
        (columns.kind, columns.device, event.kind.word().to_owned(), role(event.kind)),
        (columns.device, columns.what, device, Role::Plain),
        (columns.what, area.right() + 1, command::event_text(event), Role::Plain),
    ] {
        canvas.put(x, area.y, right.saturating_sub(1).min(area.right()), &text, role);
    }
}

/// How a kind of event is to be taken.
fn role(kind: EventKind) -> Role {
    match kind {
        EventKind::DeviceOnline
        | EventKind::DeviceEnrolled
        | EventKind::ConfigApplied
        | EventKind::CommandSucceeded
        | EventKind::BatchDone => Role::Ok,
        EventKind::DevicePending
        | EventKind::DeviceLate
        | EventKind::CommandExpired
        | EventKind::BatchPaused => Role::Warn,
        EventKind::DeviceOffline
        | EventKind::DeviceLost
        | EventKind::ConfigRefused
        | EventKind::CommandFailed
        | EventKind::CommandUnknown => Role::Crit,
        _ => Role::Plain,
    }
}

/// The event at the cursor in full.
fn detail(event: &EventView, area: Rect, canvas: &mut Canvas<'_>) {
    let (title, look) = (format!("#{}  {}", event.seq, event.kind.word()), canvas.look);
    let inside =
        panel::paint(area, canvas.buffer, &look.theme, &look.caps, (&title, ""), Role::Muted);
    let device = match (&event.device_id, event.uid) {
        (Some(id), Some(uid)) => format!("{id}  uid {uid}"),
        (Some(id), None) => id.to_string(),
        (None, _) => String::new(),
    };
    let facts = [("what", event.text.to_string()), ("device", device)];
    let when = [("actor", event.actor.to_string()), ("time", event.timestamp.to_string())];
    let mut rows = inside.rows();
    for (label, text) in facts.into_iter().chain(when).filter(|(_, text)| !text.is_empty()) {
        let width = usize::from(inside.width.saturating_sub(LABEL_WIDTH)).max(1);
        let mut label = Some(label);
        for text in wrapped(&text, width) {
            let Some(row) = rows.next() else { return };
            canvas.put(row.x, row.y, row.right(), label.take().unwrap_or_default(), Role::Muted);
            canvas.put(row.x + LABEL_WIDTH, row.y, row.right(), &text, Role::Plain);
        }
    }
}

/// What to say in the place of rows.
fn empty(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, events) = (&app.desk, &app.events);
    let server = &desk.settings.server;
    let lines = if let Some(failure) = &events.failure {
        vec![
            format!("The events did not come: {failure}"),
            String::new(),
            "^r     try again".to_owned(),
        ]
    } else if events.kept() > 0 {
        let mut lines =
            vec![format!("0 of {} events are shown", grouped(events.kept())), String::new()];
        if !events.filter.text().is_empty() {
            lines.push(
                "Esc    clear the filter: kind=device, device=ID, actor=operator, or words"
                    .to_owned(),
            );
        }
        if events.range != Range::All {
            lines.push("t      another range of time".to_owned());
        }
        lines
    } else if desk.link.heard.is_none() {
        vec![match &desk.link.phase {
            Phase::Down { is_denied: true, .. } => {
                "This key may not see events: it takes an operator's key.".to_owned()
            }
            Phase::Down { .. } => format!("No answer yet from {server}."),
            Phase::Connecting | Phase::Live => format!("connecting to {server} …"),
        }]
    } else if events.is_loading() {
        vec!["loading the newest events …".to_owned()]
    } else {
        vec![
            "Nothing has happened yet.".to_owned(),
            String::new(),
            "What devices, operators and the server do will stand here, as soon as it happens."
                .to_owned(),
        ]
    };
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        canvas.put(area.x + 4, y, area.right(), &line, Role::Plain);
    }
}
