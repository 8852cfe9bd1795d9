//! Things to choose from, each with a letter.

use crossterm::event::{KeyCode, KeyEvent};

use super::{Command, PopupEnd, moved};
use crate::layout;
use crate::state::Desk;

/// Things to choose from, each with a letter.
#[derive(Clone, Debug)]
pub struct Menu {
    /// What it is about.
    pub title: String,
    /// The things.
    pub items: Vec<MenuItem>,
    /// Where the cursor is.
    pub cursor: usize,
}

/// One of the things of a menu.
#[derive(Clone, Debug)]
pub struct MenuItem {
    /// The letter that chooses it.
    pub key: char,
    /// What it is called.
    pub text: String,
    /// More about it; why it cannot be chosen, if so.
    pub detail: String,
    /// What it does; nothing if it cannot be chosen now.
    pub command: Option<Command>,
}

impl Menu {
    /// A menu with the cursor on its first thing.
    pub fn new(title: impl Into<String>, items: Vec<MenuItem>) -> Self {
        Self { title: title.into(), items, cursor: 0 }
    }

    /// A letter chooses also where it means something else in lists: this menu is all there is.
    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        if let KeyCode::Char(letter) = key.code
            && key.modifiers.is_empty()
            && let Some(place) = self.items.iter().position(|item| item.key == letter)
        {
            return self.choose(place, desk);
        }
        match key.code {
            KeyCode::Esc | KeyCode::Left | KeyCode::Char('q') => PopupEnd::Close,
            KeyCode::Enter => self.choose(self.cursor, desk),
            _ => {
                let height = layout::popup_rows(desk.size);
                if let Some(cursor) = moved(key, self.cursor, self.items.len(), height) {
                    self.cursor = cursor;
                }
                PopupEnd::Stay
            }
        }
    }

    fn choose(&mut self, place: usize, desk: &mut Desk) -> PopupEnd {
        let Some(item) = self.items.get(place) else { return PopupEnd::Stay };
        self.cursor = place;
        match &item.command {
            Some(command) => PopupEnd::Run(command.clone()),
            None => {
                desk.say(item.detail.clone());
                PopupEnd::Stay
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, key};

    fn menu() -> Menu {
        let item = |key, command| MenuItem {
            key,
            text: format!("thing {key}"),
            detail: "not now".to_owned(),
            command,
        };
        Menu::new("Things", vec![item('a', Some(Command::Back)), item('j', None)])
    }

    #[test]
    fn letters_choose_and_what_cannot_be_says_why() {
        let mut desk = app().desk;
        assert!(matches!(menu().press(&key("a"), &mut desk), PopupEnd::Run(Command::Back)));
        assert!(matches!(menu().press(&key("j"), &mut desk), PopupEnd::Stay));
        assert_eq!(desk.notice.as_ref().map(|(notice, _)| notice.text.as_str()), Some("not now"));
    }

    #[test]
    fn the_cursor_moves_and_enter_chooses() {
        let (mut menu, mut desk) = (menu(), app().desk);
        menu.press(&key("Down"), &mut desk);
        menu.press(&key("^n"), &mut desk);
        assert_eq!(menu.cursor, 1);
        menu.press(&key("k"), &mut desk);
        assert!(matches!(menu.press(&key("Enter"), &mut desk), PopupEnd::Run(Command::Back)));
        assert!(matches!(menu.press(&key("Esc"), &mut desk), PopupEnd::Close));
    }
}
