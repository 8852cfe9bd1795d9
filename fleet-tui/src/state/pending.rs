//! Devices that wait for a word.

use crossterm::event::KeyEvent;

use super::Desk;
use super::popup::Command;
use crate::keys::Action;

/// Devices that wait for a word.
#[derive(Debug, Default)]
pub struct PendingScreen {}

impl PendingScreen {
    /// Brings the list up to date.
    pub fn settle(&mut self, _desk: &Desk) {}

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
