//! An export as CSV (RFC 4180), a file for each table.
//!
//! It is for spreadsheets, so a text that one would take for a formula gets a `'` in
//! front, and characters that could act on a terminal are spelled out. The exact texts are in the
//! other kinds of exports.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fleet_core::api::{ColumnKind, ExportColumn, ExportRows, ExportTable};
use fleet_core::cli::table::push_csv_field;
use fleet_core::untrusted::{escaped_json, write_escaped};

use super::Cell;
use super::read::{Rows, WriteError};
use crate::place::csv_name;

/// The files of a folder that are being written.
pub(crate) struct Folder {
    tables: Vec<(ExportTable, BufWriter<File>)>,
}

impl Folder {
    /// Makes the files of some tables in an empty folder.
    pub(crate) fn create(folder: &Path, tables: &[ExportTable]) -> io::Result<Self> {
        let create = |table: &ExportTable| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600);
            let mut out = BufWriter::new(file.open(folder.join(csv_name(*table)))?);
            write_titles(&mut out, *table)?;
            Ok((*table, out))
        };
        Ok(Self { tables: tables.iter().map(create).collect::<io::Result<_>>()? })
    }

    /// Writes rows, and returns when they are on the disk.
    pub(crate) fn write(
        mut self,
        folder: &Path,
        mut rows: Rows<'_>,
    ) -> Result<ExportRows, WriteError> {
        let mut line = String::new();
        while let Some(row) = rows.next()? {
            let found = self.tables.iter_mut().find(|(table, _)| *table == row.table);
            if let Some((table, out)) = found {
                write_row(out, &mut line, *table, &row.cells)?;
            }
        }
        for (_, out) in self.tables {
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        }
        File::open(folder)?.sync_all()?;
        Ok(rows.into_counts())
    }
}

/// Writes the rows of one table.
pub(crate) fn write(
    mut out: impl Write,
    table: ExportTable,
    mut rows: Rows<'_>,
) -> Result<ExportRows, WriteError> {
    write_titles(&mut out, table)?;
    let mut line = String::new();
    while let Some(row) = rows.next()? {
        write_row(&mut out, &mut line, table, &row.cells)?;
    }
    out.flush()?;
    Ok(rows.into_counts())
}

fn write_titles(out: &mut impl Write, table: ExportTable) -> io::Result<()> {
    let names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
    write!(out, "{}\r\n", names.join(","))
}

fn write_row(
    out: &mut impl Write,
    line: &mut String,
    table: ExportTable,
    cells: &[Cell<'_>],
) -> io::Result<()> {
    line.clear();
    for (place, (cell, column)) in cells.iter().zip(table.columns()).enumerate() {
        if place > 0 {
            line.push(',');
        }
        push_cell(line, cell, column);
    }
    line.push_str("\r\n");
    out.write_all(line.as_bytes())
}

fn push_cell(line: &mut String, cell: &Cell<'_>, column: &ExportColumn) {
    match cell {
        Cell::Null => {}
        Cell::Integer(number) => line.push_str(&number.to_string()),
        Cell::Real(number) => line.push_str(&number.to_string()),
        Cell::Text(text) if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
            push_csv_field(line, text);
        }
        Cell::Text(text) if column.kind == ColumnKind::Json => {
            push_csv_field(line, &escaped_json(text));
        }
        Cell::Text(text) => {
            let mut safe = String::new();
            write_escaped(&mut safe, text, usize::MAX).expect("memory takes all");
            push_csv_field(line, &safe);
        }
    }
}
