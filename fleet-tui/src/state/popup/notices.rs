//! What was said: everything that stood in the line above the keys, newest first.

use crossterm::event::{KeyCode, KeyEvent};

use super::{Command, PopupEnd, leaves, moved};
use crate::layout;
use crate::state::Desk;

/// What was said.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// Where the cursor is; the newest is 0.
    pub cursor: usize,
}

impl Notices {
    pub(super) fn press(&mut self, key: &KeyEvent, desk: &Desk) -> PopupEnd {
        match key.code {
            KeyCode::Char('y') => {
                let said = desk.notices.iter().rev().nth(self.cursor);
                if let Some((notice, _)) = said {
                    return PopupEnd::Run(Command::Copy("message", notice.text.clone()));
                }
            }
            _ if leaves(key) => return PopupEnd::Close,
            _ => {
                let height = layout::popup_rows(desk.size);
                if let Some(cursor) = moved(key, self.cursor, desk.notices.len(), height) {
                    self.cursor = cursor;
                }
            }
        }
        PopupEnd::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, key};

    #[test]
    fn any_message_can_be_copied() {
        let mut desk = app().desk;
        desk.say("first");
        desk.warn("second");
        let mut notices = Notices::default();
        notices.press(&key("j"), &desk);
        let PopupEnd::Run(Command::Copy(_, text)) = notices.press(&key("y"), &desk) else {
            panic!("nothing copied")
        };
        assert_eq!(text, "first");
    }
}
