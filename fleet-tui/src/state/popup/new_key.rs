//! A key that was just made, in full: the one time that it is shown. Nothing else of the console's
//! state keeps it, and when this closes it is wiped from there. So is what is made of it to show and
//! to copy it. Nobody wipes what brought it here, the painted frames until others take their place,
//! and what the terminal and its clipboard were given.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::secret::ApiKey;

use super::PopupEnd;
use crate::effect::Effect;
use crate::state::Desk;

/// So long no key of the keyboard holds: a key comes when it comes, and what somebody types then was
/// meant for what was there before.
const UNSEEN: Duration = Duration::from_secs(1);

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
    /// When it came into sight, by the clock that never jumps.
    shown_at: Duration,
}

impl NewKey {
    /// A key, what it is, what becomes of the one that it takes the place of, and since when it is
    /// shown.
    pub fn new(key: ApiKey, what: String, after: Option<String>, now: Duration) -> Self {
        Self { key, what, after, is_copied: false, is_leaving: false, shown_at: now }
    }

    /// Notes that it is in sight again.
    pub(super) fn shown_again(&mut self, now: Duration) {
        self.shown_at = now;
    }

    /// Whether it has been in sight for long enough that keys are meant for it.
    pub fn takes_keys(&self, now: Duration) -> bool {
        now.saturating_sub(self.shown_at) >= UNSEEN
    }

    /// The key.
    pub fn key(&self) -> &ApiKey {
        &self.key
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        if !self.takes_keys(desk.now.since_start) {
            desk.say("a new key has come: look at it first, keys hold in a moment");
            return PopupEnd::Stay;
        }
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
