//! What a device was to do, newest first. The cursor is a command, not a row: it stays where it is
//! when a new one comes above it.

use std::time::Duration;

use fleet_core::api::{CommandState, CommandView};
use fleet_core::id::Uid;

use super::fetched::Fetched;
use crate::event::Failed;
use crate::keys::Action;
use crate::state::list;

/// Between two looks while something goes on of which no event tells: that a device has it, and
/// that it is at it.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What a device was to do.
#[derive(Debug, Default)]
pub struct Commands {
    list: Fetched<Vec<CommandView>>,
    /// The command at the cursor; the newest if none was chosen.
    cursor: Option<Uid>,
    /// When the list was asked for last.
    asked_at: Duration,
}

impl Commands {
    /// The commands, newest first, as far back as one page goes; nothing before the first answer.
    pub fn known(&self) -> Option<&[CommandView]> {
        self.list.value().map(Vec::as_slice)
    }

    /// The same, without commands before the first answer.
    pub fn list(&self) -> &[CommandView] {
        self.known().unwrap_or_default()
    }

    /// Why there are none, or only old ones.
    pub fn error(&self) -> Option<&str> {
        self.list.error()
    }

    /// How many are not over.
    pub fn open(&self) -> usize {
        self.list().iter().filter(|view| !view.state.is_over()).count()
    }

    /// The row of the cursor.
    pub fn place(&self) -> usize {
        let place = |id| self.list().iter().position(|view| view.id == id);
        self.cursor.and_then(place).unwrap_or_default()
    }

    /// The command at the cursor.
    pub fn at_cursor(&self) -> Option<&CommandView> {
        self.list().get(self.place())
    }

    /// Moves the cursor, in a list with so many rows in sight.
    pub(super) fn act(&mut self, action: Action, height: usize) {
        if let Some(place) = list::moved(action, self.place(), self.list().len(), height) {
            // At the top one stays at the newest, whichever that will be.
            self.cursor = self.list().get(place).filter(|_| place > 0).map(|view| view.id);
        }
    }

    /// Puts the cursor on a command, which may not be known yet.
    pub(super) fn choose(&mut self, id: Uid) {
        self.cursor = Some(id);
    }

    /// Notes that they may be others by now.
    pub(super) fn outdate(&mut self) {
        self.list.outdate();
    }

    /// Notes that a question that is under way may never be answered.
    pub(super) fn lose(&mut self) {
        self.list.lose();
    }

    /// Whether to ask for them now; then the question counts as asked.
    pub(super) fn begin(&mut self, is_heard: bool, now: Duration) -> bool {
        let is_due = now.saturating_sub(self.asked_at) >= LOOK_INTERVAL;
        if is_due && self.list.error().is_none() && self.goes_on(is_heard) {
            self.list.outdate();
        }
        let asks = self.list.begin();
        if asks {
            self.asked_at = now;
        }
        asks
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, answer: Result<Vec<CommandView>, Failed>) {
        self.list.take(answer);
    }

    /// Whether something is to be seen soon of which no event tells.
    fn goes_on(&self, is_heard: bool) -> bool {
        self.list().iter().any(|view| match view.state {
            CommandState::Sent | CommandState::Accepted | CommandState::Running => true,
            CommandState::Queued => is_heard,
            _ => false,
        })
    }
}
