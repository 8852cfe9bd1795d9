//! A device's panes of text: its configuration, what happened to it, what is known of it.

use fleet_core::api::{CommandState, EventKind, EventView};
use fleet_core::glyph::Glyph;
use ratatui::layout::Rect;

use super::clock;
use crate::cells;
use crate::layout::Pane;
use crate::state::App;
use crate::state::device::DeviceScreen;
use crate::state::device::config::{ConfigKey, ConfigLine, Mark};
use crate::state::device::versions::Version;
use crate::theme::Role;
use crate::view::{Canvas, command, pane};
use crate::widgets::scrollbar;

/// A pane from this width on says who did what.
const WIDE: u16 = 100;
/// A pane from this width on says which layer a key is from.
const LAYER_FROM: u16 = 70;
/// Cells of that.
const LAYER_WIDTH: u16 = 18;
/// The most that names of facts take.
const NAME_WIDTH_MAX: u16 = 24;

/// Paints what the device shall have, and has.
pub(super) fn config(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let (view, error) = device.config();
    let notes = view.map(|view| {
        let desired = format!("desired r{}", view.version);
        let reported = view.reported.as_ref().map(|reported| reported.version);
        let reported = reported.map_or_else(|| "none".to_owned(), |version| format!("r{version}"));
        let dot = canvas.glyph(Glyph::Dot);
        [
            format!("{desired} {dot} reported {reported}"),
            format!("r{} {dot} {reported}", view.version),
        ]
    });
    let notes = notes.filter(|_| view.is_some_and(|view| view.version > 0)).unwrap_or_default();
    let inside = boxed(device, Pane::Config, &notes, area, canvas);
    if view.is_none() {
        missing(error, "loading the configuration …", inside, canvas);
        return;
    }
    let lines = device.config_lines(&app.desk);
    let now = app.desk.link.server_time(app.desk.now.wall);
    scrollbar_of(device, Pane::Config, lines.len(), area, inside, canvas);
    // Where there is room it says who else has a say.
    let is_shared = |line: &ConfigLine| matches!(line, ConfigLine::Key(key) if key.layer.is_some());
    let layer_width =
        if inside.width >= LAYER_FROM && lines.iter().any(is_shared) { LAYER_WIDTH } else { 0 };
    for (y, line) in (inside.y..inside.bottom()).zip(lines.iter().skip(device.top(Pane::Config))) {
        let row = Rect { y, height: 1, ..inside };
        let cells = Rect { width: inside.width - layer_width, ..row };
        match line {
            ConfigLine::Word(tone, text) => {
                canvas.put(row.x, y, row.right(), text, Role::from(*tone));
            }
            ConfigLine::Titles => {
                config_row(cells, [" ", "key", "desired", "reported"], Role::Head, canvas);
                let from = if layer_width > 0 { "from" } else { "" };
                canvas.put(cells.right() + 1, y, row.right(), from, Role::Head);
            }
            ConfigLine::Key(key) => {
                config_key(key, cells, canvas);
                let layer = key.layer.as_deref().unwrap_or_default();
                canvas.put(cells.right() + 1, y, row.right(), layer, Role::Muted);
            }
            ConfigLine::Gap => {}
            ConfigLine::Version(mark, version) => {
                config_version(*mark, version, &cells::age(now.since(version.at)), row, canvas);
            }
        }
    }
}

fn config_key(key: &ConfigKey, row: Rect, canvas: &mut Canvas<'_>) {
    let (glyph, role) =
        if key.is_same() { (Glyph::Same, Role::Plain) } else { (Glyph::Differs, Role::Warn) };
    let mark = canvas.glyph(glyph).to_string();
    let none = canvas.glyph(Glyph::None).to_string();
    let desired = key.desired.as_deref().unwrap_or(&none);
    let reported = key.reported.as_deref().unwrap_or(&none);
    config_row(row, [&mark, &key.path, desired, reported], role, canvas);
}

