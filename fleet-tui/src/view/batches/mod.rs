//! Batches, and one of them with its devices.

pub(super) mod list;
pub(super) mod one;
#[cfg(test)]
mod tests;

use fleet_core::api::{BatchState, BatchView, MemberState};
use fleet_core::glyph::Glyph;
use ratatui::layout::Rect;

use super::Canvas;
use crate::state::batches::{goes_on, pace, progress};
use crate::theme::Role;
use crate::widgets::bar;

/// How a batch is marked, and how that is to be taken.
fn glyph(view: &BatchView) -> (Glyph, Role) {
    let [_, failed, _] = progress(view);
    match view.state {
        BatchState::Paused => (Glyph::Pending, Role::Warn),
        BatchState::Running => (Glyph::Busy, if failed > 0 { Role::Warn } else { Role::Busy }),
        BatchState::Cancelled => (Glyph::Rejected, Role::Muted),
        BatchState::Done if failed > 0 => (Glyph::Failed, Role::Crit),
        BatchState::Done => (Glyph::Done, Role::Ok),
        BatchState::Later(_) => (Glyph::Later, Role::Warn),
    }
}

/// How a device of a batch is marked.
fn member_glyph(state: MemberState) -> Glyph {
    match state {
        MemberState::Waiting => Glyph::Dot,
        MemberState::Running => Glyph::Busy,
        MemberState::Succeeded => Glyph::Done,
        MemberState::Failed => Glyph::Failed,
        MemberState::Expired | MemberState::Cancelled | MemberState::Skipped => Glyph::Rejected,
        MemberState::Unknown => Glyph::Lost,
        MemberState::Later(_) => Glyph::Later,
    }
}

/// How a device's state is to be taken.
fn member_role(state: MemberState) -> Role {
    match state {
        MemberState::Expired => Role::Warn,
        state => Role::from(member_glyph(state).spec().tone),
    }
}

/// The share of the devices of which nothing is to come any more.
fn share(view: &BatchView, area: Rect, canvas: &mut Canvas<'_>) {
    if view.total == 0 {
        return;
    }
    let [over, failed, _] = progress(view);
    let role = match (failed, goes_on(view)) {
        (0, true) => Role::Busy,
        (0, false) => Role::Ok,
        _ => Role::Crit,
    };
    let look = canvas.look;
    let share = over as f64 / view.total as f64;
    bar::paint(area, canvas.buffer, &look.theme, &look.caps, share, role);
}

/// Who began it; that it was an operator goes without saying.
fn author(view: &BatchView) -> String {
    let author = view.author.to_string();
    author.strip_prefix("operator:").unwrap_or(&author).to_owned()
}

/// A batch's limits in words.
fn limits(view: &BatchView) -> String {
    format!(
        "{}; {} s each; offline {}",
        pace(view.canary, view.window, view.max_fail),
        view.timeout_secs,
        view.offline.word()
    )
}
