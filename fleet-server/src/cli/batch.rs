//! `fleets batch`: batches that were begun, and what becomes of them.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::api::{BatchMember, BatchState, BatchView, MemberState};
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{self, Format, FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::command::Command;
use fleet_core::glyph::Tone;
use fleet_core::id::{Uid, UidName};
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::operator::batches::MemberQuery;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;
use fleet_core::untrusted::Untrusted;
use serde::Serialize;

use super::batch_retry::{self, RetryArgs};
use super::named;

/// Batches unless told otherwise.
const COUNT_USUAL: NonZeroUsize = NonZeroUsize::new(100).expect("a hundred is not nothing");

/// What to do about which batch.
#[derive(Debug, clap::Args)]
pub(super) struct BatchArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List batches, newest first
    List {
        /// The columns of the table or csv, such as state,id,why
        #[arg(
            long,
            value_delimiter = ',',
            value_parser = listed::column::<Shown>,
            value_name = "COLUMN,…"
        )]
        columns: Vec<usize>,
        /// Batches at most
        #[arg(long = "limit", default_value_t = COUNT_USUAL, value_name = "N")]
        count_max: NonZeroUsize,
        #[command(flatten)]
        limit: TimeLimit,
    },
    /// Show a batch and how far its devices have come
    Show {
        /// Its id, or the last characters of that, as lists have them
        id: UidName,
        /// Only devices that failed, or of which it is not known
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        limit: TimeLimit,
    },
    /// Have no further device begin
    Pause(One),
    /// Have a paused batch go on; what has failed so far counts no more
    Continue(One),
    /// Call off what has not begun; devices that are at it go on
    Cancel(One),
    /// Do the same again to the devices that failed, as a batch of its own
    Retry(RetryArgs),
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its id, or the last characters of that, as lists have them
    id: UidName,
    #[command(flatten)]
    limit: TimeLimit,
}

/// Runs the command.
pub(super) fn run(args: BatchArgs) -> ExitCode {
    let limit = match &args.action {
        Action::List { limit, .. } | Action::Show { limit, .. } => Some(*limit),
        Action::Pause(one) | Action::Continue(one) | Action::Cancel(one) => Some(one.limit),
        Action::Retry(_) => None,
    };
    session::run(args.format, limit, async |output| batch(args, output).await)
}

async fn batch(args: BatchArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    match args.action {
        Action::List { columns, count_max, .. } => {
            list(&client, &columns, count_max.get(), output).await
        }
        Action::Show { id, failed, .. } => {
            let id = named::batch(id, &client).await?;
            let view = client.batch_get(id).await?;
            let states =
                if failed { vec![MemberState::Failed, MemberState::Unknown] } else { Vec::new() };
            let members = members(&client, id, states).await?;
            if output.format.is_table() {
                output.one(&Shown(view))?;
                output.list(&members)?;
            } else {
                tell_whole(view, members, output)?;
            }
            Ok(Exit::Done)
        }
        Action::Pause(one) => {
            let id = named::batch(one.id, &client).await?;
            told("paused", client.batch_pause(id).await?, output)
        }
        Action::Continue(one) => {
            let id = named::batch(one.id, &client).await?;
            told("goes on", client.batch_continue(id).await?, output)
        }
        Action::Cancel(one) => {
            let id = named::batch(one.id, &client).await?;
            called_off(client.batch_cancel(id).await?, output)
        }
        Action::Retry(args) => batch_retry::run(args, &client, output).await,
    }
}

async fn list(
    client: &Client,
    columns: &[usize],
    count_max: usize,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let mut batches: Vec<Shown> = Vec::new();
    while batches.len() < count_max {
        let page = PAGE_ROWS_MAX.min(count_max - batches.len());
        let before = batches.last().map(|batch| batch.0.id);
        let found = client.batch_list(before, Some(page)).await?;
        let is_last = found.len() < page;
        batches.extend(found.into_iter().map(Shown));
        if is_last {
            break;
        }
    }
    output.list_under(columns, &batches)?;
    if batches.is_empty() {
        return Err(Failure::new(Exit::NothingFound, "no batches"));
    }
    Ok(Exit::Done)
}

