//! The key map: the one list from which keys are looked up, hints and help are made, and the
//! documents' tables are checked.
//!
//! A key means the same everywhere it means anything. No key changes a device by itself: that takes
//! the action menu (`x`), a letter there, and a dialog.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its line in the list below")]
pub enum Action {
    Down,
    Up,
    First,
    Last,
    PageDown,
    PageUp,
    HalfDown,
    HalfUp,
    Open,
    Full,
    Back,
    Leave,
    Quit,
    Previous,
    Fleet,
    Discover,
    Events,
    Pending,
    Batches,
    NextPane,
    PreviousPane,
    Mark,
    MarkRange,
    MarkAll,
    MarkInvert,
    Actions,
    Filter,
    Palette,
    Help,
    Messages,
    Sort,
    Reverse,
    Columns,
    NextProblem,
    PreviousProblem,
    Copy,
    Export,
    Freeze,
    Follow,
    Theme,
    Resync,
    Redraw,
    Suspend,
    Mouse,
    Range,
    PanBack,
    PanOn,
    ZoomIn,
    ZoomOut,
    CursorBack,
    CursorOn,
    LiveEdge,
    Retry,
    TakeBack,
    Pause,
    Continue,
    CancelRest,
    RetryFailed,
    Views,
    Versions,
    Undo,
    Keys,
    NewKey,
}

/// Where a binding holds. A screen's own bindings come before those of every screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every screen.
    Everywhere,
    /// The fleet's table.
    Fleet,
    /// One device.
    Device,
    /// Finding and configuring devices.
    Discover,
    /// Devices that wait for a word.
    Pending,
    /// What happened.
    Events,
    /// What is done to many devices.
    Batches,
    /// One of those, with its devices.
    Batch,
    /// Keys to the server.
    Keys,
}

/// The part of help that a binding stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Moving about.
    Move,
    /// Marking, and doing something with what is marked.
    Act,
    /// What is shown, and how.
    View,
}

/// One line of the key map.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// What it asks for.
    pub action: Action,
    /// Where it holds.
    pub scopes: &'static [Scope],
    /// The keys, as help prints them.
    pub keys: &'static [&'static str],
    /// One or two words for the line of hints; empty for keys that everybody knows.
    pub hint: &'static str,
    /// What it does, for help and the palette.
    pub help: &'static str,
    /// Where in help it stands.
    pub section: Section,
}

use Scope::{Batch, Batches, Device, Discover, Events, Everywhere, Fleet, Keys, Pending};

/// Every screen.
pub const SCREENS: [Scope; 8] = [Fleet, Device, Discover, Pending, Events, Batches, Batch, Keys];

const LISTS: &[Scope] = &[Fleet, Discover, Pending, Events, Batches, Batch, Keys];
const ALL: &[Scope] = &[Everywhere];

