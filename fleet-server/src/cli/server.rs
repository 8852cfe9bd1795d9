//! `fleets server`: starts, says once where it is, runs until told to stop.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use fleet_core::Chain;
use fleet_core::net::logging::{self, LogLevel};
use fleet_core::net::notify::Notifier;
use fleet_core::net::shutdown;
use fleet_core::time::SystemClock;
use tokio::runtime::Runtime;

use crate::app::{Server, StartError};
use crate::config::{ConfigError, ServerArgs, ServerConfig};
use crate::user::{Became, UserError, become_user};
use fleet_core::cli::args::missing_interfaces;

/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIGURATION: u8 = 78;
/// The exit code after a second signal.
const EXIT_INTERRUPTED: i32 = 130;

#[derive(clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// A file for the log, beside standard error
    #[arg(long, env = "FLEETD_LOG_FILE", value_name = "FILE")]
    log_file: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: ServeArgs, level: LogLevel) -> ExitCode {
    logging::Log::at(level).also_in(args.log_file.as_deref()).begin();
    match prepare(args.server).and_then(|(config, runtime)| runtime.block_on(serve(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(target: logging::SAID, "{}", Chain(&failure));
            tell(&mut io::stderr(), &format!("error: {}\n", Chain(&failure)));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What to do, and the threads for it. Root is given up before these are there.
fn prepare(args: ServerArgs) -> Result<(ServerConfig, Runtime), Failure> {
    let config = ServerConfig::resolve(args)?;
    if let Some(user) = &config.user {
        match become_user(user, &config.database)? {
            Became::User(user) => tracing::debug!(user, "root is given up"),
            Became::Itself => tracing::debug!("--user is for servers that root starts"),
        }
    }
    Ok((config, Runtime::new().map_err(Failure::Runtime)?))
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start threads")]
    Runtime(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signal(#[source] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_CONFIGURATION,
            Self::User(error) if error.is_configuration() => EXIT_CONFIGURATION,
            Self::Start(error) if error.is_configuration() => EXIT_CONFIGURATION,
            Self::User(_) | Self::Start(_) | Self::Runtime(_) | Self::Signal(_) => 1,
        }
    }
}

async fn serve(config: ServerConfig) -> Result<(), Failure> {
    // An interface may come later; a mistyped one never does.
    for interface in missing_interfaces(&config.interfaces) {
        tracing::warn!(?interface, "there is no such interface to look for devices on yet");
    }
    let notifier = Notifier::from_environment();
    let mut signal = pin!(shutdown::signal());
    // Signals are caught before anybody is told that the server is there.
    let server = tokio::select! {
        biased;
        signal = &mut signal => {
            tracing::info!(signal = signal.map_err(Failure::Signal)?, "stopped before the start");
            return Ok(());
        }
        started = Server::start(config, Arc::new(SystemClock)) => started?,
    };
    server.tell(notifier.clone());
    tracing::info!(
        target: logging::SAID,
        "FleetD server {} is running at {}",
        fleet_core::VERSION,
        server.url()
    );
    tell(&mut io::stdout(), &announcement(&server));
    let signal = signal.await.map_err(Failure::Signal)?;
    tracing::info!(signal, "stopping");
    notifier.stopping();
    tokio::select! {
        () = server.stop() => Ok(()),
        _ = shutdown::signal() => {
            tracing::warn!("stopped at once");
            std::process::exit(EXIT_INTERRUPTED)
        }
    }
}

fn announcement(server: &Server) -> String {
    let mut text = format!(
        "FleetD server {} is running\n  \
         URL        {}\n  \
         REST API   {}/api/v1/\n  \
         identity   {}\n  \
         data       {}\n  \
         admin key  {}\n",
        fleet_core::VERSION,
        server.url(),
        server.url(),
        server.identity(),
        server.database().display(),
        server.admin_path().display(),
    );
    for note in server.notes() {
        text.push_str("  note       ");
        text.push_str(note);
        text.push('\n');
    }
    text
}

/// Writes to a stream that may be closed; then nobody listens, and the server serves all the same.
fn tell(stream: &mut impl io::Write, text: &str) {
    if let Err(error) = stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        tracing::debug!(%error, "nobody reads what the server has to say");
    }
}
