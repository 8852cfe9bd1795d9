//! What devices are configured with.

use fleet_core::glyph::Glyph;
use fleet_core::net::url::ServerUrl;
use fleet_core::untrusted::escaped;
use ratatui::layout::{Position, Rect};

use crate::layout::DiscoverPane;
use crate::state::App;
use crate::state::discover::form::FormPlace;
use crate::state::link::Phase;
use crate::theme::Role;
use crate::view::{Canvas, pane};
use crate::widgets::field::{self, Field};

/// Cells of the labels.
const LABEL_WIDTH: u16 = 12;
/// Lines of the form where every field has one of its own.
const HEIGHT: u16 = 11;
/// Lines that the field for a claim code takes besides.
const CODE_HEIGHT: u16 = 3;

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
    let button = button(count, canvas);
    let parts = Parts { app, is_focused, button };
    let height = HEIGHT + if discover.form.has_code() { CODE_HEIGHT } else { 0 };
    if inside.height >= height {
        parts.high(inside, canvas);
    } else {
        parts.low(inside, canvas);
    }
}

fn button(count: usize, canvas: &Canvas<'_>) -> (String, Role) {
    let ellipsis = canvas.glyph(Glyph::Ellipsis);
    match count {
        0 => (format!("[ Configure{ellipsis} ]"), Role::Muted),
        _ => (format!("[ Configure {count}{ellipsis} ]"), Role::Plain),
    }
}

/// What the form is painted from.
struct Parts<'a> {
    app: &'a App,
    is_focused: bool,
    button: (String, Role),
}

impl Parts<'_> {
    /// Each field has a line of its own below its label.
    fn high(&self, area: Rect, canvas: &mut Canvas<'_>) {
        let form = &self.app.discover.form;
        let mut rows = area.rows();
        let mut next = || rows.next().unwrap_or_default();
        let told = url_note(self.app, canvas);
        head("Server URL", told, self.is_at(FormPlace::Url), next(), canvas);
        text(&form.url, self.is_at(FormPlace::Url), next(), canvas);
        next();
        let told = ("noted when it is in".to_owned(), Role::Muted);
        head("Tags", told, self.is_at(FormPlace::Tags), next(), canvas);
        text(&form.tags, self.is_at(FormPlace::Tags), next(), canvas);
        next();
        if form.has_code() {
            let told = ("sudo fleetd info shows it".to_owned(), Role::Muted);
            head("Claim code", told, self.is_at(FormPlace::Code), next(), canvas);
            text(&form.code, self.is_at(FormPlace::Code), next(), canvas);
            next();
        }
        let told = ("stays here".to_owned(), Role::Muted);
        let row = next();
        head("Key", told, false, row, canvas);
        canvas.put(row.x + LABEL_WIDTH, row.y, row.right(), &self.key(), Role::Plain);
        next();
        let (words, role) = link_note(self.app, canvas);
        let row = next();
        canvas.put(row.x, row.y, row.right(), &words, role);
        next();
        self.button(next(), canvas);
    }

    /// Each field stands beside its label.
    fn low(&self, area: Rect, canvas: &mut Canvas<'_>) {
        let form = &self.app.discover.form;
        let mut rows = area.rows();
        let mut next = || rows.next().unwrap_or_default();
        let value = |row: Rect| Rect {
            x: row.x + LABEL_WIDTH.min(row.width),
            width: row.width.saturating_sub(LABEL_WIDTH),
            ..row
        };
        let (row, none) = (next(), (String::new(), Role::Muted));
        head("Server URL", none.clone(), self.is_at(FormPlace::Url), row, canvas);
        text(&form.url, self.is_at(FormPlace::Url), value(row), canvas);
        let ((words, role), row) = (url_note(self.app, canvas), value(next()));
        canvas.put(row.x, row.y, row.right(), &words, role);
        let row = next();
        head("Tags", none.clone(), self.is_at(FormPlace::Tags), row, canvas);
        text(&form.tags, self.is_at(FormPlace::Tags), value(row), canvas);
        if form.has_code() {
            let row = next();
            head("Claim code", none.clone(), self.is_at(FormPlace::Code), row, canvas);
            text(&form.code, self.is_at(FormPlace::Code), value(row), canvas);
        }
        let row = next();
        head("Key", none, false, row, canvas);
        let row = value(row);
        let end = canvas.put(row.x, row.y, row.right(), &self.key(), Role::Plain);
        let (words, role) = link_note(self.app, canvas);
        canvas.put(end + 3, row.y, row.right(), &words, role);
        self.button(next(), canvas);
    }

    fn is_at(&self, place: FormPlace) -> bool {
        self.is_focused && self.app.discover.form.place == place
    }

    fn key(&self) -> String {
        let server = self.app.desk.link.server.as_ref();
        server.map_or_else(|| "not known yet".to_owned(), |server| server.key.to_string())
    }

    fn button(&self, row: Rect, canvas: &mut Canvas<'_>) {
        let (words, role) = &self.button;
        let end = canvas.put(row.x, row.y, row.right(), words, *role);
        if self.is_at(FormPlace::Button) && !row.is_empty() {
            canvas.shade(Rect { width: end.saturating_sub(row.x), ..row }, Role::Select);
            canvas.painted.cursor = Some(Position::new(row.x, row.y));
        }
    }
}

/// A label, and on the right a word on what it is for.
fn head(name: &str, told: (String, Role), is_at: bool, row: Rect, canvas: &mut Canvas<'_>) {
    let role = if is_at { Role::Accent } else { Role::Muted };
    let x = canvas.put(row.x, row.y, row.right(), name, role);
    canvas.put_right(x + 1, row.y, row.right(), &told.0, told.1);
}

/// What was typed; with a cursor only where keys go.
fn text(field: &Field, is_at: bool, room: Rect, canvas: &mut Canvas<'_>) {
    if room.is_empty() {
        return;
    }
    if is_at {
        let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
        canvas.painted.cursor = field::paint(field, room, canvas.buffer, theme, caps);
        canvas.shade(room, Role::Accent);
    } else if field.is_empty() {
        canvas.put(room.x, room.y, room.right(), "none", Role::Muted);
    } else {
        canvas.put(room.x, room.y, room.right(), &escaped(field.text()), Role::Plain);
    }
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
        return ("found from its host only".to_owned(), Role::Muted);
    }
    match form.server_url() {
        Ok(Some(_)) => ("tried first by devices".to_owned(), Role::Muted),
        _ => ("before the server's own".to_owned(), Role::Muted),
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
