//! What the network shows, and what is known of the device at the cursor.

use std::time::Duration;

use fleet_core::api::{ClaimMode, DeviceState};
use fleet_core::glyph::Glyph;
use fleet_core::mdns::Interface;
use fleet_core::untrusted::escaped;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr as _;

use super::{lines, select};
use crate::layout::{DiscoverPane, DiscoverParts};
use crate::state::App;
use crate::state::discover::Search;
use crate::state::discover::seen::{Seen, shown};
use crate::theme::Role;
use crate::view::fleet::grouped;
use crate::view::{Canvas, Scrolled, pane};
use crate::widgets::{field, scrollbar};

/// Interfaces that a title names.
const INTERFACES_MAX: usize = 4;
/// Cells of the mark before the first column.
const MARK_WIDTH: u16 = 4;
/// Cells between columns.
const GAP: u16 = 1;
/// The most that a device's id or host gets.
const NAME_MAX: u16 = 32;
/// The most that an address gets: `[fe80::1c2a%eth0]:6789` and a little more.
const ADDRESS_MAX: u16 = 26;
/// The most that a release gets.
const VERSION_MAX: u16 = 10;
/// A search that found nothing for so long deserves a word on what may be wrong.
const SILENCE: Duration = Duration::from_secs(5);

/// Where the columns are; those without room have no width.
struct Columns {
    device: Rect,
    host: Rect,
    address: Rect,
    version: Rect,
    state: Rect,
}

/// Paints the list.
pub(super) fn paint(app: &App, parts: &DiscoverParts, canvas: &mut Canvas<'_>) {
    let discover = &app.discover;
    let is_focused = discover.pane == DiscoverPane::List;
    let inside = pane::paint(parts.list, &title(app), &notes(app, canvas), is_focused, canvas);
    if inside.is_empty() {
        return;
    }
    let columns = columns(app, inside);
    heading(app, Rect { height: 1, ..inside }, &columns, canvas);
    if discover.shown().len() == 0 {
        empty(app, parts.rows.union(parts.detail), canvas);
        return;
    }
    let rows = discover.shown().enumerate().skip(discover.top);
    for (area, (place, seen)) in parts.rows.rows().zip(rows) {
        row(app, seen, area, &columns, canvas);
        if place == discover.place() {
            select(area, is_focused, canvas);
        }
    }
    let track = Rect { x: parts.list.right().saturating_sub(1), width: 1, ..parts.rows };
    let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
    scrollbar::paint(track, canvas.buffer, theme, caps, discover.shown().len(), discover.top);
    detail(app, parts.detail, canvas);
    canvas.painted.scrolled = Some(Scrolled { area: parts.rows, first: discover.top });
}

fn title(app: &App) -> String {
    let service = fleet_core::beacon::SERVICE_TYPE;
    let Some(interfaces) = &app.discover.interfaces else { return format!("mDNS {service}") };
    let names = interfaces.iter().take(INTERFACES_MAX).map(|interface| escaped(&interface.name));
    let names = names.collect::<Vec<_>>().join(" ");
    let names = match interfaces.len() {
        0 => "no interface".to_owned(),
        len if len > INTERFACES_MAX => format!("{names} and {} more", len - INTERFACES_MAX),
        _ => names,
    };
    format!("mDNS {service} on {names}")
}

fn notes(app: &App, canvas: &Canvas<'_>) -> [String; 2] {
    let discover = &app.discover;
    let dot = canvas.glyph(Glyph::Dot);
    let mut words = vec![match &discover.search {
        Search::Off => "not listening".to_owned(),
        Search::Failed(_) => format!("{} not listening", canvas.glyph(Glyph::Failed)),
        Search::On(since) => {
            let secs = app.desk.now.since_start.saturating_sub(*since).as_secs();
            format!("{} listening {secs} s", canvas.glyph(Glyph::Busy))
        }
    }];
    let all = discover.seen.rows().len();
    words.push(format!("{} found", grouped(all + discover.seen.left_out)));
    if discover.seen.left_out > 0 {
        words.push(format!("{} not shown", grouped(discover.seen.left_out)));
    }
    let (marked, hidden) = discover.marked();
    if marked > 0 {
        let hidden = if hidden > 0 { format!(" ({hidden} hidden)") } else { String::new() };
        words.push(format!("{marked} marked{hidden}"));
    }
    let separator = format!(" {dot} ");
    [words.join(&separator), words.get(1..).unwrap_or_default().join(&separator)]
}

