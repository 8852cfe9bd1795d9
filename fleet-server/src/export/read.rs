//! The lines of an export, taken apart again.
//!
//! Nothing is believed: an export is whole only if its last line is there and counts the rows that
//! came. Lines are read by hand, because numbers must come out exactly as they went in, and
//! because there may be hundreds of millions of them.

use std::borrow::Cow;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes};
use fleet_core::api::{
    ColumnKind, EXPORT_FORMAT, ExportBegin, ExportColumn, ExportEnd, ExportRows, ExportTable,
};
use fleet_core::untrusted::Untrusted;
use tokio::sync::mpsc;

use super::Cell;

/// Bytes of a line: the largest stored value, as JSON within JSON.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The rows of an export, one after the other, as they come.
pub(crate) struct Rows<'a> {
    pieces: mpsc::Receiver<Bytes>,
    tables: Vec<ExportTable>,
    piece: Bytes,
    /// The line that is read now, and its number.
    line: Bytes,
    lines: u64,
    /// Device and time of the report that is read now.
    report: (String, String),
    progress: &'a Progress,
    counts: ExportRows,
    end: Option<ExportEnd>,
}

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Rows so far.
    pub(crate) rows: AtomicU64,
    /// Reports so far, and how many there will be; 0 while that is not known.
    pub(crate) reports: AtomicU64,
    pub(crate) reports_expected: AtomicU64,
    /// At the end: what was damaged and left out.
    pub(crate) damage: OnceLock<Untrusted>,
}

/// A row.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// Its table.
    pub(crate) table: ExportTable,
    /// A cell for each of the table's columns.
    pub(crate) cells: Vec<Cell<'a>>,
    /// The line as it came.
    pub(crate) line: &'a str,
}