/// A version: its number, how old it is, who set it, and what that changed.
fn config_version(mark: Mark, version: &Version, age: &str, row: Rect, canvas: &mut Canvas<'_>) {
    let (glyph, role) = match mark {
        Mark::Desired => (Glyph::Cursor, Role::Head),
        Mark::Reported => (Glyph::Live, Role::Plain),
        Mark::Past => (Glyph::Dot, Role::Muted),
    };
    let sign = canvas.glyph(glyph).to_string();
    let right = row.right();
    canvas.put(row.x, row.y, right, &sign, role);
    let number = format!("r{}", version.number);
    let x = canvas.put(row.x + 2, row.y, right, &number, role).max(row.x + 6) + 1;
    canvas.put_right(x, row.y, x + 4, age, Role::Muted);
    let mut x = x + 5;
    if row.width >= WIDE {
        canvas.put(x, row.y, x + 10, &version.author, Role::Muted);
        x += 11;
    }
    canvas.put(x, row.y, right, &version.what, Role::Plain);
}

fn config_row(row: Rect, cells: [&str; 4], role: Role, canvas: &mut Canvas<'_>) {
    let [mark, path, desired, reported] = cells;
    let desired_x = row.x + 2 + (row.width / 2).min(30);
    let reported_x = desired_x + row.right().saturating_sub(desired_x) / 2;
    canvas.put(row.x, row.y, row.right(), mark, role);
    canvas.put(row.x + 2, row.y, desired_x.saturating_sub(1), path, role);
    canvas.put(desired_x, row.y, reported_x.saturating_sub(1), desired, role);
    canvas.put(reported_x, row.y, row.right(), reported, role);
}

/// Paints what happened to the device.
pub(super) fn history(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let count = device.history.len();
    let notes = if count > 0 { vec![format!("{count} known")] } else { Vec::new() };
    let inside = boxed(device, Pane::History, &notes, area, canvas);
    let Some(events) = device.history.events() else {
        missing(device.history.error(), "loading what happened …", inside, canvas);
        return;
    };
    if events.is_empty() {
        canvas.put(inside.x, inside.y, inside.right(), "nothing happened yet", Role::Muted);
    }
    scrollbar_of(device, Pane::History, count, area, inside, canvas);
    let now = app.desk.link.server_time(app.desk.now.wall);
    let rows: Vec<_> = (inside.y..inside.bottom())
        .zip(events.iter().skip(device.top(Pane::History)))
        .map(|(y, event)| (Rect { y, height: 1, ..inside }, clock(event.timestamp, now), event))
        .collect();
    let width = rows.iter().map(|(_, time, _)| time.len()).max().unwrap_or_default();
    for (row, time, event) in rows {
        event_row(event, &format!("{time:>width$}"), row, canvas);
    }
}

fn event_row(event: &EventView, time: &str, row: Rect, canvas: &mut Canvas<'_>) {
    let right = row.right();
    let mut x = canvas.put(row.x, row.y, right, time, Role::Muted) + 1;
    let mut role = Role::Plain;
    if let Some(glyph) = glyph_of(event.kind) {
        role = Role::from(glyph.spec().tone);
        x = canvas.put(x, row.y, right, &canvas.glyph(glyph).to_string(), role);
    } else {
        x += 1;
    }
    x += 1;
    if row.width >= WIDE {
        canvas.put(x, row.y, x + 17, event.kind.word(), role);
        canvas.put(x + 18, row.y, x + 39, &event.actor.to_string(), Role::Muted);
        x += 40;
    }
    canvas.put(x, row.y, right, &command::event_text(event), Role::Plain);
}