/// The columns for what is shown. What is too much is taken from the hosts first: whoever is called
/// otherwise than his host is known by his id.
fn columns(app: &App, inside: Rect) -> Columns {
    let wanted = Wanted::of(app);
    let version = if inside.width >= 70 { wanted.version } else { 0 };
    let gaps = if version > 0 { 4 } else { 3 } * GAP;
    let room = inside.width.saturating_sub(MARK_WIDTH + version + wanted.state + gaps);
    let address = wanted.address.min(room / 2);
    let names = room - address;
    let device = wanted.device.min(names - wanted.host.min(names / 4));
    let host = wanted.host.min(names - device);
    let mut x = inside.x + MARK_WIDTH;
    let mut take = |width: u16| {
        let column = Rect { x, width: width.min(inside.right().saturating_sub(x)), ..inside };
        x += if width > 0 { width + GAP } else { 0 };
        column
    };
    Columns {
        device: take(device),
        host: take(host),
        address: take(address),
        version: take(version),
        state: take(wanted.state),
    }
}

/// How wide the columns would have to be.
struct Wanted {
    device: u16,
    host: u16,
    address: u16,
    version: u16,
    state: u16,
}

impl Wanted {
    fn of(app: &App) -> Self {
        let discover = &app.discover;
        let interfaces = discover.interfaces.as_deref().unwrap_or_default();
        let width = |text: &str| u16::try_from(text.width()).unwrap_or(u16::MAX);
        // No less than the titles.
        let mut wanted = Self { device: 6, host: 4, address: 7, version: 7, state: 5 };
        for seen in discover.shown() {
            let known = discover.known(seen, &app.desk);
            wanted.device = wanted.device.max(width(&seen.label(known)));
            let (state, _) = seen.state(app.desk.settings.identity, known);
            wanted.state = wanted.state.max(width(state));
            wanted.host = wanted.host.max(width(&host(seen)));
            let address = seen.address(interfaces).unwrap_or_default();
            wanted.address = wanted.address.max(width(&address));
            wanted.version = wanted.version.max(width(&version(seen)));
        }
        wanted.device = wanted.device.min(NAME_MAX);
        wanted.host = wanted.host.min(NAME_MAX);
        wanted.address = wanted.address.min(ADDRESS_MAX);
        wanted.version = wanted.version.min(VERSION_MAX);
        wanted
    }
}

/// The host's name, without the part that all of them have.
fn host(seen: &Seen) -> String {
    let host = seen.sighting.device.host.to_string();
    host.strip_suffix(".local").map(str::to_owned).unwrap_or(host)
}

