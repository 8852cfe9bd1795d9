//! `fleets version`.

use std::process::ExitCode;

use fleet_core::VERSION;
use fleet_core::cli::listed::{Format, FormatArgs, Listed, Reader};
use fleet_core::cli::session;
use fleet_core::cli::table::{Cell, Column};
use fleet_core::operator::exit::Exit;
use serde::Serialize;

/// How to show it.
#[derive(Debug, clap::Args)]
pub(super) struct VersionArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(super) fn run(args: VersionArgs) -> ExitCode {
    session::run(args.format, None, async |output| {
        match output.format {
            Format::Table | Format::Wide => output.line(&format!("fleets {VERSION}"))?,
            _ => output.one(&Release { version: VERSION })?,
        }
        Ok(Exit::Done)
    })
}

#[derive(Serialize)]
struct Release {
    version: &'static str,
}

impl Listed for Release {
    const COLUMNS: &'static [Column] = &[Column::new("VERSION", 7)];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        vec![Cell::new(self.version)]
    }

    fn name(&self) -> String {
        self.version.to_owned()
    }
}
