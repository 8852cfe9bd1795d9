//! `fleets command run`: one command to one device.
//!
//! What its program wrote goes to stdout, how it went to stderr. Whoever stops waiting is told how to
//! find the command again: it goes on.

use std::time::Duration;

use fleet_core::api::{CommandRequest, CommandState, CommandView};
use fleet_core::cli::args;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;
use tokio::time::Instant;

use super::command::{Shown, left, tell_left_out, words};

/// How long a command that somebody waits for may wait for its device, unless told otherwise.
const EXPIRES_WAITED_FOR: Duration = Duration::from_secs(600);
/// How long a device that is connected takes to be told.
const CONNECTED: Duration = Duration::from_secs(2);

/// What to do where.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The device, by id or uid
    device: String,
    /// restart, reboot, collect, logs, rotate-key or exec
    command: String,
    /// restart: the service, or the agent itself if none is named; exec: the program with its
    /// arguments, after --
    #[arg(value_name = "ARGUMENT")]
    args: Vec<String>,
    /// logs: of this unit, instead of the agent's own
    #[arg(long, short = 'u')]
    unit: Option<String>,
    /// logs: how many lines
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<u32>,
    /// How long it may wait for the device; 10m unless given, and 24h with --no-wait
    #[arg(long, value_parser = args::time_limit, value_name = "DURATION")]
    expires: Option<Duration>,
    /// How long it may run on the device; 60s unless given
    #[arg(long, value_parser = args::time_limit, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// How long to wait for what becomes of it; until it is over unless given
    #[arg(long, value_parser = args::time_limit, value_name = "DURATION")]
    wait: Option<Duration>,
    /// Do not wait for what becomes of it
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Do not ask before the device, or a part of it, is interrupted
    #[arg(long, short = 'y')]
    yes: bool,
}

impl RunArgs {
    /// The command that is meant.
    pub(super) fn read(&self) -> Result<Command, Failure> {
        let mut args = self.args.clone();
        if self.command == "logs" {
            args.extend(self.unit.iter().flat_map(|unit| ["-u".to_owned(), unit.clone()]));
            args.extend(self.lines.iter().flat_map(|lines| ["-n".to_owned(), lines.to_string()]));
        } else if self.unit.is_some() || self.lines.is_some() {
            return Err(Failure::usage("--unit and --lines go with logs"));
        }
        Command::read(&self.command, &args).map_err(|error| Failure::usage(error.to_string()))
    }

    fn request(&self, id: Uid, command: &Command) -> CommandRequest {
        let text = |duration: Duration| format!("{}ms", duration.as_millis());
        let expires = self.expires.or_else(|| (!self.no_wait).then_some(EXPIRES_WAITED_FOR));
        CommandRequest {
            id: Some(id),
            device_id: self.device.clone(),
            command: command.word().to_owned(),
            args: Some(command.args()),
            expires_in: expires.map(text),
            timeout: self.timeout.map(text),
        }
    }
}

/// Has the device do it.
pub(super) async fn run(
    args: &RunArgs,
    command: Command,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    if command.is_interruption() && !args.yes {
        confirm(&args.device, &command, client, output).await?;
    }
    // Its number is known before anybody is asked, so whatever happens, it can be found again.
    let id = Uid::new();
    output.set_going_on(format!("`fleets command show {id}` says whether it was given"));
    let request = args.request(id, &command);
    let view = client.command_create(&request).await.map_err(|error| unsure(error, output))?;
    output.set_going_on(format!("the command goes on: `fleets command show {id}`"));
    if args.no_wait {
        let (device, words) = (&view.device_id, words(&view));
        if output.format.is_table() {
            output.line(&format!("⏳ {device}: {words} is given as {id}"))?;
        } else {
            output.one(&Shown(view))?;
        }
        return Ok(Exit::Done);
    }
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let view = watch(view, deadline, client, output).await?;
    if !view.state.is_over() {
        let (device, words, state) = (&view.device_id, words(&view), view.state.word());
        let text = format!("{device}: {words} is not over yet: {state}: {}", view.why);
        return Err(Failure::new(Exit::TimedOut, text));
    }
    tell(view, output)
}

/// Asks for the device's id before it is interrupted.
async fn confirm(
    name: &str,
    command: &Command,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    if !output.terminal.can_ask() {
        let text = format!("there is no terminal to ask on whether to interrupt {name}");
        return Err(Failure::usage(text).hint("give --yes if you mean it"));
    }
    client.may_change()?;
    let device = client.device_get(name).await?;
    let (id, status) = (device.id.to_string(), device.status.word().to_owned());
    output.note(&format!("{command} interrupts {id}, which is {status}."))?;
    if prompt::confirm_word("Type its id to go on:", &id, output).await? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Interrupted, "nothing was sent"))
    }
}