#[rustfmt::skip]
const BINDINGS: &[Binding] = {
    use Section::{Act, Move, View};
    const fn bind(
        action: Action, scopes: &'static [Scope], keys: &'static [&'static str], hint: &'static str,
        help: &'static str, section: Section,
    ) -> Binding {
        Binding { action, scopes, keys, hint, help, section }
    }
    &[
        bind(Action::Open, LISTS, &["Enter", "l", "→"], "open", "open", Move),
        bind(Action::Full, &[Device], &["Enter", "l"], "full pane", "give a pane the whole screen, or take it back; of commands, open one", Move),
        bind(Action::Pause, &[Batches, Batch], &["P"], "pause", "pause the batch: no further device begins", Act),
        bind(Action::Continue, &[Batches, Batch], &["C"], "continue…", "have the batch go on; what has failed so far counts no more", Act),
        bind(Action::CancelRest, &[Batches, Batch], &["K"], "cancel rest…", "call off what has not begun of the batch", Act),
        bind(Action::RetryFailed, &[Batches, Batch], &["R"], "retry failed…", "do it again to the devices of the batch that failed", Act),
        bind(Action::Views, &[Batch, Device], &["f"], "which…", "which are shown: a batch's devices in one state, lines of a log from a level on", View),
        bind(Action::NewKey, &[Keys], &["o"], "new key…", "make a key: its kind, role, rights, scope and end are asked for", Act),
        bind(Action::Mark, &[Fleet, Discover, Pending], &["Space"], "mark", "mark or unmark", Act),
        bind(Action::MarkRange, &[Fleet, Discover, Pending], &["v"], "range", "mark a range: here, move, v", Act),
        bind(Action::MarkAll, &[Fleet, Discover, Pending], &["a"], "mark all", "mark all that the filter shows", Act),
        bind(Action::MarkInvert, &[Fleet, Pending], &["i"], "", "invert the marks within the filter", Act),
        bind(Action::Actions, &[Fleet, Device, Discover, Pending, Batches, Batch, Keys], &["x"], "actions", "what can be done with the marked, or with the one at the cursor", Act),
        bind(Action::Retry, &[Discover], &["R"], "retry failed", "configure those again that failed", Act),
        bind(Action::TakeBack, &[Device], &["K"], "take back", "take back the command at the cursor, before the device begins", Act),
        bind(Action::Versions, &[Device], &["D"], "versions…", "what the configuration was before, and back to one of those", Act),
        bind(Action::NextPane, &[Device, Discover], &["Tab"], "pane", "the next pane", Move),
        bind(Action::PreviousPane, &[Device, Discover], &["S-Tab"], "", "the pane before", Move),
        bind(Action::Range, &[Device, Events], &["t"], "range", "the next time range: 5m, 1h, 24h, 7d", View),
        bind(Action::CursorBack, &[Device], &["←"], "cursor", "the cursor to an earlier time", View),
        bind(Action::CursorOn, &[Device], &["→"], "", "the cursor to a later time", View),
        bind(Action::PanBack, &[Device], &["["], "pan", "look further back", View),
        bind(Action::PanOn, &[Device], &["]"], "", "look further on", View),
        bind(Action::ZoomIn, &[Device], &["+"], "zoom", "a shorter time, in more detail", View),
        bind(Action::ZoomOut, &[Device], &["-"], "", "a longer time", View),
        bind(Action::LiveEdge, &[Device], &["="], "live", "back to now", View),
        bind(Action::Filter, &[Fleet, Discover, Pending, Events, Batches, Device, Keys], &["/"], "filter", "filter, as you type", View),
        bind(Action::Sort, &[Fleet, Discover, Pending, Keys], &["s"], "sort", "sort by a column", View),
        bind(Action::Reverse, &[Fleet, Discover, Pending, Keys], &["S"], "", "the other way round", View),
        bind(Action::Columns, &[Fleet], &["c"], "columns", "choose the columns", View),
        bind(Action::NextProblem, &[Fleet], &["n"], "next problem", "the next device with a problem", Move),
        bind(Action::PreviousProblem, &[Fleet], &["N"], "", "the one before", Move),
        bind(Action::Follow, &[Events, Device], &["F"], "follow", "stay at the newest, or stop", View),
        bind(Action::Copy, &[Fleet, Device, Discover, Pending, Events, Batches, Batch, Keys], &["y"], "copy", "copy to your own clipboard (OSC 52)", View),
        bind(Action::Export, &[Fleet, Events], &["e"], "export", "write what the filter shows to a file", View),
        bind(Action::Freeze, &[Fleet, Device, Events], &["z"], "freeze", "hold the picture still, or let it go on", View),
        bind(Action::Undo, ALL, &["u"], "", "take back what was done here last; it is shown and asked first", Act),
        bind(Action::Back, ALL, &["Esc", "h", "←"], "back", "back by one layer: popup, filter, marks, screen", Move),
        bind(Action::Down, &SCREENS, &["j", "↓", "^n"], "", "down", Move),
        bind(Action::Up, &SCREENS, &["k", "↑", "^p"], "", "up", Move),
        bind(Action::First, &SCREENS, &["g", "Home"], "", "the first", Move),
        bind(Action::Last, &SCREENS, &["G", "End"], "", "the last", Move),
        bind(Action::PageDown, &SCREENS, &["^f", "PgDn"], "", "a page down", Move),
        bind(Action::PageUp, &SCREENS, &["^b", "PgUp"], "", "a page up", Move),
        bind(Action::HalfDown, &SCREENS, &["^d"], "", "half a page down", Move),
        bind(Action::HalfUp, &SCREENS, &["^u"], "", "half a page up", Move),
        bind(Action::Fleet, ALL, &["1"], "", "the fleet", Move),
        bind(Action::Batches, ALL, &["4"], "", "batches: the same thing done to many devices", Move),
        bind(Action::Discover, ALL, &["5"], "", "find and configure devices", Move),
        bind(Action::Events, ALL, &["6"], "", "what happened", Move),
        bind(Action::Pending, ALL, &["7"], "", "devices that wait for your word", Move),
        bind(Action::Keys, ALL, &["8"], "", "keys to the server: who may come in, and with what", Move),
        bind(Action::Previous, ALL, &["^o"], "", "the view before this one", Move),
        bind(Action::Leave, ALL, &["q"], "", "back; on the first screen it asks whether to quit", Move),
        bind(Action::Quit, ALL, &["^c"], "", "quit; it asks only before a new key is lost", Move),
        bind(Action::Palette, ALL, &[":"], "command", "a command, by name", View),
        bind(Action::Help, ALL, &["?"], "help", "this help", View),
        bind(Action::Messages, ALL, &["!"], "", "everything that was said", View),
        bind(Action::Theme, ALL, &["T"], "", "the next theme", View),
        bind(Action::Resync, ALL, &["^r"], "", "ask the server, or the network, again now", View),
        bind(Action::Redraw, ALL, &["^l"], "", "paint the screen anew", View),
        bind(Action::Mouse, ALL, &["m"], "", "the wheel scrolls here, or is the terminal's own", View),
        bind(Action::Suspend, ALL, &["^z"], "", "suspend", View),
    ]
};

/// Every binding.
pub fn bindings() -> &'static [Binding] {
    BINDINGS
}

