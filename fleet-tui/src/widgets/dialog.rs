//! A question, with what it is about and the answers, in a box in the middle.

use fleet_core::glyph::Glyph;
use fleet_core::untrusted::escaped;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::menu::centred;
use super::panel::{self, cut};
use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

/// A dialog.
#[derive(Clone, Copy, Debug)]
pub struct Dialog<'a> {
    /// What is asked.
    pub title: &'a str,
    /// What the person should know, line by line.
    pub lines: &'a [Line<'a>],
    /// Rows that the caller paints, such as fields.
    pub own_rows: u16,
    /// The answers.
    pub buttons: &'a [Button<'a>],
    /// The colour of the box.
    pub role: Role,
}

/// A line of a dialog; it is broken where it has no room.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The words.
    pub text: &'a str,
    /// How they are meant.
    pub role: Role,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Button<'a> {
    /// What it says.
    pub text: &'a str,
    /// Whether Enter gives it.
    pub is_focused: bool,
    /// Whether it can be given.
    pub is_enabled: bool,
}

/// Columns that are comfortably read.
const TEXT_COLUMNS_MAX: usize = 72;
const TEXT_COLUMNS_MIN: usize = 24;
/// The box, and a blank on either side.
const OTHER_COLUMNS: usize = 4;

/// Paints a dialog over the middle of an area; returns where the caller's own rows are. Where there is
/// no room for all of it, lines of its text give way first: answers are always seen.
pub fn paint(
    dialog: &Dialog<'_>,
    within: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    caps: &Caps,
) -> Rect {
    let within = within.intersection(buffer.area);
    let room = usize::from(within.width).saturating_sub(OTHER_COLUMNS).min(TEXT_COLUMNS_MAX);
    let buttons = buttons_width(dialog.buttons);
    let longest = dialog.lines.iter().map(|line| escaped(line.text).width());
    let columns = longest.chain([buttons, escaped(dialog.title).width() + 4, TEXT_COLUMNS_MIN]);
    let columns = columns.max().unwrap_or(0).min(room);
    let lines: Vec<(String, Role)> = dialog
        .lines
        .iter()
        .flat_map(|line| broken(line.text, columns).into_iter().map(|text| (text, line.role)))
        .collect();
    let other_rows = usize::from(dialog.own_rows) + if dialog.buttons.is_empty() { 0 } else { 2 };
    let area = centred(within, columns + OTHER_COLUMNS, lines.len() + other_rows + 2);
    let inside = panel::paint(area, buffer, theme, caps, (dialog.title, ""), dialog.role);
    let inside =
        Rect { x: inside.x + 1.min(inside.width), width: inside.width.saturating_sub(2), ..inside };
    let text_rows = usize::from(inside.height).saturating_sub(other_rows).min(lines.len());
    for ((text, role), y) in lines.iter().take(text_rows).zip(inside.y..) {
        buffer.set_stringn(inside.x, y, text, inside.width.into(), theme.style(*role));
    }
    if text_rows > 0 && text_rows < lines.len() && inside.width > 0 {
        let ellipsis = caps.glyph(Glyph::Ellipsis);
        let (x, y) = (inside.right() - 1, inside.y + text_rows as u16 - 1);
        buffer[(x, y)].set_char(ellipsis).set_style(theme.style(Role::Accent));
    }
    let own = Rect {
        y: inside.y + text_rows as u16,
        height: dialog.own_rows.min(inside.height - text_rows as u16),
        ..inside
    };
    if inside.height > 0 && !dialog.buttons.is_empty() {
        let row = Rect { y: inside.bottom() - 1, height: 1, ..inside };
        paint_buttons(dialog.buttons, row, buffer, *theme, *caps);
        return Rect { height: own.height.min(row.y.saturating_sub(own.y)), ..own };
    }
    own
}

