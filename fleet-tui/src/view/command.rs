//! How commands are marked, and how lists spell what happened to them.

use fleet_core::api::{CommandState, EventView};
use fleet_core::glyph::Glyph;
use fleet_core::id::Uid;

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

/// What happened, safe to show. The number before a command is left out: in a list the words say
/// more.
pub(super) fn event_text(event: &EventView) -> String {
    let text = event.text.to_string();
    match text.split_once(' ') {
        Some((number, rest)) if event.kind.is("command") && number.parse::<Uid>().is_ok() => {
            rest.to_owned()
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::api::EventKind;

    use super::*;
    use crate::testing::event;

    #[test]
    fn lists_leave_out_the_number_of_a_command() {
        let id = Uid::from_bytes([7; 16]);
        for (kind, text, shown) in [
            (EventKind::CommandFailed, format!("{id} reboot: no"), "reboot: no"),
            (EventKind::CommandFailed, "odd words".to_owned(), "odd words"),
            (EventKind::DeviceUpdated, format!("{id} noted"), &*format!("{id} noted")),
        ] {
            assert_eq!(event_text(&event(1, kind, Some("pump"), &text)), shown, "{text}");
        }
    }
}
