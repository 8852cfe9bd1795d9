//! How texts are compared: without regard to case, with wildcards, and fuzzily.

use std::cmp::Ordering;
use std::fmt;

use super::tree::{write_value, write_word};

/// A character of a pattern; nothing stands for any one character.
type Slot = Option<char>;

/// A text to find, with its wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    raw: String,
    /// What stands between the asterisks; at least one.
    pieces: Vec<Box<[Slot]>>,
    is_from_start: bool,
    is_to_end: bool,
    /// Plain ASCII, which is the most usual and needs no second look.
    is_ascii_word: bool,
}

impl Pattern {
    /// The whole text, `*` for any characters.
    pub(super) fn equal(raw: &str) -> Self {
        let slots = |piece: &str| piece.chars().map(|c| Some(fold(c))).collect();
        Self {
            raw: raw.to_owned(),
            pieces: raw.split('*').map(slots).collect(),
            is_from_start: true,
            is_to_end: true,
            is_ascii_word: raw.is_ascii() && !raw.contains('*'),
        }
    }

    /// A part of the text; `*` and `?`, and `^` and `$` for the text's ends.
    pub(super) fn like(raw: &str) -> Self {
        let body = raw.strip_prefix('^').unwrap_or(raw);
        let is_from_start = body.len() < raw.len();
        let inner = body.strip_suffix('$').unwrap_or(body);
        let is_to_end = inner.len() < body.len();
        let slot = |c| if c == '?' { None } else { Some(fold(c)) };
        let pieces = inner.split('*').map(|piece| piece.chars().map(slot).collect()).collect();
        Self { raw: raw.to_owned(), pieces, is_from_start, is_to_end, is_ascii_word: false }
    }

    /// As it was written.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// Whether only one text is equal to it, but for case.
    pub(super) fn is_plain(&self) -> bool {
        self.is_from_start && self.is_to_end && self.pieces.len() == 1
    }

    /// Whether a text fits. Each piece takes the first place that it finds, so nothing is tried
    /// twice.
    pub(super) fn matches(&self, text: &str) -> bool {
        if self.is_ascii_word && text.len() <= self.raw.len() {
            return self.raw.eq_ignore_ascii_case(text);
        }
        let last = self.pieces.len() - 1;
        let mut rest = text;
        for (index, piece) in self.pieces.iter().enumerate() {
            let is_first = index == 0 && self.is_from_start;
            let is_last = index == last && self.is_to_end;
            let found = match (is_first, is_last) {
                (true, true) => after_prefix(piece, rest).filter(|rest| rest.is_empty()),
                (true, false) => after_prefix(piece, rest),
                (false, true) => is_suffix(piece, rest).then_some(""),
                (false, false) => after_found(piece, rest),
            };
            match found {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(f, &self.raw)
    }
}

/// A bare word: its letters in this order, with anything between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    raw: String,
    letters: Box<[char]>,
}

impl Word {
    pub(super) fn new(raw: &str) -> Self {
        Self { raw: raw.to_owned(), letters: raw.chars().map(fold).collect() }
    }

    /// Whether a text fits.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut letters = text.chars();
        self.letters.iter().all(|wanted| letters.any(|letter| fold(letter) == *wanted))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_word(f, &self.raw)
    }
}

/// Which of two texts comes first, without regard to case.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    a.chars().map(fold).cmp(b.chars().map(fold))
}

/// A character without its case. One for one, so that nothing has to be stored.
fn fold(c: char) -> char {
    if c.is_ascii() { c.to_ascii_lowercase() } else { c.to_lowercase().next().unwrap_or(c) }
}

fn fits(slot: Slot, c: char) -> bool {
    slot.is_none_or(|wanted| wanted == fold(c))
}

/// What comes after a piece that the text begins with.
fn after_prefix<'a>(piece: &[Slot], text: &'a str) -> Option<&'a str> {
    let mut chars = text.chars();
    for slot in piece {
        if !fits(*slot, chars.next()?) {
            return None;
        }
    }
    Some(chars.as_str())
}

/// What comes after the first place where a piece stands.
fn after_found<'a>(piece: &[Slot], text: &'a str) -> Option<&'a str> {
    let mut chars = text.chars();
    loop {
        match after_prefix(piece, chars.as_str()) {
            Some(after) => return Some(after),
            None => chars.next()?,
        };
    }
}

fn is_suffix(piece: &[Slot], text: &str) -> bool {
    let mut chars = text.chars();
    piece.iter().rev().all(|slot| chars.next_back().is_some_and(|c| fits(*slot, c)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_is_the_whole_text() {
        for (pattern, text, fits) in [
            ("Lyon", "lyon", true),
            ("lyon", "lyon2", false),
            ("ly*", "lyon", true),
            ("*on", "LYON", true),
            ("l*o*n", "lyon", true),
            ("l*o*n", "lyom", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("l?on", "lyon", false),
            ("l?on", "l?on", true),
            ("KÜCHE", "küche", true),
        ] {
            assert_eq!(Pattern::equal(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn like_is_a_part_of_the_text() {
        for (pattern, text, fits) in [
            ("pump", "Water Pump 3", true),
            ("^pump", "Water Pump 3", false),
            ("^water", "Water Pump 3", true),
            ("3$", "Water Pump 3", true),
            ("^pump$", "pump", true),
            ("^pump$", "pumps", false),
            ("w*p?mp", "water pump", true),
            ("p?mp", "pmp", false),
            ("", "anything", true),
            ("^$", "", true),
            ("^$", "x", false),
            ("^", "x", true),
            ("^*$", "x", true),
            ("aab", "aaab", true),
            ("^a*b$", "a b b", true),
        ] {
            assert_eq!(Pattern::like(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn words_match_letters_in_their_order() {
        for (word, text, fits) in [
            ("pmp", "Water PUMP", true),
            ("pmp", "pm", false),
            ("rpi1", "rpi4-001", true),
            ("1rpi", "rpi4-001", false),
        ] {
            assert_eq!(Word::new(word).matches(text), fits, "{word} {text}");
        }
    }

    proptest! {
        /// The matcher agrees with one that tries everything.
        #[test]
        fn wildcards_mean_what_they_say(pattern in "[ab*?]{0,6}", text in "[abAB]{0,8}") {
            fn brute(pattern: &[char], text: &[char]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some(('*', rest)) => (0..=text.len()).any(|n| brute(rest, &text[n..])),
                    Some((c, rest)) => text.split_first().is_some_and(|(t, tail)| {
                        (*c == '?' || *c == t.to_ascii_lowercase()) && brute(rest, tail)
                    }),
                }
            }
            let chars: Vec<char> = text.chars().collect();
            let whole: Vec<char> = pattern.chars().collect();
            let anchored = format!("^{pattern}$");
            prop_assert_eq!(Pattern::like(&anchored).matches(&text), brute(&whole, &chars));
            let part: Vec<char> = format!("*{pattern}*").chars().collect();
            prop_assert_eq!(Pattern::like(&pattern).matches(&text), brute(&part, &chars));
        }
    }
}
