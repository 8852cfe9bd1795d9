//! A line of text that a person edits, with the keys that shells have.
//!
//! [`Field`] is the text and its cursor, [`paint`] shows it. A cursor stands between characters as
//! they are seen: marks that belong to a letter go where it goes.

use std::ops::Range;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fleet_core::untrusted::escaped;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

/// A line of text and where its cursor is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    text: String,
    /// In bytes; always before a character as it is seen, or at the end.
    cursor: usize,
    chars_max: usize,
    is_masked: bool,
}

/// What a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOutcome {
    /// The text changed.
    Edited,
    /// Only the cursor moved, or there was nothing to do.
    Moved,
    /// It is no key of a field.
    Ignored,
}

impl Field {
    /// An empty field that takes so many characters.
    pub fn new(chars_max: usize) -> Self {
        Self { chars_max, ..Self::default() }
    }

    /// The field with signs in place of its characters: for a key or a password.
    #[must_use]
    pub fn masked(self) -> Self {
        Self { is_masked: true, ..self }
    }

    /// The field with a text to begin with, and the cursor at its end.
    #[must_use]
    pub fn with(mut self, text: &str) -> Self {
        self.set(text);
        self
    }

    /// What was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the cursor is, in bytes of the text.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Another text, with the cursor at its end.
    pub fn set(&mut self, text: &str) {
        self.text.clear();
        self.cursor = 0;
        self.insert(text);
    }

    /// Nothing.
    pub fn clear(&mut self) {
        self.set("");
    }

    /// Puts a text where the cursor is: what is typed or pasted. Line ends become spaces, other
    /// control characters are left out, and so is what does not fit.
    pub fn insert(&mut self, text: &str) {
        let room = self.chars_max.saturating_sub(self.text.chars().count());
        let blank = |c: char| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c };
        let text = text.trim_end_matches(['\n', '\r']);
        let text: String = text.chars().map(blank).filter(|c| !c.is_control()).take(room).collect();
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
        self.settle();
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> FieldOutcome {
        let before = self.text.len();
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        let is_alt = key.modifiers.contains(KeyModifiers::ALT);
        match (key.code, is_control, is_alt) {
            (KeyCode::Left, false, false) | (KeyCode::Char('b'), true, false) => {
                self.cursor = self.before();
            }
            (KeyCode::Right, false, false) | (KeyCode::Char('f'), true, false) => {
                self.cursor = self.after();
            }
            (KeyCode::Left, true, _) | (KeyCode::Char('b'), false, true) => {
                self.cursor = self.word_before();
            }
            (KeyCode::Right, true, _) | (KeyCode::Char('f'), false, true) => {
                self.cursor = self.word_after();
            }
            (KeyCode::Home, ..) | (KeyCode::Char('a'), true, _) => self.cursor = 0,
            (KeyCode::End, ..) | (KeyCode::Char('e'), true, _) => self.cursor = self.text.len(),
            (KeyCode::Backspace, false, false) | (KeyCode::Char('h'), true, _) => {
                self.remove(self.before()..self.cursor);
            }
            (KeyCode::Delete, ..) | (KeyCode::Char('d'), true, _) => {
                self.remove(self.cursor..self.after());
            }
            (KeyCode::Backspace, ..) | (KeyCode::Char('w'), true, _) => {
                self.remove(self.word_before()..self.cursor);
            }
            (KeyCode::Char('u'), true, _) => self.remove(0..self.cursor),
            (KeyCode::Char('k'), true, _) => self.remove(self.cursor..self.text.len()),
            (KeyCode::Char(c), false, false) => self.insert(c.encode_utf8(&mut [0; 4])),
            _ => return FieldOutcome::Ignored,
        }
        if self.text.len() == before { FieldOutcome::Moved } else { FieldOutcome::Edited }
    }

    fn remove(&mut self, range: Range<usize>) {
        self.cursor = range.start;
        self.text.replace_range(range, "");
        self.settle();
    }

    /// Moves the cursor out of a character that a change has made out of two.
    fn settle(&mut self) {
        let units = units(&self.text);
        let inside = units.iter().find(|unit| unit.start < self.cursor && self.cursor < unit.end);
        if let Some(unit) = inside {
            self.cursor = unit.end;
        }
    }

    fn before(&self) -> usize {
        let units = units(&self.text);
        units.iter().rev().map(|unit| unit.start).find(|at| *at < self.cursor).unwrap_or(0)
    }

    fn after(&self) -> usize {
        let units = units(&self.text);
        let mut ends = units.iter().map(|unit| unit.end);
        ends.find(|at| *at > self.cursor).unwrap_or(self.text.len())
    }

