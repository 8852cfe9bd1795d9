//! How commands are marked.

use fleet_core::api::CommandState;
use fleet_core::glyph::Glyph;

/// The glyph before a state's word.
pub(super) fn glyph(state: CommandState) -> Glyph {
    match state {
        CommandState::Queued => Glyph::Dot,
        CommandState::Sent | CommandState::Accepted | CommandState::Running => Glyph::Busy,
        CommandState::Succeeded => Glyph::Done,
        CommandState::Failed => Glyph::Failed,
        CommandState::Expired | CommandState::Cancelled => Glyph::Rejected,
        CommandState::Unknown => Glyph::Lost,
        CommandState::Later(_) => Glyph::Later,
    }
}
