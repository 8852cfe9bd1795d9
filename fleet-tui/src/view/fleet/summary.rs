//! What stands above the fleet's rows, and in their place when there are none.

use std::fmt::Write as _;

use fleet_core::api::DeviceStatus;
use fleet_core::glyph::Glyph;
use fleet_core::untrusted::escaped;
use ratatui::layout::Rect;

use crate::layout::{self, FleetParts};
use crate::state::App;
use crate::state::fleet::Advice;
use crate::state::link::Phase;
use crate::theme::Role;
use crate::view::Canvas;
use crate::widgets::field;

/// Problems first.
const STATUSES: [DeviceStatus; 7] = [
    DeviceStatus::Online,
    DeviceStatus::Late,
    DeviceStatus::Offline,
    DeviceStatus::Lost,
    DeviceStatus::Pending,
    DeviceStatus::Rejected,
    DeviceStatus::Revoked,
];

/// Paints counts or banner, and filter, marks and sort.
pub(super) fn paint(app: &App, parts: &FleetParts, canvas: &mut Canvas<'_>) {
    let desk = &app.desk;
    let is_low = layout::is_low(desk.size);
    if desk.link.wants_banner(desk.now.since_start) {
        let text = banner(app, canvas);
        canvas.put(parts.counts.x + 1, parts.counts.y, parts.counts.right(), &text, Role::Crit);
        if !is_low {
            filter_line(app, parts.filter, canvas);
        }
    } else if is_low {
        let x = counts(app, parts.counts, canvas);
        let rest = Rect { x, width: parts.counts.right().saturating_sub(x), ..parts.counts };
        filter_line(app, rest, canvas);
    } else {
        counts(app, parts.counts, canvas);
        filter_line(app, parts.filter, canvas);
    }
    if app.fleet.filter_field().is_some() && is_low {
        // While it is typed the filter needs the whole line.
        canvas.buffer.set_style(parts.filter, ratatui::style::Style::reset());
        blank(parts.filter, canvas);
        filter_line(app, parts.filter, canvas);
    }
}

fn blank(area: Rect, canvas: &mut Canvas<'_>) {
    for position in area.intersection(canvas.buffer.area).positions() {
        if let Some(cell) = canvas.buffer.cell_mut(position) {
            cell.reset();
        }
    }
}

/// What the server's absence means, how old the data is, and what happens next.
pub(crate) fn banner(app: &App, canvas: &Canvas<'_>) -> String {
    let desk = &app.desk;
    let glyph = canvas.glyph(Glyph::Down);
    let Phase::Down { reason, since, retry_at, is_denied } = &desk.link.phase else {
        return String::new();
    };
    if *is_denied {
        return format!("{glyph} DENIED, ^r tries again: {reason}");
    }
    let now = desk.now.since_start;
    let secs = now.saturating_sub(*since).as_secs();
    let retry = match retry_at {
        Some(at) => {
            let wait = at.saturating_sub(now).as_secs();
            format!("retry {} in {wait} s, ^r now", desk.link.attempts + 1)
        }
        None => format!("retry {}", desk.link.attempts),
    };
    let data = desk.link.heard_at.map(|at| at.to_string());
    let data = data.as_deref().and_then(|at| at.get(11..19)).map(|at| format!(" · data of {at}Z"));
    // The reason may be long, and is what one can do without.
    format!("{glyph} DISCONNECTED {secs} s · {retry}{} · {reason}", data.unwrap_or_default())
}

fn counts(app: &App, area: Rect, canvas: &mut Canvas<'_>) -> u16 {
    let counts = app.desk.data.counts();
    let is_low = layout::is_low(app.desk.size);
    let total = grouped(counts.total() as usize);
    let word = if counts.total() == 1 { "device" } else { "devices" };
    let devices = if is_low { total } else { format!("{total} {word}") };
    let gap = if is_low { 1 } else { 3 };
    let mut x = canvas.put(area.x + 1, area.y, area.right(), &devices, Role::Head) + gap;
    let known =
        STATUSES.iter().map(|status| (Glyph::of(*status), status.word(), counts.of(*status)));
    for (glyph, word, count) in known.chain([(Glyph::Later, "other", counts.later())]) {
        if count == 0 {
            continue;
        }
        let spec = glyph.spec();
        let glyph = canvas.glyph(glyph);
        let count = grouped(count as usize);
        let text =
            if is_low { format!("{glyph}{count}") } else { format!("{glyph} {count} {word}") };
        x = canvas.put(x, area.y, area.right(), &text, Role::from(spec.tone)) + gap;
    }
    x
}

