//! The command line of `fleet-tui`: the console, or with `--auto` what `fleets configure --auto` does.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use fleet_core::cli::args::{self, Interfaces};
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::configure::{self, FoundArgs};
use fleet_core::filter::{Filter, Words};
use fleet_core::net::logging::{self, LogLevel};
use fleet_core::release;

use crate::terminal::caps::{CapsOptions, ColourChoice, GraphLevel};
use crate::theme::ThemeName;

/// Arguments that only `--auto` has a use for.
const AUTO_ONLY: [&str; 6] = ["device", "timeout", "dry_run", "output", "json", "no_headers"];
/// Arguments that `--auto` does not obey, and that nobody gives who can do without.
const CONSOLE_ONLY: [&str; 2] = ["read_only", "filter"];
/// The shortest time between two looks at what the server does not send by itself.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// FleetD's console: watch and run a fleet of Linux devices.
#[derive(Debug, Parser)]
#[command(name = "fleet-tui", version = release::text(), about)]
struct Cli {
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    console: ConsoleArgs,
    /// Log in detail
    #[arg(long)]
    debug: bool,
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, env = "FLEETD_LOG_LEVEL", value_name = "LEVEL", hide = true)]
    log_level: Option<LogLevel>,
    /// Configure every unclaimed device and end, without a terminal: `fleets configure --auto`
    #[arg(long)]
    auto: bool,
    #[command(flatten, next_help_heading = "With --auto")]
    found: FoundArgs,
}

#[derive(Debug, clap::Args)]
struct ConsoleArgs {
    /// Change nothing, whatever the key may do
    #[arg(long)]
    read_only: bool,
    /// The devices to show at first, such as 'status=offline and type=raspberrypi'
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    filter: Option<String>,
    /// Whether to use colours
    #[arg(long, alias = "colour", value_enum, default_value_t, value_name = "WHEN")]
    color: ColourChoice,
    /// The colours
    #[arg(long, value_enum, default_value_t, value_name = "NAME")]
    theme: ThemeName,
    /// Nothing but ASCII
    #[arg(long)]
    ascii: bool,
    /// What curves are drawn with
    #[arg(long, value_enum, value_name = "SIGNS")]
    graphs: Option<GraphLevel>,
    /// How often the screen is brought up to date at most, such as 1s; as fast as is useful unless
    /// given
    #[arg(long, value_parser = refresh, value_name = "DURATION")]
    refresh: Option<Duration>,
}

/// What `fleet-tui` was called for.
#[derive(Debug)]
pub enum Invocation {
    /// To configure devices and end.
    Auto(Auto),
    /// To be looked at.
    Console(ConsoleOptions),
}

/// `--auto`.
#[derive(Debug)]
pub struct Auto {
    server: ServerChoice,
    found: FoundArgs,
    level: LogLevel,
}

impl Auto {
    /// Configures devices, exactly as `fleets configure --auto` does.
    pub fn run(self) -> ExitCode {
        logging::start(self.level);
        configure::run_auto(self.server, self.found)
    }
}

/// What the console was called with.
#[derive(Debug)]
pub struct ConsoleOptions {
    /// Which server, with which key.
    pub server: ServerChoice,
    /// Where to look for devices.
    pub interfaces: Interfaces,
    /// Whether nothing is changed, also if the context would allow it.
    pub is_read_only: bool,
    /// The filter to begin with; it has been read once and is one.
    pub filter: String,
    /// What is known of the terminal before it is asked.
    pub caps: CapsOptions,
    /// The colours.
    pub theme: ThemeName,
    /// How often the screen is brought up to date at most; nothing where the console decides.
    pub refresh: Option<Duration>,
    /// How much to log into [`log_path`].
    pub log_level: LogLevel,
}

/// Reads a command line, as this process was given one. What cannot be obeyed is told, and ends the
/// process.
pub fn parse(call: Vec<OsString>) -> Invocation {
    let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    match parse_from(call, has_terminal) {
        Ok(invocation) => invocation,
        Err(error) => error.exit(),
    }
}

/// Where the console logs, since its terminal is taken: a file of the user's state folder.
pub fn log_path(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&set("HOME")?).join(".local/state")))
        .filter(|path| path.is_absolute())?;
    Some(state.join("fleetd/console/console.log"))
}