/// Why an export is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// Its end is missing.
    #[error("the export broke off after {0} rows")]
    Cut(u64),
    /// Whoever reads the store gave up.
    #[error("the export could not be finished: {0}")]
    Server(Untrusted),
    /// It comes from the future.
    #[error("the server sends format {0} and this release reads {EXPORT_FORMAT}: use a newer one")]
    Format(u32),
    /// A line that is none.
    #[error("line {number} of the export is not what this release reads: {problem}")]
    Line {
        /// Which.
        number: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It counts other rows than those that came.
    #[error("the export says that it has {said} rows of {table} and has {found}")]
    Count {
        /// Of which table.
        table: ExportTable,
        /// As its last line says.
        said: u64,
        /// As they came.
        found: u64,
    },
}

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// What came.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A time that is none.
    #[error("the export has a time that is none")]
    Time,
    /// The disk, or whoever reads the output.
    #[error("cannot write")]
    Io(#[from] io::Error),
    /// The same, as SQLite says it.
    #[error("cannot write")]
    Sqlite(#[from] rusqlite::Error),
}

impl<'a> Rows<'a> {
    /// The rows of some tables in these pieces, as many as come.
    pub(crate) fn new(
        pieces: mpsc::Receiver<Bytes>,
        tables: Vec<ExportTable>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            pieces,
            tables,
            piece: Bytes::new(),
            line: Bytes::new(),
            progress,
            lines: 0,
            report: (String::new(), String::new()),
            counts: ExportRows::default(),
            end: None,
        }
    }

    /// The next row; nothing after the last of a whole export. Waits for it on this thread.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>, Broken> {
        let table = loop {
            if !self.next_line()? {
                return self.check_end().map(|()| None);
            }
            if let Some(table) = self.head()? {
                break table;
            }
        };
        self.counts.add(table, 1);
        self.progress.rows.fetch_add(1, Ordering::Relaxed);
        let number = self.lines;
        let line = std::str::from_utf8(&self.line)
            .map_err(|_| Broken::Line { number, problem: "it is no text" })?;
        let cells = cells(table, line).map_err(|problem| Broken::Line { number, problem })?;
        if let (ExportTable::Telemetry, [Cell::Text(device), Cell::Text(time), ..]) =
            (table, cells.as_slice())
            && (self.report.1 != *time || self.report.0 != *device)
        {
            self.report = (device.to_string(), time.to_string());
            self.progress.reports.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(Row { table, cells, line }))
    }

    /// How many rows of each table there were.
    pub(crate) fn into_counts(self) -> ExportRows {
        self.counts
    }

    /// Loads the next line; false if nothing more comes.
    fn next_line(&mut self) -> Result<bool, Broken> {
        let mut begun: Vec<u8> = Vec::new();
        loop {
            if let Some(end) = self.piece.iter().position(|byte| *byte == b'\n') {
                let rest = self.piece.split_to(end);
                self.piece.advance(1);
                self.line = if begun.is_empty() {
                    rest
                } else {
                    begun.extend_from_slice(&rest);
                    begun.into()
                };
                self.lines += 1;
                return Ok(true);
            }
            begun.extend_from_slice(&self.piece);
            if begun.len() > LINE_BYTES_MAX {
                return Err(Broken::Line { number: self.lines + 1, problem: "it is too long" });
            }
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None if begun.is_empty() => return Ok(false),
                None => return Err(self.cut()),
            }
        }
    }

    /// The table of the line; none if it is the first or the last one.
    fn head(&mut self) -> Result<Option<ExportTable>, Broken> {
        let wrong = |problem| Broken::Line { number: self.lines, problem };
        if self.end.is_some() {
            return Err(wrong("it comes after the last"));
        }
        let name = table_name(&self.line).ok_or_else(|| wrong("it names no table"))?;
        match (name, self.lines) {
            (b"begin", 1) => {
                let begin: ExportBegin =
                    serde_json::from_slice(&self.line).map_err(|_| wrong("it is no beginning"))?;
                if begin.format != EXPORT_FORMAT {
                    return Err(Broken::Format(begin.format));
                }
                let expected = begin.reports.unwrap_or_default();
                self.progress.reports_expected.store(expected, Ordering::Relaxed);
                Ok(None)
            }
            (_, 1) => Err(wrong("it is no beginning")),
            (b"end", _) => {
                let end = serde_json::from_slice(&self.line).map_err(|_| wrong("it is no end"))?;
                self.end = Some(end);
                Ok(None)
            }
            (name, _) => {
                let table = self.tables.iter().find(|table| table.name().as_bytes() == name);
                let table =
                    table.ok_or_else(|| wrong("it is of a table that was not asked for"))?;
                Ok(Some(*table))
            }
        }
    }

    /// Whether the export was whole.
    fn check_end(&mut self) -> Result<(), Broken> {
        let Some(end) = self.end.take() else { return Err(self.cut()) };
        if let Some(error) = end.error {
            return Err(Broken::Server(error));
        }
        if let Some(damage) = end.damage {
            self.progress.damage.get_or_init(|| damage);
        }
        for table in ExportTable::ALL {
            let (said, found) = (end.rows.of(table), self.counts.of(table));
            if said != found {
                return Err(Broken::Count { table, said, found });
            }
        }
        Ok(())
    }

    fn cut(&self) -> Broken {
        Broken::Cut(self.counts.0.values().sum())
    }
}

const HEAD: &[u8] = b"{\"table\":\"";

/// The word after `{"table":"`.
fn table_name(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(HEAD)?;
    Some(&rest[..rest.iter().position(|byte| *byte == b'"')?])
}

/// The cells of a line whose table is known.
fn cells(table: ExportTable, line: &str) -> Result<Vec<Cell<'_>>, &'static str> {
    let columns = table.columns();
    let mut cells = vec![Cell::Null; columns.len()];
    let start = HEAD.len() + table.name().len() + 1;
    let mut members = Members { rest: line.get(start..).unwrap_or_default() };
    let mut next = 0;
    while members.begins(b',') {
        let name = members.text()?;
        members.expect(b':')?;
        let is_named = |column: &ExportColumn| column.name == name;
        // They come in their order, but nobody has to rely on that.
        let place = match columns.get(next) {
            Some(column) if is_named(column) => Some(next),
            _ => columns.iter().position(is_named),
        };
        let Some(place) = place else {
            members.value(ColumnKind::Text).or_else(|_| members.value(ColumnKind::Real))?;
            continue;
        };
        cells[place] = members.value(columns[place].kind)?;
        next = place + 1;
    }
    members.expect(b'}')?;
    if !members.rest.is_empty() {
        return Err("something follows it");
    }
    let is_missing =
        |(cell, column): (&Cell<'_>, &ExportColumn)| *cell == Cell::Null && !column.is_optional;
    if cells.iter().zip(columns).any(is_missing) {
        return Err("a column is missing");
    }
    Ok(cells)
}

/// What is left of an object without spaces and without other objects in it.
struct Members<'a> {
    rest: &'a str,
}

