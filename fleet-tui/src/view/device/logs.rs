//! Lines of a device's log, as they come.
//!
//! ```text
//! ┌ Logs ──────────── agent · from warn on · "oom" · follow ● · 12 left out ┐
//! │14:03:21.118 WARN  inference queue 118 > 64, dropping frames              │
//! ```

use fleet_core::glyph::Glyph;
use fleet_core::wire::Severity;
use ratatui::layout::Rect;

use super::text::boxed;
use crate::cells;
use crate::layout::Pane;
use crate::state::App;
use crate::state::device::DeviceScreen;
use crate::state::device::logs::{Line, Logs, Row, Stage, TEXT_AT};
use crate::theme::Role;
use crate::view::Canvas;
use crate::view::fleet::grouped;
use crate::widgets::{field, scrollbar};

/// Paints the lines.
pub(super) fn paint(app: &App, device: &DeviceScreen, area: Rect, canvas: &mut Canvas<'_>) {
    let logs = &device.logs;
    let notes = [note(logs, true, canvas), note(logs, false, canvas)];
    let inside = boxed(device, Pane::Logs, &notes, area, canvas);
    if inside.is_empty() {
        return;
    }
    let mut rows = inside.rows();
    'lines: for shown in logs.in_sight() {
        let width = usize::from(inside.width.saturating_sub(TEXT_AT)).max(1);
        for (place, text) in cells::cut(shown.text(), width).into_iter().enumerate() {
            let Some(row) = rows.next() else { break 'lines };
            let role = match shown {
                Row::Line(line) => role(line.level),
                Row::Gap(_) => Role::Warn,
            };
            if let Row::Line(line) = shown
                && place == 0
            {
                head(line, row, canvas);
            }
            canvas.put(row.x + TEXT_AT, row.y, row.right(), text, role);
        }
    }
    if let (Some(row), Some((text, role))) = (rows.next(), stage(app, logs)) {
        canvas.put(row.x, row.y, row.right(), &text, role);
    }
    let track = Rect { x: area.right() - 1, width: 1, ..inside };
    let look = canvas.look;
    scrollbar::paint(track, canvas.buffer, &look.theme, &look.caps, logs.len(), logs.top());
    let end = Rect { y: area.bottom() - 1, height: 1, ..inside };
    if let Some(typing) = logs.filter.field() {
        let x = canvas.put(end.x, end.y, end.right(), " / ", Role::Accent);
        let room = Rect { x, width: end.right().saturating_sub(x) / 2, ..end };
        canvas.painted.cursor = field::paint(typing, room, canvas.buffer, &look.theme, &look.caps);
        if let Some(error) = logs.filter.error() {
            canvas.put(room.right() + 1, end.y, end.right(), error, Role::Warn);
        }
    } else if !logs.is_following {
        let text = format!(" {} {} new, F ", canvas.glyph(Glyph::SortDown), grouped(logs.unseen));
        canvas.put_right(end.x, end.y, end.right(), &text, Role::Warn);
    }
}

/// When, and how bad it is.
fn head(line: &Line, row: Rect, canvas: &mut Canvas<'_>) {
    let time = line.at.to_string();
    // To the millisecond, of whatever day: lines of now are what one looks at.
    let time = time.get(11..).unwrap_or_default().trim_end_matches('Z');
    let (second, fraction) = time.split_once('.').unwrap_or((time, ""));
    canvas.put(row.x, row.y, row.right(), &format!("{second}.{fraction:0<3}"), Role::Muted);
    let level = line.level.word().to_uppercase();
    canvas.put(row.x + 13, row.y, row.right(), &level, role(line.level));
}

fn role(level: Severity) -> Role {
    match level {
        Severity::Error => Role::Crit,
        Severity::Warn => Role::Warn,
        Severity::Info => Role::Plain,
        Severity::Debug | Severity::Trace => Role::Muted,
    }
}

/// Which lines these are, and what is missing.
fn note(logs: &Logs, is_long: bool, canvas: &Canvas<'_>) -> String {
    let wanted = logs.wanted();
    let mut words = vec![wanted.unit.clone().unwrap_or_else(|| "agent".to_owned())];
    words.extend(wanted.level.map(|level| format!("from {level} on")));
    if !wanted.grep.is_empty() && is_long {
        words.push(format!("{:?}", fleet_core::untrusted::Untrusted::from(wanted.grep.as_str())));
    }
    words.push(match (&logs.stage, logs.is_following) {
        (Stage::Open, true) => format!("follow {}", canvas.glyph(Glyph::Live)),
        (Stage::Open, false) => "stopped (F follows)".to_owned(),
        (Stage::Off | Stage::Opening, _) => "asking …".to_owned(),
        (Stage::Away, _) => "the device is away".to_owned(),
        (Stage::Over(_), _) => "ended".to_owned(),
        (Stage::Failed(_), _) => "broken off".to_owned(),
    });
    if logs.dropped > 0 {
        words.push(format!("{} left out", logs.dropped));
    }
    if logs.gone > 0 && is_long {
        words.push(format!("{} older ones let go of", logs.gone));
    }
    words.join(&format!(" {} ", canvas.glyph(Glyph::Dot)))
}

/// What stands below the last line, where it is not just the next one.
fn stage(app: &App, logs: &Logs) -> Option<(String, Role)> {
    Some(match &logs.stage {
        _ if !app.desk.link.is_live() => return None,
        Stage::Off | Stage::Opening => ("asking the server …".to_owned(), Role::Muted),
        Stage::Open if logs.is_empty() => ("no lines yet".to_owned(), Role::Muted),
        Stage::Open => return None,
        Stage::Away => {
            ("the device is away: it goes on when that comes back".to_owned(), Role::Warn)
        }
        Stage::Over(reason) => (format!("no more lines: {reason}; f chooses others"), Role::Warn),
        Stage::Failed(reason) => (format!("broken off: {reason}; asked for anew soon"), Role::Warn),
    })
}
