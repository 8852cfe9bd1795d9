//! `fleets command`: having devices do something, and what became of it.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use fleet_core::api::{CommandState, CommandView};
use fleet_core::cli::args;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{self, FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::command::Command;
use fleet_core::glyph::Tone;
use fleet_core::id::{Uid, UidName};
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::commands::CommandQuery;
use fleet_core::operator::exit::Exit;
use serde::Serialize;
use tokio::time::Instant;

use super::command_run::{self, RunArgs};
use super::named;

/// Commands unless told otherwise.
const COUNT_USUAL: NonZeroUsize = NonZeroUsize::new(100).expect("a hundred is not nothing");
/// The longest that one request waits. The server waits no longer than a minute.
const WAIT_MAX: Duration = Duration::from_secs(50);
/// The shortest, since the server counts in seconds.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// What to do about which command.
#[derive(Debug, clap::Args)]
pub(super) struct CommandArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have a device do something, and wait for what becomes of it
    Run(RunArgs),
    /// List commands, newest first
    List(ListArgs),
    /// Show one command, and what its program wrote
    Show {
        /// Its id, or the last characters of that, as lists have them
        id: UidName,
        #[command(flatten)]
        limit: TimeLimit,
    },
    /// Take a command back, unless the device has begun
    Cancel {
        /// Its id, or the last characters of that, as lists have them
        id: UidName,
        /// How long to wait for the device's word, if the command is on its way already
        #[arg(long, default_value = "10s", value_parser = args::duration, value_name = "DURATION")]
        wait: Duration,
        #[command(flatten)]
        limit: TimeLimit,
    },
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only of this device, by id or uid
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only in these states; open is every state that is not over
    #[arg(long, value_delimiter = ',', value_parser = state, value_name = "STATE,…")]
    state: Vec<String>,
    /// The columns of the table or csv, such as state,id,why
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = listed::column::<Shown>,
        value_name = "COLUMN,…"
    )]
    columns: Vec<usize>,
    /// Commands at most
    #[arg(long = "limit", default_value_t = COUNT_USUAL, value_name = "N")]
    count_max: NonZeroUsize,
    #[command(flatten)]
    limit: TimeLimit,
}

/// Runs the command.
pub(super) fn run(args: CommandArgs) -> ExitCode {
    let limit = match &args.action {
        // It says itself how long it waits; its time-out is the device's.
        Action::Run(_) => None,
        Action::List(list) => Some(list.limit),
        Action::Show { limit, .. } | Action::Cancel { limit, .. } => Some(*limit),
    };
    session::run(args.format, limit, async |output| command(args, output).await)
}

async fn command(args: CommandArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let CommandArgs { action, server, .. } = args;
    match action {
        Action::Run(args) => {
            let wish = args.read()?;
            command_run::run(&args, wish, &server.client(output)?, output).await
        }
        Action::List(args) => {
            let client = server.client(output)?;
            let found = select(&client, args.query(), args.count_max.get()).await?;
            let commands: Vec<_> = found.into_iter().map(Shown).collect();
            output.list_under(&args.columns, &commands)?;
            if commands.is_empty() {
                return Err(Failure::new(Exit::NothingFound, "no such commands"));
            }
            Ok(Exit::Done)
        }
        Action::Show { id, .. } => {
            let client = server.client(output)?;
            let id = named::command(id, &client).await?;
            show(client.command_get(id).await?, output)
        }
        Action::Cancel { id, wait, .. } => {
            let client = server.client(output)?;
            let id = named::command(id, &client).await?;
            cancel(id, wait, &client, output).await
        }
    }
}

impl ListArgs {
    fn query(&self) -> CommandQuery {
        CommandQuery {
            device_id: self.device.clone(),
            state: (!self.state.is_empty()).then(|| self.state.join(",")),
            ..CommandQuery::default()
        }
    }
}

/// Asks page by page until there are enough, or no more.
async fn select(
    client: &Client,
    mut query: CommandQuery,
    count_max: usize,
) -> Result<Vec<CommandView>, ClientError> {
    let mut commands: Vec<CommandView> = Vec::new();
    while commands.len() < count_max {
        let page = PAGE_ROWS_MAX.min(count_max - commands.len());
        query.limit = Some(page);
        query.before = commands.last().map(|command| command.id);
        let found = client.command_list(&query).await?;
        let is_last = found.len() < page;
        commands.extend(found);
        if is_last {
            break;
        }
    }
    Ok(commands)
}

fn show(view: CommandView, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let shown = Shown(view);
    output.one(&shown)?;
    let Shown(view) = shown;
    if let Some(text) = view.output.filter(|_| output.format.is_table()) {
        output.text(text.raw())?;
        tell_left_out(view.output_left_out, output)?;
    }
    Ok(Exit::Done)
}

/// Tells that not all was kept.
pub(super) fn tell_left_out(bytes: u64, output: &mut Output<'_>) -> Result<(), Failure> {
    if bytes > 0 {
        output.note(&format!("of what its program wrote {bytes} more bytes were not kept"))?;
    }
    Ok(())
}

