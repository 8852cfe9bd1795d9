//! What happened.

use crossterm::event::KeyEvent;
use fleet_core::api::EventView;

use super::Desk;
use super::popup::Command;
use crate::event::{Answer, Failed};
use crate::keys::Action;

/// What happened.
#[derive(Debug, Default)]
pub struct EventsScreen {}

impl EventsScreen {
    /// Asks for what is missing.
    pub fn entered(&mut self, _desk: &mut Desk) {}

    /// Notes that the link was down: events were missed.
    pub fn reconnected(&mut self, _desk: &mut Desk) {}

    /// Takes a new event.
    pub fn happened(&mut self, _event: EventView) {}

    /// Takes older events.
    pub fn answered(
        &mut self,
        _before: Option<u64>,
        _answer: Result<Answer, Failed>,
        _desk: &mut Desk,
    ) {
    }

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        if action == Action::Back {
            desk.go_back();
        }
        None
    }

    /// Takes a key while something is typed. False if nothing is.
    pub fn types(&mut self, _key: &KeyEvent, _desk: &mut Desk) -> bool {
        false
    }

    /// Takes pasted text while something is typed.
    pub fn paste(&mut self, _text: &str) -> bool {
        false
    }
}