fn parse_from(
    call: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    has_terminal: bool,
) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(call)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let level = |usual| if cli.debug { LogLevel::DEBUG } else { cli.log_level.unwrap_or(usual) };
    if cli.auto {
        if let Some(argument) = CONSOLE_ONLY.iter().find(|name| is_given(&matches, name)) {
            let flag = argument.replace('_', "-");
            let message = format!("--{flag} is for the console, not for --auto");
            return Err(command().error(ErrorKind::ArgumentConflict, message));
        }
        let level = level(LogLevel::WARN);
        return Ok(Invocation::Auto(Auto { server: cli.server, found: cli.found, level }));
    }
    if let Some(argument) = AUTO_ONLY.iter().find(|name| is_given(&matches, name)) {
        let flag = argument.replace('_', "-");
        let message = format!("--{flag} goes with --auto only");
        return Err(command().error(ErrorKind::ArgumentConflict, message));
    }
    if !has_terminal {
        let message = "the console needs a terminal; without one use --auto, or `fleets`\n";
        return Err(clap::Error::raw(ErrorKind::Io, message));
    }
    let log_level = level(LogLevel::INFO);
    let ConsoleArgs { read_only, filter, color, theme, ascii, graphs, refresh } = cli.console;
    Ok(Invocation::Console(ConsoleOptions {
        server: cli.server,
        interfaces: cli.found.interfaces,
        is_read_only: read_only,
        filter: filter.unwrap_or_default(),
        caps: CapsOptions { ascii, colour: color, graphs },
        theme,
        refresh,
        log_level,
    }))
}

/// The whole command line, also for its manual and completions.
pub fn command() -> Command {
    Cli::command().mut_arg("device", |device| device.help("Only these devices"))
}

fn is_given(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(ValueSource::CommandLine)
}

/// A filter as the console reads it, checked before the screen is taken over.
fn filter(text: &str) -> Result<String, String> {
    Filter::parse(text, Words::Fuzzy).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn refresh(text: &str) -> Result<Duration, String> {
    let refresh = args::time_limit(text)?;
    if refresh < REFRESH_MIN { Err("must be 100ms or longer".to_owned()) } else { Ok(refresh) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call: &str, has_terminal: bool) -> Result<Invocation, clap::Error> {
        parse_from(call.split(' '), has_terminal)
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn calls_of_the_documentation_are_understood() {
        for auto in [
            "fleet-tui --auto --api-key KEY --server http://your-server:8080",
            "fleet-tui --server http://your-server:8080 --auto --timeout 10s --device a,b --json",
            "fleet-tui --auto --dry-run -o csv --no-headers --interface lo --debug",
        ] {
            assert!(matches!(call(auto, false), Ok(Invocation::Auto(_))), "{auto}");
        }
        for console in [
            "fleet-tui",
            "fleet-tui --context prod --read-only --color never --ascii --theme mono",
            "fleet-tui --refresh 1s --filter status=offline --debug --interface eth0",
        ] {
            assert!(matches!(call(console, true), Ok(Invocation::Console(_))), "{console}");
        }
    }

    #[test]
    fn options_reach_the_console() {
        let call = call("fleet-tui --read-only --filter pump --ascii --refresh 2s", true);
        let Ok(Invocation::Console(options)) = call else { panic!("{call:?}") };
        assert!(options.is_read_only && options.caps.ascii);
        assert_eq!(options.filter, "pump");
        assert_eq!(options.refresh, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_cannot_be_obeyed_is_a_wrong_call() {
        for (text, has_terminal, told) in [
            ("fleet-tui", false, "the console needs a terminal; without one use --auto"),
            ("fleet-tui --dry-run", true, "--dry-run goes with --auto only"),
            ("fleet-tui --device a", true, "--device goes with --auto only"),
            ("fleet-tui --json", true, "--json goes with --auto only"),
            ("fleet-tui --auto --read-only", true, "--read-only is for the console"),
            ("fleet-tui --auto --filter type=x86", true, "--filter is for the console"),
            ("fleet-tui --filter cpu>", true, "column 4"),
            ("fleet-tui --refresh 1ms", true, "must be 100ms or longer"),
            ("fleet-tui --theme pink", true, "high-contrast"),
        ] {
            let error = call(text, has_terminal).map(|_| ()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{text}");
            assert!(error.to_string().contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn the_log_lies_in_the_users_state_folder() {
        let path = |name: &'static str, value: &'static str| {
            log_path(&move |asked| (asked == name).then(|| value.into()))
        };
        let expected = Path::new("/home/a/.local/state/fleetd/console/console.log");
        assert_eq!(path("HOME", "/home/a").as_deref(), Some(expected));
        let expected = Path::new("/state/fleetd/console/console.log");
        assert_eq!(path("XDG_STATE_HOME", "/state").as_deref(), Some(expected));
        assert_eq!(path("XDG_STATE_HOME", "relative"), None);
        assert_eq!(path("OTHER", "/x"), None);
    }
}
