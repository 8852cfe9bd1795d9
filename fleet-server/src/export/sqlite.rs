//! An export as an SQLite database: a table for each of its tables, with the same columns.
//!
//! Times are text like `2024-01-15 10:30:00.123`, in UTC and always of this length. So they compare as
//! times do, with each other and with what SQLite's `datetime('now', '-30 days')` gives.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use fleet_core::api::{ColumnKind, ExportRows, ExportTable};
use rusqlite::{Connection, OpenFlags, Statement};

use super::Cell;
use super::read::{Row, Rows, WriteError};

/// By this number in its header a database shows that it is an export: `FltD`.
pub(crate) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"FltD");

/// Nobody else sees the database before it is finished, so it needs no way back.
const SETTINGS: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
    PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -65536; PRAGMA threads = 2;";

/// What tells the rows of a table apart.
fn primary_key(table: ExportTable) -> Option<&'static str> {
    match table {
        ExportTable::Devices | ExportTable::Commands | ExportTable::Alerts => Some("id"),
        ExportTable::ConfigVersions => Some("device_id, version"),
        ExportTable::Events => Some("seq"),
        ExportTable::Telemetry => None,
    }
}

/// What a table is searched by.
fn indexes(table: ExportTable) -> &'static [(&'static str, &'static str)] {
    match table {
        ExportTable::Devices | ExportTable::ConfigVersions => &[],
        ExportTable::Commands | ExportTable::Alerts | ExportTable::Events => {
            &[("time", "timestamp"), ("device", "device_id, timestamp")]
        }
        ExportTable::Telemetry => {
            &[("time", "timestamp"), ("series", "device_id, metric_name, timestamp")]
        }
    }
}

/// Writes rows into an empty file, and returns when they are on the disk.
pub(crate) fn write(
    path: &Path,
    tables: &[ExportTable],
    mut rows: Rows<'_>,
) -> Result<ExportRows, WriteError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.execute_batch(SETTINGS)?;
    database.pragma_update(None, "application_id", APPLICATION_ID)?;
    database.pragma_update(None, "user_version", fleet_core::api::EXPORT_FORMAT)?;
    database.execute_batch("BEGIN")?;
    for table in tables {
        database.execute_batch(&definition(*table))?;
    }
    let mut inserts = ExportTable::ALL.map(|_| None);
    while let Some(row) = rows.next()? {
        let insert = match &mut inserts[row.table as usize] {
            Some(insert) => insert,
            none => none.insert(database.prepare(&insertion(row.table))?),
        };
        put(insert, &row)?;
    }
    drop(inserts);
    for table in tables {
        for (name, columns) in indexes(*table) {
            let sql = format!("CREATE INDEX {table}_by_{name} ON {table} ({columns})");
            database.execute_batch(&sql)?;
        }
    }
    database.execute_batch("COMMIT")?;
    database.close().map_err(|(_, error)| error)?;
    File::open(path)?.sync_all()?;
    Ok(rows.into_counts())
}

/// The table, with what its columns mean for whoever asks for its `.schema`.
fn definition(table: ExportTable) -> String {
    let mut sql = format!("CREATE TABLE {table} (\n");
    let columns = table.columns();
    for (place, column) in columns.iter().enumerate() {
        let kind = match column.kind {
            ColumnKind::Text | ColumnKind::Time | ColumnKind::Json => "TEXT",
            ColumnKind::Integer => "INTEGER",
            ColumnKind::Real => "REAL",
        };
        let need = if column.is_optional { "" } else { " NOT NULL" };
        let is_last = place + 1 == columns.len() && primary_key(table).is_none();
        let comma = if is_last { "" } else { "," };
        let (name, note) = (column.name, column.note);
        writeln!(sql, "  {name} {kind}{need}{comma} -- {note}").expect("memory takes all");
    }
    if let Some(key) = primary_key(table) {
        writeln!(sql, "  PRIMARY KEY ({key})").expect("memory takes all");
    }
    sql + ")"
}

fn insertion(table: ExportTable) -> String {
    let places = vec!["?"; table.columns().len()].join(", ");
    format!("INSERT INTO {table} VALUES ({places})")
}

fn put(insert: &mut Statement<'_>, row: &Row<'_>) -> Result<(), WriteError> {
    for (place, (cell, column)) in row.cells.iter().zip(row.table.columns()).enumerate() {
        let place = place + 1;
        match (cell, column.kind) {
            (Cell::Text(text), ColumnKind::Time) => {
                let time = sql_time(text).ok_or(WriteError::Time)?;
                insert.raw_bind_parameter(
                    place,
                    std::str::from_utf8(&time).map_err(|_| WriteError::Time)?,
                )?;
            }
            (Cell::Text(text), _) => insert.raw_bind_parameter(place, &**text)?,
            (Cell::Integer(number), _) => insert.raw_bind_parameter(place, number)?,
            (Cell::Real(number), _) => insert.raw_bind_parameter(place, number)?,
            (Cell::Null, _) => insert.raw_bind_parameter(place, rusqlite::types::Null)?,
        }
    }
    insert.raw_execute()?;
    Ok(())
}

/// `2024-01-15T10:30:00.12Z` as `2024-01-15 10:30:00.120`.
fn sql_time(text: &str) -> Option<[u8; 23]> {
    let mut time = *b"0000-00-00 00:00:00.000";
    let text = text.strip_suffix('Z')?.as_bytes();
    if text.len() < 19 || text.len() == 20 {
        return None;
    }
    for (byte, wanted) in text.iter().zip(&mut time) {
        match (*wanted, byte) {
            (b'0', digit) if digit.is_ascii_digit() => *wanted = *digit,
            (b' ', b'T') => {}
            (b'-' | b':' | b'.', byte) if *wanted == *byte => {}
            _ => return None,
        }
    }
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_one_length() {
        for (wire, sql) in [
            ("2024-01-15T10:30:00Z", "2024-01-15 10:30:00.000"),
            ("2024-01-15T10:30:00.1Z", "2024-01-15 10:30:00.100"),
            ("2024-01-15T10:30:00.123Z", "2024-01-15 10:30:00.123"),
            ("1970-01-01T00:00:00.123456Z", "1970-01-01 00:00:00.123"),
        ] {
            assert_eq!(sql_time(wire).as_ref().map(|it| &it[..]), Some(sql.as_bytes()), "{wire}");
        }
        for wrong in [
            "",
            "Z",
            "2024-01-15 10:30:00Z",
            "2024-01-15T10:30:00",
            "2024-01-15T10:30:00.Z",
            "2024-01-15T10:30:00+01",
            "2024-1-15T10:30:00.0Z",
            "2024-01-15T10:30:0é.0Z",
        ] {
            assert_eq!(sql_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_time_that_can_be_shown_is_read_and_sorts() {
        use fleet_core::time::Timestamp;
        let mut last = [0; 23];
        for millis in [0, 1, 999, 1_000, 1_705_314_600_123, i64::MAX] {
            let time = sql_time(&Timestamp::from_millis(millis).to_string()).unwrap();
            assert!(time > last, "{millis}");
            last = time;
        }
    }

    #[test]
    fn every_table_is_sound_sql() {
        let database = Connection::open_in_memory().unwrap();
        for table in ExportTable::ALL {
            database.execute_batch(&definition(table)).unwrap();
            database.prepare(&insertion(table)).unwrap();
            for (name, columns) in indexes(table) {
                let sql = format!("CREATE INDEX {table}_by_{name} ON {table} ({columns})");
                database.execute_batch(&sql).unwrap();
            }
        }
    }
}