impl<'a> Members<'a> {
    fn begins(&mut self, byte: u8) -> bool {
        match self.rest.as_bytes().first() {
            Some(first) if *first == byte => {
                self.rest = &self.rest[1..];
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), &'static str> {
        if self.begins(byte) { Ok(()) } else { Err("it is no flat JSON object") }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, &'static str> {
        self.expect(b'"')?;
        let is_special = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < b' ';
        let bytes = self.rest.as_bytes();
        let mut end = bytes.iter().position(is_special).ok_or("a text does not end")?;
        if bytes[end] == b'"' {
            let text = &self.rest[..end];
            self.rest = &self.rest[end + 1..];
            return Ok(Cow::Borrowed(text));
        }
        // Escapes are rare, and serde_json knows them all.
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let inside = self.rest.get(..end).ok_or("a text does not end")?;
        self.rest = self.rest.get(end + 1..).ok_or("a text does not end")?;
        let text = serde_json::from_str(&format!("\"{inside}\"")).map_err(|_| "a text is wrong")?;
        Ok(Cow::Owned(text))
    }

    /// A value for a column of some kind.
    fn value(&mut self, kind: ColumnKind) -> Result<Cell<'a>, &'static str> {
        if let Some(rest) = self.rest.strip_prefix("null") {
            self.rest = rest;
            return Ok(Cell::Null);
        }
        let wrong = "a number is wrong";
        match kind {
            ColumnKind::Text | ColumnKind::Time | ColumnKind::Json => self.text().map(Cell::Text),
            ColumnKind::Integer => self.number().parse().map(Cell::Integer).map_err(|_| wrong),
            ColumnKind::Real => {
                let number = self.number().parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Cell::Real).ok_or(wrong)
            }
        }
    }

    fn number(&mut self) -> &'a str {
        let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        let rest = self.rest.as_bytes();
        let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::export::lines::push_row;

    const BEGIN: &str = "{\"table\":\"begin\",\"format\":1,\"version\":\"0.1.0\",\
         \"timestamp\":\"2024-01-15T10:30:00Z\",\"reports\":9}\n";
    const ROW: &str = "{\"table\":\"telemetry\",\"device_id\":\"a\",\
         \"timestamp\":\"2024-01-15T10:30:00Z\",\"metric_name\":\"m\",\"value\":0.1,\
         \"metadata\":\"{}\"}\n";

    fn end(rows: u64) -> String {
        format!("{{\"table\":\"end\",\"error\":null,\"rows\":{{\"telemetry\":{rows}}}}}\n")
    }

    /// Reads a text in pieces of a size; the values that came, and how it ended.
    fn read(text: &str, size: usize) -> (Vec<f64>, Result<u64, String>) {
        let (sender, receiver) = mpsc::channel(text.len() + 1);
        for piece in text.as_bytes().chunks(size) {
            sender.try_send(Bytes::copy_from_slice(piece)).unwrap();
        }
        drop(sender);
        let progress = Progress::default();
        let (mut rows, mut values) =
            (Rows::new(receiver, vec![ExportTable::Telemetry], &progress), Vec::new());
        let outcome = loop {
            match rows.next() {
                Ok(Some(row)) => match row.cells[3] {
                    Cell::Real(value) => values.push(value),
                    ref other => panic!("{other:?}"),
                },
                Ok(None) => break Ok(rows.into_counts().of(ExportTable::Telemetry)),
                Err(broken) => break Err(broken.to_string()),
            }
        };
        (values, outcome)
    }

