//! Dots finer than cells, and the glyphs that show them.

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::Style;

use crate::terminal::caps::GraphLevel;

/// Quarters of a cell, by bits: upper left, upper right, lower left, lower right.
const QUARTERS: [char; 16] =
    [' ', '▘', '▝', '▀', '▖', '▌', '▞', '▛', '▗', '▚', '▐', '▜', '▄', '▙', '▟', '█'];
/// What the dots of a braille cell are worth, row by row.
const BRAILLE: [u8; 8] = [0x01, 0x08, 0x02, 0x10, 0x04, 0x20, 0x40, 0x80];
const SIGNS: [char; 2] = ['*', '+'];
const SHADE_SIGN: char = ':';

/// What a cell shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// The curve with this number.
    Line(usize),
    /// Between the lowest and the highest.
    Shade,
}

/// A part of the screen, in dots.
pub(super) struct Dots {
    size: Size,
    level: GraphLevel,
    cells: Vec<Cell>,
}

/// The dots of a cell, as bits row by row.
#[derive(Clone, Copy, Default)]
struct Cell {
    line: u8,
    shade: u8,
    /// The topmost curve.
    curve: usize,
}

impl Dots {
    pub(super) fn new(size: Size, level: GraphLevel) -> Self {
        let cells = usize::from(size.width) * usize::from(size.height);
        Self { size, level, cells: vec![Cell::default(); cells] }
    }

    /// Dots of one cell: beside and above each other.
    fn parts(&self) -> (usize, usize) {
        match self.level {
            GraphLevel::Braille => (2, 4),
            GraphLevel::Block => (2, 2),
            GraphLevel::Ascii => (1, 1),
        }
    }

    /// How many columns of dots there are.
    pub(super) fn columns(&self) -> usize {
        usize::from(self.size.width) * self.parts().0
    }

    /// The column of cells that has a column of dots.
    pub(super) fn cell(&self, column: usize) -> u16 {
        (column / self.parts().0) as u16
    }

    /// The row of dots, counted from the top, for a share of the height.
    pub(super) fn row(&self, share: f64) -> usize {
        let last = (usize::from(self.size.height) * self.parts().1).max(1) - 1;
        last - (share.clamp(0.0, 1.0) * last as f64).round() as usize
    }

    /// Fills a column between two rows.
    pub(super) fn shade(&mut self, x: usize, top: usize, bottom: usize) {
        for y in top.min(bottom)..=bottom.max(top) {
            if let Some((cell, bit)) = self.dot(x, y) {
                cell.shade |= bit;
            }
        }
    }

    /// Draws a line of a curve. Curves with lower numbers lie on top.
    pub(super) fn line(&mut self, from: (usize, usize), to: (usize, usize), curve: usize) {
        let (dx, dy) = (to.0.abs_diff(from.0), to.1.abs_diff(from.1));
        let steps = dx.max(dy);
        for step in 0..=steps {
            let along = |a: usize, b: usize| {
                let share = if steps == 0 { 0.0 } else { step as f64 / steps as f64 };
                (a as f64 + (b as f64 - a as f64) * share).round() as usize
            };
            if let Some((cell, bit)) = self.dot(along(from.0, to.0), along(from.1, to.1)) {
                cell.curve = if cell.line == 0 { curve } else { cell.curve.min(curve) };
                cell.line |= bit;
            }
        }
    }

    /// Paints the cells that have dots.
    pub(super) fn paint(&self, area: Rect, buffer: &mut Buffer, style: impl Fn(Layer) -> Style) {
        for (position, cell) in area.positions().zip(&self.cells) {
            let (dots, layer) = match (cell.line, cell.shade) {
                (0, 0) => continue,
                (0, shade) => (shade, Layer::Shade),
                // The shade would hide where in the cell the line is.
                (line, _) => (line, Layer::Line(cell.curve)),
            };
            buffer[position].set_char(self.glyph(dots, layer)).set_style(style(layer));
        }
    }

    fn glyph(&self, dots: u8, layer: Layer) -> char {
        match (self.level, layer) {
            (GraphLevel::Braille, _) => {
                let bits = (0..8).filter(|bit| dots & (1 << bit) != 0);
                let braille: u8 = bits.map(|bit| BRAILLE[bit]).sum();
                char::from_u32(0x2800 + u32::from(braille)).unwrap_or(' ')
            }
            (GraphLevel::Block, _) => QUARTERS[usize::from(dots & 0x0f)],
            (GraphLevel::Ascii, Layer::Line(curve)) => SIGNS[curve % SIGNS.len()],
            (GraphLevel::Ascii, Layer::Shade) => SHADE_SIGN,
        }
    }

    fn dot(&mut self, x: usize, y: usize) -> Option<(&mut Cell, u8)> {
        let (beside, above) = self.parts();
        let (column, row) = (x / beside, y / above);
        if column >= usize::from(self.size.width) || row >= usize::from(self.size.height) {
            return None;
        }
        let bit = 1 << ((y % above) * beside + x % beside);
        Some((&mut self.cells[row * usize::from(self.size.width) + column], bit))
    }
}
