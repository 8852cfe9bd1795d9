//! What is wrong with a filter, where, and how it is written instead.

use std::fmt;
use std::ops::Range;

use unicode_width::UnicodeWidthStr as _;

use crate::untrusted::write_escaped;

/// Characters shown of each of: what stands before the place, the place itself, and after it.
const CONTEXT_CHARS_MAX: usize = 60;
/// Characters of the filter that a message repeats.
const QUOTED_CHARS_MAX: usize = 40;

/// Why a text is no filter. All its texts are safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The bytes that are wrong; empty where something is missing.
    pub at: Range<usize>,
    /// What is wrong there.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    column: usize,
}

impl FilterError {
    /// A fault at a place in the text, both ends between characters.
    pub(super) fn new(text: &str, at: Range<usize>, message: impl Into<String>) -> Self {
        let column = text[..at.start].chars().count() + 1;
        Self { at, message: message.into(), hint: None, column }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is wrong, the filter, and a mark below the place. `text` is what was parsed.
    pub fn caret(&self, text: &str) -> String {
        let place = self.at.start.min(text.len())..self.at.end.min(text.len());
        let before = last_chars(text.get(..place.start).unwrap_or_default());
        let after = text.get(place.end..).unwrap_or_default();
        let shown = shown(text.get(place).unwrap_or_default(), CONTEXT_CHARS_MAX);
        let after = self::shown(after, CONTEXT_CHARS_MAX);
        let indent = " ".repeat(before.width());
        let mark = "^".repeat(shown.width().max(1));
        format!("{}\n  {before}{shown}{after}\n  {indent}{mark}", Advice(self))
    }
}

impl std::error::Error for FilterError {}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, Advice(self))
    }
}

/// The message, and the hint if there is one.
struct Advice<'a>(&'a FilterError);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// There is a character that nobody would see.
pub(super) fn hidden(text: &str, at: Range<usize>) -> FilterError {
    let error = FilterError::new(text, at, "a character that cannot be shown");
    error.hint("with ~, write ? for any character")
}

/// A part of the filter, as a message repeats it.
pub(super) fn quoted(text: &str) -> String {
    shown(text, QUOTED_CHARS_MAX)
}

fn shown(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    write_escaped(&mut out, text, chars_max).expect("writing to a String cannot fail");
    out
}

/// The end of a text, with an ellipsis before it if it is not all.
fn last_chars(text: &str) -> String {
    match text.char_indices().nth_back(CONTEXT_CHARS_MAX - 1) {
        Some((start, _)) if start > 0 => {
            format!("…{}", shown(&text[start..], CONTEXT_CHARS_MAX))
        }
        _ => shown(text, CONTEXT_CHARS_MAX),
    }
}
