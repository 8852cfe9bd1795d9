//! What every screen has: who and where one is, the screens, what was last said, the keys.

use std::fmt::Write as _;

use fleet_core::api::{DeviceStatus, Me};
use fleet_core::glyph::Glyph;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr as _;

use super::Canvas;
use crate::cells::cut;
use crate::keys::{self, Binding};
use crate::layout;
use crate::state::discover::form::FormPlace;
use crate::state::link::Phase;
use crate::state::{App, Desk, Screen};
use crate::theme::Role;

/// The screens in the order of their keys, with what is counted beside them.
const TABS: [(char, Screen, &str); 6] = [
    ('1', Screen::Fleet, "Fleet"),
    ('4', Screen::Batches, "Batch"),
    ('5', Screen::Discover, "Discover"),
    ('6', Screen::Events, "Events"),
    ('7', Screen::Pending, "Pending"),
    ('8', Screen::Keys, "Keys"),
];

/// Cells between the two sides of the first line, and at its ends.
const GAPS: u16 = 4;
/// The longest label of a key in the first line.
const LABEL_WIDTH_MAX: usize = 20;
/// The longest scope there, where a longer one has no room.
const SCOPE_WIDTH_MAX: usize = 16;

/// The first line: where one is on the left; the link, what one may do, and the time on the right.
pub(super) fn header(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let desk = &app.desk;
    canvas.shade(area, Role::Context);
    let left = crumbs(app, canvas);
    // Where one is says more than who one is.
    let room = area.width.saturating_sub(u16::try_from(left.width()).unwrap_or(u16::MAX) + GAPS);
    let right = right_side(desk, room, canvas);
    let from =
        canvas.put_right(area.x, area.y, area.right().saturating_sub(1), &right, Role::Context);
    canvas.put(area.x + 1, area.y, from.saturating_sub(1), &left, Role::Context);
    if !desk.link.is_live() || desk.link.silence(desk.now.since_start).is_some() {
        return;
    }
    let glyph = canvas.glyph(Glyph::Live).to_string();
    let role = if desk.link.trouble.is_some() { Role::Warn } else { Role::Ok };
    canvas.put(from, area.y, area.right(), &glyph, role);
}

/// Where one is, as the header and the terminal's title say it.
pub(crate) fn crumbs(app: &App, canvas: &Canvas<'_>) -> String {
    let desk = &app.desk;
    let arrow = canvas.glyph(Glyph::Cursor);
    let mut text = "fleet-tui".to_owned();
    let is_low = layout::is_low(desk.size);
    text.push_str("  ");
    text.push_str(&place(desk));
    let name = match desk.screen() {
        Screen::Fleet => "Fleet".to_owned(),
        Screen::Discover if is_low => "Discover".to_owned(),
        Screen::Discover => "Discover & configure".to_owned(),
        Screen::Pending if is_low => "Pending".to_owned(),
        Screen::Pending => "Pending devices".to_owned(),
        Screen::Events => "Events".to_owned(),
        Screen::Batches => "Batch".to_owned(),
        Screen::Keys => "Keys".to_owned(),
        Screen::Batch => {
            let open = app.batches.open.as_ref();
            let known = open.and_then(|open| app.batches.known(open.id));
            let id = || open.map(|open| open.id.to_string()).unwrap_or_default();
            format!("Batch {arrow} {}", known.map_or_else(id, |known| known.words.clone()))
        }
        Screen::Device => {
            let row = app.device.as_ref().and_then(|device| device.row());
            let id = row.map_or_else(String::new, |row| row.index.id.to_string());
            // Without room, what is open says more than the way there.
            if is_low { id } else { format!("Fleet {arrow} {id}") }
        }
    };
    format!("{text} {arrow} {name}")
}

/// The context, or else the server without what all servers' URLs have.
fn place(desk: &Desk) -> String {
    let settings = &desk.settings;
    match &settings.context {
        Some(context) => context.to_string(),
        None => {
            settings.server.split_once("://").map_or(&*settings.server, |(_, it)| it).to_owned()
        }
    }
}

/// What is wrong, and where, in few characters: a title is read in a row of tabs.
pub(super) fn title(app: &App) -> String {
    let desk = &app.desk;
    let counts = desk.data.counts();
    let away = if desk.link.is_live() { "" } else { "○ " };
    let offline = counts.of(DeviceStatus::Offline) + counts.of(DeviceStatus::Lost);
    let trouble = if offline > 0 { format!("○{offline} ") } else { String::new() };
    let place = place(desk);
    format!("{away}{trouble}fleet-tui {place}")
}

