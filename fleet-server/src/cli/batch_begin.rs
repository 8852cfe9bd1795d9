//! `fleets batch-command` and `fleets batch-update`: the same thing done to many devices.
//!
//! What is about to be done is shown first, and what was shown is what is done: the devices are named
//! one by one when the batch begins. Nobody begins one in passing: a person types how many devices
//! there are, and a program says it beforehand.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use fleet_core::api::{BatchPreview, BatchRequest, WhenOffline};
use fleet_core::cli::args;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::cli::session;
use fleet_core::cli::table::{Cell, Column};
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;
use fleet_core::untrusted::Untrusted;
use serde::Serialize;

use super::batch;
use super::batch_watch::{self, going_on};
use super::command_run::unsure;
use super::config;
use super::device_list::{check_filter, nothing_matches};

/// Devices that a preview names.
const NAMED_MAX: usize = 8;

/// What to have which devices do.
#[derive(Debug, clap::Args)]
pub(super) struct BatchCommandArgs {
    /// What to do: restart, reboot, collect, rotate-key or logs with what belongs to them, such as
    /// "restart nginx", or exec with the program after --
    #[arg(long, value_name = "COMMAND")]
    command: String,
    /// The command's arguments one by one, exactly as they are
    #[arg(last = true, value_name = "ARGUMENT")]
    args: Vec<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    format: FormatArgs,
}

/// What to change in which devices' configurations.
#[derive(Debug, clap::Args)]
pub(super) struct BatchUpdateArgs {
    /// What shall be otherwise: JSON itself, or a YAML or JSON file, - for standard input; what it
    /// does not name is left as it is, and null takes a key away
    #[arg(long, value_name = "FILE|-|JSON")]
    config: String,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Which devices, such as 'status=offline and type=raspberrypi'
    #[arg(long, value_name = "FILTER", required_unless_present = "all")]
    filter: Option<String>,
    /// All devices of the fleet
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// How many are at it at once; a quarter of them but at most 10 unless given
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// How many go first, alone; the others wait for them
    #[arg(long, value_name = "N")]
    canary: Option<usize>,
    /// At how many failures it pauses; a tenth of the devices unless given
    #[arg(long, value_name = "N")]
    max_fail: Option<usize>,
    /// How long each device may take; 60s unless given
    #[arg(long, value_parser = args::time_limit, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// How long devices that are not connected are waited for; 24h unless given
    #[arg(long, value_parser = args::time_limit, value_name = "DURATION")]
    expires: Option<Duration>,
    /// What becomes of devices that are not connected: they have their turn when they come, are
    /// left out, or count as failed
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    offline: Way,
    /// Show what would be, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for what becomes of it
    #[arg(long)]
    no_wait: bool,
    /// Do not ask; needs --expect
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only if so many devices are found
    #[arg(long, value_name = "N")]
    expect: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Way {
    #[default]
    Queue,
    Skip,
    Fail,
}

impl From<Way> for WhenOffline {
    fn from(way: Way) -> Self {
        match way {
            Way::Queue => Self::Queue,
            Way::Skip => Self::Skip,
            Way::Fail => Self::Fail,
        }
    }
}

/// Runs `fleets batch-command`.
pub(super) fn run_command(args: BatchCommandArgs) -> ExitCode {
    session::run(args.format, None, async |output| {
        let command = read_command(&args.command, &args.args)?;
        let mut request = args.how.request()?;
        request.command = Some(command.word().to_owned());
        request.args = Some(command.args());
        begin(request, &command.to_string(), &args.how, &args.server.client(output)?, output).await
    })
}

/// Runs `fleets batch-update`.
pub(super) fn run_update(args: BatchUpdateArgs) -> ExitCode {
    session::run(args.format, None, async |output| {
        let mut request = args.how.request()?;
        let patch = config::read_document(&args.config)?;
        let what = format!("configuration {}", Untrusted::new(patch.to_string()));
        request.config = Some(patch);
        begin(request, &what, &args.how, &args.server.client(output)?, output).await
    })
}

fn read_command(text: &str, args: &[String]) -> Result<Command, Failure> {
    let command = if args.is_empty() { text.parse() } else { Command::read(text, args) };
    command.map_err(|error| Failure::usage(format!("--command: {error}")))
}

impl How {
    /// The request without what is to be done.
    fn request(&self) -> Result<BatchRequest, Failure> {
        let filter = self.filter.as_deref().unwrap_or_default();
        if filter.trim().is_empty() && !self.all {
            return Err(Failure::usage("--filter is empty").hint("--all means every device"));
        }
        check_filter("--filter", filter)?;
        let text = |duration: Duration| format!("{}ms", duration.as_millis());
        Ok(BatchRequest {
            filter: Some(filter.to_owned()),
            window: self.window,
            canary: self.canary,
            max_fail: self.max_fail,
            timeout: self.timeout.map(text),
            expires_in: self.expires.map(text),
            offline: self.offline.into(),
            ..BatchRequest::default()
        })
    }
}

impl How {
    /// That there is no such device.
    async fn nobody(&self, client: &Client) -> Result<Failure, ClientError> {
        match &self.filter {
            Some(filter) => nothing_matches(client, filter).await,
            None => Ok(Failure::new(Exit::NothingFound, "there are no devices yet")),
        }
    }
}

async fn begin(
    request: BatchRequest,
    what: &str,
    how: &How,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let request = BatchRequest { reason: client.reason().map(str::to_owned), ..request };
    let preview = client.batch_preview(&request).await?;
    let count = preview.devices.len();
    if count == 0 {
        return Err(match preview.excluded.first() {
            None => how.nobody(client).await?,
            Some(one) => {
                let text = format!("no device can take part: {} is {}", one.device_id, one.why);
                Failure::new(Exit::NothingFound, text)
            }
        });
    }
    if how.dry_run {
        if output.format.is_table() {
            for line in lines(&preview, what, how.offline) {
                output.line(&line)?;
            }
        } else {
            output.one(&Shown(preview))?;
        }
        return Ok(Exit::Done);
    }
    if let Some(expect) = how.expect.filter(|expect| *expect != count) {
        let text = format!("{} found, and {expect} were expected", devices(count));
        return Err(Failure::new(Exit::Conflict, text).hint("nothing was done"));
    }
    client.may_change()?;
    if !(how.yes && how.expect.is_some()) {
        confirm(&preview, what, how, output).await?;
    }
    let id = Uid::new();
    output.set_going_on(format!("`fleets batch show {id}` says whether it has begun"));
    let uids = preview.devices.iter().map(|device| device.uid).collect();
    let request =
        BatchRequest { id: Some(id), devices: Some(uids), expect: Some(count), ..request };
    let view = client.batch_create(&request).await.map_err(|error| unsure(error, output))?;
    output.set_going_on(going_on(id));
    if how.no_wait {
        return batch::told("begun", view, output);
    }
    output.note(&format!("batch {id}: {what} on {}", devices(count)))?;
    batch_watch::watch(view, client, output).await
}

/// Has somebody say how many devices there are.
async fn confirm(
    preview: &BatchPreview,
    what: &str,
    how: &How,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let count = preview.devices.len();
    if !output.terminal.can_ask() {
        let text = format!(
            "there is no terminal to ask on, so both --yes and --expect are needed; {} found, \
             and nothing was done",
            devices(count)
        );
        return Err(
            Failure::usage(text).hint(format!("give --yes --expect {count} if you mean them"))
        );
    }
    for line in lines(preview, what, how.offline) {
        output.note(&line)?;
    }
    let count = count.to_string();
    if prompt::confirm_word("Type the number of devices to go on:", &count, output).await? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Interrupted, "nothing was done"))
    }
}

