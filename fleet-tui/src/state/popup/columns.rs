//! The columns of the fleet's table: which, and in which order.

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::field::Field;

use super::{Command, PopupEnd, leaves, moved};
use crate::layout;
use crate::state::Desk;

/// The columns of the fleet's table, to choose from.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Every field, in the order of columns, and whether it is shown.
    pub fields: Vec<(Field, bool)>,
    /// Where the cursor is.
    pub cursor: usize,
}

impl Columns {
    /// The shown columns in their order, then all others.
    pub fn new(shown: &[Field]) -> Self {
        let others = Field::all().filter(|field| !shown.contains(field));
        let fields =
            shown.iter().map(|field| (*field, true)).chain(others.map(|field| (field, false)));
        Self { fields: fields.collect(), cursor: 0 }
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        match key.code {
            KeyCode::Char(' ') => self.toggle(),
            KeyCode::Char('J') => self.carry(1),
            KeyCode::Char('K') => self.carry(-1),
            KeyCode::Char('d') if key.modifiers.is_empty() => {
                *self = Self { cursor: self.cursor, ..Self::new(&Field::usual()) };
            }
            KeyCode::Enter => return self.take(desk),
            _ if leaves(key) => return PopupEnd::Close,
            _ => {
                let height = layout::popup_rows(desk.size);
                if let Some(cursor) = moved(key, self.cursor, self.fields.len(), height) {
                    self.cursor = cursor;
                }
            }
        }
        PopupEnd::Stay
    }

    fn toggle(&mut self) {
        if let Some((_, is_shown)) = self.fields.get_mut(self.cursor) {
            *is_shown = !*is_shown;
        }
    }

    /// Moves the column at the cursor, and the cursor with it.
    fn carry(&mut self, by: isize) {
        let to = self.cursor.saturating_add_signed(by).min(self.fields.len().saturating_sub(1));
        self.fields.swap(self.cursor, to);
        self.cursor = to;
    }

    fn take(&self, desk: &mut Desk) -> PopupEnd {
        let shown: Vec<Field> =
            self.fields.iter().filter(|(_, is_shown)| *is_shown).map(|(field, _)| *field).collect();
        if shown.is_empty() {
            desk.say("a table has at least one column");
            return PopupEnd::Stay;
        }
        PopupEnd::Run(Command::Columns(shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, key};

    fn taken(columns: &mut Columns, keys: &str) -> Option<Vec<Field>> {
        let mut desk = app().desk;
        for name in keys.split(' ') {
            if let PopupEnd::Run(Command::Columns(fields)) = columns.press(&key(name), &mut desk) {
                return Some(fields);
            }
        }
        None
    }

    #[test]
    fn columns_are_taken_away_and_moved() {
        let mut columns = Columns::new(&[Field::Status, Field::Device, Field::Cpu]);
        let shown = taken(&mut columns, "Space j J Enter");
        assert_eq!(shown, Some(vec![Field::Cpu, Field::Device]));
    }

    #[test]
    fn the_usual_ones_come_back() {
        let mut columns = Columns::new(&[Field::Cpu]);
        assert_eq!(taken(&mut columns, "d Enter"), Some(Field::usual()));
        assert_eq!(columns.fields.len(), Field::all().count());
    }

    #[test]
    fn no_column_at_all_is_refused() {
        let mut columns = Columns::new(&[Field::Cpu]);
        assert_eq!(taken(&mut columns, "Space Enter"), None);
    }
}
