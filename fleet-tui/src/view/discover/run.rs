//! The last run: how far each device has come, and what became of it.

use std::time::Duration;

use fleet_core::api::DiscoverOutcome;
use fleet_core::glyph::Glyph;
use fleet_core::operator::provision::Step;
use ratatui::layout::Rect;

use super::{lines, select};
use crate::layout::{self, DiscoverPane, DiscoverParts};
use crate::state::App;
use crate::state::discover::run::RunRow;
use crate::theme::Role;
use crate::view::fleet::grouped;
use crate::view::{Canvas, pane};
use crate::widgets::{bar, scrollbar};

/// The steps of a device, in order, with the words of each.
const STEPS: [(Step, &str, &str); 3] = [
    (Step::Met, "identity", "proving that it holds its key"),
    (Step::Granted, "grant", "asking the server for a grant"),
    (Step::Delivered, "delivered", "handing the grant over"),
];
/// The last of them, which the server has to say.
const ONLINE: (&str, &str) = ("online", "waiting for it to connect to the server");
/// Cells of the columns.
const DEVICE_WIDTH: u16 = 20;
const RESULT_WIDTH: u16 = 14;
const STEPS_WIDTH: u16 = 46;
const TIME_WIDTH: u16 = 7;
/// A pane from this width on has room for the steps.
const WIDE: u16 = 110;
/// Cells of the bar.
const BAR_WIDTH: u16 = 40;

/// Where the columns are; those without room have no width.
struct Columns {
    device: Rect,
    result: Rect,
    steps: Rect,
    time: Rect,
    detail: Rect,
}

/// Paints the last run.
pub(super) fn paint(app: &App, area: Rect, parts: &DiscoverParts, canvas: &mut Canvas<'_>) {
    let run = &app.discover.run;
    let is_focused = app.discover.pane == DiscoverPane::Run;
    let inside = pane::paint(area, "Progress", &notes(app, canvas), is_focused, canvas);
    if inside.is_empty() {
        return;
    }
    summary(app, Rect { height: 1, ..inside }, canvas);
    let columns = columns(inside);
    if !layout::is_low(app.desk.size) {
        for (column, title) in [
            (columns.device, "DEVICE"),
            (columns.result, "RESULT"),
            (columns.steps, "STEPS"),
            (columns.time, "TIME"),
            (columns.detail, "DETAIL"),
        ] {
            let y = parts.run_rows.y.saturating_sub(1);
            canvas.put(column.x, y, column.right(), title, Role::Head);
        }
    }
    let rows = run.rows().iter().enumerate().skip(run.top);
    for (line, (place, device)) in parts.run_rows.rows().zip(rows) {
        row(app, device, line, &columns, canvas);
        if place == run.cursor {
            select(line, is_focused, canvas);
        }
    }
    let track = Rect { x: area.right().saturating_sub(1), width: 1, ..parts.run_rows };
    let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
    scrollbar::paint(track, canvas.buffer, theme, caps, run.rows().len(), run.top);
    detail(app, parts.run_detail, canvas);
}

fn notes(app: &App, canvas: &Canvas<'_>) -> [String; 2] {
    let run = &app.discover.run;
    let (tally, dot) = (run.tally(), canvas.glyph(Glyph::Dot));
    let took = run.took(app.desk.now.since_start);
    let took = if run.is_under_way() {
        format!("{} s", took.as_secs())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    };
    let failed = match tally.failed {
        0 => String::new(),
        failed => format!(" {dot} {} failed", grouped(failed)),
    };
    let done = format!("{} of {} done{failed}", grouped(tally.done()), grouped(tally.all));
    [format!("{done} {dot} {took}"), done]
}

fn summary(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let tally = app.discover.run.tally();
    let picture = Rect { width: BAR_WIDTH.min(area.width / 3), ..area };
    let share = tally.done() as f64 / tally.all.max(1) as f64;
    let role = if tally.failed > 0 { Role::Warn } else { Role::Ok };
    let (theme, caps) = (&canvas.look.theme, &canvas.look.caps);
    bar::paint(picture, canvas.buffer, theme, caps, share, role);
    let under_way = tally.all - tally.done();
    let mut x = picture.right() + 2;
    for (count, glyph, word, role) in [
        (tally.configured, Glyph::Done, "configured", Role::Ok),
        (under_way, Glyph::Busy, "under way", Role::Busy),
        (tally.pending, Glyph::Pending, "pending", Role::Warn),
        (tally.failed, Glyph::Failed, "failed", Role::Crit),
    ] {
        if count > 0 {
            let text = format!("{} {} {word}", canvas.glyph(glyph), grouped(count));
            x = canvas.put(x, area.y, area.right(), &text, role) + 2;
        }
    }
}

