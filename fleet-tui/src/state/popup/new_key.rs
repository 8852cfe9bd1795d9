//! A key that was just made, in full: the one time that it is shown. Nothing else keeps it, and when
//! this closes it is gone, out of memory too.

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::secret::ApiKey;

use super::PopupEnd;
use crate::effect::Effect;
use crate::state::Desk;

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct NewKey {
    key: ApiKey,
    /// What it is, safe to show.
    pub what: String,
    /// What becomes of the key that it takes the place of, safe to show.
    pub after: Option<String>,
    /// Whether it was copied.
    pub is_copied: bool,
    /// Whether somebody began to close it without a copy.
    pub is_leaving: bool,
}

impl NewKey {
    /// A key, what it is, and what becomes of the one that it takes the place of.
    pub fn new(key: ApiKey, what: String, after: Option<String>) -> Self {
        Self { key, what, after, is_copied: false, is_leaving: false }
    }

    /// The key.
    pub fn key(&self) -> &ApiKey {
        &self.key
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        let was_leaving = std::mem::take(&mut self.is_leaving);
        match key.code {
            KeyCode::Char('y') if key.modifiers.is_empty() => {
                desk.wish(Effect::CopyKey(self.key.clone()));
                desk.say("copied the key (OSC 52); look whether it arrived before this closes");
                self.is_copied = true;
                PopupEnd::Stay
            }
            KeyCode::Esc | KeyCode::Char('q') if self.is_copied || was_leaving => PopupEnd::Close,
            KeyCode::Esc | KeyCode::Char('q') => {
                self.is_leaving = true;
                PopupEnd::Stay
            }
            _ => PopupEnd::Stay,
        }
    }
}
