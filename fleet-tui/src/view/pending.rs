//! Devices that wait for a word.
//!
//! ```text
//!  3 wait for your word   1 rejected   filter …   ✓ 2 marked        the line, or the banner
//!    DEVICE       TYPE         HOST         ADDRESS    FINGERPRINT  titles
//! ✓ !pump-0317    raspberrypi  pump         10.8.0.4   k3xq2m…      rows
//!  ›…                                                               the one at the cursor in full
//! ```

use fleet_core::api::DeviceStatus;
use fleet_core::field::Field;
use fleet_core::glyph::Glyph;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;
use ratatui::layout::{Position, Rect};

use super::fleet::{banner, grouped};
use super::{Canvas, Scrolled};
use crate::cells;
use crate::layout;
use crate::state::App;
use crate::state::data::Row;
use crate::state::link::Phase;
use crate::theme::Role;
use crate::widgets::{field, scrollbar};

/// Cells before the first column: the mark, the cursor, the status.
const BEFORE: u16 = 4;
/// The columns in their order, with their width, and which goes first where there is no room.
const COLUMNS: [(Field, u16, u8); 7] = [
    (Field::Device, 19, 0),
    (Field::Type, 11, 3),
    (Field::Hostname, 15, 1),
    (Field::Address, 15, 2),
    (Field::Fingerprint, 16, 0),
    (Field::Added, 6, 0),
    (Field::Why, 18, 4),
];

/// Paints the list and what stands above and below it.
pub(super) fn paint(app: &App, canvas: &mut Canvas<'_>) {
    let parts = layout::pending(app.desk.size);
    line(app, parts.line, canvas);
    let pending = &app.pending;
    if pending.order().is_empty() {
        empty(app, parts.titles.union(parts.rows), canvas);
        return;
    }
    let columns = fitted(parts.rows.width.saturating_sub(BEFORE + 1));
    titles(app, &columns, parts.titles, canvas);
    let now = app.desk.link.server_time(app.desk.now.wall);
    for (area, uid) in parts.rows.rows().zip(pending.order().iter().skip(pending.top)) {
        let Some(device) = app.desk.data.device(*uid) else { continue };
        let area = Rect { width: area.width.saturating_sub(1), ..area };
        row(app, device, &columns, now, area, canvas);
    }
    let track = Rect { x: parts.rows.right().saturating_sub(1), width: 1, ..parts.rows };
    let (len, top) = (pending.order().len(), pending.top);
    scrollbar::paint(track, canvas.buffer, &canvas.look.theme, &canvas.look.caps, len, top);
    detail(app, parts.detail, canvas);
    canvas.painted.scrolled = Some(Scrolled { area: parts.rows, first: top });
    if !app.desk.link.is_live() && app.desk.link.heard.is_some() {
        canvas.shade(parts.rows, Role::Stale);
    }
}

/// The columns that fit: those that can be spared go first, and the last takes what is left.
fn fitted(room: u16) -> Vec<(Field, Rect)> {
    let mut columns = COLUMNS.to_vec();
    let total =
        |columns: &[(Field, u16, u8)]| columns.iter().map(|column| column.1 + 1).sum::<u16>();
    while total(&columns) > room + 1 {
        let spare = columns.iter().enumerate().max_by_key(|(_, column)| column.2);
        match spare.map(|(place, column)| (place, column.2)) {
            Some((place, spare)) if spare > 0 => columns.remove(place),
            _ => break,
        };
    }
    let left = (room + 1).saturating_sub(total(&columns));
    if let Some(last) = columns.last_mut().filter(|column| column.0 == Field::Why) {
        last.1 += left;
    }
    let mut x = 0;
    let place = |(field, width, _): (Field, u16, u8)| {
        let cell = Rect::new(x, 0, width.min(room.saturating_sub(x)), 1);
        x += width + 1;
        (field, cell)
    };
    columns.into_iter().map(place).collect()
}

