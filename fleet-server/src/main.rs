//! `fleets`: FleetD's server and its operators' command line.

use std::process::ExitCode;

use fleet_core::cli::argv::hide_keys;
use mimalloc::MiMalloc;

/// Many small requests cost less with it than with the system's. It is built to leave huge pages
/// alone: with them a large fleet takes a third more memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    hide_keys();
    fleet_server::cli::run()
}
