//! A line to fill in for something that is to be done with devices.

use crossterm::event::{KeyCode, KeyEvent};

use super::PopupEnd;
use crate::state::Desk;
use crate::state::deed::{self, Chosen, Deed};
use crate::widgets::field::{Field, FieldOutcome};

/// A line to fill in.
#[derive(Clone, Debug)]
pub struct Form {
    /// What it is about.
    pub title: String,
    /// What the line holds.
    pub label: &'static str,
    /// How it is written.
    pub hints: Vec<&'static str>,
    /// The line.
    pub field: Field,
    /// What is wrong with it.
    pub error: Option<String>,
    /// What is to be done.
    pub deed: Deed,
    /// With which devices.
    pub chosen: Chosen,
}

impl Form {
    /// An empty form.
    pub fn new(
        title: String,
        label: &'static str,
        hints: &[&'static str],
        deed: Deed,
        chosen: Chosen,
    ) -> Self {
        Self {
            title,
            label,
            hints: hints.to_vec(),
            field: Field::default(),
            error: None,
            deed,
            chosen,
        }
    }

    /// The form with a text that takes so many characters.
    #[must_use]
    pub fn with(self, text: &str, chars_max: usize) -> Self {
        Self { field: Field::new(chars_max).with(text), ..self }
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        match key.code {
            KeyCode::Esc => return PopupEnd::Close,
            KeyCode::Enter => match deed::settle(self, desk) {
                Ok(command) => return PopupEnd::Run(command),
                Err(error) => self.error = Some(error),
            },
            _ => {
                if self.field.key(*key) == FieldOutcome::Edited {
                    self.error = None;
                }
            }
        }
        PopupEnd::Stay
    }

    pub(super) fn paste(&mut self, text: &str) -> bool {
        self.field.insert(text);
        self.error = None;
        true
    }
}