/// How an event that says how a device is doing is marked.
fn glyph_of(kind: EventKind) -> Option<Glyph> {
    Some(match kind {
        EventKind::DeviceOnline
        | EventKind::DeviceEnrolled
        | EventKind::DeviceAccepted
        | EventKind::DeviceRestored => Glyph::Online,
        EventKind::DeviceLate => Glyph::Late,
        EventKind::DeviceOffline => Glyph::Offline,
        EventKind::DeviceLost => Glyph::Lost,
        EventKind::DevicePending => Glyph::Pending,
        EventKind::DeviceRejected => Glyph::Rejected,
        EventKind::DeviceRevoked | EventKind::DeviceDeleted => Glyph::Revoked,
        EventKind::ConfigSet | EventKind::ConfigLayerSet => Glyph::Busy,
        EventKind::ConfigApplied => Glyph::Done,
        EventKind::ConfigRefused | EventKind::ConfigReverted | EventKind::DeviceDoubleSuspected => {
            Glyph::Failed
        }
        EventKind::CommandQueued => command::glyph(CommandState::Queued),
        EventKind::CommandSucceeded => command::glyph(CommandState::Succeeded),
        EventKind::CommandFailed => command::glyph(CommandState::Failed),
        EventKind::CommandExpired => command::glyph(CommandState::Expired),
        EventKind::CommandCancelled => command::glyph(CommandState::Cancelled),
        EventKind::CommandUnknown => command::glyph(CommandState::Unknown),
        EventKind::DeviceUpdated
        | EventKind::DeviceRekeyed
        | EventKind::BatchBegun
        | EventKind::BatchPaused
        | EventKind::BatchContinued
        | EventKind::BatchDone
        | EventKind::BatchCancelled
        | EventKind::ServerStarted
        | EventKind::KeyCreated
        | EventKind::KeyRevoked
        | EventKind::DbPruned
        | EventKind::DbDamaged
        | EventKind::DbBackedUp
        | EventKind::DbDiskFull
        | EventKind::DbDiskFreed
        | EventKind::CertificateRenewed
        | EventKind::CertificateAtRisk
        | EventKind::Later(_) => return None,
    })
}

/// Paints everything that is known of the device.
pub(super) fn facts(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let inside = boxed(device, Pane::Facts, &[], area, canvas);
    let facts = device.facts(&app.desk);
    scrollbar_of(device, Pane::Facts, facts.len(), area, inside, canvas);
    let widest = facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or_default();
    let width = u16::try_from(widest).unwrap_or(u16::MAX).min(NAME_WIDTH_MAX).min(inside.width / 3);
    let top = device.top(Pane::Facts);
    for (y, fact) in (inside.y..inside.bottom()).zip(facts.iter().skip(top)) {
        let x = inside.x + width;
        canvas.put(inside.x, y, x, &fact.name, Role::Muted);
        canvas.put(x + 1, y, inside.right(), &fact.text, Role::Plain);
    }
}

pub(super) fn boxed(
    device: &DeviceScreen,
    which: Pane,
    notes: &[String],
    area: Rect,
    canvas: &mut Canvas<'_>,
) -> Rect {
    pane::paint(area, which.word(), notes, device.focus == which, canvas)
}

/// Where the text is, on the right border.
pub(super) fn scrollbar_of(
    device: &DeviceScreen,
    which: Pane,
    len: usize,
    area: Rect,
    inside: Rect,
    canvas: &mut Canvas<'_>,
) {
    if inside.is_empty() {
        return;
    }
    let track = Rect { x: area.right() - 1, width: 1, ..inside };
    let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
    scrollbar::paint(track, canvas.buffer, theme, caps, len, device.top(which));
}

/// What stands in the place of what has not come.
pub(super) fn missing(error: Option<&str>, loading: &str, inside: Rect, canvas: &mut Canvas<'_>) {
    let Some(error) = error else {
        canvas.put(inside.x, inside.y, inside.right(), loading, Role::Muted);
        return;
    };
    for (y, text) in (inside.y..inside.bottom()).zip([error, "^r tries again"]) {
        canvas.put(inside.x, y, inside.right(), text, Role::Warn);
    }
}