/// The link, what one may do, whose key it is, who sits here, and the time: as much as there is room
/// for.
fn right_side(desk: &Desk, room: u16, canvas: &Canvas<'_>) -> String {
    let is_wide = !layout::is_low(desk.size);
    let silence = desk.link.silence(desk.now.since_start);
    let silent = silence.map(|silence| format!("silent {}s", silence.as_secs()));
    let (glyph, word) = match &desk.link.phase {
        Phase::Live => match &silent {
            Some(silent) => (Glyph::Busy, silent.as_str()),
            None if desk.link.trouble.is_some() => (Glyph::Live, "degraded"),
            None => (Glyph::Live, "live"),
        },
        Phase::Connecting => (Glyph::Busy, "connecting"),
        Phase::Down { is_denied: true, .. } => (Glyph::Down, "denied"),
        Phase::Down { .. } => (Glyph::Down, "offline"),
    };
    let rights = if desk.why_not_change().is_some() { "read-only" } else { "rw" };
    let time = desk.now.wall.to_string();
    // The time of day, to the second, in UTC.
    let time = time.get(11..19).map(|time| format!("{time}Z")).unwrap_or_default();
    let glyph = canvas.glyph(glyph);
    let with = |who: &str| {
        let who = if who.is_empty() { String::new() } else { format!("{who}   ") };
        if is_wide {
            format!("{glyph} {word}   {rights}   {who}{}   {time}", desk.settings.user)
        } else {
            format!("{glyph} {word} {rights} {}{time}", who.replace("   ", " "))
        }
    };
    let texts = desk.me.as_ref().map(who).unwrap_or_default();
    let fitting = texts.iter().map(|who| with(who)).find(|text| text.width() <= usize::from(room));
    fitting.unwrap_or_else(|| with(""))
}

/// Whose key it is and what it may do, in ever fewer words.
fn who(me: &Me) -> Vec<String> {
    let label = if me.label.raw().is_empty() { me.id.clone() } else { me.label.to_string() };
    let label = match cut(&label, LABEL_WIDTH_MAX).as_slice() {
        [first, _, ..] => format!("{first}…"),
        _ => label.clone(),
    };
    let role = me.role.map_or_else(|| me.kind.to_string(), |role| role.to_string());
    let who = format!("{label} ({role})");
    let Some(scope) = &me.scope else { return vec![who, label] };
    let scope = scope.to_string();
    let short = match cut(&scope, SCOPE_WIDTH_MAX).as_slice() {
        [first, _, ..] => format!("{first}…"),
        _ => scope.clone(),
    };
    vec![
        format!("{who} scope: {scope}"),
        format!("{who} scope: {short}"),
        format!("{label} scope: {short}"),
        format!("scope: {short}"),
        "scoped".to_owned(),
    ]
}

/// The second line: the screens.
pub(super) fn tabs(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let is_low = layout::is_low(app.desk.size);
    let mut x = area.x + 2;
    for (key, screen, name) in TABS {
        let mut text = format!("{key} {name}");
        let count = count(app, screen);
        if count > 0 {
            let _ = write!(text, " {}", super::fleet::grouped(count));
        }
        let is_here = screen == app.desk.screen()
            || (screen == Screen::Fleet && app.desk.screen() == Screen::Device)
            || (screen == Screen::Batches && app.desk.screen() == Screen::Batch);
        let is_barred = screen == Screen::Keys && app.desk.why_not_keys().is_some();
        let role = match (is_here, is_barred) {
            (true, _) => Role::Head,
            (false, true) => Role::Muted,
            (false, false) => Role::Plain,
        };
        x = canvas.put(x, area.y, area.right(), &text, role) + if is_low { 2 } else { 4 };
    }
    let help = if is_low { "? : /" } else { "? help   : command   / filter" };
    canvas.put_right(x, area.y, area.right().saturating_sub(1), help, Role::Muted);
}

fn count(app: &App, screen: Screen) -> usize {
    match screen {
        Screen::Pending => app.desk.data.counts().of(DeviceStatus::Pending) as usize,
        Screen::Discover => app.discover.new_devices(),
        Screen::Batches => app.batches.going_on(),
        Screen::Fleet | Screen::Device | Screen::Events | Screen::Batch | Screen::Keys => 0,
    }
}