fn columns(inside: Rect) -> Columns {
    let steps = if inside.width >= WIDE { STEPS_WIDTH } else { 0 };
    let mut x = inside.x;
    let mut take = |width: u16| {
        let column = Rect { x, width: width.min(inside.right().saturating_sub(x)), ..inside };
        x += if width > 0 { width + 1 } else { 0 };
        column
    };
    Columns {
        device: take(DEVICE_WIDTH),
        result: take(RESULT_WIDTH),
        steps: take(steps),
        time: take(TIME_WIDTH),
        detail: take(inside.width),
    }
}

fn row(app: &App, row: &RunRow, area: Rect, columns: &Columns, canvas: &mut Canvas<'_>) {
    let (glyph, word, role) = result(row);
    let result = format!("{} {word}", canvas.glyph(glyph));
    let steps = steps(row, canvas);
    let now = app.desk.now.since_start;
    let mut put = |column: Rect, text: &str, role: Role| {
        canvas.put(column.x, area.y, column.right(), text, role);
    };
    put(columns.device, row.target.device_id.as_str(), Role::Plain);
    put(columns.result, &result, role);
    put(columns.steps, &steps, Role::Plain);
    put(columns.time, &seconds(row, now), Role::Plain);
    put(columns.detail, &outcome(row), Role::Plain);
}

fn result(row: &RunRow) -> (Glyph, &'static str, Role) {
    match row.status() {
        None => (Glyph::Busy, "under way", Role::Busy),
        Some(DiscoverOutcome::Configured) => (Glyph::Done, "configured", Role::Ok),
        Some(DiscoverOutcome::Pending) => (Glyph::Pending, "pending", Role::Warn),
        Some(DiscoverOutcome::Unreachable) => (Glyph::Failed, "unreachable", Role::Crit),
        Some(DiscoverOutcome::Refused) => (Glyph::Failed, "refused", Role::Crit),
    }
}

/// `identity ✓  grant ✓  delivered …`
fn steps(row: &RunRow, canvas: &Canvas<'_>) -> String {
    let now = match row.status() {
        None => Glyph::Ellipsis,
        Some(DiscoverOutcome::Configured) => Glyph::Done,
        Some(DiscoverOutcome::Pending) => Glyph::Pending,
        Some(DiscoverOutcome::Unreachable | DiscoverOutcome::Refused) => Glyph::Failed,
    };
    let mut words = Vec::new();
    for (step, word, _) in STEPS {
        let is_done = row.step >= Some(step) || row.status() == Some(DiscoverOutcome::Configured);
        let glyph = if is_done { Glyph::Done } else { now };
        words.push(format!("{word} {}", canvas.glyph(glyph)));
        if !is_done {
            return words.join("  ");
        }
    }
    words.push(format!("{} {}", ONLINE.0, canvas.glyph(now)));
    words.join("  ")
}

/// To the tenth once it is known; while it goes on a second is enough.
fn seconds(row: &RunRow, now: Duration) -> String {
    let took = row.took(now);
    if row.end.is_some() {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} s", took.as_secs())
    }
}

fn outcome(row: &RunRow) -> String {
    let Some((outcome, _)) = &row.end else {
        let next = STEPS.iter().find(|(step, ..)| row.step < Some(*step));
        return next.map_or(ONLINE.1, |(_, _, words)| *words).to_owned();
    };
    match (&outcome.reason, &outcome.device_id) {
        (Some(reason), _) => reason.clone(),
        (None, Some(id)) => format!("online as {id}"),
        (None, None) => String::new(),
    }
}

/// What became of the device at the cursor in full, and the run as a command.
fn detail(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let run = &app.discover.run;
    let Some(row) = run.at_cursor() else { return };
    let has_command = area.height >= 4 && matches!(app.discover.form.server_url(), Ok(None));
    let told = Rect { height: area.height - u16::from(has_command), ..area };
    let cursor = canvas.glyph(Glyph::Cursor);
    let is_focused = app.discover.pane == DiscoverPane::Run;
    let (text, role) = match (row.status(), row.trouble()) {
        (None, _) => (format!("{cursor} {}: {}", row.target.device_id, outcome(row)), Role::Plain),
        (Some(DiscoverOutcome::Pending), Some(trouble)) => {
            (format!("{cursor} {trouble}. 7 shows the devices that wait for your word"), Role::Warn)
        }
        (Some(_), Some(trouble)) => (format!("{cursor} {trouble}"), Role::Crit),
        (Some(_), None) => {
            let open = if is_focused { "; Enter opens it" } else { "" };
            (format!("{cursor} {}: {}{open}", row.target.device_id, outcome(row)), Role::Ok)
        }
    };
    let taken = lines(&text, told, role, canvas);
    let failed = run.failed().count();
    if failed > 0 && taken < told.height {
        let dot = canvas.glyph(Glyph::Dot);
        let next = if is_focused { "y copies the error" } else { "Tab goes here" };
        let text = format!("  R tries {failed} again {dot} {next}");
        canvas.put(told.x, told.y + taken, told.right(), &text, Role::Muted);
    }
    if has_command {
        let text = format!("same in a shell: {}", app.discover.shell_command(&app.desk));
        canvas.put(area.x, area.bottom() - 1, area.right(), &text, Role::Muted);
    }
}