    fn word_before(&self) -> usize {
        let before = self.text[..self.cursor].trim_end();
        let last = before.char_indices().rfind(|(_, c)| c.is_whitespace());
        let word = last.map_or(0, |(at, c)| at + c.len_utf8());
        // A blank may carry a mark, which belongs to no word.
        let units = units(&self.text);
        units.iter().rev().map(|unit| unit.start).find(|at| *at <= word).unwrap_or(0)
    }

    fn word_after(&self) -> usize {
        let after = &self.text[self.cursor..];
        let word = after.len() - after.trim_start().len();
        let end = after[word..].find(char::is_whitespace).map_or(after.len(), |at| word + at);
        let units = units(&self.text);
        units.iter().map(|unit| unit.end).find(|at| *at >= self.cursor + end).unwrap_or(self.cursor)
    }
}

/// Shows a field in one row and tells where its cursor is. What does not fit is cut where an
/// ellipsis says so, never around the cursor.
pub fn paint(
    field: &Field,
    area: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    caps: &Caps,
) -> Option<Position> {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return None;
    }
    let shown = shown(field, *caps);
    let width = usize::from(area.width);
    let first = first_shown(&shown, field.cursor, width);
    let style = theme.style(Role::Plain);
    let row = Rect { height: 1, ..area };
    buffer.set_style(row, style);
    let mut x = 0;
    let mut cursor = None;
    for unit in &shown[first..] {
        if unit.start >= field.cursor && cursor.is_none() {
            cursor = Some(x);
        }
        if x + unit.width > width {
            break;
        }
        buffer.set_stringn(area.x + x as u16, area.y, &unit.text, width - x, style);
        x += unit.width;
    }
    let end = shown.last().map_or(0, |unit| unit.end);
    let is_cut = shown[first..].iter().map(|unit| unit.width).sum::<usize>() > width;
    let cursor = cursor.unwrap_or(x).min(width - 1);
    let mark = |buffer: &mut Buffer, x: u16, style: Style| {
        let ellipsis = caps.glyph(fleet_core::glyph::Glyph::Ellipsis);
        buffer.set_string(area.x + x, area.y, ellipsis.to_string(), style);
    };
    let muted = theme.style(Role::Muted);
    if first > 0 && cursor > 0 {
        mark(buffer, 0, muted);
    }
    if is_cut && field.cursor < end && cursor + 1 < width {
        mark(buffer, area.width - 1, muted);
    }
    Some(Position::new(area.x + cursor as u16, area.y))
}

/// A character as it is seen: with the marks that belong to it.
struct Unit {
    start: usize,
    end: usize,
    text: String,
    width: usize,
}

fn units(text: &str) -> Vec<Range<usize>> {
    let mut units: Vec<Range<usize>> = Vec::new();
    for (at, c) in text.char_indices() {
        match units.last_mut() {
            Some(last) if c.width() == Some(0) => last.end = at + c.len_utf8(),
            _ => units.push(at..at + c.len_utf8()),
        }
    }
    units
}

fn shown(field: &Field, caps: Caps) -> Vec<Unit> {
    let mask = if caps.is_ascii() { "*" } else { "•" };
    let unit = |range: Range<usize>| {
        let text = &field.text[range.clone()];
        let text = if field.is_masked { mask.to_owned() } else { escaped(text) };
        // A mark that stands alone takes a cell of its own, so that it is seen to be there.
        let text = if text.width() == 0 { "\u{fffd}".to_owned() } else { text };
        Unit { start: range.start, end: range.end, width: text.width(), text }
    };
    units(&field.text).into_iter().map(unit).collect()
}

