//! Names and tags: text in which a backslash takes its meaning from a comma, a space or an equals
//! sign, and is itself before anything else.

use std::borrow::Cow;

use super::{LineError, is_escaped};

/// A name or a tag's value, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    pub(super) fn new(written: &'a str) -> Self {
        Self(written)
    }

    /// As it is written, with its escapes.
    pub(crate) fn written(self) -> &'a str {
        self.0
    }

    /// What it says. Copied only if something in it is escaped.
    pub(crate) fn read(self) -> Cow<'a, str> {
        if !self.0.bytes().any(|b| b == b'\\') {
            return Cow::Borrowed(self.0);
        }
        let mut text = String::with_capacity(self.0.len());
        let mut chars = self.0.chars().peekable();
        while let Some(c) = chars.next() {
            let escaped = chars.peek().copied().filter(|next| is_special(*next));
            match (c, escaped) {
                ('\\', Some(special)) => {
                    text.push(special);
                    chars.next();
                }
                _ => text.push(c),
            }
        }
        Cow::Owned(text)
    }
}

fn is_special(c: char) -> bool {
    matches!(c, ',' | ' ' | '=')
}

/// The first of these bytes that is not escaped. Names are short, so that looking at each byte is
/// the fastest way.
pub(super) fn find_plain<const N: usize>(text: &str, wanted: [u8; N]) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_wanted = |byte: &u8| wanted.contains(byte);
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(is_wanted)?;
        if !is_escaped(bytes, at) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// The tags of a line.
#[derive(Clone, Debug)]
pub(crate) struct Tags<'a> {
    /// Nothing after the last one.
    rest: Option<&'a str>,
}

impl<'a> Tags<'a> {
    pub(super) fn new(written: Option<&'a str>) -> Self {
        Self { rest: written }
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Result<(Text<'a>, Text<'a>), LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        let tag = match find_plain(rest, [b',']) {
            Some(comma) => {
                self.rest = Some(&rest[comma + 1..]);
                &rest[..comma]
            }
            None => {
                self.rest = None;
                rest
            }
        };
        Some(match find_plain(tag, [b'=']) {
            Some(equals) if 0 < equals && equals + 1 < tag.len() => {
                let (name, value) = (&tag[..equals], &tag[equals + 1..]);
                // A second equals sign in a value does no harm.
                Ok((Text(name), Text(value)))
            }
            _ => Err(LineError::tag(tag)),
        })
    }
}
