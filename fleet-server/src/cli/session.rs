//! What the commands that speak to a server have in common: which server, with which key, for how
//! long, and how such a command runs and ends.

use std::ffi::OsString;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use fleet_core::mdns;
use fleet_core::net::url::{ServerUrl, ServerUrlError};
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;
use fleet_core::operator::keyfile::{self, KeyOrigin};
use fleet_core::time::{DURATION_MAX, DurationError, parse_duration};

use nix::net::if_::if_nametoindex;

use super::failure::Failure;
use super::listed::Format;
use super::output::Output;

/// Which server, and how.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerChoice {
    /// The server
    #[arg(
        long,
        global = true,
        env = "FLEETD_SERVER",
        default_value = "http://localhost:8080",
        value_parser = server_url,
        value_name = "URL"
    )]
    pub(super) server: ServerUrl,
    /// The key to it: @FILE, - for standard input, or the key itself; else FLEETD_API_KEY,
    /// FLEETD_API_KEY_FILE, or the admin.key of a server on this machine
    #[arg(long, global = true, value_name = "@FILE|-|KEY")]
    api_key: Option<String>,
}

impl ServerChoice {
    /// The client for the chosen server with the key that was given or found.
    pub(super) fn client(&self, output: &mut Output<'_>) -> Result<Client, Failure> {
        let environment = |name: &str| -> Option<OsString> { std::env::var_os(name) };
        let found = keyfile::find(self.api_key.as_deref(), &environment, &mut io::stdin().lock())?;
        if found.origin == KeyOrigin::Argument && output.terminal.stderr {
            output.note(
                "warning: every user of this machine can see a key on a command line; \
                 --api-key @FILE hides it",
            )?;
        }
        tracing::debug!(origin = %found.origin, key = ?found.key, "using a key");
        Ok(Client::new(self.server.clone(), found.key)?)
    }
}

/// How long a command may take.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct TimeLimit {
    /// How long the whole command may take, such as 30s
    #[arg(long, global = true, value_parser = time_limit, value_name = "DURATION")]
    timeout: Option<Duration>,
}

/// Where to look for devices.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Interfaces {
    /// Look on this network interface only; may be given several times
    #[arg(long, env = "FLEETD_INTERFACE", value_delimiter = ',', value_name = "NAME")]
    interface: Vec<String>,
}

impl Interfaces {
    /// Where to look; a name that no interface has is told.
    pub(super) fn options(self, output: &mut Output<'_>) -> io::Result<mdns::Options> {
        for name in missing_interfaces(&self.interface) {
            output.note(&format!("warning: there is no network interface {name} here"))?;
        }
        Ok(mdns::Options { interfaces: self.interface, address: None })
    }
}

/// Those names that no interface of this machine has now.
pub(super) fn missing_interfaces(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).filter(|name| if_nametoindex(*name).is_err())
}

/// Runs a command to its end, to its time limit, or until a person stops it.
pub(super) fn run(
    format: Format,
    limit: Option<TimeLimit>,
    command: impl AsyncFnOnce(&mut Output<'_>) -> Result<Exit, Failure>,
) -> ExitCode {
    let mut output = Output::of_process(format);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(&mut output, Err(Failure::new(Exit::Failed, error.to_string())));
        }
    };
    let limit = limit.and_then(|limit| limit.timeout);
    let result = runtime.block_on(async {
        let command = pin!(command(&mut output));
        tokio::select! {
            result = command => result,
            failure = stopped() => Err(failure),
            failure = out_of_time(limit) => Err(failure),
        }
    });
    // A thread that still waits for a line of input is left behind.
    runtime.shutdown_background();
    let result = match result {
        Err(failure) if output.is_asking() && failure.exit() == Exit::Interrupted => {
            Err(Failure::interrupted_at_question())
        }
        result => result,
    };
    end(&mut output, result)
}

fn end(output: &mut Output<'_>, result: Result<Exit, Failure>) -> ExitCode {
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => match output.fail(&failure) {
            Ok(()) => failure.exit(),
            // Without a reader on stderr the exit code has to say it alone.
            Err(_) => failure.exit(),
        },
    };
    exit.into()
}

