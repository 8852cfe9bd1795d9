//! The bytes that turn one picture into another.
//!
//! A [`Brush`] knows where the cursor stands and what it writes with, as long as that is certain; it
//! takes the shortest way to the next place and never relies on a line that wraps by itself.

use ratatui::buffer::Cell;
use ratatui::layout::Position;

use super::cells::{Grid, is_covered, is_erased};
use super::pen::Pen;
use super::present::ScrollHint;

/// Changed cells that are better erased than written as blanks.
const ERASED_CELLS_MIN: usize = 4;

/// Where the terminal's cursor stands and what it writes with.
#[derive(Clone, Debug, Default)]
pub(super) struct Brush {
    /// None where it is not certain, as after the last column.
    pub(super) at: Option<Position>,
    pen: Option<Pen>,
    pub(super) out: Vec<u8>,
}

impl Brush {
    /// Clears a screen of which nothing is known.
    pub(super) fn clear(&mut self) {
        self.pen = None;
        self.take(Pen::default());
        self.out.extend_from_slice(b"\x1b[r\x1b[H\x1b[2J");
        self.at = Some(Position::ORIGIN);
    }

    /// Moves rows on the terminal itself; those that are uncovered are blank.
    pub(super) fn scroll(&mut self, hint: ScrollHint) {
        // What is uncovered takes the background that is being written with.
        self.take(Pen::default());
        self.write(format_args!("\x1b[{};{}r", hint.top + 1, hint.bottom + 1));
        let steps = usize::from(hint.by.unsigned_abs());
        if hint.by > 0 {
            self.write(format_args!("\x1b[{}H", hint.bottom + 1));
            self.out.extend(std::iter::repeat_n(b'\n', steps));
        } else {
            self.write(format_args!("\x1b[{}H", hint.top + 1));
            self.out.extend(b"\x1bM".iter().cycle().take(2 * steps));
        }
        self.out.extend_from_slice(b"\x1b[r");
        self.at = None;
    }

    /// Writes every cell that differs.
    pub(super) fn paint(&mut self, old: &Grid, new: &Grid) {
        for y in 0..new.size.height {
            self.row(y, old.row(y), new.row(y));
        }
    }

    /// Takes the cursor to a place.
    pub(super) fn go(&mut self, to: Position) {
        if self.at == Some(to) {
            return;
        }
        let mut best = match (to.x, to.y) {
            (0, 0) => "\x1b[H".to_owned(),
            (0, y) => format!("\x1b[{}H", y + 1),
            (x, y) => format!("\x1b[{};{}H", y + 1, x + 1),
        };
        if let Some(at) = self.at {
            let mut consider = |way: String| {
                if way.len() < best.len() {
                    best = way;
                }
            };
            if at.y == to.y && at.x < to.x {
                consider(forward(to.x - at.x));
            }
            if at.y == to.y {
                consider(format!("\r{}", forward(to.x)));
            }
            if at.y + 1 == to.y {
                consider(format!("\r\n{}", forward(to.x)));
            }
        }
        self.out.extend_from_slice(best.as_bytes());
        self.at = Some(to);
    }

    fn row(&mut self, y: u16, old: &[Cell], new: &[Cell]) {
        let blank_from = new.iter().rposition(|cell| !is_erased(cell)).map_or(0, |last| last + 1);
        let tail = &old[blank_from..];
        let is_tail_erased =
            tail.iter().filter(|cell| !is_erased(cell)).count() >= ERASED_CELLS_MIN;
        let end = if is_tail_erased { blank_from } else { new.len() };
        for x in 0..end {
            if old[x] != new[x] && !is_covered(&new[x]) {
                self.reach(x, y, new);
                self.cell(x, new);
            }
        }
        if is_tail_erased {
            self.reach(blank_from, y, new);
            self.take(Pen::default());
            self.out.extend_from_slice(b"\x1b[K");
        }
    }

    /// Takes the cursor to a cell: over unchanged ones by writing them again, if that is shorter.
    fn reach(&mut self, x: usize, y: u16, row: &[Cell]) {
        let to = Position::new(x as u16, y);
        if let Some(at) = self.at
            && at.y == y
            && at.x < to.x
        {
            let gap = &row[usize::from(at.x)..x];
            // The cursor may have been left on the right half of a glyph.
            let is_same =
                !is_covered(&gap[0]) && gap.iter().all(|cell| Some(Pen::of(cell)) == self.pen);
            let bytes: usize = gap.iter().map(|cell| cell.symbol().len()).sum();
            if is_same && bytes <= forward(to.x - at.x).len() {
                for cell in gap {
                    self.out.extend_from_slice(cell.symbol().as_bytes());
                }
                self.at = Some(to);
                return;
            }
        }
        self.go(to);
    }

    fn cell(&mut self, x: usize, row: &[Cell]) {
        self.take(Pen::of(&row[x]));
        self.out.extend_from_slice(row[x].symbol().as_bytes());
        let after = x + if row.get(x + 1).is_some_and(is_covered) { 2 } else { 1 };
        self.at = match self.at {
            Some(at) if after < row.len() => Some(Position::new(after as u16, at.y)),
            _ => None,
        };
    }

    fn take(&mut self, pen: Pen) {
        pen.write(self.pen, &mut self.out);
        self.pen = Some(pen);
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.extend_from_slice(text.to_string().as_bytes());
    }
}

/// What takes the cursor some columns on.
fn forward(columns: u16) -> String {
    match columns {
        0 => String::new(),
        1 => "\x1b[C".to_owned(),
        _ => format!("\x1b[{columns}C"),
    }
}
