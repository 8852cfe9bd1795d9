//! One device.
//!
//! ```text
//!  ● online cam-us-1180  Jetson Orin Nano aarch64 · 10.8.3.180 · up 41d · seen now       head
//!  configuration refused: …                                                             trouble
//!                                          range  5m  1h  24h  7d   ● live  step 1 s    ranges
//! ┌ CPU % ─────────────── 97 now · 92 avg · 99 max ┐┌ Config ── desired r18 · reported r17 ┐
//! ```

mod commands;
mod graphs;
mod logs;
#[cfg(test)]
mod tests;
mod text;

use fleet_core::api::DeviceStatus;
use fleet_core::field::Field;
use fleet_core::filter::{self, Subject as _};
use fleet_core::glyph::Glyph;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;
use ratatui::layout::{Position, Rect};
use unicode_width::UnicodeWidthStr as _;

use super::Canvas;
use crate::cells;
use crate::layout::{self, Pane};
use crate::state::App;
use crate::state::data::Row;
use crate::state::device::DeviceScreen;
use crate::state::device::graphs::{SPANS, Span};
use crate::state::device::metric::Metric;
use crate::theme::Role;

/// From this width on all ranges are told, beside the panes' names.
const ROOM_FOR_RANGES: u16 = 76;

/// Paints a device.
pub(super) fn paint(app: &App, device: &DeviceScreen, canvas: &mut Canvas<'_>) {
    let parts = device.parts(&app.desk);
    head(app, device, parts.head, canvas);
    trouble(app, device, parts.trouble, canvas);
    let right = ranges(app, device, parts.ranges, canvas);
    if parts.panes.len() == 1 {
        pane_names(device, Rect { width: right.saturating_sub(1), ..parts.ranges }, canvas);
    }
    let is_old = !app.desk.link.is_live() || device.is_gone;
    if is_old {
        canvas.shade(parts.head, Role::Stale);
    }
    for (pane, area) in &parts.panes {
        match pane {
            Pane::Graphs => graphs::paint(app, device, *area, canvas),
            Pane::Config => text::config(app, device, *area, canvas),
            Pane::Commands => commands::paint(app, device, *area, canvas),
            Pane::History => text::history(app, device, *area, canvas),
            Pane::Logs => logs::paint(app, device, *area, canvas),
            Pane::Facts => text::facts(app, device, *area, canvas),
        }
        if is_old {
            canvas.shade(*area, Role::Stale);
        }
        // Among commands it is at the one that keys are for.
        if *pane == device.focus && canvas.painted.cursor.is_none() {
            // For a screen reader, and for people who follow the terminal's own cursor.
            canvas.painted.cursor = Some(Position::new(area.x, area.y));
        }
    }
}

/// Which device, and how it is doing.
fn head(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let Some(row) = device.row() else { return };
    let now = app.desk.link.server_time(app.desk.now.wall);
    let spec = Glyph::of(row.index.status).spec();
    let status = format!("{} {}", canvas.glyph(spec.glyph), row.index.status.word());
    let mut x = canvas.put(area.x + 1, area.y, area.right(), &status, Role::from(spec.tone)) + 1;
    if !layout::is_low(app.desk.size) {
        x = canvas.put(x, area.y, area.right(), row.index.id.as_str(), Role::Head) + 2;
    }
    let dot = format!(" {} ", canvas.glyph(Glyph::Dot));
    let facts = head_facts(device, row, layout::is_low(app.desk.size), now);
    canvas.put(x, area.y, area.right(), &facts.join(&dot), Role::Plain);
}

/// What the head says of a device, what matters most first where there is little room.
fn head_facts(device: &DeviceScreen, row: &Row, is_low: bool, now: Timestamp) -> Vec<String> {
    let index = &row.index;
    let field = |field| row.text(field).map(|text| escaped(&text));
    let agent = field(Field::Version).map(|version| format!("agent {version}"));
    let address = field(Field::Address);
    let uptime = device.graphs.newest(Metric::Uptime).filter(|_| is_heard(row));
    let uptime = uptime.map(|point| format!("up {}", span(point.mean)));
    let seen = row.last_seen().map(|seen| format!("seen {}", ago(now, seen)));
    let tags: Vec<_> = filter::tags(index.metadata.get("tags")).map(escaped).collect();
    let tags = Some(tags.join(" "));
    let kind = field(Field::Type);
    let facts = if is_low {
        vec![kind, agent, address, uptime, seen, tags]
    } else {
        let board: Vec<_> =
            [field(Field::Model).or(kind), field(Field::Arch)].into_iter().flatten().collect();
        vec![Some(board.join(" ")), address, agent, uptime, seen, tags, field(Field::Os)]
    };
    facts.into_iter().flatten().filter(|fact| !fact.is_empty()).collect()
}

/// Whether what the device says of itself still holds.
fn is_heard(row: &Row) -> bool {
    matches!(row.index.status, DeviceStatus::Online | DeviceStatus::Late)
}

