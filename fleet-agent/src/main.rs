//! `fleetd`, FleetD's agent. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleet_agent::cli::run()
}
