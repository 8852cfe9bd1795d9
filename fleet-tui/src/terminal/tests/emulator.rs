//! A screen whose bytes go into an emulator, and the comparison of what the two show.

use std::num::NonZero;

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

use super::super::present::{Presented, Screen, ScrollHint};

pub(super) struct Emulator {
    parser: vt100::Parser,
    screen: Screen<Vec<u8>>,
}

impl Emulator {
    pub(super) fn new(size: Size) -> Self {
        let parser = terminal(size);
        Self { parser, screen: Screen::new(Vec::new(), size) }
    }

    /// Presents a frame to the emulator.
    pub(super) fn present(
        &mut self,
        frame: &Buffer,
        cursor: Option<Position>,
        hint: Option<ScrollHint>,
    ) -> Presented {
        let presented = self.lose(frame, cursor, hint);
        let bytes = std::mem::take(self.screen.out());
        self.parser.process(&bytes);
        presented
    }

    /// Presents a frame that stays in the pipe.
    pub(super) fn lose(
        &mut self,
        frame: &Buffer,
        cursor: Option<Position>,
        hint: Option<ScrollHint>,
    ) -> Presented {
        let presented = self.screen.present(frame, cursor, hint).unwrap();
        assert_eq!(presented.bytes, self.screen.out().len());
        presented
    }

    /// Takes what is in the pipe out of it.
    pub(super) fn drain(&mut self) -> Vec<u8> {
        std::mem::take(self.screen.out())
    }

    pub(super) fn resize(&mut self, size: Size) {
        let (rows, columns) = sides(size);
        self.parser.screen_mut().set_size(rows, columns);
        self.screen.resize(size);
    }

    pub(super) fn text(&self) -> String {
        self.parser.screen().contents()
    }

    /// The first place where the emulator does not show the frame.
    pub(super) fn fault(&self, frame: &Buffer, cursor: Option<Position>) -> Option<String> {
        let screen = self.parser.screen();
        if screen.hide_cursor() == cursor.is_some() {
            return Some(format!("the cursor is hidden: {}", screen.hide_cursor()));
        }
        if let Some(at) = cursor.filter(|at| screen.cursor_position() != (at.y, at.x)) {
            return Some(format!("cursor at {:?}, not {at}", screen.cursor_position()));
        }
        (0..frame.area.height).find_map(|y| self.row_fault(frame, y))
    }

    fn row_fault(&self, frame: &Buffer, y: u16) -> Option<String> {
        let mut x = 0;
        while x < frame.area.width {
            let cell = &frame[(x, y)];
            let shown = self.parser.screen().cell(y, x).unwrap();
            let room = frame.area.width - x;
            let width = if cell.symbol().width() == 2 && room > 1 { 2 } else { 1 };
            let is_blank = cell.symbol() == " " || cell.symbol().width() > usize::from(room);
            let expected = Look::of(cell, is_blank);
            let look = Look::shown(shown, is_blank);
            let text = if shown.contents().is_empty() { " " } else { shown.contents() };
            if text != if is_blank { " " } else { cell.symbol() } || look != expected {
                return Some(format!("{x},{y}: {text:?} {look:?}, not {cell:?}"));
            }
            if width == 2 && !self.parser.screen().cell(y, x + 1).unwrap().is_wide_continuation() {
                return Some(format!("{x},{y}: half of {cell:?}"));
            }
            x += width;
        }
        None
    }
}

/// An emulator of this size.
pub(super) fn terminal(size: Size) -> vt100::Parser {
    let (rows, columns) = sides(size);
    vt100::Parser::new(rows, columns, 0)
}

fn sides(size: Size) -> (NonZero<u16>, NonZero<u16>) {
    let side = |cells| NonZero::new(cells).expect("a terminal has at least one cell");
    (side(size.height), side(size.width))
}

/// What is seen of a cell beside its glyph.
#[derive(Debug, PartialEq)]
struct Look {
    fg: vt100::Color,
    bg: vt100::Color,
    bold: bool,
    faint: bool,
    underlined: bool,
    reversed: bool,
}

impl Look {
    fn of(cell: &Cell, is_blank: bool) -> Self {
        let has = |modifier| cell.modifier.contains(modifier);
        Self {
            fg: colour(cell.fg),
            bg: colour(cell.bg),
            bold: has(Modifier::BOLD),
            faint: has(Modifier::DIM),
            underlined: has(Modifier::UNDERLINED),
            reversed: has(Modifier::REVERSED),
        }
        .seen(is_blank)
    }

    fn shown(cell: &vt100::Cell, is_blank: bool) -> Self {
        Self {
            fg: cell.fgcolor(),
            bg: cell.bgcolor(),
            bold: cell.bold(),
            faint: cell.dim(),
            underlined: cell.underline(),
            reversed: cell.inverse(),
        }
        .seen(is_blank)
    }

    /// A blank's letter has no colour and no weight, unless it is reversed or underlined.
    fn seen(mut self, is_blank: bool) -> Self {
        if is_blank && !self.reversed && !self.underlined {
            self.fg = vt100::Color::Default;
            self.bold = false;
            self.faint = false;
        }
        self
    }
}

fn colour(colour: Color) -> vt100::Color {
    match colour {
        Color::Red => vt100::Color::Idx(1),
        Color::Green => vt100::Color::Idx(2),
        Color::Yellow => vt100::Color::Idx(3),
        Color::Cyan => vt100::Color::Idx(6),
        Color::DarkGray => vt100::Color::Idx(8),
        Color::Indexed(index) => vt100::Color::Idx(index),
        Color::Rgb(red, green, blue) => vt100::Color::Rgb(red, green, blue),
        Color::Reset => vt100::Color::Default,
        other => panic!("{other} is not among the colours of these tests"),
    }
}
