//! The command line: what `fleets` can be asked, and who answers.
//!
//! One file per command. Each takes its own arguments, builds the runtime it needs, writes results
//! to stdout and everything else to stderr, and ends with an exit code of its own.

mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fleet_core::net::logging::{self, LogLevel};

/// FleetD: manage a fleet of Linux devices.
#[derive(Parser)]
#[command(name = "fleets", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args)]
struct Global {
    /// Log in detail
    #[arg(long, global = true)]
    debug: bool,
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, global = true, env = "FLEETD_LOG_LEVEL", value_name = "LEVEL", hide = true)]
    log_level: Option<LogLevel>,
}

impl Global {
    /// Begins to log, at `usual` unless told otherwise.
    fn start_logging(&self, usual: LogLevel) {
        let level = if self.debug { LogLevel::DEBUG } else { self.log_level.unwrap_or(usual) };
        logging::start(level);
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Server(server::ServerArgs),
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    match command {
        Command::Server(args) => {
            global.start_logging(LogLevel::INFO);
            server::run(args)
        }
    }
}