fn version(seen: &Seen) -> String {
    seen.sighting.device.version.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The columns' titles; the filter stands in their line while there is one.
fn heading(app: &App, area: Rect, columns: &Columns, canvas: &mut Canvas<'_>) {
    let discover = &app.discover;
    if let Some(typing) = &discover.typing {
        let x = canvas.put(area.x, area.y, area.right(), "/", Role::Accent);
        let room = Rect { x, width: area.right().saturating_sub(x), ..area };
        let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
        canvas.painted.cursor = field::paint(typing, room, canvas.buffer, theme, caps);
        return;
    }
    if !discover.filter_text().is_empty() {
        let filter = format!("filter {}", escaped(discover.filter_text()));
        let x = canvas.put(area.x, area.y, area.right(), &filter, Role::Accent) + 2;
        let all = discover.seen.rows().len();
        let text = format!("{} of {}", grouped(discover.shown().len()), grouped(all));
        canvas.put(x, area.y, area.right(), &text, Role::Plain);
        return;
    }
    for (column, title) in [
        (columns.device, "DEVICE"),
        (columns.host, "HOST"),
        (columns.address, "ADDRESS"),
        (columns.version, "VERSION"),
        (columns.state, "STATE"),
    ] {
        canvas.put(column.x, area.y, column.right(), title, Role::Head);
    }
}

fn row(app: &App, seen: &Seen, area: Rect, columns: &Columns, canvas: &mut Canvas<'_>) {
    let discover = &app.discover;
    let ours = app.desk.settings.identity;
    let known = discover.known(seen, &app.desk);
    let quiet = if seen.is_new(ours) { Role::Plain } else { Role::Muted };
    let mut put = |column: Rect, text: &str, role: Role| {
        canvas.put(column.x, area.y, column.right(), text, role);
    };
    let mark = Rect { width: MARK_WIDTH, ..area };
    if discover.is_marked(seen) {
        put(mark, "[x]", Role::Accent);
    } else if seen.is_new(ours) {
        put(mark, "[ ]", Role::Muted);
    }
    put(columns.device, &seen.label(known), quiet);
    put(columns.host, &host(seen), quiet);
    let interfaces = discover.interfaces.as_deref().unwrap_or_default();
    put(columns.address, &seen.address(interfaces).unwrap_or_default(), quiet);
    put(columns.version, &version(seen), quiet);
    let (word, tone) = seen.state(ours, known);
    put(columns.state, word, Role::from(tone));
    if discover.range_from.as_ref() == Some(&seen.name) {
        canvas.shade(Rect { width: MARK_WIDTH, ..area }, Role::Accent);
    }
}

/// Who the device at the cursor is, and why it cannot be configured, if so.
fn detail(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let Some(seen) = app.discover.at_cursor().filter(|_| !area.is_empty()) else { return };
    let mut identity = who(app, seen, canvas);
    let why_not = app.discover.why_not(seen, &app.desk);
    match (why_not, area.height) {
        (Some(reason), 1) => {
            lines(&reason, area, Role::Warn, canvas);
        }
        (Some(reason), _) => {
            lines(&identity, Rect { height: 1, ..area }, Role::Muted, canvas);
            let rest = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
            lines(&reason, rest, Role::Warn, canvas);
        }
        (None, _) => {
            if app.discover.range_from.is_some() {
                identity.insert_str(0, "range: move, then v   ");
            }
            lines(&identity, area, Role::Muted, canvas);
        }
    }
}

fn who(app: &App, seen: &Seen, canvas: &Canvas<'_>) -> String {
    let device = &seen.sighting.device;
    let mut words = Vec::new();
    if let Some(row) = app.discover.known(seen, &app.desk) {
        words.push(format!("in the fleet as {}, {}", row.index.id, row.index.status.word()));
    }
    if let Some(fingerprint) = device.fingerprint {
        words.push(format!("key {fingerprint}"));
    }
    words.extend(others(seen, app.discover.interfaces.as_deref().unwrap_or_default()));
    if device.state == Some(DeviceState::Unclaimed) {
        let asks = match device.claim {
            Some(ClaimMode::Open) => Some("its time to be claimed runs"),
            Some(ClaimMode::Code) => Some("it asks for its claim code"),
            Some(ClaimMode::Key) => Some("it asks for its owner's claim key"),
            Some(ClaimMode::Disabled) | None => None,
        };
        words.extend(asks.map(str::to_owned));
    }
    if device.device_id.is_none() || device.fingerprint.is_none() {
        words.push(device.name.to_string());
    }
    words.join(&format!(" {} ", canvas.glyph(Glyph::Dot)))
}

/// Where else it answers.
fn others(seen: &Seen, interfaces: &[Interface]) -> Option<String> {
    let addresses = &seen.target()?.addresses;
    let others: Vec<_> = addresses.iter().skip(1).map(|it| shown(it, interfaces)).collect();
    (!others.is_empty()).then(|| format!("also {}", others.join(" ")))
}

/// What to say in the place of rows.
fn empty(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let discover = &app.discover;
    let has_no_interface = discover.interfaces.as_ref().is_some_and(Vec::is_empty);
    let texts = match &discover.search {
        _ if !discover.seen.rows().is_empty() => vec![
            format!(
                "0 of {} match \"{}\"",
                grouped(discover.seen.rows().len()),
                escaped(discover.filter_text())
            ),
            "Esc clears the filter, / changes it.".to_owned(),
        ],
        Search::Failed(reason) => vec![
            format!("Devices cannot be looked for: {}", escaped(reason)),
            "^r tries again. mDNS needs a network interface and UDP port 5353.".to_owned(),
        ],
        Search::On(_) if has_no_interface => vec![
            "No network interface is up on which devices could be looked for.".to_owned(),
            "They are looked for as soon as there is one.".to_owned(),
        ],
        Search::On(since) if app.desk.now.since_start.saturating_sub(*since) < SILENCE => {
            vec!["Asking the local network for agents.".to_owned()]
        }
        Search::On(_) | Search::Off => vec![
            "No agent has answered yet.".to_owned(),
            "Is `fleetd agent` running on a device of this network, and UDP port 5353 open?"
                .to_owned(),
            "^r asks again. fleet-tui --interface NAME says where to look.".to_owned(),
        ],
    };
    let mut rest = Rect { x: area.x + 2, width: area.width.saturating_sub(4), ..area };
    for text in texts {
        let role = if matches!(discover.search, Search::Failed(_)) && rest.y == area.y {
            Role::Crit
        } else {
            Role::Plain
        };
        let taken = lines(&text, rest, role, canvas);
        rest = Rect { y: rest.y + taken, height: rest.height.saturating_sub(taken), ..rest };
    }
}
