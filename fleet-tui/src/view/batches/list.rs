//! Batches.
//!
//! ```text
//!  2 going on   filter reboot                                    12 batches        the line, or the banner
//!    STATE       WHAT                  PROGRESS     DONE  FAILED  LEFT  BY    WHEN
//!  ! paused      restart nginx.service ████▎·····    138       5    71  k3x…    4m
//! ┌ restart nginx.service ─────────────────────────────────────── 019a…… ┐        the one at the cursor
//! ```

use fleet_core::glyph::Glyph;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;
use ratatui::layout::{Position, Rect};

use super::{author, glyph, limits, share};
use crate::cells;
use crate::layout;
use crate::state::App;
use crate::state::batches::{Known, counted, progress};
use crate::state::link::Phase;
use crate::theme::Role;
use crate::view::fleet::{banner, grouped};
use crate::view::{Canvas, Scrolled};
use crate::widgets::{field, panel, scrollbar};

/// Cells before the first column: the cursor.
const BEFORE: u16 = 2;
/// Cells of a label in the pane below.
const LABEL_WIDTH: u16 = 9;
/// Cells of a state with its glyph and the blank after it.
const STATE_WIDTH: u16 = 12;
/// Cells of an age with the blank before it.
const AGE_WIDTH: u16 = 6;

/// Where the columns begin.
struct Columns {
    state: u16,
    what: u16,
    share: u16,
    /// Done, failed and left end here.
    counts: [u16; 3],
    author: u16,
    age: u16,
}

impl Columns {
    fn new(area: Rect, is_low: bool) -> Self {
        let (author_width, count_width, share_width) =
            if is_low { (0, 7, 10) } else { (14, 8, 24) };
        let age = area.right().saturating_sub(AGE_WIDTH);
        let author = age.saturating_sub(author_width);
        let left = author.saturating_sub(1);
        let failed = left.saturating_sub(count_width);
        let done = failed.saturating_sub(count_width);
        let share = done.saturating_sub(count_width + share_width);
        let state = area.x + BEFORE;
        Self { state, what: state + STATE_WIDTH, share, counts: [done, failed, left], author, age }
    }

    fn share_end(&self) -> u16 {
        self.counts[0].saturating_sub(self.counts[1] - self.counts[0])
    }
}

/// Paints the list and what stands above and below it.
pub(in crate::view) fn paint(app: &App, canvas: &mut Canvas<'_>) {
    let parts = layout::batches(app.desk.size);
    line(app, parts.line, canvas);
    let batches = &app.batches;
    if batches.order().is_empty() {
        empty(app, parts.titles.union(parts.rows), canvas);
        return;
    }
    let is_low = layout::is_low(app.desk.size);
    let columns = Columns::new(Rect { width: parts.rows.width - 1, ..parts.rows }, is_low);
    titles(&columns, parts.titles, is_low, canvas);
    let now = app.desk.link.server_time(app.desk.now.wall);
    let cursor = batches.at_cursor().map(|known| known.view.id);
    for (area, id) in parts.rows.rows().zip(batches.order().iter().skip(batches.top)) {
        let Some(known) = batches.known(*id) else { continue };
        let area = Rect { width: area.width.saturating_sub(1), ..area };
        row(known, &columns, is_low, now, area, canvas);
        if cursor == Some(*id) {
            let glyph = canvas.glyph(Glyph::Cursor).to_string();
            canvas.put(area.x + 1, area.y, area.right(), &glyph, Role::Accent);
            let selected = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area };
            canvas.shade(selected, Role::Select);
            if !batches.filter.is_typing() {
                canvas.painted.cursor = Some(Position::new(area.x + 1, area.y));
            }
        }
    }
    let track = Rect { x: parts.rows.right().saturating_sub(1), width: 1, ..parts.rows };
    let look = canvas.look;
    let (len, top) = (batches.order().len(), batches.top);
    scrollbar::paint(track, canvas.buffer, &look.theme, &look.caps, len, top);
    if let Some(known) = batches.at_cursor() {
        detail(known, parts.detail, canvas);
    }
    canvas.painted.scrolled = Some(Scrolled { area: parts.rows, first: top });
    if !app.desk.link.is_live() && app.desk.link.heard.is_some() {
        canvas.shade(parts.rows, Role::Stale);
    }
}

fn line(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, batches) = (&app.desk, &app.batches);
    if desk.link.wants_banner(desk.now.since_start) {
        let text = banner(app, canvas);
        canvas.put(area.x + 1, area.y, area.right(), &text, Role::Crit);
        return;
    }
    let going_on = batches.going_on();
    let role = if going_on > 0 { Role::Busy } else { Role::Muted };
    let text = format!("{} going on", grouped(going_on));
    let mut x = canvas.put(area.x + 1, area.y, area.right(), &text, role) + 3;
    if let Some(typing) = batches.filter.field() {
        x = canvas.put(x, area.y, area.right(), "/", Role::Accent);
        let room = Rect { x, width: area.right().saturating_sub(x) / 2, ..area };
        let look = canvas.look;
        canvas.painted.cursor = field::paint(typing, room, canvas.buffer, &look.theme, &look.caps);
        x = room.right() + 1;
    } else if !batches.filter.text().is_empty() {
        let text = format!("filter {}", escaped(batches.filter.text()));
        x = canvas.put(x, area.y, area.right(), &text, Role::Accent) + 2;
    }
    if let Some(failure) = &batches.failure {
        let text = format!("nothing newer is known: {failure}");
        canvas.put(x, area.y, area.right(), &text, Role::Warn);
        return;
    }
    let (shown, kept) = (grouped(batches.order().len()), grouped(batches.kept()));
    let counts = if shown == kept { kept } else { format!("{shown} of {kept}") };
    let loading = if batches.is_loading() { ", loading …" } else { "" };
    let text = format!("{counts} batches{loading}");
    canvas.put_right(x, area.y, area.right().saturating_sub(1), &text, Role::Muted);
}