fn filter_line(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, fleet) = (&app.desk, &app.fleet);
    let is_low = layout::is_low(desk.size);
    let mut x = area.x + 1;
    if let Some(line) = fleet.filter_field() {
        x = canvas.put(x, area.y, area.right(), "/", Role::Accent);
        let room = Rect { x, width: area.right().saturating_sub(x) / 2, ..area };
        let look = canvas.look;
        canvas.painted.cursor = field::paint(line, room, canvas.buffer, &look.theme, &look.caps);
        x = room.right() + 1;
        if let Some(error) = fleet.filter_error() {
            canvas.put(x, area.y, area.right(), &error.to_string(), Role::Warn);
            return;
        }
    } else if !fleet.filter_text().is_empty() {
        x = canvas.put(x, area.y, area.right(), if is_low { "/" } else { "filter " }, Role::Muted);
        let room = area.right().min(x + area.width / 2);
        x = canvas.put(x, area.y, room, &escaped(fleet.filter_text()), Role::Accent) + 2;
    }
    if !fleet.filter_text().is_empty() {
        let (shown, all) = (grouped(fleet.order().len()), grouped(desk.data.len()));
        let text = if is_low { shown } else { format!("{shown} of {all}") };
        x = canvas.put(x, area.y, area.right(), &text, Role::Plain) + 2;
    }
    let (marked, hidden) = fleet.marked(desk);
    if marked > 0 {
        let glyph = canvas.glyph(Glyph::Marked);
        let word = if is_low { "" } else { " marked" };
        let hidden =
            if hidden > 0 { format!(" ({} hidden)", grouped(hidden)) } else { String::new() };
        let text = format!("{glyph}{}{word}{hidden}", grouped(marked));
        x = canvas.put(x, area.y, area.right(), &text, Role::Accent) + 2;
    }
    if fleet.range_from.is_some() {
        x = canvas.put(x, area.y, area.right(), "range: move, then v", Role::Accent) + 2;
    }
    if fleet.is_frozen {
        x = canvas.put(x, area.y, area.right(), "frozen (z)", Role::Warn) + 2;
    }
    let above = fleet.problems_above(desk);
    if above > 0 && fleet.sort == fleet_core::field::SortKey::default() {
        let glyph = canvas.glyph(Glyph::SortUp);
        let text = format!("{glyph} {} problems above, N", grouped(above));
        x = canvas.put(x, area.y, area.right(), &text, Role::Warn) + 2;
    }
    if !is_low {
        let sort = if fleet.sort == fleet_core::field::SortKey::default() {
            "sort problems first".to_owned()
        } else {
            format!("sort {}", fleet.sort)
        };
        canvas.put_right(x, area.y, area.right().saturating_sub(1), &sort, Role::Muted);
    }
}

/// What to say in the place of rows.
pub(super) fn empty(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let desk = &app.desk;
    let server = &desk.settings.server;
    let lines = if app.fleet.filter_error().is_some() {
        vec![
            "pump                        letters of an id, a name or a tag".to_owned(),
            "status=offline type=jetson  fields; the same language as --filter".to_owned(),
            "cpu>90 or last_seen>10m     numbers, ages".to_owned(),
            "tag:eu-west not name~test   tags, parts of words".to_owned(),
            "site in (lyon, nice)        metadata".to_owned(),
        ]
    } else if !desk.data.is_empty() && desk.data.is_complete {
        let text = escaped(app.fleet.filter_text());
        let Advice { missing, suggestion } = app.fleet.advice();
        let mut line = format!("0 of {} match \"{text}\"", grouped(desk.data.len()));
        if let Some(missing) = missing {
            let _ = write!(line, ": no device has {}", escaped(missing));
        }
        if let Some(suggestion) = suggestion {
            let _ = write!(line, " · {}?", escaped(suggestion));
        }
        vec![
            line,
            String::new(),
            "Esc    clear the filter".to_owned(),
            "/      change it".to_owned(),
        ]
    } else if desk.link.heard.is_none() {
        match &desk.link.phase {
            Phase::Down { is_denied: true, .. } => vec![
                "This key may not see the fleet: it takes an operator's key.".to_owned(),
                String::new(),
                "fleets keys list             which keys there are".to_owned(),
                format!("fleet-tui --api-key @FILE --server {server}"),
            ],
            Phase::Down { .. } => vec![
                format!("No answer yet from {server}."),
                String::new(),
                "It is tried again and again; ^r tries now, ^c quits.".to_owned(),
            ],
            Phase::Connecting | Phase::Live => vec![format!("connecting to {server} …")],
        }
    } else if !desk.data.is_complete {
        vec![format!(
            "loading {} of {} devices …",
            grouped(desk.data.len()),
            grouped(desk.data.expected as usize)
        )]
    } else if let Some(scope) = desk.me.as_ref().and_then(|me| me.scope.as_ref()) {
        vec![
            format!("The key's scope shows no device: {scope}"),
            String::new(),
            "A device comes here as soon as it is of that scope. Others there may be,".to_owned(),
            "which only a key with a wider scope shows; 8 says more of this one.".to_owned(),
        ]
    } else {
        vec![
            "No devices yet.".to_owned(),
            String::new(),
            "5              look for agents on this network and configure them".to_owned(),
            "7              devices that ask to be let in".to_owned(),
            format!("from a script  fleets configure --server {server} --auto"),
        ]
    };
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        canvas.put(area.x + 4, y, area.right(), &line, Role::Plain);
    }
}

/// A number with thin groups: `10 000`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && number >= 10_000 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
