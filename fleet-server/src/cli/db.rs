//! `fleets db`: the server's database, from outside.

use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::api::DbView;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::operator::exit::Exit;
use serde::Serialize;

/// What to ask it.
#[derive(Debug, clap::Args)]
pub(super) struct DbArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how much there is: its size, devices, events, telemetry
    Stats,
}

/// Runs the command.
pub(super) fn run(args: DbArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| db(args, output).await)
}

async fn db(args: DbArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    match args.action {
        Action::Stats => output.one(&Stats(client.db().await?))?,
    }
    Ok(Exit::Done)
}

/// How much there is.
#[derive(Serialize)]
#[serde(transparent)]
struct Stats(DbView);

impl Listed for Stats {
    const COLUMNS: &'static [Column] = &[
        Column::new("SIZE", 10).of_numbers(),
        Column::new("FREE", 10).of_numbers(),
        Column::new("DEVICES", 7).of_numbers(),
        Column::new("EVENTS", 7).of_numbers(),
        Column::new("REPORTS", 10).of_numbers(),
        Column::new("TELEMETRY", 10).of_numbers(),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(view) = self;
        let size = |bytes: u64| match reader {
            Reader::Person { .. } => megabytes(bytes),
            Reader::Program => bytes.to_string(),
        };
        vec![
            Cell::maybe(view.database.bytes.map(size)),
            Cell::maybe(view.database.free_bytes.map(size)),
            Cell::new(view.devices),
            Cell::new(view.events),
            Cell::new(view.telemetry.reports),
            Cell::new(size(view.telemetry.bytes)),
        ]
    }

    fn name(&self) -> String {
        "database".to_owned()
    }
}

/// Bytes for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use fleet_core::api::{DbFile, DbTelemetry};
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::written;

    use super::*;

    #[test]
    fn people_see_megabytes_and_programs_bytes() {
        let stats = |bytes| {
            Stats(DbView {
                database: DbFile { bytes, free_bytes: None },
                devices: 12,
                events: 88,
                telemetry: DbTelemetry {
                    reports: 3_456,
                    bytes: 1_650_000,
                    series: 12,
                    log_bytes: 0,
                    tiers: Vec::new(),
                },
            })
        };
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.one(&stats(Some(2_000_000))).unwrap();
        let expected = "Size:       2.0 MB\nDevices:    12\nEvents:     88\nReports:    3456\n\
             Telemetry:  1.6 MB\n";
        assert_eq!(out.text(), expected);
        let (mut output, out, _) = written(Format::Csv, Terminal::default());
        output.one(&stats(None)).unwrap();
        let expected = "size,free,devices,events,reports,telemetry\n,,12,88,3456,1650000\n";
        assert_eq!(out.text(), expected);
        let (mut output, out, _) = written(Format::Json, Terminal::default());
        output.one(&stats(None)).unwrap();
        assert!(out.text().contains("\"database\": {},"), "{}", out.text());
    }
}