/// How long something has lasted, from seconds.
fn span(secs: f64) -> String {
    let secs = secs.max(0.0) as u64;
    match secs {
        0..60 => format!("{secs}s"),
        _ => cells::age(std::time::Duration::from_secs(secs)),
    }
}

fn ago(now: Timestamp, at: Timestamp) -> String {
    match cells::age(now.since(at)).as_str() {
        "now" => "now".to_owned(),
        age => format!("{age} ago"),
    }
}

/// What is wrong, if anything is.
fn trouble(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let (text, role) = if app.desk.link.wants_banner(app.desk.now.since_start) {
        (super::fleet::banner(app, canvas), Role::Crit)
    } else if device.is_gone {
        let glyph = canvas.glyph(Glyph::Failed);
        let text = "this device is not in the fleet any more; this is the last that was seen of it";
        (format!("{glyph} {text}"), Role::Crit)
    } else {
        let Some(row) = device.row() else { return };
        let Some(why) = row.text(Field::Why) else { return };
        let spec = match row.index.status {
            DeviceStatus::Online => Glyph::Failed.spec(),
            status => Glyph::of(status).spec(),
        };
        (format!("{} {}", canvas.glyph(spec.glyph), escaped(&why)), Role::from(spec.tone))
    };
    canvas.put(area.x + 1, area.y, area.right(), &text, role);
}

/// The names of the panes, where only one of them is in sight.
fn pane_names(device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let mut x = area.x + 1;
    for pane in Pane::ALL {
        let mut name = format!(" {} ", pane.word());
        if pane == Pane::Config
            && let Some(row) = device.row()
            && matches!(row.text(Field::Config).as_deref(), Some("waiting" | "refused"))
        {
            name = format!(" {} {} ", pane.word(), canvas.glyph(Glyph::Differs));
        }
        let role = if pane == device.focus { Role::Select } else { Role::Plain };
        x = canvas.put(x, area.y, area.right(), &name, role);
    }
}

/// The time that is shown, on the right; returns the column where that begins.
fn ranges(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) -> u16 {
    let graphs = &device.graphs;
    let is_low = layout::is_low(app.desk.size);
    let gap = if is_low { "" } else { " " };
    let mut words: Vec<(String, Role)> = Vec::new();
    if graphs.left_out > 0 && !is_low {
        words.push((format!("{} curves left out  ", graphs.left_out), Role::Warn));
    }
    if !is_low {
        words.push(("range ".to_owned(), Role::Muted));
    }
    let has_room = area.width >= ROOM_FOR_RANGES;
    let is_told = |span: &&Span| **span == graphs.span() || (span.is_main && has_room);
    for span in SPANS.iter().filter(is_told) {
        let role = if *span == graphs.span() { Role::Select } else { Role::Plain };
        words.push((gap.to_owned(), Role::Plain));
        words.push((format!(" {} ", span.word), role));
    }
    words.push((gap.to_owned(), Role::Plain));
    words.push(edge(app, device, canvas));
    if !is_low {
        words.push((format!("  step {}", step(graphs.span().step.as_secs())), Role::Muted));
    }
    let width: usize = words.iter().map(|(word, _)| word.width()).sum();
    let width = u16::try_from(width).unwrap_or(u16::MAX);
    let begin = area.right().saturating_sub(width.saturating_add(1)).max(area.x);
    let mut x = begin;
    for (word, role) in words {
        x = canvas.put(x, area.y, area.right(), &word, role);
    }
    begin
}

/// Where the right edge is, or what time the cursor is at.
fn edge(app: &App, device: &DeviceScreen, canvas: &Canvas<'_>) -> (String, Role) {
    let graphs = &device.graphs;
    let now = app.desk.link.server_time(app.desk.now.wall);
    if let Some(at) = graphs.cursor() {
        (format!(" at {}", clock(at, now)), Role::Accent)
    } else if graphs.is_frozen {
        (format!(" frozen {} (z)", clock(graphs.window().to, now)), Role::Warn)
    } else if !graphs.is_live() {
        (format!(" until {} (=)", clock(graphs.window().to, now)), Role::Accent)
    } else if app.desk.link.is_live() && !device.is_gone {
        (format!(" {} live", canvas.glyph(Glyph::Live)), Role::Ok)
    } else {
        (format!(" until {}", clock(graphs.window().to, now)), Role::Stale)
    }
}

fn step(secs: u64) -> String {
    if secs < 60 { format!("{secs} s") } else { format!("{} min", secs / 60) }
}

/// A time of this day to the second, of another day with that day.
fn clock(at: Timestamp, now: Timestamp) -> String {
    let (at, now) = (at.to_string(), now.to_string());
    let is_today = at.get(..10) == now.get(..10);
    let text = if is_today {
        at.get(11..19).map(ToOwned::to_owned)
    } else {
        at.get(5..10).zip(at.get(11..16)).map(|(day, time)| format!("{day} {time}"))
    };
    text.map(|text| format!("{text}Z")).unwrap_or_default()
}
