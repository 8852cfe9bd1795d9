//! Tables: rows of cells under titled columns, aligned for people or as CSV for programs.
//!
//! A [`Cell`] holds only text that is safe to show; its tone adds colour where colour is wanted,
//! and never carries a meaning that the words do not.

use std::fmt::Display;

use unicode_width::UnicodeWidthStr as _;

use crate::field::FieldSpec;
use crate::glyph::Tone;
use crate::untrusted::write_escaped;

const COLOUR_END: &str = "\u{1b}[0m";
const GAP: &str = "  ";
/// Characters of one cell.
const CELL_CHARS_MAX: usize = 4096;

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell that shows this.
    pub fn new(text: impl Display) -> Self {
        let mut safe = String::new();
        write_escaped(&mut safe, &text.to_string(), CELL_CHARS_MAX)
            .expect("writing to a String cannot fail");
        Self { text: safe, tone: Tone::Plain }
    }

    /// A cell that shows this, or nothing.
    pub fn maybe(text: Option<impl Display>) -> Self {
        text.map_or_else(Self::default, Self::new)
    }

    /// The same cell in another tone.
    #[must_use]
    pub fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn width(&self) -> usize {
        self.text.width()
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    title: &'static str,
    /// What programs call it; made from the title unless given.
    key: Option<&'static str>,
    /// Its width where rows come one by one.
    width_usual: usize,
    /// On a terminal too narrow for all, the highest goes first; zero never.
    spare: u8,
    /// Whether it lines up on the right.
    is_number: bool,
}

impl Column {
    /// A column that is always there.
    pub const fn new(title: &'static str, width_usual: usize) -> Self {
        Self::spare(title, width_usual, 0)
    }

    /// A column that gives way on a narrow terminal; those with the highest number first.
    pub const fn spare(title: &'static str, width_usual: usize, spare: u8) -> Self {
        Self { title, key: None, width_usual, spare, is_number: false }
    }

    /// The same column, lined up on the right.
    #[must_use]
    pub const fn of_numbers(self) -> Self {
        Self { is_number: true, ..self }
    }

    /// The same column, which gives way to nothing.
    #[must_use]
    pub const fn kept(self) -> Self {
        Self { spare: 0, ..self }
    }

    /// The title as a list of details has it: `Last seen`, `Device ID`.
    pub(super) fn label(&self) -> String {
        let word = |(place, word): (usize, &str)| match word {
            "ID" | "UID" | "URL" | "CPU" | "OS" | "IPV4" | "IPV6" => word.to_owned(),
            _ if place > 0 => word.to_lowercase(),
            _ => word.chars().take(1).chain(word.to_lowercase().chars().skip(1)).collect(),
        };
        self.title.split(' ').enumerate().map(word).collect::<Vec<_>>().join(" ")
    }

    /// What programs call it.
    pub(super) fn key(&self) -> String {
        let made = || self.title.to_lowercase().replace(' ', "_");
        self.key.map_or_else(made, str::to_owned)
    }
}

impl From<&FieldSpec> for Column {
    fn from(spec: &FieldSpec) -> Self {
        Self {
            title: spec.title,
            key: Some(spec.name),
            width_usual: usize::from(spec.width),
            spare: spec.spare,
            is_number: spec.is_number(),
        }
    }
}

/// Which columns to print, and how wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    shown: Vec<Shown>,
}

/// A column that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    /// Its place among all columns.
    place: usize,
    width: usize,
    is_number: bool,
}

impl Layout {
    /// A layout for rows that are all known.
    pub(super) fn fitted(columns: &[Column], rows: &[Vec<Cell>], room: Option<usize>) -> Self {
        let widths = columns.iter().enumerate().map(|(place, column)| {
            let widest = rows.iter().filter_map(|row| row.get(place)).map(Cell::width).max();
            widest.unwrap_or(0).max(column.title.len())
        });
        Self::within(columns, widths, room)
    }

    /// A layout for rows that are yet to come.
    pub(super) fn usual(columns: &[Column], room: Option<usize>) -> Self {
        let widths = columns.iter().map(|column| column.width_usual.max(column.title.len()));
        Self::within(columns, widths, room)
    }

    fn within(
        columns: &[Column],
        widths: impl Iterator<Item = usize>,
        room: Option<usize>,
    ) -> Self {
        let all = columns.iter().zip(widths).enumerate();
        let mut shown: Vec<_> = all
            .map(|(place, (column, width))| Shown { place, width, is_number: column.is_number })
            .collect();
        let total = |shown: &[Shown]| shown.iter().map(|it| it.width + GAP.len()).sum::<usize>();
        let room = room.map_or(usize::MAX, |room| room + GAP.len());
        while total(&shown) > room {
            let spare = |(_, it): &(usize, &Shown)| columns[it.place].spare;
            let Some((position, _)) = shown.iter().enumerate().max_by_key(spare) else { break };
            if columns[shown[position].place].spare == 0 {
                break;
            }
            shown.remove(position);
        }
        Self { shown }
    }

    /// The line of titles.
    pub(super) fn titles(&self, columns: &[Column]) -> String {
        let titles: Vec<_> = columns.iter().map(|column| Cell::new(column.title)).collect();
        self.row(&titles, false)
    }