fn line(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, pending) = (&app.desk, &app.pending);
    if desk.link.wants_banner(desk.now.since_start) {
        let text = banner(app, canvas);
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Crit);
        return;
    }
    let counts = desk.data.counts();
    let waiting = counts.of(DeviceStatus::Pending) as usize;
    let glyph = canvas.glyph(Glyph::Pending);
    let (text, role) = match waiting {
        0 => ("0 wait".to_owned(), Role::Muted),
        1 => (format!("{glyph} 1 waits for your word"), Role::Warn),
        _ => (format!("{glyph} {} wait for your word", grouped(waiting)), Role::Warn),
    };
    let mut x = canvas.put(area.x + 1, area.y, area.right(), &text, role) + 3;
    let rejected = counts.of(DeviceStatus::Rejected) as usize;
    if rejected > 0 {
        let glyph = canvas.glyph(Glyph::Rejected);
        let text = format!("{glyph} {} rejected", grouped(rejected));
        x = canvas.put(x, area.y, area.right(), &text, Role::Muted) + 3;
    }
    if let Some(typing) = pending.filter.field() {
        x = canvas.put(x, area.y, area.right(), "/", Role::Accent);
        let room = Rect { x, width: area.right().saturating_sub(x) / 2, ..area };
        let look = canvas.look;
        canvas.painted.cursor = field::paint(typing, room, canvas.buffer, &look.theme, &look.caps);
        x = room.right() + 1;
        if let Some(error) = pending.filter.error() {
            canvas.put(x, area.y, area.right(), &error.to_string(), Role::Warn);
            return;
        }
    } else if !pending.filter.text().is_empty() {
        let text = format!("filter {}", escaped(pending.filter.text()));
        x = canvas.put(x, area.y, area.right(), &text, Role::Accent) + 2;
    }
    let (marked, hidden) = pending.marked();
    if marked > 0 {
        let glyph = canvas.glyph(Glyph::Marked);
        let hidden = if hidden > 0 { format!(" ({hidden} hidden)") } else { String::new() };
        let text = format!("{glyph} {marked} marked{hidden}");
        x = canvas.put(x, area.y, area.right(), &text, Role::Accent) + 2;
    }
    if pending.range_from.is_some() {
        canvas.put(x, area.y, area.right(), "range: move, then v", Role::Accent);
    }
}

fn titles(app: &App, columns: &[(Field, Rect)], area: Rect, canvas: &mut Canvas<'_>) {
    let sort = app.pending.sort;
    for (field, cell) in columns {
        let mut title =
            if *field == Field::Added { "SINCE" } else { field.spec().title }.to_owned();
        if *field == sort.field {
            let glyph = if sort.is_descending { Glyph::SortDown } else { Glyph::SortUp };
            title.push(canvas.glyph(glyph));
        }
        let x = area.x + BEFORE + cell.x;
        canvas.put(x, area.y, (x + cell.width).min(area.right()), &title, Role::Head);
    }
}

fn row(
    app: &App,
    device: &Row,
    columns: &[(Field, Rect)],
    now: Timestamp,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let uid = device.index.uid;
    let spec = Glyph::of(device.index.status).spec();
    if app.pending.is_marked(uid) {
        let glyph = canvas.glyph(Glyph::Marked).to_string();
        canvas.put(area.x, area.y, area.right(), &glyph, Role::Accent);
    }
    let status = canvas.glyph(spec.glyph).to_string();
    canvas.put(area.x + 2, area.y, area.right(), &status, Role::from(spec.tone));
    let is_rejected = device.index.status == DeviceStatus::Rejected;
    let role = if is_rejected { Role::Muted } else { Role::Plain };
    for (field, cell) in columns {
        let text = cells::text(device, *field, now);
        let x = area.x + BEFORE + cell.x;
        canvas.put(x, area.y, (x + cell.width).min(area.right()), &text, role);
    }
    if app.pending.cursor() == Some(uid) {
        let glyph = canvas.glyph(Glyph::Cursor).to_string();
        canvas.put(area.x + 1, area.y, area.right(), &glyph, Role::Accent);
        canvas.shade(
            Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area },
            Role::Select,
        );
        if !app.pending.filter.is_typing() {
            canvas.painted.cursor = Some(Position::new(area.x + 1, area.y));
        }
    }
}

