//! Keys to the server.
//!
//! ```text
//!  7 keys   ! 2 end soon   filter …                      sort what ends first     the line, or the banner
//!    STATE     LABEL           KIND     ROLE     SCOPE         EXPIRES  USED      titles
//!  ›! active   night shift     operator viewer   site=lyon     in 3d    2m        rows
//!  …                                                                              the one at the cursor
//! ```

use fleet_core::api::role::words;
use fleet_core::api::{KeyState, KeyView, Role as KeyRole};
use fleet_core::glyph::Glyph;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;
use ratatui::layout::{Position, Rect};

use super::fleet::{banner, grouped};
use super::{Canvas, Scrolled};
use crate::cells;
use crate::layout;
use crate::state::App;
use crate::state::api_keys::{self, End, KeySort, label, may, reach};
use crate::state::link::Phase;
use crate::theme::Role;
use crate::widgets::{field, scrollbar};

/// Cells before the first column: the cursor.
const BEFORE: u16 = 2;
/// Cells of a label in the place of rows.
const LABEL_WIDTH: u16 = 10;
/// The widest column of labels.
const LABEL_WIDTH_MAX: u16 = 32;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    State,
    Label,
    Kind,
    Role,
    Rights,
    Scope,
    Author,
    Expires,
    Used,
    From,
    Id,
}

/// The columns in their order, with title and width, and which goes first where there is no room.
const COLUMNS: [(Column, &str, u16, u8); 11] = [
    (Column::State, "STATE", 10, 0),
    (Column::Label, "LABEL", 14, 0),
    (Column::Kind, "KIND", 8, 0),
    (Column::Role, "ROLE", 8, 0),
    (Column::Rights, "RIGHTS", 11, 4),
    (Column::Scope, "FOR", 12, 2),
    (Column::Author, "BY", 13, 5),
    (Column::Expires, "EXPIRES", 8, 0),
    (Column::Used, "USED", 5, 1),
    (Column::From, "FROM", 15, 3),
    (Column::Id, "ID", 10, 6),
];

/// Paints the list and what stands above and below it.
pub(super) fn paint(app: &App, canvas: &mut Canvas<'_>) {
    let parts = layout::api_keys(app.desk.size);
    let desk = &app.desk;
    if let Some(reason) = desk.why_not_keys() {
        alone(app, reason, parts.line.union(parts.rows), canvas);
        return;
    }
    let now = desk.link.server_time(desk.now.wall);
    line(app, now, parts.line, canvas);
    let keys = &app.keys;
    if keys.is_empty() {
        empty(app, parts.titles.union(parts.rows), canvas);
        return;
    }
    let columns = fitted(parts.rows.width.saturating_sub(BEFORE + 1));
    for (_, title, cell) in &columns {
        let x = parts.titles.x + BEFORE + cell.x;
        let indent = if *title == "STATE" { 2 } else { 0 };
        canvas.put(x + indent, parts.titles.y, x + cell.width, title, Role::Head);
    }
    let cursor = keys.at_cursor().map(|key| &key.id);
    for (area, key) in parts.rows.rows().zip(keys.in_sight()) {
        let area = Rect { width: area.width.saturating_sub(1), ..area };
        row(app, key, &columns, now, area, canvas);
        if cursor == Some(&key.id) {
            let glyph = canvas.glyph(Glyph::Cursor).to_string();
            canvas.put(area.x, area.y, area.right(), &glyph, Role::Accent);
            canvas.shade(area, Role::Select);
            if !keys.filter.is_typing() {
                canvas.painted.cursor = Some(Position::new(area.x, area.y));
            }
        }
    }
    let track = Rect { x: parts.rows.right().saturating_sub(1), width: 1, ..parts.rows };
    let look = canvas.look;
    scrollbar::paint(track, canvas.buffer, &look.theme, &look.caps, keys.len(), keys.top);
    if let Some(key) = keys.at_cursor() {
        detail(app, key, parts.detail, canvas);
    }
    canvas.painted.scrolled = Some(Scrolled { area: parts.rows, first: keys.top });
    if !desk.link.is_live() && desk.link.heard.is_some() {
        canvas.shade(parts.rows, Role::Stale);
    }
}