/// The first unit that is shown so that the cursor is seen, with room for an ellipsis before it.
fn first_shown(shown: &[Unit], cursor: usize, width: usize) -> usize {
    let mut room = width.saturating_sub(1);
    let before = shown.iter().take_while(|unit| unit.start < cursor).count();
    let mut first = before;
    while first > 0 && shown[first - 1].width <= room {
        room -= shown[first - 1].width;
        first -= 1;
    }
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::theme::ThemeName;

    fn press(field: &mut Field, keys: &str) -> FieldOutcome {
        let mut outcome = FieldOutcome::Ignored;
        for key in keys.split(' ') {
            outcome = field.key(key_named(key));
        }
        outcome
    }

    fn key_named(name: &str) -> KeyEvent {
        let mut modifiers = KeyModifiers::NONE;
        let name = match name.as_bytes() {
            [b'^', _] => {
                modifiers = KeyModifiers::CONTROL;
                &name[1..]
            }
            [b'!', _] => {
                modifiers = KeyModifiers::ALT;
                &name[1..]
            }
            _ => name,
        };
        let code = match name {
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "del" => KeyCode::Delete,
            "bs" => KeyCode::Backspace,
            "enter" => KeyCode::Enter,
            other => KeyCode::Char(other.chars().next().unwrap()),
        };
        KeyEvent::new(code, modifiers)
    }

    #[test]
    fn the_keys_of_a_shell() {
        for (before, keys, after, outcome) in [
            ("", "a b c", "abc", FieldOutcome::Edited),
            ("one two", "^a x", "xone two", FieldOutcome::Edited),
            ("one two", "^a ^f ^f X ^e !", "onXe two!", FieldOutcome::Edited),
            ("one two", "^b ^b X", "one tXwo", FieldOutcome::Edited),
            ("one two ", "^w", "one ", FieldOutcome::Edited),
            ("one two", "home ^k", "", FieldOutcome::Edited),
            ("one two", "left left ^u", "wo", FieldOutcome::Edited),
            ("one", "^h", "on", FieldOutcome::Edited),
            ("one", "home del", "ne", FieldOutcome::Edited),
            ("one two", "!b X", "one Xtwo", FieldOutcome::Edited),
            ("one two", "home !f X", "oneX two", FieldOutcome::Edited),
            ("one", "^a ^h", "one", FieldOutcome::Moved),
            ("one", "end", "one", FieldOutcome::Moved),
            ("one", "enter", "one", FieldOutcome::Ignored),
            ("one", "^x", "one", FieldOutcome::Ignored),
        ] {
            let mut field = Field::new(64).with(before);
            assert_eq!(press(&mut field, keys), outcome, "{before} {keys}");
            assert_eq!(field.text(), after, "{before} {keys}");
        }
    }

    #[test]
    fn marks_go_with_their_letter() {
        let mut field = Field::new(64).with("ae\u{301}");
        press(&mut field, "left");
        assert_eq!(field.cursor(), 1);
        press(&mut field, "end bs");
        assert_eq!(field.text(), "a");
    }

    #[test]
    fn what_is_pasted_is_one_line_and_has_an_end() {
        let mut field = Field::new(6);
        field.insert("a\nb\x1b\tcdefgh\n");
        assert_eq!(field.text(), "a b cd");
        field.set("key\n");
        assert_eq!(field.text(), "key");
    }

    fn painted(field: &Field, width: u16, caps: Caps) -> (String, Option<u16>) {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, 1));
        let theme = Theme::new(ThemeName::Default, &caps);
        let at = paint(field, buffer.area, &mut buffer, &theme, &caps);
        let text = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
        (text, at.map(|at| at.x))
    }

    #[test]
    fn the_cursor_is_always_seen() {
        let mut field = Field::new(64).with("0123456789");
        assert_eq!(painted(&field, 12, Caps::default()), ("0123456789  ".into(), Some(10)));
        assert_eq!(painted(&field, 6, Caps::default()), ("…6789 ".into(), Some(5)));
        press(&mut field, "home");
        assert_eq!(painted(&field, 6, Caps::default()), ("01234…".into(), Some(0)));
        press(&mut field, "right");
        assert_eq!(painted(&field, 6, Caps::default()), ("01234…".into(), Some(1)));
    }

    #[test]
    fn a_key_is_not_shown() {
        let field = Field::new(64).masked().with("flt_op");
        assert_eq!(painted(&field, 8, Caps::default()).0, "••••••  ");
        let ascii = Caps { glyphs: crate::terminal::caps::GlyphLevel::Ascii, ..Caps::default() };
        assert_eq!(painted(&field, 8, ascii).0, "******  ");
    }

    proptest! {
        #[test]
        fn any_text_and_keys_in_any_width(
            text in "[a-zäé\u{301}世 \u{202e}]{0,40}",
            keys in prop::collection::vec(0_usize..11, 0..30),
            width in 0_u16..20,
        ) {
            const KEYS: [&str; 11] =
                ["left", "right", "^w", "^u", "^k", "^h", "^d", "世", "\u{301}", "!b", "!f"];
            let mut field = Field::new(40).with(&text);
            for key in keys {
                field.key(key_named(KEYS[key]));
                prop_assert!(field.text().is_char_boundary(field.cursor()));
                prop_assert!(field.text().chars().count() <= 40);
                prop_assert!(units(field.text()).iter().all(
                    |unit| field.cursor() <= unit.start || field.cursor() >= unit.end));
                let (_, cursor) = painted(&field, width, Caps::default());
                prop_assert_eq!(cursor.is_some(), width > 0);
                prop_assert!(cursor.is_none_or(|x| x < width));
            }
        }
    }
}
