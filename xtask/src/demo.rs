//! `cargo xtask demo`: a whole fleet on this machine, through the real programs and the real path:
//! build, start, discover, claim, enrol, report, show. It needs no LAN and leaves nothing behind.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use fleet_core::time::{Clock as _, SystemClock};

use crate::cargo::Programs;
use crate::fleet::{Fleet, Plan};
use crate::interrupt::Interrupt;
use crate::screen;

/// Devices that people can look at; each is a process.
const SIMULATED_MAX: i64 = 200;

/// Flags of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Simulated devices beside this machine's own agent
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(0..=SIMULATED_MAX))]
    devices: u16,
}

/// Shows the fleet until `q` on a terminal, or once without one.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    note("building fleets and fleetd")?;
    let programs = Programs::build_dev()?;
    // From here on things exist that must be cleaned up.
    let interrupt = Interrupt::catch()?;
    let started = Instant::now();
    let simulated = usize::from(args.devices);
    note(&format!("starting a server, this machine's agent and {simulated} simulated devices"))?;
    let plan = Plan { programs, simulated, own_machine: true, interval_secs: 1 };
    let mut fleet = Fleet::start(&plan, &interrupt)?;
    note(&format!("discovering {} devices", fleet.ids().len()))?;
    fleet.discover()?;
    note("configuring them: each gets a grant, connects and reports")?;
    fleet.configure()?;
    fleet.wait_for_values()?;
    note(&format!("all report, after {:.1} s", started.elapsed().as_secs_f64()))?;
    if screen::is_live() {
        show_live(&mut fleet, &interrupt)?;
    } else {
        show_once(&fleet)?;
    }
    note("ending")?;
    Ok(ExitCode::SUCCESS)
}

fn show_live(fleet: &mut Fleet<'_>, interrupt: &Interrupt) -> anyhow::Result<()> {
    let colour = std::env::var_os("NO_COLOR").is_none();
    screen::show(interrupt, || {
        fleet.check()?;
        let mut lines = vec![heading(fleet), key(fleet), String::new()];
        lines.extend(screen::table(&fleet.list()?, SystemClock.now(), colour));
        lines.extend([String::new(), "q quits".to_owned()]);
        Ok(lines)
    })
}

fn show_once(fleet: &Fleet<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for line in screen::table(&fleet.list()?, SystemClock.now(), false) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\n{}", heading(fleet))?;
    Ok(())
}

fn heading(fleet: &Fleet<'_>) -> String {
    format!("FleetD demo: {} devices at {}/api/v1/devices", fleet.ids().len(), fleet.url())
}

/// What somebody at another terminal needs to ask the same.
fn key(fleet: &Fleet<'_>) -> String {
    format!("operator key: {}", fleet.key_file().display())
}

/// Progress, beside the result.
fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "demo: {text}")
}