fn titles(columns: &Columns, area: Rect, is_low: bool, canvas: &mut Canvas<'_>) {
    canvas.put(columns.state, area.y, columns.what, "STATE", Role::Head);
    canvas.put(columns.what, area.y, columns.share, "WHAT", Role::Head);
    canvas.put(columns.share, area.y, columns.share_end(), "PROGRESS", Role::Head);
    for (right, title) in columns.counts.into_iter().zip(["DONE", "FAILED", "LEFT"]) {
        canvas.put_right(columns.share, area.y, right, title, Role::Head);
    }
    if !is_low {
        canvas.put(columns.author + 2, area.y, columns.age, "BY", Role::Head);
    }
    let right = area.right().saturating_sub(1);
    canvas.put_right(columns.age, area.y, right, "WHEN", Role::Head);
}

fn row(
    known: &Known,
    columns: &Columns,
    is_low: bool,
    now: Timestamp,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let view = &known.view;
    let (sign, role) = glyph(view);
    let state = format!("{} {}", canvas.glyph(sign), view.state.word());
    let y = area.y;
    canvas.put(columns.state, y, columns.what - 1, &state, role);
    canvas.put(columns.what, y, columns.share.saturating_sub(1), &known.words, Role::Plain);
    let width = columns.share_end().saturating_sub(columns.share);
    share(view, Rect { x: columns.share, y, width, height: 1 }, canvas);
    let [_, failed, _] = progress(view);
    let roles = [Role::Plain, if failed > 0 { Role::Crit } else { Role::Muted }, Role::Plain];
    for ((right, count), role) in columns.counts.into_iter().zip(progress(view)).zip(roles) {
        canvas.put_right(columns.share_end(), y, right, &grouped(count), role);
    }
    if !is_low {
        let right = columns.age.saturating_sub(1);
        canvas.put(columns.author + 2, y, right, &author(view), Role::Muted);
    }
    let age = cells::age(now.since(view.created_at));
    canvas.put_right(columns.age, y, area.right(), &age, Role::Muted);
}

/// The batch at the cursor in full.
fn detail(known: &Known, area: Rect, canvas: &mut Canvas<'_>) {
    let (look, view) = (canvas.look, &known.view);
    let note = format!("{} {}", view.state.word(), cells::second(view.state_at));
    let titles = (known.words.as_str(), note.as_str());
    let inside = panel::paint(area, canvas.buffer, &look.theme, &look.caps, titles, Role::Muted);
    let mut facts = vec![
        ("why", view.why.to_string()),
        ("devices", format!("of {}: {}", grouped(view.total), counted(view))),
        ("begun", format!("{} by {}", cells::second(view.created_at), view.author)),
        ("how", limits(view)),
        ("number", view.id.to_string()),
    ];
    if let Some(reason) = &view.reason {
        facts.insert(3, ("reason", reason.to_string()));
    }
    if let Some(filter) = &view.filter {
        facts.push(("filter", filter.to_string()));
    }
    for (row, (label, text)) in inside.rows().zip(facts) {
        canvas.put(row.x, row.y, row.right(), label, Role::Muted);
        canvas.put(row.x + LABEL_WIDTH, row.y, row.right(), &text, Role::Plain);
    }
}

/// What to say in the place of rows.
fn empty(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (desk, batches) = (&app.desk, &app.batches);
    let server = &desk.settings.server;
    let lines = if let Some(failure) = &batches.failure {
        vec![
            format!("The batches did not come: {failure}"),
            String::new(),
            "^r     try again now".to_owned(),
        ]
    } else if batches.kept() > 0 {
        vec![
            format!("0 of {} batches are shown", grouped(batches.kept())),
            String::new(),
            "Esc    clear the filter: words of what they do, their state or who began them"
                .to_owned(),
        ]
    } else if desk.link.heard.is_none() {
        vec![match &desk.link.phase {
            Phase::Down { is_denied: true, .. } => {
                "This key may not see batches: it takes an operator's key.".to_owned()
            }
            Phase::Down { .. } => format!("No answer yet from {server}."),
            Phase::Connecting | Phase::Live => format!("connecting to {server} …"),
        }]
    } else if batches.is_loading() {
        vec!["loading the batches …".to_owned()]
    } else {
        vec![
            "No batches yet.".to_owned(),
            String::new(),
            "1      in the fleet, mark devices (Space, or a for all that a filter shows)"
                .to_owned(),
            "x      and have them do something: it is seen here".to_owned(),
        ]
    };
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        canvas.put(area.x + 4, y, area.right(), &line, Role::Plain);
    }
}
