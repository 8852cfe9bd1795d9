//! From the command line to the console: which server, which key, which terminal, where to log.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use fleet_core::cli::choice::{Chosen, ServerChoice};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::net::logging;
use fleet_core::operator::client::Client;
use fleet_core::operator::contexts::{ContextColour, Contexts};
use fleet_core::operator::exit::Exit;
use fleet_core::operator::keyfile::KeyOrigin;
use fleet_core::untrusted::Untrusted;
use fleet_core::{Chain, untrusted};
use nix::unistd::{User, getuid};
use ratatui::style::Color;

use crate::cli::{self, ConsoleOptions};
use crate::console::{self, Options, Place};
use crate::state::Settings;
use crate::terminal::caps::Caps;

/// Tasks beside the console's loop need one thread; the other is for the loop itself.
const THREADS: usize = 2;

/// Runs the console that was called for.
pub fn run(options: ConsoleOptions) -> ExitCode {
    let mut output = Output::of_process(fleet_core::cli::listed::FormatArgs::default());
    match prepare(options, &mut output).and_then(converse) {
        Ok(code) => code.into(),
        Err(failure) => {
            // Without a reader on stderr the exit code has to say it alone.
            let _ = output.fail(&failure);
            failure.exit().into()
        }
    }
}

fn prepare(options: ConsoleOptions, output: &mut Output<'_>) -> Result<Options, Failure> {
    let environment = |name: &str| std::env::var_os(name);
    let log = cli::log_path(&environment);
    if let Some(path) = &log
        && let Err(error) = logging::start_in_file(options.log_level, path)
    {
        output.note(&format!("warning: no log is written: {}", Chain(&error)))?;
    }
    let is_read_only = options.is_read_only;
    let (place, origin) = settled(&options.server, is_read_only)?;
    if origin == KeyOrigin::Argument {
        output.note(
            "warning: every user of this machine can see a key on a command line; \
             --api-key @FILE hides it",
        )?;
    }
    let folder = log.and_then(|path| path.parent().map(PathBuf::from));
    let choice = options.server.clone();
    let context = move |name: &str| {
        let found = settled(&choice.in_context(name), is_read_only);
        found.map(|(place, _)| place).map_err(|failure| failure.message().to_owned())
    };
    Ok(Options {
        place,
        contexts: Box::new(context),
        filter: Some(options.filter).filter(|filter| !filter.is_empty()),
        interfaces: options.interfaces.options(output)?,
        caps: Caps::from_env(&environment, &options.caps),
        theme: options.theme,
        refresh: options.refresh,
        report_folder: folder.unwrap_or_else(std::env::temp_dir),
    })
}

fn converse(options: Options) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let ended = runtime.block_on(console::run(options));
    // Whoever still waits for a name to be looked up is left behind.
    runtime.shutdown_background();
    ended.map_err(|error| Failure::usage(Chain(&error).to_string()))
}

/// A server that was chosen, and what the console has to know about it.
fn settled(choice: &ServerChoice, is_read_only: bool) -> Result<(Place, KeyOrigin), Failure> {
    let chosen = choice.settle()?;
    let (client, origin) = chosen.client()?;
    let settings = Settings { identity: Some(client.server()), ..settings(&chosen, is_read_only) };
    let colour = chosen.context.as_ref().and_then(|(context, _)| context.colour).map(colour);
    Ok((Place { client: limited(client, is_read_only), settings, colour }, origin))
}

/// The client; one that changes nothing, if so.
fn limited(client: Client, is_read_only: bool) -> Client {
    if is_read_only { client.read_only() } else { client }
}

fn settings(chosen: &Chosen, is_read_only: bool) -> Settings {
    let names = Contexts::load().map(|contexts| contexts.names().map(Untrusted::from).collect());
    Settings {
        server: chosen.server.to_string(),
        context: chosen.context.as_ref().map(|(context, _)| Untrusted::from(context.name.as_str())),
        // A file that cannot be read was told already if one of it was asked for.
        contexts: names.unwrap_or_default(),
        is_read_only: is_read_only || chosen.is_read_only(),
        identity: None,
        user: user(&|name| std::env::var_os(name)),
    }
}

/// Who sits here: `alice@jump1`.
fn user(environment: &dyn Fn(&str) -> Option<OsString>) -> Untrusted {
    let told = environment("USER").or_else(|| environment("LOGNAME"));
    let told = told.map(|name| name.to_string_lossy().into_owned());
    let known = || User::from_uid(getuid()).ok().flatten().map(|user| user.name);
    let name = told.or_else(known).unwrap_or_else(|| getuid().to_string());
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    Untrusted::new(untrusted::escaped(&format!("{name}@{host}")))
}

fn colour(colour: ContextColour) -> Color {
    match colour {
        ContextColour::Red => Color::Red,
        ContextColour::Yellow => Color::Yellow,
        ContextColour::Green => Color::Green,
        ContextColour::Cyan => Color::Cyan,
        ContextColour::Blue => Color::Blue,
        ContextColour::Magenta => Color::Magenta,
    }
}