async fn stopped() -> Failure {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Failure::interrupted(),
        Err(error) => Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")),
    }
}

async fn out_of_time(limit: Option<Duration>) -> Failure {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            Failure::timed_out(limit)
        }
        None => std::future::pending().await,
    }
}

/// A server's URL, or only its host and port.
fn server_url(text: &str) -> Result<ServerUrl, ServerUrlError> {
    if text.contains("://") { text.parse() } else { format!("http://{text}").parse() }
}

/// How long something may take: not no time at all.
pub(super) fn time_limit(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
}

/// A duration on the command line: `30s`, `5m`, and for long ones also `30d` or `2w`.
pub(super) fn duration(text: &str) -> Result<Duration, DurationError> {
    let days = |text: &str, each: u64| {
        let count: u64 = text.parse().map_err(|_| DurationError)?;
        Ok(Duration::from_secs(count.checked_mul(each * 86_400).ok_or(DurationError)?))
    };
    let duration = match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(count), _) => days(count, 1),
        (_, Some(count)) => days(count, 7),
        _ => parse_duration(text),
    }?;
    if duration <= DURATION_MAX { Ok(duration) } else { Err(DurationError) }
}

/// `key=value`, `key:=JSON`, or `key-` to take it away.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    pub(super) key: String,
    /// Nothing where the key is to go.
    pub(super) value: Option<serde_json::Value>,
}

impl std::str::FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => match key.strip_suffix(':') {
                Some(key) => {
                    let no_json = |_| {
                        format!(
                            "not JSON: {value:?} after {key}:= should be a number, true, false, \
                             null, [...], {{...}} or \"text\"; plain text goes after {key}="
                        )
                    };
                    (key, Some(serde_json::from_str(value).map_err(no_json)?))
                }
                None => (key, Some(value.into())),
            },
            None => (text.strip_suffix('-').ok_or("must be key=value, key:=JSON or key-")?, None),
        };
        if key.is_empty() {
            return Err("has no key before its value".to_owned());
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::output::Terminal;
    use crate::cli::output::tests::written;

    #[test]
    fn durations_of_days_are_understood() {
        for (text, secs) in [("30s", 30), ("30d", 2_592_000), ("2w", 1_209_600), ("5", 5)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in ["d", "-1d", "1.5d", "99999999999999999999d", "9999999999999999d", "6000w", ""] {
            assert_eq!(duration(bad), Err(DurationError), "{bad}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_told_once() {
        let (mut output, _, err) = written(Format::Table, Terminal::default());
        let interface = vec!["lo".to_owned(), "nope0".to_owned()];
        let options = Interfaces { interface }.options(&mut output).unwrap();
        assert_eq!(options.interfaces, ["lo", "nope0"], "it may still come");
        assert_eq!(err.text(), "warning: there is no network interface nope0 here\n");
    }

    #[test]
    fn no_time_at_all_is_no_limit() {
        assert_eq!(time_limit("30s"), Ok(Duration::from_secs(30)));
        assert!(time_limit("0").is_err() && time_limit("0s").is_err());
    }

    #[test]
    fn a_server_may_be_named_without_a_scheme() {
        for (text, shown) in [
            ("10.77.0.1:8080", "http://10.77.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("https://fleet.example", "https://fleet.example"),
        ] {
            assert_eq!(server_url(text).unwrap().to_string(), shown);
        }
        assert!(server_url("ftp://a").is_err());
    }

    #[test]
    fn assignments_are_text_json_or_removal() {
        for (text, key, value) in [
            ("site=Lab A", "site", Some(json!("Lab A"))),
            ("floor:=3", "floor", Some(json!(3))),
            ("a=b=c", "a", Some(json!("b=c"))),
            ("empty=", "empty", Some(json!(""))),
            ("site-", "site", None),
        ] {
            let expected = Assignment { key: key.to_owned(), value };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["", "=x", ":=1", "-", "site", "a:=nonsense"] {
            assert!(bad.parse::<Assignment>().is_err(), "{bad}");
        }
        let told = "a:=nonsense".parse::<Assignment>().unwrap_err();
        assert!(told.starts_with("not JSON: \"nonsense\""), "{told}");
        assert!(!told.contains("column"), "{told}");
    }
}
