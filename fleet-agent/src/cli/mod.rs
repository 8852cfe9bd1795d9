//! The commands of `fleetd`. Results go to stdout, everything else to stderr; each command ends in
//! one of the exit codes below.

mod agent;
mod doctor;
mod health;
mod info;
mod local;
mod reset;
mod status;
mod waiting;
mod watchdog;

use std::env;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use fleet_core::id::DeviceId;
use fleet_core::net::logging::{self, LogLevel};
use fleet_core::release;
use fleet_core::untrusted::Untrusted;

use crate::app::StartError;
use crate::settings::{Overrides, SettingsError};

/// It failed.
const FAILED: u8 = 1;
/// The device has no server.
const UNCLAIMED: u8 = 5;
/// The server cannot be reached.
const UNREACHABLE: u8 = 7;
/// The configuration cannot be followed.
const CONFIGURATION: u8 = 78;

/// FleetD's agent: one on each device.
#[derive(Debug, Parser)]
#[command(name = "fleetd", version = release::text(), max_term_width = 100)]
struct Cli {
    /// Log what happens inside.
    #[arg(long, global = true)]
    debug: bool,
    /// error, warn, info, debug or trace.
    #[arg(long, global = true, env = "FLEETD_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// What all commands share.
#[derive(Debug, Args)]
struct Place {
    /// The configuration file [default: /etc/fleetd/config.yaml].
    #[arg(long, global = true, env = "FLEETD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the device's key and its server are kept [default: /var/lib/fleetd-agent].
    #[arg(long, global = true, env = "FLEETD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A folder that stands for / when the machine is looked at.
    #[arg(long, global = true, env = "FLEETD_SYSROOT", value_name = "DIR")]
    sysroot: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent.
    Agent(AgentArgs),
    /// Show who this device is.
    Info(OutputArgs),
    /// Show how this device stands; exits with 0 ok, 1 not in the fleet or no agent, 5 unclaimed,
    /// 7 server unreachable.
    Status(OutputArgs),
    /// Find out what is wrong with this device's agent and its way to the server; exits with 0 all is
    /// well, 1 something failed, 7 server unreachable or another one.
    Doctor(OutputArgs),
    /// Ask whether the agent works; exits with 0 it does, 1 it does not.
    Health,
    /// Forget this device's server, also while the agent runs; its key stays, and the id of its own.
    Reset,
    /// Show the release.
    Version,
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// The port to listen on; 0 for any free one [default: 6789].
    #[arg(long, env = "FLEETD_AGENT_PORT", value_name = "N")]
    port: Option<u16>,
    /// The one address to listen on and to announce [default: all].
    #[arg(long, env = "FLEETD_AGENT_BIND", value_name = "ADDR")]
    bind: Option<IpAddr>,
    /// An interface to announce on; can be given again [default: all].
    #[arg(long, env = "FLEETD_INTERFACE", value_name = "NAME", value_delimiter = ',')]
    interface: Vec<String>,
    /// What to call this device [default: the host's name and the start of its key].
    #[arg(long, env = "FLEETD_DEVICE_ID", value_name = "ID")]
    device_id: Option<DeviceId>,
    /// A file with the authorities, in PEM form, that vouch for a proxy in front of the server, in
    /// place of the system's.
    #[arg(long, env = "FLEETD_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A file for the log, beside standard error.
    #[arg(long, env = "FLEETD_LOG_FILE", value_name = "FILE")]
    log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Args)]
struct OutputArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why a command ended without what was asked for.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: FAILED, error: error.into() }
    }
}

impl Failure {
    fn settings(error: SettingsError) -> Self {
        Self { code: CONFIGURATION, error: error.into() }
    }

    fn start(error: StartError) -> Self {
        match error {
            StartError::Settings(error) => Self::settings(error),
            other => other.into(),
        }
    }
}

/// The whole command line, for manuals and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, error }) => {
            complain(&error);
            ExitCode::from(code)
        }
    }
}

/// What clap says, and the variable that a bad value came from: nobody finds it on the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    // Without a stream to say it on there is nobody to tell.
    drop(error.print());
    if let Some(variable) = variable_of(error) {
        complain(&anyhow::anyhow!("the value is from the variable {variable}"));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(FAILED))
}

fn variable_of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = named.split(' ').next()?;
    if env::args_os().any(|word| word.to_string_lossy().starts_with(flag)) {
        return None;
    }
    let command = Cli::command();
    let mut arguments = command
        .get_arguments()
        .chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
    let argument = arguments.find(|argument| {
        argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long))
    })?;
    let variable = argument.get_env().filter(|variable| env::var_os(variable).is_some())?;
    Some(variable.to_string_lossy().into_owned())
}

fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let told = if cli.debug { Some(LogLevel::DEBUG) } else { cli.log_level };
    let place = cli.place;
    match cli.command {
        Command::Agent(mut args) => {
            let log_file = args.log_file.take();
            agent::run(overrides(place, args), told, log_file.as_deref())
        }
        Command::Info(output) => {
            logging::start(told.unwrap_or(LogLevel::WARN));
            info::run(&place, output)
        }
        Command::Status(output) => {
            logging::start(told.unwrap_or(LogLevel::WARN));
            status::run(&place, output)
        }
        Command::Doctor(output) => {
            logging::start(told.unwrap_or(LogLevel::WARN));
            doctor::run(&place, output)
        }
        Command::Health => {
            logging::start(told.unwrap_or(LogLevel::WARN));
            health::run(&place)
        }
        Command::Reset => {
            logging::start(told.unwrap_or(LogLevel::WARN));
            reset::run(&place)
        }
        Command::Version => print(&format!("fleetd {}\n", release::text())),
    }
}

fn overrides(place: Place, args: AgentArgs) -> Overrides {
    Overrides {
        config: place.config,
        data_dir: place.data_dir,
        sysroot: place.sysroot,
        port: args.port,
        bind: args.bind,
        interfaces: args.interface,
        device_id: args.device_id,
        ca_file: args.ca_file,
    }
}

/// A result, whole; a reader who has seen enough is no error.
fn print(text: &str) -> Result<u8, Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(0),
    }
}

fn complain(error: &anyhow::Error) {
    let chain = fleet_core::Chain(error.as_ref()).to_string();
    let line = format!("fleetd: {chain}\n");
    // Without a stderr there is nobody to tell.
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

/// A field and its value, as `info` and `status` show them.
fn line(name: &str, value: impl Into<String>) -> String {
    format!("{name:<13}{}\n", Untrusted::new(value.into()))
}
