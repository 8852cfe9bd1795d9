//! FleetD's chores: `cargo xtask test`, `cargo xtask demo`, `cargo xtask bench`, `cargo xtask fuzz`,
//! `cargo xtask dist`.
//!
//! What is started here ends here: every child is a [`child::Child`], which ends with its owner,
//! and is started through [`leash`], so that it ends even when this process is killed.

pub mod bench;
pub mod cargo;
pub mod child;
pub mod demo;
pub mod dist;
pub mod fleet;
pub mod fuzz;
pub mod gate;
pub mod interrupt;
pub mod leash;
pub mod packages;
pub mod pty;
pub mod tidy;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a shell expects of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// FleetD's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every check that a change must pass; with names, only those
    Test(gate::Args),
    /// Show a whole fleet on this machine: a server, this machine's agent and simulated devices
    Demo(demo::Args),
    /// Measure what has a goal, and print both
    Bench(bench::Args),
    /// Try whatever comes in from outside, or from a disk, with bytes that a fuzzer makes up
    Fuzz(fuzz::Args),
    /// Write docs/configuration.md anew, from what the programs say of their settings
    Docs,
    /// Build a release: packages for Debian, tarballs, and their checksums
    Dist(dist::Args),
    /// Run a program that dies with the process that asked for it
    #[command(hide = true)]
    Leash {
        /// The process that asks
        parent: i32,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Test(args) => gate::run(&args),
        Chore::Demo(args) => demo::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Docs => dist::write_settings(),
        Chore::Dist(args) => dist::run(&args),
        Chore::Leash { parent, command } => Err(leash::hold(parent, &command)),
    };
    match result {
        Ok(code) => code,
        Err(error) if error.is::<interrupt::Interrupted>() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            // With stderr gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
