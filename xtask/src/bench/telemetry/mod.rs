//! `cargo xtask bench telemetry`: FleetD's telemetry beside VictoriaMetrics', the same data in the
//! same run.
//!
//! Seconds depend on the machine and on what else it does; what a server needs of a processor does
//! so far less, and its ratio to another's least. So most goals are ratios. As with the other
//! figures this is a table to look at: it fails only when something could not be measured.

mod data;
mod figures;
mod http;
mod load;
mod peers;
mod questions;
mod stages;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::note;
use crate::cargo::{self, Programs};
use crate::interrupt::Interrupt;
use crate::packages;
use figures::{FIGURES, Figure, Findings, Key};
use peers::{Host, Kind};
use stages::{Scale, Stage};

/// Flags of `cargo xtask bench telemetry`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A small scale, to see whether the bench works
    #[arg(long)]
    quick: bool,
    /// Measure this, and what comes with it, instead of everything
    #[arg(long, value_name = "FIGURE", value_enum)]
    only: Vec<Key>,
    /// Measure one server alone
    #[arg(long, value_name = "SERVER", value_enum)]
    server: Option<Kind>,
    /// Devices of the fleet that reports for a day
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=100_000))]
    devices: Option<u32>,
    /// Hours that it reports for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=47))]
    hours: Option<u32>,
}

/// Builds as a release is built, measures, prints the table.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    packages::ensure(packages::BENCH)?;
    note("building fleets and this bench (release): minutes the first time")?;
    cargo::build(&["fleet-server", "xtask"], "release")?;
    let link_load = cargo::build_example("xtask", "link_load")?;
    if cfg!(debug_assertions) {
        // What sends must not be slower than what stores.
        let bench = cargo::target_folder().join("release/xtask");
        return Err(Command::new(bench).args(std::env::args_os().skip(1)).exec().into());
    }
    let interrupt = Interrupt::catch()?;
    let host = Host { programs: Programs::of("release"), link_load, interrupt: &interrupt };
    let figures: Vec<&Figure> = FIGURES.iter().filter(|figure| args.wants(figure.key)).collect();
    let mut findings: Vec<(Kind, Findings)> = Kind::ALL
        .into_iter()
        .filter(|kind| args.server.is_none_or(|only| only == *kind))
        .map(|kind| (kind, Findings::new()))
        .collect();
    for stage in Stage::ALL {
        if !figures.iter().any(|figure| figure.stage == stage) {
            continue;
        }
        for (kind, found) in findings.iter_mut().filter(|(kind, _)| stage.suits(*kind)) {
            stage.run(*kind, args.scale(), &host, found)?;
        }
    }
    let complete = figures::print(&figures, &findings, &mut io::stdout().lock())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Args {
    fn wants(&self, key: Key) -> bool {
        self.only.is_empty() || self.only.contains(&key)
    }

    fn scale(&self) -> Scale {
        let mut scale = if self.quick { Scale::QUICK } else { Scale::FULL };
        scale.day.devices = self.devices.unwrap_or(scale.day.devices);
        if let Some(hours) = self.hours {
            scale.day.reports = hours * 360;
        }
        scale
    }
}