/// The last line but one: what was last said.
pub(super) fn notice(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    if let Some((notice, _)) = &app.desk.notice {
        let role = if notice.is_error { Role::Crit } else { Role::Plain };
        let glyph = if notice.is_error { Glyph::Failed } else { Glyph::Cursor };
        let text = format!("{} {}", canvas.glyph(glyph), notice.text);
        // However long the words are, the keys stand behind them.
        let way_out = if notice.is_error { "  (Esc)" } else { "" };
        let is_cut = text.width() + way_out.len() >= usize::from(area.width);
        let way_out = match (is_cut, notice.is_error) {
            (true, true) => "  (! shows all, Esc)",
            (true, false) => "  (! shows all)",
            (false, _) => way_out,
        };
        let right = area.right().saturating_sub(u16::try_from(way_out.len()).unwrap_or_default());
        let x = canvas.put(area.x + 1, area.y, right, &text, role);
        canvas.put(x, area.y, area.right(), way_out, role);
    }
}

/// The last line: keys, as many as there is room for, those of the screen first.
pub(super) fn hints(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let scope = app.desk.screen().scope();
    let mut x = area.x + 1;
    // The screen's own keys do not hold over it, nor while something is typed there.
    let others: &[(&str, &str)] = if app.desk.popup.is_some() {
        &[("Esc", "close")]
    } else if app.is_typing() {
        &[("Enter", "take it"), ("Esc", "give it up")]
    } else if let Some(place) = app.form_place() {
        match place {
            FormPlace::Url | FormPlace::Tags | FormPlace::Code => {
                &[("Tab", "next"), ("Esc", "to the list")]
            }
            FormPlace::Button => {
                &[("Enter", "configure…"), ("Tab", "next"), ("Esc", "to the list")]
            }
        }
    } else {
        &[]
    };
    for (key, hint) in others {
        x = canvas.put(x, area.y, area.right(), key, Role::Accent) + 1;
        x = canvas.put(x, area.y, area.right(), hint, Role::Muted) + 2;
    }
    if !others.is_empty() {
        return;
    }
    let pane = app.device.as_ref().map(|device| device.focus);
    let is_barred = scope == keys::Scope::Keys && app.desk.why_not_keys().is_some();
    for binding in hinted(scope) {
        if is_barred && binding.scopes.contains(&scope) {
            continue;
        }
        if scope == keys::Scope::Device && !is_of_pane(binding.action, pane.unwrap_or_default()) {
            continue;
        }
        let key = canvas.keys(binding.key());
        let width = key.width() + 1 + binding.hint.width();
        let width = u16::try_from(width).unwrap_or(u16::MAX);
        if x.saturating_add(width) > area.right() {
            return;
        }
        x = canvas.put(x, area.y, area.right(), &key, Role::Accent) + 1;
        x = canvas.put(x, area.y, area.right(), binding.hint, Role::Muted) + 2;
    }
}

/// Whether a key of a device's screen has to do with what stands in a pane.
fn is_of_pane(action: keys::Action, pane: layout::Pane) -> bool {
    use keys::Action;
    match action {
        Action::TakeBack => pane == layout::Pane::Commands,
        Action::Versions => pane == layout::Pane::Config,
        Action::Filter | Action::Views | Action::Follow => pane == layout::Pane::Logs,
        Action::Full
        | Action::Range
        | Action::CursorBack
        | Action::PanBack
        | Action::ZoomIn
        | Action::LiveEdge
        | Action::Freeze => pane != layout::Pane::Logs,
        _ => true,
    }
}

/// The bindings that a screen's line of hints has.
pub(crate) fn hinted(scope: keys::Scope) -> impl Iterator<Item = &'static Binding> {
    let is_own = move |binding: &&Binding| binding.scopes.contains(&scope);
    let everywhere = keys::bindings().iter().filter(move |binding| !is_own(binding));
    let own = keys::bindings().iter().filter(is_own);
    own.chain(everywhere).filter(move |binding| binding.holds(scope) && !binding.hint.is_empty())
}

/// A terminal without room for screens still says how the fleet is.
pub(super) fn too_small(app: &App, canvas: &mut Canvas<'_>) {
    let desk = &app.desk;
    let counts = desk.data.counts();
    let mut summary = String::new();
    for status in [
        DeviceStatus::Lost,
        DeviceStatus::Offline,
        DeviceStatus::Late,
        DeviceStatus::Pending,
        DeviceStatus::Online,
    ] {
        if counts.of(status) > 0 {
            let _ = write!(summary, "{}{} ", canvas.glyph(Glyph::of(status)), counts.of(status));
        }
    }
    let needs = format!("fleet-tui needs {}×{}", layout::SMALLEST.width, layout::SMALLEST.height);
    let has = format!("this terminal is {}×{}", desk.size.width, desk.size.height);
    let link = if desk.link.is_live() { "" } else { "the server is away" };
    for (y, text) in (0..).zip([summary.as_str(), &needs, &has, link, "^c quits"]) {
        canvas.put(0, y, desk.size.width, text, Role::Plain);
    }
}
