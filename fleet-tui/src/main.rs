//! `fleet-tui`: the operator's console.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use fleet_core::Chain;
use fleet_core::cli::argv::hide_keys;
use fleet_tui::cli::{self, Invocation};
use fleet_tui::jump::{self, Call, JumpError};
use fleet_tui::start;

/// What was asked for cannot be understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    hide_keys();
    let call = match jump::call(env::args_os().collect(), env::var_os(jump::VARIABLE)) {
        Ok(Call::Console(call)) => call,
        Ok(Call::Fleets(words)) => match jump::become_fleets(&words) {
            Ok(never) => match never {},
            Err(error) => return refuse(&error, 1),
        },
        Err(error) => return refuse(&error, USAGE),
    };
    match cli::parse(call) {
        Invocation::Auto(auto) => auto.run(),
        Invocation::Console(options) => start::run(options),
    }
}

fn refuse(error: &JumpError, code: u8) -> ExitCode {
    // Without a stderr there is nobody to tell.
    drop(writeln!(io::stderr(), "error: {}", Chain(error)));
    ExitCode::from(code)
}
