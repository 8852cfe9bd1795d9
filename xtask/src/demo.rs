//! `cargo xtask demo`: a whole fleet on this machine, through the real programs and the real path:
//! build, start, discover, claim, enrol, report, show. It needs no LAN and leaves nothing behind.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use crate::cargo::Programs;
use crate::child;
use crate::fleet::{Fleet, Plan};
use crate::interrupt::{Interrupt, Interrupted};

/// Devices that people can look at; each is a process.
const SIMULATED_MAX: i64 = 200;
/// Devices that people find themselves.
const UNCLAIMED_MAX: i64 = 20;

/// Flags of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Simulated devices beside this machine's own agent
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(0..=SIMULATED_MAX))]
    devices: u16,
    /// Simulated devices that are left for you to discover and configure
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(0..=UNCLAIMED_MAX))]
    unclaimed: u16,
}

/// Shows the fleet in the console until that ends, or once as a table without a terminal.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    note("building fleets, fleetd and fleet-tui")?;
    let programs = Programs::build_dev()?;
    // From here on things exist that must be cleaned up.
    let interrupt = Interrupt::catch()?;
    let started = Instant::now();
    let (simulated, unclaimed) = (usize::from(args.devices), usize::from(args.unclaimed));
    let count = simulated + unclaimed;
    note(&format!("starting a server, this machine's agent and {count} simulated devices"))?;
    let plan = Plan { programs, simulated, unclaimed, own_machine: true, interval_secs: 1 };
    let mut fleet = Fleet::start(&plan, &interrupt)?;
    note(&format!("discovering {} devices", fleet.ids().len()))?;
    fleet.discover()?;
    note("configuring them: each gets a grant, connects and reports")?;
    fleet.configure()?;
    fleet.wait_for_values()?;
    note(&format!("all report, after {:.1} s", started.elapsed().as_secs_f64()))?;
    note(&format!(
        "the page is at {}, the key for it in {}",
        fleet.url(),
        fleet.key_file().display()
    ))?;
    if unclaimed > 0 {
        note(&format!("{unclaimed} left for you to configure: 5 in the console"))?;
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        converse(&fleet, &plan.programs, &interrupt)?;
    } else {
        show_once(&fleet)?;
    }
    note("ending")?;
    Ok(ExitCode::SUCCESS)
}

/// The console, until its user has seen enough.
fn converse(fleet: &Fleet<'_>, programs: &Programs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let mut console = fleet.operator(&programs.console);
    console.args(["--interface", "lo"]);
    match child::converse("fleet-tui", &mut console, interrupt) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => anyhow::bail!("the console ended with {status}"),
        // To be asked to end is a good end.
        Err(error) if error.is::<Interrupted>() => Ok(()),
        Err(error) => Err(error),
    }
}

fn show_once(fleet: &Fleet<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{}", fleet.table()?)?;
    let count = fleet.claimed().len();
    writeln!(out, "\nFleetD demo: {count} devices at {}/api/v1/devices", fleet.url())?;
    Ok(())
}

/// Progress, beside the result.
fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "demo: {text}")
}