/// Waits until it is over, or the time is up; what was seen last.
async fn watch(
    mut view: CommandView,
    deadline: Option<Instant>,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<CommandView, Failure> {
    let mut is_told = false;
    while !view.state.is_over()
        && let Some(wait) = left(deadline)
    {
        let is_first = view.state == CommandState::Queued && !is_told;
        let wait = if is_first { wait.min(CONNECTED) } else { wait };
        let next = client.command_wait(view.id, view.state, wait).await;
        view = next.map_err(|error| unsure(error, output))?;
        if view.state == CommandState::Queued && !is_told {
            is_told = true;
            let (device, until) = (&view.device_id, view.expires_at);
            output.note(&format!("{device} is not connected; this waits for it until {until}"))?;
        } else {
            output.progress(&format!("{}: {}", view.state.word(), view.why))?;
        }
    }
    Ok(view)
}

/// An error that leaves open what becomes of what was asked for.
pub(super) fn unsure(error: ClientError, output: &Output<'_>) -> Failure {
    let is_refused = matches!(error, ClientError::Refused { .. } | ClientError::Key { .. });
    let failure = Failure::from(error);
    match output.going_on() {
        Some(hint) if !is_refused => failure.hint(hint),
        Some(_) | None => failure,
    }
}

/// Tells what became of it.
fn tell(view: CommandView, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let is_done = view.state == CommandState::Succeeded;
    if output.format.is_table() {
        if let Some(text) = &view.output {
            output.text(text.raw())?;
        }
        tell_left_out(view.output_left_out, output)?;
        let mark = if is_done { "✅" } else { "✗" };
        let (device, words, state) = (&view.device_id, words(&view), view.state.word());
        output.note(&format!("{mark} {device}: {words} {state}: {}", view.why))?;
    } else {
        output.one(&Shown(view))?;
    }
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}

#[cfg(test)]
pub(super) mod testing {
    //! A command to show.

    use fleet_core::api::{CommandState, CommandView};
    use fleet_core::id::Uid;
    use fleet_core::time::Timestamp;

    pub(in super::super) fn view(state: CommandState, output: &str) -> CommandView {
        let at = Timestamp::from_millis(1_705_314_600_000);
        CommandView {
            id: Uid::from_bytes([7; 16]),
            device_id: "rpi4-001".parse().unwrap(),
            uid: Uid::from_bytes([8; 16]),
            command: "exec".into(),
            args: vec!["echo".into(), "a b".into()],
            state,
            why: "because".into(),
            state_at: at,
            author: "operator:ada".into(),
            created_at: at,
            expires_at: at,
            exit_code: Some(0),
            output: Some(output.into()),
            output_left_out: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::written;

    use super::testing::view;
    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: RunArgs,
    }

    fn read(words: &[&str]) -> Result<(String, CommandRequest), String> {
        let call = Call::try_parse_from([&["run"], words].concat());
        let args = call.map_err(|error| error.to_string())?.args;
        let command = args.read().map_err(|failure| failure.message().to_owned())?;
        let request = args.request(Uid::from_bytes([7; 16]), &command);
        Ok((command.to_string(), request))
    }

    #[test]
    fn words_after_the_device_are_the_command() {
        for (words, command) in [
            (&["a", "restart"][..], "restart"),
            (&["a", "restart", "nginx", "--yes"], "restart nginx.service"),
            (&["a", "logs", "-u", "nginx", "-n", "5"], "logs -u nginx.service -n 5"),
            (&["-y", "a", "exec", "--", "ls", "-l", "--yes", "a b"], "exec ls -l --yes \"a b\""),
            (&["a", "exec", "uptime", "--timeout", "5s"], "exec uptime"),
        ] {
            assert_eq!(read(words).unwrap().0, command, "{words:?}");
        }
        for (words, told) in [
            (&["a"][..], "required"),
            (&["a", "reboot", "now"], "the form is: reboot"),
            (&["a", "restrat"], "did you mean restart?"),
            (&["a", "restart", "-n", "5"], "go with logs"),
            (&["a", "exec", "ls", "-l"], "unexpected argument '-l'"),
            (&["a", "restart", "--wait", "1s", "--no-wait"], "cannot be used with"),
            (&["a", "restart", "--timeout", "0"], "longer than nothing"),
        ] {
            let refusal = read(words).unwrap_err();
            assert!(refusal.contains(told), "{words:?}: {refusal}");
        }
    }

    #[test]
    fn what_somebody_waits_for_expires_soon() {
        let expires = |words: &[&str]| read(words).unwrap().1.expires_in;
        assert_eq!(expires(&["a", "restart"]).as_deref(), Some("600000ms"));
        assert_eq!(expires(&["a", "restart", "--no-wait"]), None);
        assert_eq!(expires(&["a", "restart", "--expires", "1h"]).as_deref(), Some("3600000ms"));
    }

    #[test]
    fn only_success_is_done_and_output_goes_to_stdout() {
        for state in CommandState::ALL.into_iter().filter(|state| state.is_over()) {
            let (mut output, out, err) = written(Format::Table, Terminal::default());
            let exit = tell(view(state, "a\tb\n"), &mut output).unwrap();
            assert_eq!(exit == Exit::Done, state == CommandState::Succeeded);
            assert_eq!(exit.code(), u8::from(state != CommandState::Succeeded));
            assert_eq!(out.text(), "a\tb\n");
            let words = format!("rpi4-001: exec echo \"a b\" {}: because\n", state.word());
            assert!(err.text().ends_with(&words), "{}", err.text());
        }
        let (mut output, out, err) = written(Format::Json, Terminal::default());
        tell(view(CommandState::Failed, "x"), &mut output).unwrap();
        assert!(out.text().contains("\"state\": \"failed\""), "{}", out.text());
        assert_eq!(err.text(), "");
    }
}
