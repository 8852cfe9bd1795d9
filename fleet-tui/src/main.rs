//! `fleet-tui`: the operator's console.

use std::process::ExitCode;

use fleet_core::cli::argv::hide_keys;
use fleet_tui::cli::{self, Invocation};
use fleet_tui::start;

fn main() -> ExitCode {
    hide_keys();
    match cli::parse() {
        Invocation::Auto(auto) => auto.run(),
        Invocation::Console(options) => start::run(options),
    }
}