impl Action {
    /// Its name as a command: `next problem`.
    pub fn words(self) -> String {
        let mut words = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.push(c.to_ascii_lowercase());
        }
        words
    }

    /// Whether it opens something to choose from or to type in.
    pub fn asks(self) -> bool {
        matches!(
            self,
            Self::Actions
                | Self::Sort
                | Self::Columns
                | Self::Copy
                | Self::Filter
                | Self::Palette
                | Self::Continue
                | Self::CancelRest
                | Self::RetryFailed
                | Self::Views
                | Self::Versions
                | Self::Undo
                | Self::NewKey
        )
    }
}

impl Binding {
    /// Whether it holds on a screen.
    pub fn holds(&self, scope: Scope) -> bool {
        self.scopes.contains(&Everywhere) || self.scopes.contains(&scope)
    }

    /// Its first key, for hints.
    pub fn key(&self) -> &'static str {
        self.keys.first().copied().unwrap_or_default()
    }
}

/// The binding of an action on a screen.
pub fn binding(scope: Scope, action: Action) -> Option<&'static Binding> {
    BINDINGS.iter().find(|binding| binding.action == action && binding.holds(scope))
}

/// What a key asks for on a screen.
pub fn lookup(scope: Scope, key: &KeyEvent) -> Option<Action> {
    holder(scope, &name(key)?)
}

/// What a key asks for on a screen, by its name. A screen's own bindings win over those of every
/// screen.
pub fn holder(scope: Scope, name: &str) -> Option<Action> {
    let has_key = |binding: &&Binding| binding.keys.contains(&name);
    let own = BINDINGS.iter().filter(|binding| binding.scopes.contains(&scope));
    let everywhere = BINDINGS.iter().filter(|binding| binding.scopes.contains(&Everywhere));
    own.chain(everywhere).find(has_key).map(|binding| binding.action)
}

/// A key as help prints it.
pub fn name(key: &KeyEvent) -> Option<String> {
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    let named = match key.code {
        KeyCode::Char(' ') => "Space",
        KeyCode::Char(c) if ctrl => return Some(format!("^{}", c.to_ascii_lowercase())),
        KeyCode::Char(c) => return Some(c.to_string()),
        KeyCode::Enter => "Enter",
        KeyCode::Esc => "Esc",
        KeyCode::Tab => "Tab",
        KeyCode::BackTab => "S-Tab",
        KeyCode::Left => "←",
        KeyCode::Right => "→",
        KeyCode::Up => "↑",
        KeyCode::Down => "↓",
        KeyCode::Home => "Home",
        KeyCode::End => "End",
        KeyCode::PageUp => "PgUp",
        KeyCode::PageDown => "PgDn",
        KeyCode::Backspace => "Backspace",
        KeyCode::Delete => "Delete",
        _ => return None,
    };
    Some(named.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn no_key_means_two_things_on_one_screen() {
        for scope in SCREENS {
            for own in [true, false] {
                let mut seen = HashMap::new();
                let is_own = |binding: &&Binding| binding.scopes.contains(&Everywhere) != own;
                for binding in BINDINGS.iter().filter(|b| b.holds(scope)).filter(is_own) {
                    for key in binding.keys {
                        let before = seen.insert(*key, binding.action);
                        assert_eq!(before, None, "{key} on {scope:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_action_has_one_meaning_and_help() {
        let mut help = HashMap::new();
        for binding in BINDINGS {
            assert!(!binding.help.is_empty() && !binding.keys.is_empty(), "{:?}", binding.action);
            assert_eq!(help.insert(binding.action, binding.help), None, "{:?}", binding.action);
        }
    }

    #[test]
    fn a_graphs_arrows_move_its_cursor_and_other_screens_open_with_them() {
        let right = KeyEvent::new(KeyCode::Right, KeyModifiers::NONE);
        assert_eq!(lookup(Device, &right), Some(Action::CursorOn));
        assert_eq!(lookup(Fleet, &right), Some(Action::Open));
        let ctrl = KeyEvent::new(KeyCode::Char('D'), KeyModifiers::CONTROL);
        assert_eq!(lookup(Fleet, &ctrl), Some(Action::HalfDown));
        assert_eq!(lookup(Fleet, &KeyEvent::new(KeyCode::F(1), KeyModifiers::NONE)), None);
    }
}
