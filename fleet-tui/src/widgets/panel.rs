//! A box with a title.

use fleet_core::glyph::Glyph;
use fleet_core::untrusted::escaped;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use unicode_width::UnicodeWidthStr as _;

use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

/// The lines of a box: its corners from the upper left on, then the horizontal and the vertical one.
const LINES: [char; 6] = ['┌', '┐', '└', '┘', '─', '│'];
const ASCII_LINES: [char; 6] = ['+', '+', '+', '+', '-', '|'];

/// Paints a box with a title, and another on its right; returns what is inside. What was there is
/// covered. A box without room for an inside is nothing at all.
pub fn paint(
    area: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    caps: &Caps,
    (title, note): (&str, &str),
    role: Role,
) -> Rect {
    let area = area.intersection(buffer.area);
    if area.width < 3 || area.height < 3 {
        return Rect { width: 0, height: 0, ..area };
    }
    for position in area.positions() {
        buffer[position].reset();
    }
    lines(area, buffer, *theme, if caps.is_ascii() { ASCII_LINES } else { LINES }, role);
    // A corner, a line and blanks stay on both sides.
    let room = usize::from(area.width.saturating_sub(6));
    let title = cut(title, room, *caps);
    if !title.is_empty() {
        buffer.set_string(area.x + 1, area.y, format!(" {title} "), theme.style(Role::Head));
    }
    let left = room.saturating_sub(if title.is_empty() { 0 } else { title.width() + 3 });
    let note = cut(note, left, *caps);
    if !note.is_empty() {
        let x = area.right() - 3 - note.width() as u16;
        buffer.set_string(x, area.y, format!(" {note} "), theme.style(Role::Plain));
    }
    Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: area.height - 2 }
}

fn lines(area: Rect, buffer: &mut Buffer, theme: Theme, lines: [char; 6], role: Role) {
    let style = theme.style(role);
    let (left, right) = (area.x, area.right() - 1);
    let (top, bottom) = (area.y, area.bottom() - 1);
    let mut put = |x, y, sign| {
        buffer[Position::new(x, y)].set_char(sign).set_style(style);
    };
    for x in left..=right {
        put(x, top, lines[4]);
        put(x, bottom, lines[4]);
    }
    for y in top..=bottom {
        put(left, y, lines[5]);
        put(right, y, lines[5]);
    }
    let corners = [(left, top), (right, top), (left, bottom), (right, bottom)];
    for ((x, y), sign) in corners.into_iter().zip(lines) {
        put(x, y, sign);
    }
}

/// A text made safe to show, with an ellipsis where it has no room.
fn cut(text: &str, room: usize, caps: Caps) -> String {
    let text = escaped(text);
    if text.width() <= room {
        return text;
    }
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if shown.width() + 1 > room {
            shown.pop();
            break;
        }
    }
    if room > 0 {
        shown.push(caps.glyph(Glyph::Ellipsis));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ascii, painted};
    use crate::theme::ThemeName;

    fn panel(size: (u16, u16), titles: (&str, &str), caps: Caps) -> String {
        painted(size.0, size.1, |area, buffer| {
            let theme = Theme::new(ThemeName::Default, &caps);
            paint(area, buffer, &theme, &caps, titles, Role::Muted);
        })
    }

    #[test]
    fn titles_have_what_room_there_is() {
        let unicode = Caps::default();
        assert_eq!(
            panel((16, 3), ("CPU", "41%"), unicode),
            "┌ CPU ──── 41% ┐\n│              │\n└──────────────┘"
        );
        assert_eq!(
            panel((16, 3), ("CPU", "41%"), ascii()),
            "+ CPU ---- 41% +\n|              |\n+--------------+"
        );
        assert_eq!(panel((12, 3), ("CPU", "41%"), unicode).lines().next(), Some("┌ CPU ─────┐"));
        assert_eq!(panel((10, 3), ("Memory", ""), unicode).lines().next(), Some("┌ Mem… ──┐"));
        assert_eq!(panel((3, 3), ("Memory", "x"), unicode), "┌─┐\n│ │\n└─┘");
        assert_eq!(panel((2, 3), ("Memory", "x"), unicode).trim(), "");
    }

    #[test]
    fn hostile_titles_are_spelled_out() {
        let text = panel((30, 3), ("a\x1b[2J", ""), Caps::default());
        assert!(text.contains("a\\u{1b}[2J"), "{text}");
    }

    #[test]
    fn wide_text_is_cut_at_whole_characters() {
        let caps = Caps::default();
        assert_eq!(cut("世界", 4, caps), "世界");
        assert_eq!(cut("世界", 3, caps), "世…");
        assert_eq!(cut("世界", 2, caps), "…");
        assert_eq!(cut("世界", 0, caps), "");
    }
}
