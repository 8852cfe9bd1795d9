//! `fleets db`: the server's database, from outside.

use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::api::{Compacted, DbChecked, DbView, PruneRequest, Pruned};
use fleet_core::cli::args::Moment;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::glyph::Tone;
use fleet_core::operator::exit::Exit;
use fleet_core::time::{Clock as _, SystemClock};
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
    /// Remove old telemetry, for good: what the server was not told to keep, or all before a time
    Prune {
        /// All telemetry from before this time, or this long ago: 2024-01-15T10:30:00Z or 90d
        #[arg(long, value_name = "TIME")]
        before: Option<Moment>,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Give back the room of telemetry that was removed
    ///
    /// Telemetry's files are written anew where most of them is not wanted any more. The database
    /// file beside them uses its own room again, and stays as long as it is.
    Compact,
    /// Read all that is stored, to find out whether it can still be read
    ///
    /// The server does so by itself once a day. Fails with 1 if something is damaged.
    Check,
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
        Action::Prune { before, yes } => {
            let wish = PruneRequest { before: before.map(|it| it.resolve(SystemClock.now())) };
            // Who may not is told before they are asked.
            client.may_change()?;
            ask_before_prune(&wish, yes, output).await?;
            output.one(&Gone(client.db_prune(&wish).await?))?;
        }
        Action::Compact => output.one(&Shrunk(client.db_compact().await?))?,
        Action::Check => {
            let checked = Sound(client.db_check().await?);
            output.one(&checked)?;
            if checked.0.damage.is_some() {
                return Ok(Exit::Failed);
            }
        }
    }
    Ok(Exit::Done)
}

async fn ask_before_prune(
    wish: &PruneRequest,
    yes: bool,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !output.terminal.can_ask() {
        return Err(Failure::usage("there is no terminal to ask on whether to remove telemetry")
            .hint("give --yes if you mean it"));
    }
    let what = match wish.before {
        Some(before) => format!("all telemetry from before {before}"),
        None => "telemetry that is older, or more, than the server keeps".to_owned(),
    };
    if prompt::confirm(&format!("Remove {what} for good?"), output).await? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Interrupted, "nothing was removed"))
    }
}

/// What was removed.
#[derive(Serialize)]
#[serde(transparent)]
struct Gone(Pruned);

impl Listed for Gone {
    const COLUMNS: &'static [Column] = &[
        Column::new("ROWS", 10).of_numbers(),
        Column::new("BEFORE", 10).of_numbers(),
        Column::new("AFTER", 10).of_numbers(),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(pruned) = self;
        vec![
            Cell::new(pruned.rows),
            Cell::new(size(reader, pruned.bytes_before)),
            Cell::new(size(reader, pruned.bytes_after)),
        ]
    }

    fn name(&self) -> String {
        self.0.rows.to_string()
    }
}

/// What reading everything brought.
#[derive(Serialize)]
#[serde(transparent)]
struct Sound(DbChecked);

impl Listed for Sound {
    const COLUMNS: &'static [Column] = &[
        Column::new("ROWS", 10).of_numbers(),
        Column::new("CHUNKS", 10).of_numbers(),
        Column::new("REPORTS", 10).of_numbers(),
        Column::new("DAMAGE", 6),
    ];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        let Self(checked) = self;
        let damage = match &checked.damage {
            Some(damage) => Cell::new(damage).toned(Tone::Bad),
            None => Cell::new("none"),
        };
        vec![Cell::new(checked.rows), Cell::new(checked.chunks), Cell::new(checked.reports), damage]
    }

    fn name(&self) -> String {
        self.0.rows.to_string()
    }
}

/// What compacting brought.
#[derive(Serialize)]
#[serde(transparent)]
struct Shrunk(Compacted);

impl Listed for Shrunk {
    const COLUMNS: &'static [Column] =
        &[Column::new("BEFORE", 10).of_numbers(), Column::new("AFTER", 10).of_numbers()];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(compacted) = self;
        vec![
            Cell::new(size(reader, compacted.bytes_before)),
            Cell::new(size(reader, compacted.bytes_after)),
        ]
    }

    fn name(&self) -> String {
        "telemetry".to_owned()
    }
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
        let size = |bytes| size(reader, bytes);
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

/// Bytes for whoever reads them.
pub(super) fn size(reader: Reader, bytes: u64) -> String {
    match reader {
        Reader::Person { .. } => megabytes(bytes),
        Reader::Program => bytes.to_string(),
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

    #[tokio::test]
    async fn nothing_is_removed_without_a_yes() {
        let (mut output, ..) = written(Format::Table, Terminal::default());
        let wish = PruneRequest::default();
        let refusal = ask_before_prune(&wish, false, &mut output).await.unwrap_err();
        assert_eq!(refusal.exit(), Exit::Usage);
        assert!(ask_before_prune(&wish, true, &mut output).await.is_ok());
    }

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
