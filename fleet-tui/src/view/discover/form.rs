//! What devices are configured with.

use fleet_core::glyph::Glyph;
use fleet_core::net::url::ServerUrl;
use ratatui::layout::Rect;

use super::lines;
use crate::layout::DiscoverPane;
use crate::state::App;
use crate::state::discover::form::FormPlace;
use crate::state::link::Phase;
use crate::theme::Role;
use crate::view::{Canvas, pane};
use crate::widgets::field::{self, Field};

/// Cells of the labels.
const LABEL_WIDTH: u16 = 12;

/// Paints the form.
pub(super) fn paint(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let discover = &app.discover;
    let is_focused = discover.pane == DiscoverPane::Form;
    let count = discover.chosen(&app.desk).len();
    let title = match (discover.marked().0, count) {
        (0, 0) => "Configure".to_owned(),
        (0, _) => "Configure the one at the cursor".to_owned(),
        (_, 1) => "Configure 1 marked device".to_owned(),
        (_, count) => format!("Configure {count} marked devices"),
    };
    let inside = pane::paint(area, &title, &[], is_focused, canvas);
    let inside = Rect { x: inside.x + 1, width: inside.width.saturating_sub(2), ..inside };
    let is_high = inside.height >= 11;
    let mut rows = inside.rows();
    let mut next = |is_wanted: bool| if is_wanted { rows.next() } else { None };
    let form = &discover.form;
    let is_at = |place: FormPlace| is_focused && form.place == place;

    text(&form.url, "Server URL", is_at(FormPlace::Url), next(true), canvas);
    note(url_note(app, canvas), next(true), canvas);
    next(is_high);
    let key = app.desk.link.server.as_ref().map(|server| server.key.to_string());
    label("Key", next(true), canvas, &key.unwrap_or_else(|| "not known yet".to_owned()));
    note(("stays here: no device gets it".to_owned(), Role::Muted), next(is_high), canvas);
    next(is_high);
    text(&form.tags, "Tags", is_at(FormPlace::Tags), next(true), canvas);
    note(("noted once a device is in the fleet".to_owned(), Role::Muted), next(is_high), canvas);
    next(is_high);
    note(link_note(app, canvas), next(true), canvas);
    next(is_high);
    if let Some(row) = next(true) {
        let role = if count > 0 { Role::Plain } else { Role::Muted };
        let button = if count > 0 {
            format!("[ Configure {count}… ]")
        } else {
            "[ Configure… ]".to_owned()
        };
        let end = canvas.put(row.x, row.y, row.right(), &button, role);
        if is_at(FormPlace::Button) {
            canvas.shade(Rect { width: end - row.x, ..row }, Role::Select);
            canvas.painted.cursor = Some(ratatui::layout::Position::new(row.x, row.y));
        }
    }
}

fn label(name: &str, row: Option<Rect>, canvas: &mut Canvas<'_>, value: &str) {
    let Some(row) = row else { return };
    canvas.put(row.x, row.y, row.right(), name, Role::Muted);
    canvas.put(row.x + LABEL_WIDTH, row.y, row.right(), value, Role::Plain);
}

fn text(field: &Field, name: &str, is_at: bool, row: Option<Rect>, canvas: &mut Canvas<'_>) {
    let Some(row) = row else { return };
    let role = if is_at { Role::Accent } else { Role::Muted };
    canvas.put(row.x, row.y, row.right(), name, role);
    let x = row.x + LABEL_WIDTH;
    let room = Rect { x, width: row.right().saturating_sub(x), ..row };
    if is_at || !field.is_empty() {
        let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
        let cursor = field::paint(field, room, canvas.buffer, theme, caps);
        if is_at {
            canvas.painted.cursor = cursor;
        }
    } else {
        canvas.put(x, row.y, row.right(), "none", Role::Muted);
    }
    if is_at {
        canvas.shade(room, Role::Accent);
    }
}

fn note(note: (String, Role), row: Option<Rect>, canvas: &mut Canvas<'_>) {
    let Some(row) = row else { return };
    let area = Rect { x: row.x + LABEL_WIDTH, width: row.width.saturating_sub(LABEL_WIDTH), ..row };
    lines(&note.0, area, note.1, canvas);
}

/// What the URL means for the chosen devices.
fn url_note(app: &App, canvas: &Canvas<'_>) -> (String, Role) {
    let form = &app.discover.form;
    let Ok(url) = form.url.text().parse::<ServerUrl>() else {
        let glyph = canvas.glyph(Glyph::Failed);
        return (format!("{glyph} no server URL"), Role::Crit);
    };
    if url.is_loopback() {
        // A server tells no other host of it.
        return ("others are told its own ones".to_owned(), Role::Muted);
    }
    match form.server_url() {
        Ok(Some(_)) => ("tried first by the devices".to_owned(), Role::Muted),
        _ => ("before the server's own ones".to_owned(), Role::Muted),
    }
}

/// Whether anything can be configured now.
fn link_note(app: &App, canvas: &Canvas<'_>) -> (String, Role) {
    let desk = &app.desk;
    let bad = canvas.glyph(Glyph::Failed);
    match &desk.link.phase {
        _ if desk.settings.is_read_only => ("this console is read-only".to_owned(), Role::Warn),
        Phase::Live => (format!("{} the server answers", canvas.glyph(Glyph::Done)), Role::Ok),
        Phase::Connecting => (format!("{} connecting", canvas.glyph(Glyph::Busy)), Role::Busy),
        Phase::Down { is_denied: true, .. } => (format!("{bad} this key is denied"), Role::Crit),
        Phase::Down { .. } => (format!("{bad} the server is away"), Role::Crit),
    }
}