/// Takes a command back, and waits for the device's word where that decides.
async fn cancel(
    id: Uid,
    wait: Duration,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let deadline = Instant::now() + wait;
    let mut view = client.command_cancel(id).await?;
    while view.state == CommandState::Sent
        && let Some(wait) = left(Some(deadline))
    {
        view = client.command_wait(id, view.state, wait).await?;
    }
    let (device, words) = (view.device_id.clone(), words(&view));
    let exit = match view.state {
        CommandState::Cancelled => Exit::Done,
        CommandState::Sent => Exit::NotDone,
        _ => {
            let late = format!("it is too late: {}: {}", view.state.word(), view.why);
            return Err(Failure::new(Exit::Conflict, late));
        }
    };
    if output.format.is_table() {
        output.line(&match exit {
            Exit::Done => format!("cancelled {id}: {words} on {device}"),
            _ => format!("⏳ {words} is to be taken back, and {device} has not answered yet"),
        })?;
    } else {
        output.one(&Shown(view))?;
    }
    Ok(exit)
}

/// How long the next request may wait; nothing once the time is up.
pub(super) fn left(deadline: Option<Instant>) -> Option<Duration> {
    let Some(deadline) = deadline else { return Some(WAIT_MAX) };
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left.clamp(WAIT_MIN, WAIT_MAX))
}

/// A command in words, safe to show.
pub(super) fn words(view: &CommandView) -> String {
    let args: Vec<String> = view.args.iter().map(|arg| arg.raw().to_owned()).collect();
    match Command::read(view.command.raw(), &args) {
        Ok(command) => command.to_string(),
        // What only a later release knows.
        Err(_) => view.command.to_string(),
    }
}

fn state(text: &str) -> Result<String, String> {
    if text != "open" && CommandState::from_word(text).is_none() {
        let known: Vec<_> = CommandState::ALL.iter().map(CommandState::word).collect();
        return Err(format!("must be open, or one of {}", known.join(", ")));
    }
    Ok(text.to_owned())
}

/// A command in a list, or alone.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) CommandView);

impl Listed for Shown {
    const COLUMNS: &'static [Column] = &[
        Column::new("STATE", 9),
        Column::new("DEVICE ID", 20),
        Column::new("COMMAND", 20),
        Column::new("ID", 36),
        Column::spare("WHY", 40, 1),
        Column::spare("STATE AT", 20, 2),
        Column::spare("EXIT CODE", 9, 3).of_numbers(),
        Column::spare("AUTHOR", 20, 5),
        Column::spare("CREATED AT", 20, 4),
        Column::spare("EXPIRES AT", 20, 6),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(view) = self;
        vec![
            Cell::new(view.state.word()).toned(tone(view.state)),
            Cell::new(&view.device_id),
            Cell::new(words(view)),
            reader.uid(view.id),
            Cell::new(&view.why),
            reader.moment(view.state_at),
            Cell::maybe(view.exit_code),
            Cell::new(&view.author),
            reader.moment(view.created_at),
            reader.moment(view.expires_at),
        ]
    }

    fn name(&self) -> String {
        self.0.id.to_string()
    }
}

fn tone(state: CommandState) -> Tone {
    match state {
        CommandState::Succeeded => Tone::Good,
        CommandState::Failed | CommandState::Unknown => Tone::Bad,
        CommandState::Expired => Tone::Warn,
        CommandState::Queued
        | CommandState::Sent
        | CommandState::Accepted
        | CommandState::Running
        | CommandState::Cancelled
        | CommandState::Later(_) => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, ValueEnum as _};
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};

    use super::super::command_run::testing::view;
    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: ListArgs,
    }

    #[test]
    fn states_are_words_or_all_that_are_open() {
        let query = |states: &str| {
            let call = Call::try_parse_from(["list", "--state", states])?;
            Ok::<_, clap::Error>(call.args.query().state)
        };
        assert_eq!(query("open,failed").unwrap().as_deref(), Some("open,failed"));
        let refusal = query("begun").unwrap_err().to_string();
        assert!(refusal.contains("must be open, or one of queued, sent"), "{refusal}");
        assert_eq!(Call::parse_from(["list"]).args.query().state, None);
    }

    #[test]
    fn a_terminal_shows_the_end_of_an_id_and_details_show_all_of_it() {
        let terminal = Terminal { stdout: true, columns: Some(80), ..Terminal::default() };
        let whole = view(CommandState::Failed, "").id.to_string();
        for (format, is_whole) in [(Format::Table, false), (Format::Wide, true)] {
            let (mut output, out, _) = written(format, terminal);
            output.list(&[Shown(view(CommandState::Failed, ""))]).unwrap();
            let text = out.text();
            assert_eq!(text.contains(&whole), is_whole, "{text}");
            assert!(text.contains("07070707"), "{text}");
            assert!(is_whole || text.lines().all(|line| line.len() <= 80), "{text}");
        }
        let (mut output, out, _) = written(Format::Table, terminal);
        show(view(CommandState::Failed, ""), &mut output).unwrap();
        assert!(out.text().contains(&whole), "{}", out.text());
    }

    #[test]
    fn hostile_commands_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, err) = written(*format, terminal);
            for text in HOSTILE {
                let mut view = view(CommandState::Failed, text);
                view.why = (*text).into();
                view.author = (*text).into();
                view.args = vec![(*text).into()];
                output.list(&[Shown(view.clone())]).unwrap();
                view.command = (*text).into();
                show(view, &mut output).unwrap();
            }
            assert_harmless(&out.text());
            assert_harmless(&err.text());
        }
    }
}