/// The columns that fit, with their titles: those that can be spared go first, and labels take what
/// is left.
fn fitted(room: u16) -> Vec<(Column, &'static str, Rect)> {
    let mut columns = COLUMNS.to_vec();
    let total = |columns: &[(Column, &str, u16, u8)]| {
        columns.iter().map(|column| column.2 + 1).sum::<u16>().saturating_sub(1)
    };
    while total(&columns) > room {
        let spare = columns.iter().enumerate().max_by_key(|(_, column)| column.3);
        match spare.map(|(place, column)| (place, column.3)) {
            Some((place, spare)) if spare > 0 => columns.remove(place),
            _ => break,
        };
    }
    let left = room.saturating_sub(total(&columns));
    if let Some(column) = columns.iter_mut().find(|column| column.0 == Column::Label) {
        column.2 = (column.2 + left).min(LABEL_WIDTH_MAX);
    }
    let left = room.saturating_sub(total(&columns));
    if let Some(column) = columns.iter_mut().find(|column| column.0 == Column::Scope) {
        column.2 += left;
    }
    let mut x = 0;
    let place = |(column, title, width, _): (Column, &'static str, u16, u8)| {
        let cell = Rect::new(x, 0, width.min(room.saturating_sub(x)), 1);
        x += width + 1;
        (column, title, cell)
    };
    columns.into_iter().map(place).collect()
}

fn line(app: &App, now: Timestamp, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, keys) = (&app.desk, &app.keys);
    if desk.link.wants_banner(desk.now.since_start) {
        let text = banner(app, canvas);
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Crit);
        return;
    }
    let good = keys.kept().iter().filter(|key| key.state(now).is_good()).count();
    let text = format!("{} of {} keys are good", grouped(good), grouped(keys.kept().len()));
    let mut x = canvas.put(area.x + 1, area.y, area.right(), &text, Role::Plain) + 3;
    for (end, word) in [(End::Past, "ended lately"), (End::Near, "to end within 14 days")] {
        let count = keys.kept().iter().filter(|key| api_keys::end(key, now) == end).count();
        if count > 0 {
            let text = format!("{} {count} {word}", canvas.glyph(Glyph::Pending));
            x = canvas.put(x, area.y, area.right(), &text, Role::Warn) + 3;
        }
    }
    if let Some(typing) = keys.filter.field() {
        x = canvas.put(x, area.y, area.right(), "/", Role::Accent);
        let room = Rect { x, width: area.right().saturating_sub(x) / 2, ..area };
        let look = canvas.look;
        canvas.painted.cursor = field::paint(typing, room, canvas.buffer, &look.theme, &look.caps);
        x = room.right() + 1;
    } else if !keys.filter.text().is_empty() {
        let text = format!("filter {}", escaped(keys.filter.text()));
        x = canvas.put(x, area.y, area.right(), &text, Role::Accent) + 2;
    }
    if let Some(failure) = &keys.failure {
        let text = format!("nothing newer is known: {failure}");
        canvas.put(x, area.y, area.right(), &text, Role::Warn);
        return;
    }
    let sort = match (keys.sort, keys.is_reversed) {
        (KeySort::Ends, false) => String::new(),
        (sort, false) => format!("sort {}", sort.word()),
        (sort, true) => format!("sort {}, the other way round", sort.word()),
    };
    canvas.put_right(x, area.y, area.right().saturating_sub(1), &sort, Role::Muted);
}

fn glyph(key: &KeyView, now: Timestamp) -> (Glyph, Role) {
    match key.state(now) {
        KeyState::Active if api_keys::end(key, now) == End::Near => (Glyph::Pending, Role::Warn),
        KeyState::Active => (Glyph::Live, Role::Ok),
        KeyState::Rotating => (Glyph::Busy, Role::Busy),
        KeyState::UsedUp => (Glyph::Rejected, Role::Muted),
        KeyState::Expired if api_keys::end(key, now) == End::Past => (Glyph::Down, Role::Warn),
        KeyState::Expired => (Glyph::Down, Role::Muted),
        KeyState::Revoked => (Glyph::Revoked, Role::Muted),
    }
}