/// What would be, for a person.
fn lines(preview: &BatchPreview, what: &str, way: Way) -> Vec<String> {
    let count = preview.devices.len();
    let by = |counts: &std::collections::BTreeMap<String, usize>| {
        let counts = counts
            .iter()
            .map(|(word, count)| format!("{count} {}", Untrusted::from(word.as_str())));
        counts.collect::<Vec<_>>().join(", ")
    };
    let ids: Vec<_> = preview.devices.iter().map(|device| device.device_id.to_string()).collect();
    let mut lines = vec![
        format!("{what} on {}", devices(count)),
        format!("  status:   {}", by(&preview.by_status)),
        format!("  type:     {}", by(&preview.by_type)),
        format!("  devices:  {}", named(&ids)),
    ];
    if preview.offline > 0 {
        let fate = match way {
            Way::Queue => format!("has its turn when it comes, until {}", preview.expires_at),
            Way::Skip => "is left out".to_owned(),
            Way::Fail => "counts as failed".to_owned(),
        };
        lines.push(format!("  offline:  {} not connected; each {fate}", preview.offline));
    }
    for one in preview.excluded.iter().take(NAMED_MAX) {
        lines.push(format!("  excluded: {}: {}", one.device_id, one.why));
    }
    if preview.excluded.len() > NAMED_MAX {
        lines.push(format!("  excluded: {} more", preview.excluded.len() - NAMED_MAX));
    }
    let first = match preview.canary {
        0 => String::new(),
        canary => format!("the first {canary} alone, then "),
    };
    let failures = if preview.max_fail == 1 { "failure" } else { "failures" };
    lines.push(format!(
        "  how:      {first}{} at once; pauses at {} {failures}",
        preview.window, preview.max_fail
    ));
    lines
}

/// The first of some devices.
pub(super) fn named(ids: &[String]) -> String {
    let more = if ids.len() > NAMED_MAX { ", …" } else { "" };
    format!("{}{more}", ids[..ids.len().min(NAMED_MAX)].join(", "))
}