    /// The line of a row, its end included.
    pub(super) fn row(&self, cells: &[Cell], colour: bool) -> String {
        let mut line = String::new();
        let mut missing = 0;
        for Shown { place, width, is_number } in &self.shown {
            let Some(cell) = cells.get(*place) else { continue };
            let room = width.saturating_sub(cell.width());
            let (before, after) = if *is_number { (room, 0) } else { (0, room) };
            // Padding waits for the next cell, so that no line ends in spaces.
            line.extend(std::iter::repeat_n(' ', missing + before));
            push_toned(&mut line, cell, colour);
            missing = after + GAP.len();
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

fn push_toned(line: &mut String, cell: &Cell, colour: bool) {
    match colour_of(cell.tone).filter(|_| colour && !cell.is_empty()) {
        Some(code) => {
            line.push_str(code);
            line.push_str(&cell.text);
            line.push_str(COLOUR_END);
        }
        None => line.push_str(&cell.text),
    }
}

fn colour_of(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Good => Some("\u{1b}[32m"),
        Tone::Warn => Some("\u{1b}[33m"),
        Tone::Bad => Some("\u{1b}[31m"),
        Tone::Busy => Some("\u{1b}[36m"),
        Tone::Muted => Some("\u{1b}[90m"),
    }
}

/// The rows as CSV, with titles as programs call them. Lines end as they do on Unix, for `cut` and
/// its kin.
pub(super) fn csv(columns: &[Column], rows: &[Vec<Cell>], titles: bool) -> String {
    let titles = titles.then(|| columns.iter().map(|column| Cell::new(column.key())).collect());
    let mut text = String::new();
    for row in titles.iter().chain(rows) {
        for (place, cell) in row.iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            push_csv_field(&mut text, &cell.text);
        }
        text.push('\n');
    }
    text
}

/// Appends a field that no spreadsheet takes for a formula.
pub fn push_csv_field(line: &mut String, text: &str) {
    let is_number = text.parse::<f64>().is_ok();
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    if !formula && !text.contains([',', '"', '\r', '\n']) {
        line.push_str(text);
        return;
    }
    line.push('"');
    if formula {
        line.push('\'');
    }
    line.push_str(&text.replace('"', "\"\""));
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;

    const COLUMNS: [Column; 3] =
        [Column::new("ID", 4), Column::new("STATUS", 6), Column::spare("NAME", 10, 1)];

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![Cell::new("a"), Cell::new("online").toned(Tone::Good), Cell::new("Küche 厨房")],
            vec![Cell::new("rpi4-001"), Cell::new("lost").toned(Tone::Bad), Cell::new("")],
        ]
    }

    fn render(room: Option<usize>, colour: bool) -> String {
        let layout = Layout::fitted(&COLUMNS, &rows(), room);
        let lines = rows().iter().map(|row| layout.row(row, colour)).collect::<String>();
        layout.titles(&COLUMNS) + &lines
    }

    #[test]
    fn columns_line_up() {
        let expected = "ID        STATUS  NAME\na         online  Küche 厨房\nrpi4-001  lost\n";
        assert_eq!(render(None, false), expected);
    }

    #[test]
    fn numbers_line_up_on_the_right() {
        let columns = [Column::new("ID", 2), Column::new("CPU", 4).of_numbers()];
        let rows =
            [vec![Cell::new("a"), Cell::new("7 %")], vec![Cell::new("b"), Cell::new("100 %")]];
        let layout = Layout::fitted(&columns, &rows, None);
        let lines: String = rows.iter().map(|row| layout.row(row, false)).collect();
        assert_eq!(layout.titles(&columns) + &lines, "ID    CPU\na     7 %\nb   100 %\n");
    }

    #[test]
    fn a_field_brings_its_title_and_its_name() {
        let columns: Vec<_> = [Field::Seen, Field::Cpu].map(|field| field.spec().into()).to_vec();
        assert_eq!(csv(&columns, &[], true), "last_seen,cpu\n");
        assert_eq!(csv(&columns, &[], false), "");
        let layout = Layout::usual(&columns, None);
        assert_eq!(layout.titles(&columns), " SEEN   CPU\n");
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let coloured = render(None, true);
        assert!(coloured.contains("\u{1b}[32monline\u{1b}[0m"));
        let plain = coloured.replace("\u{1b}[32m", "").replace("\u{1b}[31m", "");
        assert_eq!(plain.replace(COLOUR_END, ""), render(None, false));
    }

    #[test]
    fn spare_columns_give_way_and_others_never() {
        assert!(render(Some(28), false).contains("NAME"));
        assert!(!render(Some(27), false).contains("NAME"));
        assert!(render(Some(3), false).starts_with("ID        STATUS\n"));
    }

    #[test]
    fn t19_no_field_begins_like_a_formula() {
        for text in ["=1+1", "+x", "-x", "@x", "\t=1", "\r=1", "=", "-2+3"] {
            let mut line = String::new();
            push_csv_field(&mut line, text);
            assert_eq!(line, format!("\"'{text}\""));
        }
        for number in ["-1.5", "+2", "-1e9"] {
            let mut line = String::new();
            push_csv_field(&mut line, number);
            assert_eq!(line, number);
        }
    }

    #[test]
    fn csv_is_quoted_and_runs_nothing() {
        let row: Vec<_> =
            ["a,b", "say \"hi\"", "=cmd()", "-1.5", "@x", "+x\n", ""].map(Cell::new).to_vec();
        let columns = [Column::new("LAST SEEN", 0); 7];
        let text = csv(&columns, &[row], true);
        let (titles, line) = text.split_once('\n').unwrap();
        assert!(titles.starts_with("last_seen,"));
        assert_eq!(line, "\"a,b\",\"say \"\"hi\"\"\",\"'=cmd()\",-1.5,\"'@x\",\"'+x\\u{a}\",\n");
    }
}
