//! `fleet-tui`: the operator's console.

use std::process::ExitCode;

use fleet_tui::cli::{self, Invocation};
use fleet_tui::start;

fn main() -> ExitCode {
    match cli::parse() {
        Invocation::Auto(auto) => auto.run(),
        Invocation::Console(options) => start::run(options),
    }
}