/// What was done about a batch.
pub(super) fn told(word: &str, view: BatchView, output: &mut Output<'_>) -> Result<Exit, Failure> {
    if output.format.is_table() {
        output.line(&format!("{} {word}: {}: {}", view.id, what(&view), counted(&view)))?;
    } else {
        output.one(&Shown(view))?;
    }
    Ok(Exit::Done)
}

/// That what had not begun was called off, and what that leaves.
fn called_off(view: BatchView, output: &mut Output<'_>) -> Result<Exit, Failure> {
    if !output.format.is_table() {
        return told("cancelled", view, output);
    }
    let running = view.counts.get(&MemberState::Running).copied().unwrap_or_default();
    let goes_on = match running {
        0 => String::new(),
        1 => "; 1 that has begun goes on".to_owned(),
        _ => format!("; {running} that have begun go on"),
    };
    let (id, what) = (view.id, what(&view));
    output.line(&format!("{id} cancelled: {what}: no further device begins{goes_on}"))?;
    Ok(Exit::Done)
}

/// All devices of a batch that are in some states.
pub(super) async fn members(
    client: &Client,
    id: Uid,
    states: Vec<MemberState>,
) -> Result<Vec<ShownMember>, ClientError> {
    let mut members: Vec<ShownMember> = Vec::new();
    let mut query = MemberQuery { states, after: None, limit: Some(PAGE_ROWS_MAX) };
    loop {
        let page = client.batch_members(id, &query).await?;
        let is_last = page.len() < PAGE_ROWS_MAX;
        members.extend(page.into_iter().map(ShownMember));
        if is_last {
            return Ok(members);
        }
        query.after = members.last().map(|member| member.0.device_id.clone());
    }
}

/// A batch with its devices, for programs; for people the devices alone.
pub(super) fn tell_whole(
    batch: BatchView,
    devices: Vec<ShownMember>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match output.format {
        Format::Json => output.one(&Whole { batch: Shown(batch), devices })?,
        _ => output.list(&devices)?,
    }
    Ok(())
}

/// What a batch does, in words that are safe to show.
pub(super) fn what(view: &BatchView) -> String {
    match (&view.command, &view.config) {
        (Some(word), _) => {
            let args: Vec<String> = view.args.iter().map(|arg| arg.raw().to_owned()).collect();
            match Command::read(word.raw(), &args) {
                Ok(command) => command.to_string(),
                // What only a later release knows.
                Err(_) => word.to_string(),
            }
        }
        (None, Some(patch)) => format!("configuration {}", Untrusted::new(patch.to_string())),
        (None, None) => String::new(),
    }
}

/// How many devices have come how far.
pub(super) fn counted(view: &BatchView) -> String {
    let counts: Vec<_> = view
        .counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| format!("{count} {}", state.word()))
        .collect();
    let devices = if view.total == 1 { "device" } else { "devices" };
    format!("of {} {devices} {}", view.total, counts.join(", "))
}

/// A batch in a list, or alone.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) BatchView);

impl Listed for Shown {
    const COLUMNS: &'static [Column] = &[
        Column::new("ID", 36),
        Column::new("STATE", 9),
        Column::new("WHAT", 20),
        Column::new("DEVICES", 7).of_numbers(),
        Column::new("HOW FAR", 30),
        Column::spare("WHY", 40, 1),
        Column::spare("CREATED AT", 20, 2),
        Column::spare("AUTHOR", 20, 3),
        Column::spare("REASON", 20, 4),
        Column::spare("FILTER", 20, 5),
        Column::spare("EXPIRES AT", 20, 6),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(view) = self;
        let counts: Vec<_> =
            view.counts.iter().map(|(state, count)| format!("{count} {}", state.word())).collect();
        let tone = match view.state {
            BatchState::Paused => Tone::Warn,
            _ if view.counts.keys().any(|state| state.is_failure()) => Tone::Bad,
            BatchState::Done => Tone::Good,
            BatchState::Running | BatchState::Cancelled | BatchState::Later(_) => Tone::Plain,
        };
        vec![
            reader.uid(view.id),
            Cell::new(view.state.word()).toned(tone),
            Cell::new(what(view)),
            Cell::new(view.total),
            Cell::new(counts.join(", ")),
            Cell::new(&view.why),
            reader.moment(view.created_at),
            Cell::new(&view.author),
            Cell::maybe(view.reason.as_ref()),
            Cell::maybe(view.filter.as_ref()),
            reader.moment(view.expires_at),
        ]
    }

    fn name(&self) -> String {
        self.0.id.to_string()
    }
}

