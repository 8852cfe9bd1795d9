//! A list's filter, and the line in which it is typed. The list follows every key; what cannot be
//! read yet leaves it as it is, and Escape brings back what held before.

use std::fmt::{Debug, Display};

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::filter::{Filter, FilterError, Words};

use crate::widgets::field::{Field, FieldOutcome};

/// Characters of a filter that can be typed.
const CHARS_MAX: usize = 500;

/// A filter that is read from text; the usual one lets everything through.
pub trait ReadFilter: Clone + Debug + Default {
    /// What is wrong with a text.
    type Error: Debug + Display;

    /// Reads a filter.
    fn read(text: &str) -> Result<Self, Self::Error>;
}

impl ReadFilter for Filter {
    type Error = FilterError;

    fn read(text: &str) -> Result<Self, FilterError> {
        Self::parse(text, Words::Fuzzy)
    }
}

/// A filter, and the line in which it is typed.
#[derive(Debug)]
pub struct FilterLine<F: ReadFilter> {
    filter: F,
    text: String,
    typing: Option<Typing<F>>,
    error: Option<F::Error>,
}

#[derive(Debug)]
struct Typing<F> {
    field: Field,
    before: F,
}

/// What a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Nothing is being typed.
    Nothing,
    /// The filter may be another one now.
    Filter,
    /// Something else about the line.
    Line,
    /// It is no key of a line.
    Ignored,
}

impl<F: ReadFilter> Default for FilterLine<F> {
    fn default() -> Self {
        Self { filter: F::default(), text: String::new(), typing: None, error: None }
    }
}

impl<F: ReadFilter> FilterLine<F> {
    /// The filter that holds.
    pub fn filter(&self) -> &F {
        &self.filter
    }

    /// Its text; while it is typed, what stands there now.
    pub fn text(&self) -> &str {
        self.field().map_or(&self.text, Field::text)
    }

    /// The line, while something is typed.
    pub fn field(&self) -> Option<&Field> {
        self.typing.as_ref().map(|typing| &typing.field)
    }

    /// Whether something is being typed.
    pub fn is_typing(&self) -> bool {
        self.typing.is_some()
    }

    /// What is wrong with what is being typed.
    pub fn error(&self) -> Option<&F::Error> {
        self.error.as_ref()
    }

    /// Begins to type.
    pub fn begin(&mut self) {
        let field = Field::new(CHARS_MAX).with(&self.text);
        self.typing = Some(Typing { field, before: self.filter.clone() });
    }

    /// Puts another filter in place.
    pub fn set(&mut self, text: &str) -> Result<(), F::Error> {
        let filter = F::read(text)?;
        *self = Self { filter, text: text.trim().to_owned(), typing: None, error: None };
        Ok(())
    }

    /// Takes a key.
    pub fn press(&mut self, key: &KeyEvent) -> Typed {
        let Some(typing) = &mut self.typing else { return Typed::Nothing };
        match key.code {
            KeyCode::Enter => {
                if self.error.is_none() {
                    typing.field.text().trim().clone_into(&mut self.text);
                    self.typing = None;
                }
                Typed::Line
            }
            KeyCode::Esc => {
                self.filter = typing.before.clone();
                self.typing = None;
                self.error = None;
                Typed::Filter
            }
            _ => match typing.field.key(*key) {
                FieldOutcome::Edited => self.read(),
                FieldOutcome::Moved => Typed::Line,
                FieldOutcome::Ignored => Typed::Ignored,
            },
        }
    }

    /// Takes pasted text.
    pub fn paste(&mut self, text: &str) -> Typed {
        let Some(typing) = &mut self.typing else { return Typed::Nothing };
        typing.field.insert(text);
        self.read()
    }

    /// Takes a key while something is typed, and notes if a list has to follow. False if nothing is.
    pub fn types(&mut self, key: &KeyEvent, is_stale: &mut bool) -> bool {
        Self::followed(self.press(key), is_stale)
    }

    /// The same with pasted text.
    pub fn takes(&mut self, text: &str, is_stale: &mut bool) -> bool {
        Self::followed(self.paste(text), is_stale)
    }

    fn followed(typed: Typed, is_stale: &mut bool) -> bool {
        *is_stale |= typed == Typed::Filter;
        typed != Typed::Nothing
    }

    fn read(&mut self) -> Typed {
        match F::read(self.text()) {
            Ok(filter) => {
                self.filter = filter;
                self.error = None;
                Typed::Filter
            }
            Err(error) => {
                self.error = Some(error);
                Typed::Line
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    #[test]
    fn what_cannot_be_read_changes_nothing_and_escape_brings_back_what_held() {
        let mut line = FilterLine::<Filter>::default();
        assert_eq!(line.press(&key("x")), Typed::Nothing);
        line.set(" status=offline ").unwrap();
        line.begin();
        assert_eq!(line.press(&key("!")), Typed::Line);
        assert!(line.error().is_some() && line.filter().to_string() == "status=offline");
        assert_eq!(line.press(&key("Enter")), Typed::Line);
        assert!(line.is_typing(), "what cannot be read is not taken");
        assert_eq!(line.press(&key("Up")), Typed::Ignored);
        line.press(&key("Backspace"));
        assert_eq!(line.paste(" cpu>5"), Typed::Filter);
        assert_ne!(line.filter().to_string(), "status=offline");
        assert_eq!(line.press(&key("Esc")), Typed::Filter);
        assert_eq!(
            (line.text(), line.filter().to_string().as_str()),
            ("status=offline", "status=offline")
        );
        assert!(line.error().is_none() && !line.is_typing());
    }
}