/// Everything about the one at the cursor that helps to know it.
fn detail(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let device = app.pending.cursor().and_then(|uid| app.desk.data.device(uid));
    let Some(device) = device else { return };
    let now = app.desk.link.server_time(app.desk.now.wall);
    let text = |field| cells::text(device, field, now);
    let key = text(Field::Fingerprint);
    let status = device.index.status.word();
    let about = [text(Field::Hostname), text(Field::Address), text(Field::Model), text(Field::Os)];
    let about: Vec<_> = about.into_iter().filter(|text| !text.is_empty()).collect();
    let about = format!("{}  {}", text(Field::Device), about.join(" · "));
    let word =
        format!("{status}: {} · key {key} · agent {}", text(Field::Why), text(Field::Version));
    for (row, text) in area.rows().zip([about, word]) {
        canvas.put(row.x + 1, row.y, row.right(), &text, Role::Muted);
    }
}

/// What to say in the place of rows.
fn empty(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let desk = &app.desk;
    let server = &desk.settings.server;
    let counts = desk.data.counts();
    let total = counts.of(DeviceStatus::Pending) + counts.of(DeviceStatus::Rejected);
    let lines = if total > 0 && !app.pending.filter.text().is_empty() {
        let text = escaped(app.pending.filter.text());
        vec![
            format!("0 of {total} match \"{text}\""),
            String::new(),
            "Esc    clear the filter".to_owned(),
            "/      change it".to_owned(),
        ]
    } else if desk.link.heard.is_none() {
        vec![match &desk.link.phase {
            Phase::Down { is_denied: true, .. } => {
                "This key may not see who waits: it takes an operator's key.".to_owned()
            }
            Phase::Down { .. } => format!("No answer yet from {server}."),
            Phase::Connecting | Phase::Live => format!("connecting to {server} …"),
        }]
    } else if !desk.data.is_complete {
        let (here, all) = (grouped(desk.data.len()), grouped(desk.data.expected as usize));
        vec![format!("loading {here} of {all} devices …")]
    } else if let Some(scope) = desk.me.as_ref().and_then(|me| me.scope.as_ref()) {
        vec![
            format!("Nobody waits within the key's scope: {scope}"),
            String::new(),
            "Who waits is let in with a key for all devices.".to_owned(),
        ]
    } else {
        vec![
            "Nobody waits.".to_owned(),
            String::new(),
            "A device comes here when it asks for this server by itself:".to_owned(),
            format!("on a device    api_endpoint: {server}   in /etc/fleetd/config.yaml"),
            String::new(),
            "5              find devices and bring them in yourself".to_owned(),
        ]
    };
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        canvas.put(area.x + 4, y, area.right(), &line, Role::Plain);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Size;

    use crate::terminal::caps::Caps;
    use crate::testing::{app_with, device, press, screen};

    #[test]
    fn titles_stand_apart_whatever_the_rows_are_sorted_by() {
        let rows = vec![device(0, "pump-0317", fleet_core::api::DeviceStatus::Pending)];
        for width in 60..=140 {
            for letter in 'a'..='e' {
                let mut app = app_with(rows.clone());
                app.desk.size = Size::new(width, 24);
                press(&mut app, &format!("7 s {letter}"));
                let buffer = screen(&app, Caps::default());
                let line: String = (0..width).map(|x| buffer[(x, 3)].symbol()).collect();
                let titles: Vec<_> = line.split_whitespace().collect();
                let is_whole = |title: &&str| {
                    let title = title.trim_end_matches(['▲', '▼']);
                    let all = ["DEVICE", "TYPE", "HOST", "ADDRESS", "FINGERPRINT", "SINCE", "WHY"];
                    all.contains(&title)
                };
                assert!(titles.iter().all(is_whole), "{width}: {line}");
                assert!(titles.contains(&"FINGERPRINT"), "{width}: {line}");
            }
        }
    }
}
