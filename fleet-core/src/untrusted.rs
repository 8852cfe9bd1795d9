//! Text from outside: mDNS names, device metadata, file contents, other programs' errors.
//!
//! A terminal, a log or a page sees such text only through [`Untrusted`]. Its `Display` and
//! `Debug` show every character that could move a cursor, hide or reorder text, or forge a line
//! as `\u{..}`, so a value that is printed by mistake is harmless too. The raw text is available
//! by name ([`Untrusted::raw`]) to code that compares or stores it.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::limits::{COMBINING_MARKS_MAX, SHOWN_CHARS_MAX};

/// A text cut to so many characters, with a mark where it was: what is kept of one that has no end of
/// its own.
pub fn cut(mut text: String, chars_max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Text that somebody else chose. Shown escaped and cut, stored as it came.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// Marks a text as coming from outside.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as it came: to compare or to store, never to show.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// The text as it came, by value.
    pub fn into_raw(self) -> String {
        self.0
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Through a String, so that width and alignment work.
        f.pad(&escaped(&self.0))
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write_escaped(f, &self.0, SHOWN_CHARS_MAX)?;
        f.write_char('"')
    }
}

/// A text made safe to show, cut after [`SHOWN_CHARS_MAX`] characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    write_escaped(&mut out, text, SHOWN_CHARS_MAX).expect("writing to a String cannot fail");
    out
}

/// Writes a text made safe to show; what is longer than `chars_max` ends in an ellipsis.
pub fn write_escaped(out: &mut impl fmt::Write, text: &str, chars_max: usize) -> fmt::Result {
    let mut marks = 0;
    for (position, c) in text.chars().enumerate() {
        if position == chars_max {
            return out.write_char('…');
        }
        marks = if is_combining(c) { marks + 1 } else { 0 };
        if is_dangerous(c) || marks > COMBINING_MARKS_MAX {
            write!(out, "\\u{{{:x}}}", c as u32)?;
        } else {
            out.write_char(c)?;
        }
    }
    Ok(())
}

/// Makes a JSON document safe to show without changing what it means: characters that JSON
/// leaves raw inside strings become `\uXXXX`. Newlines and spaces of the layout stay.
pub fn escaped_json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        if is_dangerous(c) && c != '\n' {
            let mut units = [0_u16; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(out, "\\u{unit:04x}").expect("writing to a String cannot fail");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character could act on a terminal, a log line or a reader's eye.
pub(crate) fn is_dangerous(c: char) -> bool {
    c.is_control() // C0, DEL, C1
        || matches!(c,
            '\u{ad}' // soft hyphen
            | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' // zero width, marks of direction
            | '\u{2028}'..='\u{202e}' // line and paragraph separators, bidi overrides
            | '\u{2060}'..='\u{206f}' // invisible operators, bidi isolates
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}') // tags
}

fn is_combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_long_is_cut_with_a_mark() {
        assert_eq!(cut("üü".to_owned(), 2), "üü");
        assert_eq!(cut("üüü".to_owned(), 2), "üü…");
        assert_eq!(cut(String::new(), 0), "");
    }

    #[test]
    fn what_acts_on_a_terminal_is_spelled_out() {
        for (text, shown) in [
            ("rpi4-001", "rpi4-001"),
            ("Küche ☕", "Küche ☕"),
            ("\x1b]0;owned\x07", "\\u{1b}]0;owned\\u{7}"),
            ("a\u{9b}31m", "a\\u{9b}31m"),
            ("line\nforged", "line\\u{a}forged"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
        ] {
            assert_eq!(Untrusted::from(text).to_string(), shown);
            assert_eq!(format!("{:?}", Untrusted::from(text)), format!("\"{shown}\""));
        }
    }

    #[test]
    fn long_text_and_piles_of_marks_are_cut() {
        assert_eq!(escaped(&"a".repeat(300)).chars().count(), SHOWN_CHARS_MAX + 1);
        for (mark, shown) in [("\u{301}", "\\u{301}"), ("\u{e0100}", "\\u{e0100}")] {
            let piled = format!("z{}", mark.repeat(6));
            assert_eq!(escaped(&piled).matches(shown).count(), 2);
        }
    }

    proptest! {
        #[test]
        fn nothing_dangerous_comes_through(text in "\\PC*|[\\x00-\\x1f\\u{80}-\\u{9f}\\u{202e}a]*") {
            prop_assert!(!escaped(&text).chars().any(is_dangerous));
            let json = serde_json::to_string(&text).unwrap();
            let safe = escaped_json(&json);
            prop_assert!(!safe.chars().any(is_dangerous));
            prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }
}
