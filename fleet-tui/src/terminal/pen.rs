//! What the terminal writes with: colours and attributes, and the shortest way from one to another.
//!
//! Own bytes rather than crossterm's: its handling of `NO_COLOR` turns a colour that is not to be
//! set into a reset, which takes the reversed cursor row with it.

use ratatui::buffer::Cell;
use ratatui::style::{Color, Modifier};

/// Colours and attributes of what is written next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pen {
    fg: Color,
    bg: Color,
    modifier: Modifier,
}

/// Attributes, the code that sets each, and the one that takes it away.
const ATTRIBUTES: [(Modifier, u8, u8); 9] = [
    (Modifier::BOLD, 1, 22),
    (Modifier::DIM, 2, 22),
    (Modifier::ITALIC, 3, 23),
    (Modifier::UNDERLINED, 4, 24),
    (Modifier::SLOW_BLINK, 5, 25),
    (Modifier::RAPID_BLINK, 6, 25),
    (Modifier::REVERSED, 7, 27),
    (Modifier::HIDDEN, 8, 28),
    (Modifier::CROSSED_OUT, 9, 29),
];

impl Pen {
    /// What a cell is written with.
    pub(super) fn of(cell: &Cell) -> Self {
        Self { fg: cell.fg, bg: cell.bg, modifier: cell.modifier }
    }

    /// Writes what makes this pen out of another; out of an unknown one by a reset.
    pub(super) fn write(self, from: Option<Self>, out: &mut Vec<u8>) {
        if from == Some(self) {
            return;
        }
        let mut fresh = Codes::default();
        fresh.push(&[0]);
        self.push_onto(Self::default(), &mut fresh);
        let codes = match from {
            Some(from) => {
                let mut change = Codes::default();
                self.push_onto(from, &mut change);
                if change.bytes.len() < fresh.bytes.len() { change } else { fresh }
            }
            None => fresh,
        };
        out.extend_from_slice(b"\x1b[");
        // A lone 0 may be left out.
        if codes.bytes != b"0" {
            out.extend_from_slice(&codes.bytes);
        }
        out.push(b'm');
    }

    fn push_onto(self, from: Self, codes: &mut Codes) {
        let mut kept = from.modifier;
        for (attribute, _, off) in ATTRIBUTES {
            if kept.contains(attribute) && !self.modifier.contains(attribute) {
                codes.push(&[off]);
                // Some share the code that takes them away.
                for (sister, _, sister_off) in ATTRIBUTES {
                    if sister_off == off {
                        kept.remove(sister);
                    }
                }
            }
        }
        for (attribute, on, _) in ATTRIBUTES {
            if self.modifier.contains(attribute) && !kept.contains(attribute) {
                codes.push(&[on]);
            }
        }
        if self.fg != from.fg {
            codes.colour(self.fg, 30);
        }
        if self.bg != from.bg {
            codes.colour(self.bg, 40);
        }
    }
}

/// Numbers of one SGR sequence.
#[derive(Default)]
struct Codes {
    bytes: Vec<u8>,
}

impl Codes {
    fn push(&mut self, numbers: &[u8]) {
        for number in numbers {
            if !self.bytes.is_empty() {
                self.bytes.push(b';');
            }
            self.bytes.extend_from_slice(number.to_string().as_bytes());
        }
    }

    /// A colour, where `base` is 30 for the foreground and 40 for the background.
    fn colour(&mut self, colour: Color, base: u8) {
        match colour {
            Color::Reset => self.push(&[base + 9]),
            Color::Indexed(index) => self.push(&[base + 8, 5, index]),
            Color::Rgb(red, green, blue) => self.push(&[base + 8, 2, red, green, blue]),
            Color::Black => self.push(&[base]),
            Color::Red => self.push(&[base + 1]),
            Color::Green => self.push(&[base + 2]),
            Color::Yellow => self.push(&[base + 3]),
            Color::Blue => self.push(&[base + 4]),
            Color::Magenta => self.push(&[base + 5]),
            Color::Cyan => self.push(&[base + 6]),
            Color::Gray => self.push(&[base + 7]),
            Color::DarkGray => self.push(&[base + 60]),
            Color::LightRed => self.push(&[base + 61]),
            Color::LightGreen => self.push(&[base + 62]),
            Color::LightYellow => self.push(&[base + 63]),
            Color::LightBlue => self.push(&[base + 64]),
            Color::LightMagenta => self.push(&[base + 65]),
            Color::LightCyan => self.push(&[base + 66]),
            Color::White => self.push(&[base + 67]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pen(fg: Color, modifier: Modifier) -> Pen {
        Pen { fg, modifier, ..Pen::default() }
    }

    fn bytes(to: Pen, from: Option<Pen>) -> String {
        let mut out = Vec::new();
        to.write(from, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_shorter_way_is_taken() {
        let plain = Pen::default();
        let red = pen(Color::Red, Modifier::empty());
        let bold = pen(Color::Red, Modifier::BOLD);
        let faint = pen(Color::Red, Modifier::DIM);
        assert_eq!(bytes(red, Some(red)), "");
        assert_eq!(bytes(red, Some(plain)), "\x1b[31m");
        assert_eq!(bytes(bold, Some(red)), "\x1b[1m");
        assert_eq!(bytes(plain, Some(bold)), "\x1b[m");
        assert_eq!(bytes(plain, None), "\x1b[m");
        assert_eq!(bytes(red, None), "\x1b[0;31m");
        assert_eq!(bytes(faint, Some(bold)), "\x1b[22;2m");
        assert_eq!(
            bytes(bold, Some(pen(Color::Red, Modifier::BOLD | Modifier::DIM))),
            "\x1b[22;1m"
        );
    }

    #[test]
    fn reversing_without_a_colour_says_nothing_of_colours() {
        let reversed = pen(Color::Reset, Modifier::REVERSED);
        assert_eq!(bytes(reversed, Some(Pen::default())), "\x1b[7m");
        assert_eq!(bytes(Pen::default(), Some(reversed)), "\x1b[m");
    }

    #[test]
    fn colours_of_every_kind() {
        for (colour, code) in [
            (Color::DarkGray, "90"),
            (Color::White, "97"),
            (Color::Gray, "37"),
            (Color::Indexed(114), "38;5;114"),
            (Color::Rgb(1, 20, 255), "38;2;1;20;255"),
        ] {
            let to = pen(colour, Modifier::empty());
            assert_eq!(bytes(to, Some(Pen::default())), format!("\x1b[{code}m"));
        }
        let back = Pen { bg: Color::White, ..Pen::default() };
        assert_eq!(bytes(back, Some(Pen::default())), "\x1b[107m");
    }
}
