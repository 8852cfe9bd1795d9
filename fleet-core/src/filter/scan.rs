//! Reads a filter's text from left to right. What ends a word depends on where it stands: a value
//! may hold a `:` or a `~`, a field's name may not.

use std::ops::Range;

use super::error::{FilterError, hidden};
use super::tree::Op;
use crate::untrusted::is_dangerous;

/// A place in the text, and what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next character.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The place of the next character, empty at the end.
    pub(super) fn here(&self) -> Range<usize> {
        self.at..self.at + self.peek().map_or(0, char::len_utf8)
    }

    pub(super) fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Goes past a character if it is the next one.
    pub(super) fn eat(&mut self, c: char) -> bool {
        let is_next = self.peek() == Some(c);
        if is_next {
            self.at += c.len_utf8();
        }
        is_next
    }

    /// A field's name, a keyword or a bare word; may be empty.
    pub(super) fn name(&mut self) -> &'a str {
        self.take_while(is_name_char)
    }

    /// A value without quotes; may be empty.
    pub(super) fn bare_value(&mut self) -> &'a str {
        self.take_while(is_value_char)
    }

    /// The text between the quote that is next and its partner.
    pub(super) fn quoted(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        self.eat('"');
        let mut text = String::new();
        while let Some(c) = self.peek() {
            let place = self.here();
            self.at = place.end;
            match c {
                '"' => return Ok(text),
                '\\' => match self.peek() {
                    Some(c @ ('"' | '\\')) => {
                        self.eat(c);
                        text.push(c);
                    }
                    _ => {
                        let message = "in quotes, a backslash stands before \" or \\ only";
                        return Err(self.fault(place, message).hint("write \\\\ for a backslash"));
                    }
                },
                // Between terms they are space; here they would stand in the filter's spelling.
                c if is_dangerous(c) => return Err(hidden(self.text, place)),
                c => text.push(c),
            }
        }
        Err(self.fault(start..start + 1, "this quote is not closed"))
    }

    /// Goes past a keyword if it is next.
    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let mut ahead = *self;
        let is_next = ahead.name().eq_ignore_ascii_case(keyword);
        if is_next {
            *self = ahead;
        }
        is_next
    }

    /// Goes past an operator if one is next.
    pub(super) fn eat_operator(&mut self) -> Option<Op> {
        let op = Op::ALL.into_iter().find(|op| self.rest().starts_with(op.symbol()))?;
        self.at += op.symbol().len();
        Some(op)
    }

    /// What is wrong at a place of this text.
    pub(super) fn fault(&self, at: Range<usize>, message: impl Into<String>) -> FilterError {
        FilterError::new(self.text, at, message)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
}

/// Words that stand for something; as names they need `metadata.` before them.
pub(super) const KEYWORDS: [&str; 5] = ["and", "or", "not", "in", "has"];

pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// The keyword that a sign of other languages stands for.
pub(super) fn meant_keyword(word: &str) -> Option<&'static str> {
    match word {
        "&" | "&&" => Some("and"),
        "|" | "||" => Some("or"),
        _ => None,
    }
}

/// Whether a name reads back without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char)
}

/// Whether a value reads back without quotes.
pub(super) fn is_plain_value(value: &str) -> bool {
    !value.is_empty() && !value.starts_with(['\'', '~']) && value.chars().all(is_value_char)
}

fn is_name_char(c: char) -> bool {
    !(c.is_whitespace() || "(),\"=!<>~:".contains(c))
}

fn is_value_char(c: char) -> bool {
    !(c.is_whitespace() || "(),\"=<>".contains(c))
}
