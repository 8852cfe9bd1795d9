//! Fields: names, and literals that are read as numbers when somebody wants one.

use fleet_core::untrusted::escaped;
use memchr::{memchr, memchr2};

use super::text::{Text, find_plain};
use super::{LineError, is_escaped};
use crate::series::number::Number;

/// A field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: Text<'a>,
    written: &'a str,
    pub(crate) value: Literal<'a>,
}

/// A field's value, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Literal<'a> {
    /// `1.5`, `-2`, `3e8`.
    Float(&'a str),
    /// `2i`, without its letter.
    Integer(&'a str),
    /// `2u`, without its letter.
    Unsigned(&'a str),
    /// `t`, `true`, `F` and so on.
    Boolean(bool),
    /// `"text"`, without its quotes and with its escapes.
    Text(&'a str),
}

impl Field<'_> {
    /// The value as a number, booleans as 1 and 0; nothing if it is text.
    pub(crate) fn number(&self) -> Result<Option<Number>, LineError> {
        Ok(Some(match self.value {
            Literal::Text(_) => return Ok(None),
            Literal::Boolean(is_true) => Number::new(f64::from(u8::from(is_true))),
            Literal::Float(text) => match Number::parse(text.as_bytes()) {
                Some(number) => number,
                None => self.float(text)?,
            },
            Literal::Integer(digits) => {
                let whole = self.whole(digits, digits.parse::<i64>().ok(), "i")?;
                Number::from_decimal(whole, 0).unwrap_or_else(|| Number::new(whole as f64))
            }
            Literal::Unsigned(digits) => {
                Number::new(self.whole(digits, digits.parse::<u64>().ok(), "u")? as f64)
            }
        }))
    }

    fn float(&self, text: &str) -> Result<Number, LineError> {
        // Rust also reads words such as `nan`, which are no numbers here.
        let is_word = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_alphabetic());
        let number = text.parse::<f64>().ok().filter(|_| !is_word);
        let number = number.ok_or_else(|| self.no_value(text))?;
        if number.is_finite() { Ok(Number::new(number)) } else { Err(self.too_large()) }
    }

    fn whole<T>(&self, digits: &str, number: Option<T>, letter: &str) -> Result<T, LineError> {
        let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
        match number {
            Some(number) => Ok(number),
            None if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) => {
                Err(self.too_large())
            }
            None => Err(self.no_value(&format!("{digits}{letter}"))),
        }
    }

    fn too_large(&self) -> LineError {
        let value = match self.value {
            Literal::Float(text) | Literal::Integer(text) | Literal::Unsigned(text) => text,
            Literal::Boolean(_) | Literal::Text(_) => "",
        };
        LineError::TooLarge { field: escaped(self.written), value: escaped(value) }
    }

    fn no_value(&self, value: &str) -> LineError {
        LineError::Value { field: escaped(self.written), value: escaped(value) }
    }
}

/// The fields of a line.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    /// Nothing after the last one.
    rest: Option<&'a str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(written: &'a str) -> Self {
        Self { rest: Some(written) }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        Some(self.split(rest))
    }
}

impl<'a> Fields<'a> {
    fn split(&mut self, rest: &'a str) -> Result<Field<'a>, LineError> {
        let name_end =
            find_plain(rest, [b'=', b',', b' ']).filter(|at| rest.as_bytes()[*at] == b'=');
        let (written, rest) = match name_end {
            Some(equals) if equals > 0 => (&rest[..equals], &rest[equals + 1..]),
            _ => return Err(LineError::field(rest.split(',').next().unwrap_or_default())),
        };
        let name = Text::new(written);
        if let Some(opened) = rest.strip_prefix('"') {
            let open = || LineError::OpenString { field: escaped(written) };
            let end = string_end(opened.as_bytes()).ok_or_else(open)?;
            self.go_on(&opened[end + 1..])?;
            return Ok(Field { name, written, value: Literal::Text(&opened[..end]) });
        }
        let end = rest.bytes().position(|b| b == b',').unwrap_or(rest.len());
        let field = Field { name, written, value: Literal::of(&rest[..end]) };
        self.go_on(&rest[end..])?;
        if let Literal::Float(text) = field.value {
            if text.is_empty() {
                return Err(LineError::field(&format!("{written}=")));
            }
            if memchr(b' ', text.as_bytes()).is_some() {
                return Err(LineError::Time);
            }
        }
        Ok(field)
    }

    /// After a value there is nothing, or a comma and another field.
    fn go_on(&mut self, rest: &'a str) -> Result<(), LineError> {
        match rest.as_bytes().first() {
            None => Ok(()),
            Some(b',') => {
                self.rest = Some(&rest[1..]);
                Ok(())
            }
            Some(b' ') => Err(LineError::Time),
            Some(_) => Err(LineError::field(rest.split(',').next().unwrap_or_default())),
        }
    }
}

impl<'a> Literal<'a> {
    fn of(text: &'a str) -> Self {
        match text.as_bytes() {
            [.., b'i'] => Self::Integer(&text[..text.len() - 1]),
            [.., b'u'] => Self::Unsigned(&text[..text.len() - 1]),
            [b't' | b'T' | b'f' | b'F', ..] => match text {
                "t" | "T" | "true" | "True" | "TRUE" => Self::Boolean(true),
                "f" | "F" | "false" | "False" | "FALSE" => Self::Boolean(false),
                _ => Self::Float(text),
            },
            _ => Self::Float(text),
        }
    }
}

/// Where measurement and tags end: at the first space that is not escaped.
pub(super) fn head_end(line: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr(b' ', &line[from..])?;
        if !is_escaped(line, at) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Where a string ends whose opening quote is behind us. A backslash is for the byte after it.
pub(super) fn string_end(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr2(b'"', b'\\', text.get(from..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}
