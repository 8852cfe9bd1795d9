//! The keys, the filters, the glyphs. A key that is pressed here tells what it does; those that
//! scroll scroll too.

use crossterm::event::{KeyCode, KeyEvent};

use super::{Popup, PopupEnd};
use crate::help;
use crate::keys::{self, Action, Scope};
use crate::layout;
use crate::state::Desk;

/// The keys, the filters, the glyphs.
#[derive(Clone, Debug)]
pub struct Help {
    /// Of which screen.
    pub scope: Scope,
    /// The first line in sight.
    pub top: usize,
    /// What the last key does.
    pub about: Option<String>,
}

/// The keys of a screen.
pub fn help(scope: Scope) -> Popup {
    Popup::Help(Help { scope, top: 0, about: None })
}

impl Help {
    pub(super) fn press(&mut self, key: &KeyEvent, desk: &Desk) -> PopupEnd {
        if matches!(key.code, KeyCode::Esc | KeyCode::Char('?')) {
            return PopupEnd::Close;
        }
        self.about = Some(help::about(self.scope, key));
        let area = layout::help(desk.size);
        let height = usize::from(area.height);
        let highest = help::lines(self.scope, area.as_size()).len().saturating_sub(height);
        // A screenful has its own columns.
        let page = height.max(1);
        self.top = match keys::lookup(Scope::Fleet, key) {
            Some(Action::Down) => self.top + 1,
            Some(Action::Up) => self.top.saturating_sub(1),
            Some(Action::PageDown | Action::Mark) => self.top + page,
            Some(Action::PageUp) => self.top.saturating_sub(page),
            Some(Action::HalfDown) => self.top + page / 2,
            Some(Action::HalfUp) => self.top.saturating_sub(page / 2),
            Some(Action::First) => 0,
            Some(Action::Last) => highest,
            _ => self.top,
        };
        self.top = self.top.min(highest);
        PopupEnd::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, key};

    #[test]
    fn a_key_tells_what_it_does() {
        let desk = app().desk;
        let Popup::Help(mut help) = help(Scope::Fleet) else { panic!("no help") };
        for (name, about) in [
            ("x", "x  what can be done with the marked, or with the one at the cursor"),
            ("F", "F  does nothing here"),
            ("j", "j  down"),
        ] {
            help.press(&key(name), &desk);
            assert_eq!(help.about.as_deref(), Some(about));
        }
        assert!(matches!(help.press(&key("?"), &desk), PopupEnd::Close));
    }

    #[test]
    fn it_scrolls_to_its_end_and_no_further() {
        let mut desk = app().desk;
        desk.size = ratatui::layout::Size::new(80, 24);
        let Popup::Help(mut help) = help(Scope::Fleet) else { panic!("no help") };
        help.press(&key("G"), &desk);
        let bottom = help.top;
        help.press(&key("PgDn"), &desk);
        assert!(bottom > 0 && help.top == bottom);
        help.press(&key("g"), &desk);
        assert_eq!(help.top, 0);
    }
}
