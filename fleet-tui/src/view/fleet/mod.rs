//! The fleet's table.
//!
//! ```text
//!  10 000 devices   ● 9 812 online   ◐ 131 late   ○ 57 offline        counts, or the banner
//!  filter tag:eu-west   2 431 of 10 000   ✓ 4 marked (1 hidden)       filter
//!    STATUS ▲   DEVICE            CPU             MEM                 titles
//! ✓ ○ offline   pump-eu-0317      —               —                   rows
//!  ›● online    pump-eu-0001      ▄▄▄▅▄▄▄▄▄▃  48% ██▋··  52%
//! ```

mod columns;
mod summary;
#[cfg(test)]
mod tests;

use fleet_core::api::DeviceStatus;
use fleet_core::field::Field;
use fleet_core::filter::Subject as _;
use fleet_core::glyph::{Glyph, Tone};
use fleet_core::time::Timestamp;
use ratatui::layout::Rect;

use super::{Canvas, Look, Scrolled};
use crate::cells;
use crate::layout;
use crate::state::App;
use crate::state::data::Row;
use crate::theme::Role;
use crate::widgets::{bar, scrollbar, spark};
use columns::{Column, Form};

pub(super) use summary::{banner, grouped};

/// Cells before the first column: the mark and the cursor.
const BEFORE: u16 = 2;
/// Cells of a CPU curve.
const SPARK_WIDTH: u16 = 10;
/// Cells of a bar.
const BAR_WIDTH: u16 = 5;

/// Paints the table and what stands above it.
pub(super) fn paint(app: &App, canvas: &mut Canvas<'_>) {
    let parts = layout::fleet(app.desk.size);
    summary::paint(app, &parts, canvas);
    if app.fleet.order().is_empty() {
        summary::empty(app, parts.titles.union(parts.rows), canvas);
        return;
    }
    let room = parts.rows.width.saturating_sub(BEFORE + 1);
    let columns = columns::fitted(&app.fleet.columns, app.desk.data.widths(), room);
    titles(app, &columns, parts.titles, canvas);
    let now = app.desk.link.server_time(app.desk.now.wall);
    for (y, slot) in (parts.rows.y..).zip(app.fleet.in_sight(&app.desk)) {
        let Some(device) = app.desk.data.row(*slot) else { continue };
        let area = Rect { y, height: 1, width: parts.rows.width - 1, ..parts.rows };
        row(app, device, &columns, now, area, canvas);
    }
    let (len, top) = (app.fleet.order().len(), app.fleet.top);
    let track = Rect { x: parts.rows.right() - 1, width: 1, ..parts.rows };
    let look = canvas.look;
    scrollbar::paint(track, canvas.buffer, &look.theme, &look.caps, len, top);
    canvas.painted.scrolled = Some(Scrolled { area: parts.rows, first: top });
    if !app.desk.link.is_live() && app.desk.link.heard.is_some() {
        canvas.shade(parts.rows, Role::Stale);
    }
}

fn titles(app: &App, columns: &[Column], area: Rect, canvas: &mut Canvas<'_>) {
    let sort = app.fleet.sort;
    for column in columns {
        let spec = column.field.spec();
        let mut title = spec.title.to_owned();
        if column.field == sort.field {
            let glyph = if sort.is_descending { Glyph::SortDown } else { Glyph::SortUp };
            title.push(canvas.glyph(glyph));
        }
        let x = area.x + BEFORE + column.x;
        if spec.is_number() {
            canvas.put_right(x, area.y, x + column.width, &title, Role::Head);
        } else {
            let indent = if column.field == Field::Status { 2 } else { 0 };
            canvas.put(x + indent, area.y, x + column.width, &title, Role::Head);
        }
    }
}

fn row(
    app: &App,
    device: &Row,
    columns: &[Column],
    now: Timestamp,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let uid = device.index.uid;
    let is_at_cursor = app.fleet.cursor() == Some(uid);
    if app.fleet.is_marked(uid) {
        let glyph = canvas.glyph(Glyph::Marked).to_string();
        canvas.put(area.x, area.y, area.right(), &glyph, Role::Accent);
    }
    for &column in columns {
        let x = area.x + BEFORE + column.x;
        let cell = Rect { x, width: column.width, ..area };
        paint_cell(device, column, is_at_cursor, now, cell, canvas);
    }
    if is_at_cursor {
        let glyph = canvas.glyph(Glyph::Cursor).to_string();
        canvas.put(area.x + 1, area.y, area.right(), &glyph, Role::Accent);
        canvas.shade(Rect { x: area.x + 1, width: area.width - 1, ..area }, Role::Select);
        // For a screen reader, and for people who follow the terminal's own cursor.
        canvas.painted.cursor = Some(ratatui::layout::Position::new(area.x + 1, area.y));
    }
}

fn paint_cell(
    device: &Row,
    column: Column,
    is_at_cursor: bool,
    now: Timestamp,
    area: Rect,
    canvas: &mut Canvas<'_>,
) {
    let field = column.field;
    let role = Role::from(cells::tone(device, field));
    let right = area.right();
    match field {
        Field::Status => {
            let glyph = canvas.glyph(Glyph::of(device.index.status));
            let text = format!("{glyph} {}", cells::text(device, field, now));
            canvas.put(area.x, area.y, right, &text, role);
        }
        Field::Cpu | Field::Memory | Field::Disk => {
            let value = device.number(field);
            let picture = Rect { width: area.width.saturating_sub(5), ..area };
            let Look { theme, caps } = canvas.look;
            match column.form {
                // One value that is missing leaves the others.
                Form::Spark if device.index.status.is_heard() => {
                    let past: Vec<_> =
                        device.past().iter().map(|cpu| Some(f64::from(*cpu))).collect();
                    spark::paint(picture, canvas.buffer, theme, caps, &past, 100.0, role);
                }
                Form::Bar => {
                    if let Some(value) = value {
                        bar::paint(picture, canvas.buffer, theme, caps, value / 100.0, role);
                    }
                }
                Form::Spark | Form::Text => {}
            }
            if value.is_some() {
                canvas.put_right(area.x, area.y, right, &cells::text(device, field, now), role);
            } else {
                let none = canvas.glyph(Glyph::None).to_string();
                canvas.put_right(area.x, area.y, right, &none, Role::Muted);
            }
        }
        Field::Seen if is_at_cursor => {
            let text = device.last_seen().map(|seen| exact(now, seen)).unwrap_or_default();
            canvas.put_right(area.x, area.y, right, &text, role);
        }
        _ if field.spec().is_number() => {
            canvas.put_right(area.x, area.y, right, &cells::text(device, field, now), role);
        }
        _ => {
            let is_quiet =
                device.index.status == DeviceStatus::Online && role == Role::from(Tone::Plain);
            let role = if is_quiet && field == Field::Why { Role::Muted } else { role };
            canvas.put(area.x, area.y, right, &cells::text(device, field, now), role);
        }
    }
}

/// To the second, within the first minute: only where the cursor is, since it changes all the time.
fn exact(now: Timestamp, seen: Timestamp) -> String {
    let ago = now.since(seen);
    if ago.as_secs() < 60 { format!("{}s", ago.as_secs()) } else { cells::age(ago) }
}