pub(super) fn devices(count: usize) -> String {
    if count == 1 { "1 device".to_owned() } else { format!("{count} devices") }
}

/// A preview for programs.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(BatchPreview);

impl Listed for Shown {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICES", 7).of_numbers(),
        Column::new("OFFLINE", 7).of_numbers(),
        Column::new("EXCLUDED", 8).of_numbers(),
        Column::new("WINDOW", 6).of_numbers(),
        Column::new("CANARY", 6).of_numbers(),
        Column::new("MAX FAIL", 8).of_numbers(),
        Column::new("EXPIRES AT", 20),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(preview) = self;
        vec![
            Cell::new(preview.devices.len()),
            Cell::new(preview.offline),
            Cell::new(preview.excluded.len()),
            Cell::new(preview.window),
            Cell::new(preview.canary),
            Cell::new(preview.max_fail),
            reader.moment(preview.expires_at),
        ]
    }

    fn name(&self) -> String {
        self.0.devices.len().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser as _;
    use fleet_core::api::{BatchDevice, Excluded};
    use fleet_core::cli::testing::{HOSTILE, assert_harmless};
    use fleet_core::time::Timestamp;

    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: BatchCommandArgs,
    }

    fn read(words: &[&str]) -> Result<(String, BatchRequest), String> {
        let call = Call::try_parse_from([&["batch-command"], words].concat());
        let args = call.map_err(|error| error.to_string())?.args;
        let told = |failure: Failure| failure.message().to_owned();
        let command = read_command(&args.command, &args.args).map_err(told)?;
        Ok((command.to_string(), args.how.request().map_err(told)?))
    }

    #[test]
    fn the_command_is_a_text_or_words_one_by_one() {
        for (words, command) in [
            (&["--filter", "status=offline", "--command", "restart"][..], "restart"),
            (&["--command", "restart nginx", "--all"], "restart nginx.service"),
            (&["--all", "--command", "exec", "--", "ls", "-l", "a b"], "exec ls -l \"a b\""),
        ] {
            assert_eq!(read(words).unwrap().0, command, "{words:?}");
        }
        for (words, told) in [
            (&["--command", "restart"][..], "--filter"),
            (&["--all"], "--command"),
            (&["--filter", " ", "--command", "restart"], "--filter is empty"),
            (&["--all", "--command", "restrat"], "did you mean restart?"),
            (&["--all", "--command", "exec 'a b'"], "quotes mean nothing"),
            (&["--filter", "cpu>", "--command", "restart"], "--filter: "),
            (&["--all", "--command", "restart", "--offline", "wait"], "queue, skip, fail"),
        ] {
            let refusal = read(words).unwrap_err();
            assert!(refusal.contains(told), "{words:?}: {refusal}");
        }
        let words = ["--all", "--command", "restart", "--expires", "2d", "--timeout", "5m"];
        let request = read(&words).unwrap().1;
        assert_eq!(request.expires_in.as_deref(), Some("172800000ms"));
        assert_eq!(request.timeout.as_deref(), Some("300000ms"));
    }

    fn preview(count: usize) -> BatchPreview {
        let device = |number: usize| BatchDevice {
            device_id: format!("d{number:02}").parse().unwrap(),
            uid: Uid::from_bytes([7; 16]),
        };
        BatchPreview {
            devices: (0..count).map(device).collect(),
            by_status: BTreeMap::from([
                ("online".to_owned(), 1),
                ("offline".to_owned(), count - 1),
            ]),
            by_type: BTreeMap::from([("raspberrypi".to_owned(), count)]),
            offline: count - 1,
            excluded: vec![Excluded { device_id: "new".parse().unwrap(), why: "pending".into() }],
            window: 2,
            canary: 1,
            max_fail: 1,
            expires_at: Timestamp::from_millis(1_705_314_600_000),
        }
    }

    #[test]
    fn a_preview_says_all_that_somebody_should_know() {
        assert_eq!(
            lines(&preview(10), "restart", Way::Queue),
            [
                "restart on 10 devices",
                "  status:   9 offline, 1 online",
                "  type:     10 raspberrypi",
                "  devices:  d00, d01, d02, d03, d04, d05, d06, d07, …",
                "  offline:  9 not connected; each has its turn when it comes, until \
                 2024-01-15T10:30:00Z",
                "  excluded: new: pending",
                "  how:      the first 1 alone, then 2 at once; pauses at 1 failure",
            ]
        );
        assert!(lines(&preview(2), "restart", Way::Skip)[4].ends_with("each is left out"));
        for text in HOSTILE {
            let mut hostile = preview(2);
            hostile.by_type = BTreeMap::from([((*text).to_owned(), 2)]);
            hostile.excluded[0].why = (*text).into();
            for line in lines(&hostile, "restart", Way::Queue) {
                assert_harmless(&line);
            }
        }
    }
}