fn paint_buttons(buttons: &[Button<'_>], row: Rect, buffer: &mut Buffer, theme: Theme, caps: Caps) {
    let mut x = row.right().saturating_sub(buttons_width(buttons) as u16).max(row.x);
    for button in buttons {
        let role = match (button.is_focused, button.is_enabled) {
            (_, false) => Role::Muted,
            (true, true) => Role::Select,
            (false, true) => Role::Plain,
        };
        let room = usize::from(row.right().saturating_sub(x));
        let text = cut(&format!("[ {} ]", button.text), room, caps);
        x = buffer.set_stringn(x, row.y, text, room, theme.style(role)).0 + 1;
        if x >= row.right() {
            return;
        }
    }
}

fn buttons_width(buttons: &[Button<'_>]) -> usize {
    let texts: usize = buttons.iter().map(|button| escaped(button.text).width() + 5).sum();
    texts.saturating_sub(1)
}

/// A text made safe to show in lines of so many columns, broken at blanks where there are any.
fn broken(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    if columns == 0 {
        return lines;
    }
    for word in escaped(text).split(' ') {
        let is_begun = lines.len() > 1 || !lines[0].is_empty();
        let line = lines.last_mut().expect("there is a first line");
        if !is_begun && word.width() <= columns {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            if !line.is_empty() {
                lines.push(String::new());
            }
            lay(word, columns, &mut lines);
        }
    }
    lines
}

/// Lays a word into empty lines, however long it is.
fn lay(word: &str, columns: usize, lines: &mut Vec<String>) {
    for c in word.chars() {
        let line = lines.last_mut().expect("there is a line");
        if line.width() + c.width().unwrap_or(0) > columns && !line.is_empty() {
            lines.push(c.to_string());
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{ascii, picture};
    use crate::theme::ThemeName;

    const BUTTONS: [Button<'_>; 2] = [
        Button { text: "Cancel", is_focused: true, is_enabled: true },
        Button { text: "Reboot 3", is_focused: false, is_enabled: false },
    ];

    fn plain(text: &str) -> Line<'_> {
        Line { text, role: Role::Plain }
    }

    fn shown(dialog: &Dialog<'_>, (width, height): (u16, u16), caps: Caps) -> (String, Rect) {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        let theme = Theme::new(ThemeName::Default, &caps);
        let own = paint(dialog, buffer.area, &mut buffer, &theme, &caps);
        (picture(&buffer), own)
    }

    #[test]
    fn a_question_about_several_devices() {
        let lines = [
            plain("On https://fleet.example.com:8443: pump-eu-0001, pump-eu-0002 and one more."),
            Line { text: "1 of them is hidden by the filter.", role: Role::Warn },
            plain(""),
            plain("Undo: none. Type how many there are:"),
        ];
        let dialog = Dialog {
            title: "Reboot 3 devices?",
            lines: &lines,
            own_rows: 1,
            buttons: &BUTTONS,
            role: Role::Crit,
        };
        let (text, own) = shown(&dialog, (60, 13), Caps::default());
        assert_snapshot!("dialog", text);
        assert_eq!(own, Rect::new(4, 7, 52, 1));
        let (text, _) = shown(&dialog, (40, 6), ascii());
        assert_snapshot!("dialog_small", text);
    }

    #[test]
    fn lines_are_broken_at_blanks() {
        for (text, columns, lines) in [
            ("", 5, vec![""]),
            ("one two", 7, vec!["one two"]),
            ("one two", 6, vec!["one", "two"]),
            ("onetwothree", 5, vec!["onetw", "othre", "e"]),
            ("a onetwothree b", 5, vec!["a", "onetw", "othre", "e b"]),
            ("世界 x", 4, vec!["世界", "x"]),
            ("世界", 1, vec!["世", "界"]),
        ] {
            assert_eq!(broken(text, columns), lines, "{text} {columns}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_dialog_in_any_room(
            texts in prop::collection::vec("\\PC{0,60}", 0..6),
            size in (0_u16..50, 0_u16..16),
            own_rows in 0_u16..5,
        ) {
            let lines: Vec<Line<'_>> = texts.iter().map(|text| plain(text)).collect();
            let dialog = Dialog {
                title: "title", lines: &lines, own_rows, buttons: &BUTTONS, role: Role::Plain,
            };
            let (text, own) = shown(&dialog, size, Caps::default());
            prop_assert_eq!(own.intersection(Rect::new(0, 0, size.0, size.1)), own);
            prop_assert!(own.height <= own_rows);
            prop_assert!(size.0 < 30 || size.1 < 3 || text.contains("[ Cancel ]"), "{}", text);
        }
    }
}