fn row(
    app: &App,
    key: &KeyView,
    columns: &[(Column, &'static str, Rect)],
    now: Timestamp,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let state = key.state(now);
    let plain = if state.is_good() { Role::Plain } else { Role::Muted };
    let none = canvas.glyph(Glyph::None).to_string();
    let is_own = app.desk.me.as_ref().is_some_and(|me| me.id == key.id);
    for (column, _, cell) in columns {
        let (text, role) = match column {
            Column::State => {
                let (glyph, role) = glyph(key, now);
                (format!("{} {}", canvas.glyph(glyph), state.word()), role)
            }
            Column::Label if is_own => (label(key), Role::Head),
            Column::Label => (label(key), plain),
            Column::Kind => (key.kind.to_string(), plain),
            Column::Role => match key.role {
                Some(role) => (role.to_string(), plain),
                None => (none.clone(), Role::Muted),
            },
            Column::Rights => match key.role {
                Some(KeyRole::Admin) => ("all".to_owned(), plain),
                _ if key.rights.is_empty() => (none.clone(), Role::Muted),
                _ => (words(&key.rights), plain),
            },
            Column::Scope => {
                let is_all = key.kind == KeyKind::Operator && key.scope.is_none();
                (reach(key), if is_all { Role::Muted } else { plain })
            }
            Column::Author => match app.keys.author(key) {
                by if by.is_empty() => (none.clone(), Role::Muted),
                by => (by, Role::Muted),
            },
            Column::Expires => {
                let role = match api_keys::end(key, now) {
                    End::Quiet if key.expires_at.is_none() => Role::Muted,
                    End::Quiet => plain,
                    End::Near | End::Past => Role::Warn,
                };
                let text = key.expires_at.map(|at| cells::until(at, now));
                (text.unwrap_or_else(|| "never".to_owned()), role)
            }
            Column::Used => match key.last_used {
                Some(at) => (cells::age(now.since(at)), plain),
                None => ("never".to_owned(), Role::Muted),
            },
            Column::From => match key.last_used_from {
                Some(from) => (from.to_string(), Role::Muted),
                None => (none.clone(), Role::Muted),
            },
            Column::Id => (key.id.clone(), Role::Muted),
        };
        let x = area.x + BEFORE + cell.x;
        canvas.put(x, area.y, (x + cell.width).min(area.right()), &text, role);
    }
}

/// What the columns may have no room for, of the key at the cursor.
fn detail(app: &App, key: &KeyView, area: Rect, canvas: &mut Canvas<'_>) {
    let rights = if key.rights.is_empty() || key.role == Some(KeyRole::Admin) {
        String::new()
    } else {
        format!(" with {}", words(&key.rights))
    };
    let what = format!(
        "{}  may {}{rights} · for {}",
        api_keys::name(key),
        may(key.kind, key.role),
        reach(key)
    );
    let by = match app.keys.author(key) {
        by if by.is_empty() => String::new(),
        by => format!(" by {by}"),
    };
    let from = key.last_used_from.map(|from| format!(" from {from}")).unwrap_or_default();
    let used = match key.last_used {
        Some(at) => format!("last used {}{from}", cells::second(at)),
        None => "never used".to_owned(),
    };
    let is_own = app.desk.me.as_ref().is_some_and(|me| me.id == key.id);
    let own = if is_own { "signed in with it · " } else { "" };
    let made = format!("{own}made {}{by} · {used}", cells::second(key.created_at));
    for (row, text) in area.rows().zip([what, made]) {
        canvas.put(row.x + BEFORE, row.y, row.right(), &text, Role::Muted);
    }
}

/// Who sees no others sees their own key.
fn alone(app: &App, reason: &str, area: Rect, canvas: &mut Canvas<'_>) {
    let desk = &app.desk;
    if desk.link.wants_banner(desk.now.since_start) {
        let text = banner(app, canvas);
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Crit);
    }
    let mut rows = area.rows().skip(2);
    let mut next = || rows.next().unwrap_or_default();
    let row = next();
    canvas.put(row.x + 4, row.y, row.right(), &format!("Not here: {reason}."), Role::Warn);
    next();
    let row = next();
    canvas.put(row.x + 4, row.y, row.right(), "This console is signed in with", Role::Head);
    let Some(me) = &desk.me else { return };
    for (label, text) in api_keys::own(me, desk.link.server_time(desk.now.wall)) {
        let row = next();
        canvas.put(row.x + 4, row.y, row.right(), label, Role::Muted);
        canvas.put(row.x + 4 + LABEL_WIDTH, row.y, row.right(), &text, Role::Plain);
    }
}

/// What to say in the place of rows.
fn empty(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, keys) = (&app.desk, &app.keys);
    let server = &desk.settings.server;
    let lines = if !keys.is_loaded
        && let Some(failure) = &keys.failure
    {
        vec![
            format!("The keys did not come: {failure}"),
            String::new(),
            "^r     try again now".to_owned(),
        ]
    } else if keys.is_loaded && !keys.filter.text().is_empty() {
        vec![
            format!("0 of {} keys are shown", grouped(keys.kept().len())),
            String::new(),
            "Esc    clear the filter: words of label, kind, role, scope, state, author".to_owned(),
        ]
    } else if desk.link.heard.is_none() {
        vec![match &desk.link.phase {
            Phase::Down { is_denied: true, .. } => {
                "This key may not see keys: it takes an admin's.".to_owned()
            }
            Phase::Down { .. } => format!("No answer yet from {server}."),
            Phase::Connecting | Phase::Live => format!("connecting to {server} …"),
        }]
    } else if desk.me.is_none()
        && let Some(failure) = &desk.who.failure
    {
        vec![
            format!("What this console's key may do did not come: {failure}"),
            String::new(),
            "It is asked for again; ^r does so now.".to_owned(),
        ]
    } else if !keys.is_loaded {
        vec!["loading the keys …".to_owned()]
    } else {
        vec![
            "No keys within the scope of yours.".to_owned(),
            String::new(),
            "o      make one".to_owned(),
        ]
    };
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        canvas.put(area.x + 4, y, area.right(), &line, Role::Plain);
    }
}

#[cfg(test)]
mod tests;
