//! What is said of an export: how far it is, what came of it, why nothing did.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{ExportRows, ExportTable};
use fleet_core::cli::failure::Failure;
use fleet_core::operator::exit::Exit;
use rusqlite::ErrorCode;

use crate::cli::db::megabytes;
use crate::export::{Broken, Progress, WriteError};

/// Columns of the bar.
const BAR_COLUMNS: u64 = 20;

/// How far an export is, in a line.
pub(super) fn progress(progress: &Progress, elapsed: Duration, is_fed: bool) -> String {
    let rows = progress.rows.load(Ordering::Relaxed);
    if is_fed {
        return format!("{rows} rows, finishing");
    }
    let rate = rows as f64 / elapsed.as_secs_f64().max(0.001);
    let speed = format!("{rows} rows  {rate:.0}/s");
    let reports = progress.reports.load(Ordering::Relaxed);
    match progress.reports_expected.load(Ordering::Relaxed) {
        0 => speed,
        expected => {
            let done = reports.min(expected);
            let columns = (done * BAR_COLUMNS / expected) as usize;
            let (full, open) = ("#".repeat(columns), ".".repeat(BAR_COLUMNS as usize - columns));
            format!("[{full}{open}] {:>3} %  {speed}", done * 100 / expected)
        }
    }
}

/// What an export holds, in a line.
pub(super) fn summary(
    out: &Path,
    tables: &[ExportTable],
    rows: &ExportRows,
    bytes: Option<u64>,
    took: Duration,
) -> String {
    let counts: Vec<_> =
        tables.iter().map(|table| format!("{table} {}", rows.of(*table))).collect();
    let name = if bytes.is_some() { out.display().to_string() } else { "exported".to_owned() };
    let size = bytes.map(|bytes| format!("{}, ", megabytes(bytes))).unwrap_or_default();
    format!("{name}: {}; {size}{:.1} s", counts.join(", "), took.as_secs_f64())
}

/// Bytes of a file, or of the files in a folder.
pub(super) fn bytes(path: &Path) -> io::Result<u64> {
    let found = fs::metadata(path)?;
    if !found.is_dir() {
        return Ok(found.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// Why what came is of no use.
pub(super) fn broken(broken: &Broken) -> Failure {
    match broken {
        // The server has gone, and may be back soon.
        Broken::Cut(_) => Failure::new(Exit::Unreachable, broken.to_string())
            .hint("the server has ended it; nothing of it was kept; try again"),
        _ => Failure::new(Exit::Failed, broken.to_string()),
    }
}

/// What the disk said, without the code numbers of SQLite.
pub(super) fn why_not_written(error: &WriteError) -> String {
    match error {
        WriteError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            "no space left on device".to_owned()
        }
        WriteError::Sqlite(error) => Chain(error).to_string(),
        WriteError::Io(error) => Chain(error).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_a_bar_where_the_end_is_known() {
        let state = Progress::default();
        state.rows.store(1_200, Ordering::Relaxed);
        state.reports.store(30, Ordering::Relaxed);
        let second = Duration::from_secs(1);
        assert_eq!(progress(&state, second, false), "1200 rows  1200/s");
        state.reports_expected.store(40, Ordering::Relaxed);
        let shown = "[###############.....]  75 %  1200 rows  600/s";
        assert_eq!(progress(&state, second * 2, false), shown);
        // More may come than was there when it was counted.
        state.reports.store(41, Ordering::Relaxed);
        assert!(progress(&state, second, false).starts_with("[####################] 100 %"));
        assert_eq!(progress(&state, second, true), "1200 rows, finishing");
    }

    #[test]
    fn a_summary_counts_the_tables_that_were_asked_for() {
        let mut rows = ExportRows::default();
        rows.add(ExportTable::Devices, 3);
        rows.add(ExportTable::Telemetry, 40);
        let tables = [ExportTable::Devices, ExportTable::Alerts, ExportTable::Telemetry];
        let told = |bytes| {
            summary(Path::new("a.sqlite"), &tables, &rows, bytes, Duration::from_millis(1_234))
        };
        let counts = "devices 3, alerts 0, telemetry 40";
        assert_eq!(told(Some(1_650_000)), format!("a.sqlite: {counts}; 1.6 MB, 1.2 s"));
        assert_eq!(told(None), format!("exported: {counts}; 1.2 s"));
    }
}