    #[test]
    fn rows_come_out_whatever_the_pieces() {
        let text = [BEGIN, ROW, ROW, &end(2)].concat();
        for size in 1..text.len() {
            assert_eq!(read(&text, size), (vec![0.1, 0.1], Ok(2)), "{size}");
        }
    }

    #[test]
    fn an_export_that_is_not_whole_is_not_taken_for_one() {
        let whole = [BEGIN, ROW, ROW, &end(2)].concat();
        for cut in 0..whole.len() {
            let (_, outcome) = read(&whole[..cut], 7);
            let told = outcome.unwrap_err();
            assert!(told.starts_with("the export broke off after "), "{cut}: {told}");
        }
        let error = "{\"table\":\"end\",\"error\":\"no\\u001b disk\",\"rows\":{\"telemetry\":1}}\n";
        for (lines, told) in [
            (vec![BEGIN, ROW, &end(2)], "says that it has 2 rows of telemetry and has 1"),
            (vec![BEGIN, ROW, error], "could not be finished: no\\u{1b} disk"),
            (vec![ROW, &end(1)], "line 1 of the export"),
            (vec![BEGIN, BEGIN, &end(0)], "line 2 of the export"),
            (vec![BEGIN, &end(0), ROW], "line 3 of the export"),
            (vec![BEGIN, "\n", &end(0)], "it names no table"),
            (vec![BEGIN, "{\"table\":\"keys\"}\n", &end(0)], "not asked for"),
            (vec![BEGIN, "{\"table\":\"telemetry\",\"value\":1}\n"], "a column is missing"),
            (vec![BEGIN, &ROW.replace("0.1", "1e999")], "a number is wrong"),
            (vec![BEGIN, &ROW.replace("0.1", "null")], "a column is missing"),
            (vec![BEGIN, &ROW.replace("0.1", "{}")], "a number is wrong"),
            (vec![BEGIN, &ROW.replace("}\n", "}}\n")], "something follows it"),
            (vec![BEGIN, &ROW.replace("}\n", "\n")], "no flat JSON object"),
            (vec![&BEGIN.replace(":1,", ":2,")], "format 2"),
        ] {
            let outcome = read(&lines.concat(), 64).1.unwrap_err();
            assert!(outcome.contains(told), "{outcome}");
        }
    }

    #[test]
    fn columns_may_come_in_any_order_and_new_ones_are_passed_over() {
        let row = json!({"new": "x\"", "value": 7, "metadata": "{}", "metric_name": "m", "n": -1.5,
            "device_id": "a", "timestamp": "2024-01-15T10:30:00Z", "none": null});
        let row = row.to_string().replacen('{', "{\"table\":\"telemetry\",", 1) + "\n";
        assert_eq!(read(&[BEGIN, &row, &end(1)].concat(), 99), (vec![7.0], Ok(1)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            texts in proptest::array::uniform3("\\PC{0,9}|[\\x00-\\x1f\"\\\\\u{2028}]{0,9}"),
            value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
            number in any::<i64>(),
        ) {
            let text = |place: usize| Cell::Text(texts[place].as_str().into());
            let row = vec![text(0), text(1), text(2), Cell::Real(value), text(0)];
            let mut out = Vec::new();
            push_row(&mut out, ExportTable::Telemetry, &row);
            let line = std::str::from_utf8(&out).unwrap().trim_end_matches('\n');
            prop_assert_eq!(cells(ExportTable::Telemetry, line), Ok(row));
            let row = vec![text(0), Cell::Integer(number), text(1), text(2), Cell::Null, text(0), text(1)];
            out.clear();
            push_row(&mut out, ExportTable::ConfigVersions, &row);
            let line = std::str::from_utf8(&out).unwrap().trim_end_matches('\n');
            prop_assert_eq!(cells(ExportTable::ConfigVersions, line), Ok(row));
        }

        #[test]
        fn any_line_is_answered(line in "\\PC*", size in 1_usize..9) {
            let line = format!("{BEGIN}{{\"table\":\"telemetry\"{line}\n");
            prop_assert!(read(&line, size).1.is_err());
        }
    }
}
