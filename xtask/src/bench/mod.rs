//! `cargo xtask bench`: the figures that FleetD promises, measured here and now beside their goals.
//!
//! Times and sizes depend on the machine, so this is a table to look at and not a test: it fails
//! only when something could not be measured.

mod console;
mod figures;
mod link;
mod telemetry;

use std::cell::OnceCell;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cargo::{self, Programs};
use crate::interrupt::{Interrupt, Interrupted};
use figures::{Bench, FIGURES, Unit};

/// Flags of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Measure a debug build from nothing too, in a folder of its own
    #[arg(long)]
    build: bool,
    #[command(subcommand)]
    other: Option<Other>,
}

/// What is measured instead.
#[derive(clap::Subcommand)]
enum Other {
    /// Measure telemetry, beside VictoriaMetrics: about ten minutes
    Telemetry(telemetry::Args),
    /// Measure a fleet of 10,000 on its links, beside mosquitto: about two minutes
    Link(link::Args),
}

/// Builds as a release is built, measures, prints the table.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.other {
        Some(Other::Telemetry(args)) => return telemetry::run(args),
        Some(Other::Link(args)) => return link::run(args),
        None => {}
    }
    note("building fleets and fleet-tui (release) and fleetd (agent): minutes the first time")?;
    cargo::build(&["fleet-server", "fleet-tui"], "release")?;
    cargo::build(&["fleet-agent"], "agent")?;
    let built = if args.build { Some(figures::clean_build()?) } else { None };
    let interrupt = Interrupt::catch()?;
    let fleets = Programs::of("release").fleets;
    let fleetd = Programs::of("agent").fleetd;
    let console = Programs::of("release").console;
    let bench = Bench {
        programs: Programs { fleets, fleetd, console },
        interrupt: &interrupt,
        frame_times: OnceCell::new(),
        large: OnceCell::new(),
    };

    let mut rows = Vec::new();
    let mut complete = true;
    for figure in &FIGURES {
        note(&format!("measuring {}", figure.name))?;
        rows.push(match (figure.measure)(&bench) {
            Ok(value) => row(figure.name, value, Some(figure.goal), figure.unit),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                complete = false;
                format!("{:<56} not measured: {error:#}", figure.name)
            }
        });
    }
    rows.extend(built.map(|secs| row("debug build from nothing", secs, None, Unit::Seconds)));
    let mut out = io::stdout().lock();
    writeln!(out, "{}", head())?;
    for row in rows {
        writeln!(out, "{row}")?;
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn head() -> String {
    format!("{:<56} {:>12} {:>12}", "FIGURE", "MEASURED", "GOAL")
}

fn row(name: &str, value: f64, goal: Option<f64>, unit: Unit) -> String {
    let verdict = match goal {
        Some(goal) if value > goal => "over",
        Some(_) => "reached",
        None => "",
    };
    let goal = goal.map_or(String::new(), |goal| format!("≤ {}", unit.show(goal)));
    let line = format!("{name:<56} {:>12} {goal:>12} {verdict}", unit.show(value));
    line.trim_end().to_owned()
}

/// Progress, beside the result.
fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "bench: {text}")
}
