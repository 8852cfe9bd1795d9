//! `fleets`: FleetD's server and its operators' command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleet_server::cli::run()
}
