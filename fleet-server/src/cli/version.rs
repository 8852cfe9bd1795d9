//! `fleets version`.

use std::process::ExitCode;

use fleet_core::cli::listed::{Format, FormatArgs, Listed, Reader};
use fleet_core::cli::session;
use fleet_core::cli::table::{Cell, Column};
use fleet_core::operator::exit::Exit;
use fleet_core::release::{self, RELEASE, Release};
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
            Format::Table | Format::Wide => output.line(&format!("fleets {}", release::text()))?,
            _ => output.one(&Shown(RELEASE))?,
        }
        Ok(Exit::Done)
    })
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Release);

impl Listed for Shown {
    const COLUMNS: &'static [Column] =
        &[Column::new("VERSION", 7), Column::new("COMMIT", 7), Column::new("BUILD_DATE", 10)];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        let Release { version, commit, build_date } = self.0;
        vec![Cell::new(version), Cell::maybe(commit), Cell::maybe(build_date)]
    }

    fn name(&self) -> String {
        self.0.version.to_owned()
    }
}