/// A device of a batch.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct ShownMember(pub(super) BatchMember);

impl Listed for ShownMember {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICE ID", 20),
        Column::new("STATE", 9),
        Column::new("WHY", 40),
        Column::spare("STATE AT", 20, 1),
        Column::spare("COMMAND", 36, 2),
        Column::spare("CONFIG", 6, 3).of_numbers(),
        Column::spare("UID", 36, 4),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(member) = self;
        vec![
            Cell::new(&member.device_id),
            Cell::new(member.state.word()).toned(tone(member.state)),
            Cell::new(&member.why),
            reader.moment(member.state_at),
            member.command_id.map(|id| reader.uid(id)).unwrap_or_default(),
            Cell::maybe(member.config_version),
            Cell::new(member.uid),
        ]
    }

    fn name(&self) -> String {
        self.0.device_id.to_string()
    }
}

/// A batch and its devices in one.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    batch: Shown,
    devices: Vec<ShownMember>,
}

impl Listed for Whole {
    const COLUMNS: &'static [Column] = Shown::COLUMNS;

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        self.batch.cells(reader)
    }

    fn name(&self) -> String {
        self.batch.name()
    }
}

fn tone(state: MemberState) -> Tone {
    match state {
        MemberState::Succeeded => Tone::Good,
        MemberState::Failed | MemberState::Unknown => Tone::Bad,
        MemberState::Expired => Tone::Warn,
        MemberState::Waiting
        | MemberState::Running
        | MemberState::Cancelled
        | MemberState::Skipped
        | MemberState::Later(_) => Tone::Plain,
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! A batch to show.

    use super::*;
    use fleet_core::api::WhenOffline;
    use fleet_core::time::Timestamp;

    pub(in super::super) fn view(state: BatchState, counts: &[(MemberState, usize)]) -> BatchView {
        let at = Timestamp::from_millis(1_705_314_600_000);
        BatchView {
            id: Uid::from_bytes([7; 16]),
            state,
            why: "because".into(),
            state_at: at,
            command: Some("restart".into()),
            args: Vec::new(),
            config: None,
            filter: Some("status=offline".into()),
            total: counts.iter().map(|(_, count)| count).sum(),
            counts: counts.iter().copied().collect(),
            window: 2,
            canary: 0,
            max_fail: 1,
            timeout_secs: 60,
            offline: WhenOffline::Queue,
            expires_at: at,
            author: "operator:ada".into(),
            created_at: at,
            reason: None,
            retry_of: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};

    use super::testing::view;
    use super::*;

    #[test]
    fn hostile_batches_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, err) = written(*format, terminal);
            for text in HOSTILE {
                let mut view = view(BatchState::Done, &[(MemberState::Failed, 1)]);
                view.why = (*text).into();
                view.author = (*text).into();
                view.reason = Some((*text).into());
                view.filter = Some((*text).into());
                view.command = Some((*text).into());
                let member = BatchMember {
                    device_id: "a".parse().unwrap(),
                    uid: view.id,
                    state: MemberState::Failed,
                    why: (*text).into(),
                    state_at: view.state_at,
                    command_id: None,
                    config_version: None,
                };
                told("paused", view.clone(), &mut output).unwrap();
                output.list(&[Shown(view.clone())]).unwrap();
                view.command = None;
                view.config = Some(serde_json::json!({ *text: text }));
                tell_whole(view, vec![ShownMember(member)], &mut output).unwrap();
            }
            assert_harmless(&out.text());
            assert_harmless(&err.text());
        }
    }
}
