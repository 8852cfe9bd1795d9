//! A frame as a terminal holds it: cells of which each has a glyph, is the right half of one, or is
//! blank, and nothing in it that terminals disagree about.
//!
//! This is the last door before the wire: no control character comes through, whoever put it into
//! the buffer, and no cluster whose width is a matter of opinion.

use ratatui::buffer::{Buffer, Cell, CellWidth as _};
use ratatui::layout::Size;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthChar as _;

/// What is seen even where there is no glyph.
const SEEN_ON_BLANK: Modifier = Modifier::REVERSED
    .union(Modifier::UNDERLINED)
    .union(Modifier::SLOW_BLINK)
    .union(Modifier::RAPID_BLINK)
    .union(Modifier::CROSSED_OUT);
/// The glyph of a cell that the one before it covers.
const COVERED: &str = "";

/// A terminal's cells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grid {
    pub(super) size: Size,
    cells: Vec<Cell>,
}

impl Grid {
    /// A cleared screen.
    pub(super) fn blank(size: Size) -> Self {
        Self { size, cells: vec![Cell::EMPTY; usize::from(size.width) * usize::from(size.height)] }
    }

    /// What a terminal shows of a buffer.
    pub(super) fn of(buffer: &Buffer) -> Self {
        let mut grid = Self::blank(buffer.area.as_size());
        let width = usize::from(grid.size.width);
        if width > 0 {
            let rows = buffer.content.chunks_exact(width);
            for (from, to) in rows.zip(grid.cells.chunks_exact_mut(width)) {
                fill(from, to);
            }
        }
        grid
    }

    pub(super) fn row(&self, y: u16) -> &[Cell] {
        let width = usize::from(self.size.width);
        let start = usize::from(y) * width;
        &self.cells[start..start + width]
    }

    /// The grid after the rows from `top` to `bottom` have moved up by `by`, or down if negative.
    pub(super) fn scrolled(&self, top: u16, bottom: u16, by: i16) -> Self {
        let mut grid = self.clone();
        for y in top..=bottom {
            let from = i32::from(y) + i32::from(by);
            let width = usize::from(self.size.width);
            let start = usize::from(y) * width;
            let row = &mut grid.cells[start..start + width];
            if (i32::from(top)..=i32::from(bottom)).contains(&from) {
                row.clone_from_slice(self.row(from as u16));
            } else {
                row.fill(Cell::EMPTY);
            }
        }
        grid
    }
}

/// Whether a cell looks as if it had been erased.
pub(super) fn is_erased(cell: &Cell) -> bool {
    *cell == Cell::EMPTY
}

/// Whether a cell is the right half of the one before it.
pub(super) fn is_covered(cell: &Cell) -> bool {
    cell.symbol() == COVERED
}

fn fill(from: &[Cell], to: &mut [Cell]) {
    let mut x = 0;
    while x < from.len() {
        let width = put(&from[x], from.len() - x, &mut to[x]);
        if width == 2 {
            to[x + 1] = to[x].clone();
            to[x + 1].set_symbol(COVERED);
        }
        x += width;
    }
}

/// Puts a cell as it is shown where `room` cells are left; tells how many it covers.
fn put(from: &Cell, room: usize, to: &mut Cell) -> usize {
    to.fg = from.fg;
    to.bg = from.bg;
    to.modifier = from.modifier;
    let (symbol, width) = glyph(from.symbol());
    if width == 0 || width > room || symbol == " " {
        if !to.modifier.intersects(SEEN_ON_BLANK) {
            to.fg = Color::Reset;
            to.modifier = Modifier::empty();
        }
        return 1;
    }
    to.set_symbol(symbol);
    width
}

/// What is shown of a symbol, and its width; width 0 for what shows nothing. A cluster about whose
/// width terminals disagree is shown by its first character, so that nothing beside it moves.
fn glyph(symbol: &str) -> (&str, usize) {
    if let [byte] = symbol.as_bytes() {
        return if byte.is_ascii_control() { ("", 0) } else { (symbol, 1) };
    }
    let Some(first) = symbol.chars().next() else { return ("", 0) };
    if symbol.chars().any(char::is_control) {
        return ("", 0);
    }
    let first_width = first.width().unwrap_or(0);
    let sum: usize = symbol.chars().map(|c| c.width().unwrap_or(0)).sum();
    if first_width == sum && sum == usize::from(symbol.cell_width()) && sum <= 2 {
        (symbol, sum)
    } else {
        (&symbol[..first.len_utf8()], if first_width <= 2 { first_width } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    fn symbols(buffer: &Buffer) -> Vec<String> {
        Grid::of(buffer).row(0).iter().map(|cell| cell.symbol().to_owned()).collect()
    }

    fn one(symbol: &str, width: u16) -> Vec<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, 1));
        buffer.content[0].set_symbol(symbol);
        symbols(&buffer)
    }

    #[test]
    fn wide_glyphs_cover_two_cells_and_never_half_of_one() {
        assert_eq!(one("世", 3), ["世", "", " "]);
        assert_eq!(one("世", 1), [" "]);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 3, 1));
        buffer.content[0].set_symbol("世");
        buffer.content[1].set_symbol("x");
        buffer.content[2].set_symbol("界");
        assert_eq!(symbols(&buffer), ["世", "", " "]);
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_comes_through() {
        for symbol in ["\x1b", "\x1b[2J", "\u{9b}31m", "\n", "a\x07", "\x7f"] {
            assert_eq!(one(symbol, 2), [" ", " "], "{symbol:?}");
        }
    }

    #[test]
    fn what_terminals_disagree_about_is_shown_by_its_first_character() {
        for (symbol, shown) in [
            ("e\u{301}", "e\u{301}"),
            ("\u{301}", " "),
            ("", " "),
            ("⌨\u{fe0f}", "⌨"),
            ("👩\u{200d}💻", "👩"),
            ("🇩🇪", "🇩"),
            ("👍🏽", "👍"),
            ("ab", "a"),
        ] {
            assert_eq!(one(symbol, 3)[0], shown, "{symbol:?}");
        }
    }

    #[test]
    fn a_blank_has_only_what_is_seen_of_it() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 2, 1));
        buffer.set_string(0, 0, " ", Style::new().red().bold());
        buffer.set_string(1, 0, " ", Style::new().red().reversed());
        let grid = Grid::of(&buffer);
        assert!(is_erased(&grid.row(0)[0]));
        assert_eq!(grid.row(0)[1].fg, Color::Red);
    }

    #[test]
    fn scrolled_rows_move_and_the_others_stay() {
        let grid = Grid::of(&Buffer::with_lines(["a", "b", "c", "d"]));
        let text = |grid: &Grid| -> String {
            (0..4).map(|y| grid.row(y)[0].symbol().to_owned()).collect()
        };
        assert_eq!(text(&grid.scrolled(1, 3, 1)), "acd ");
        assert_eq!(text(&grid.scrolled(0, 2, -2)), "  ad");
        assert_eq!(text(&grid.scrolled(0, 3, 9)), "    ");
    }
}
