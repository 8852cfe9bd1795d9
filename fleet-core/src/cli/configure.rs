//! `fleets configure`: finds devices, lets a person or `--auto` choose, and brings the chosen ones
//! into the fleet.
//!
//! ```text
//! check the call → find and check the key → listen → choose → provision, each device told apart
//! ```
//!
//! No device is touched before the server has taken the key. ✅ is printed when the server says
//! that a device is there, and not earlier.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::args::{self, Interfaces};
use super::choice::ServerChoice;
use super::failure::Failure;
use super::listed::FormatArgs;
use super::output::Output;
use super::plan::{Configured, Missing, Plan, is_named, missing, nobody_of_id};
use super::secrets::SecretArgs;
use super::{discover, prompt, session};
use crate::api::{DeviceState, DiscoverOutcome, Discovered};
use crate::claim::ClaimSecret;
use crate::id::DeviceId;
use crate::operator::browse::{Browse, QUIET, Sighting};
use crate::operator::client::Client;
use crate::operator::exit::Exit;
use crate::operator::provision::provision_all;

/// How long to listen at most unless told.
const LISTEN_MAX: Duration = Duration::from_secs(5);
/// How long to listen at least: two queries have gone out and were answered.
const LISTEN_MIN: Duration = Duration::from_millis(2200);

/// Which devices, and which server.
#[derive(Debug, clap::Args)]
pub struct ConfigureArgs {
    #[command(flatten)]
    server: ServerChoice,
    /// Configure every unclaimed device without asking
    #[arg(long, conflicts_with = "select")]
    auto: bool,
    /// Take these numbers of the list without asking: 1,3 or all
    #[arg(long, value_name = "NUMBERS")]
    select: Option<String>,
    /// Ask for numbers instead of showing a list to choose from
    #[arg(long)]
    plain_prompt: bool,
    #[command(flatten)]
    found: FoundArgs,
}

/// What is the same whoever chooses: where to look, for which devices, and what is told.
#[derive(Debug, clap::Args)]
pub struct FoundArgs {
    /// Only these devices; without --auto or --select they are the choice
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    device: Vec<DeviceId>,
    /// How long to listen for devices
    #[arg(long, value_parser = args::time_limit, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    secrets: SecretArgs,
    /// Where to look.
    #[command(flatten)]
    pub interfaces: Interfaces,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub fn run(args: ConfigureArgs) -> ExitCode {
    session::run(args.found.format, None, async |output| configure(args, output).await)
}

/// Runs the command as with `--auto`.
pub fn run_auto(server: ServerChoice, found: FoundArgs) -> ExitCode {
    run(ConfigureArgs { server, auto: true, select: None, plain_prompt: false, found })
}

async fn configure(args: ConfigureArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let chooser = Chooser::of(&args, output)?;
    let secrets = args.found.secrets.read()?;
    // What nobody chose, nobody is asked about.
    let may_ask = !args.auto && output.terminal.can_ask();
    let ConfigureArgs { server, found, .. } = args;
    let client = server.client(output)?;
    if !found.dry_run {
        client.may_change()?;
    }
    client.check_key().await?;

    progress(output, "Discovering fleetd devices on the network...")?;
    let mut browse = discover::start(found.interfaces, output)?;
    listen(&mut browse, found.timeout, &found.device).await;
    let mut sightings = browse.sightings();
    drop(browse);
    let answered = sightings.len();
    if !found.device.is_empty() {
        sightings.retain(|sighting| is_named(sighting, &found.device));
    }
    if sightings.is_empty() {
        output_empty(output)?;
        return Err(none_of(&found.device, answered));
    }
    show_found(&sightings, output)?;

    let missing =
        Missing { ids: missing(&sightings, &found.device), others: answered - sightings.len() };
    let mut plan = match chooser.choose(&sightings, output).await? {
        Some(places) => Plan::of_chosen(&sightings, &places, missing),
        None => Plan::automatic(&sightings, client.server(), &found.device, missing),
    };
    if !plan.ours.is_empty() {
        match client.device_list(None).await {
            Ok(list) => plan.confirm_ours(&list),
            // An enrolment key may not ask.
            Err(error) if error.exit() == Exit::NotAllowed => plan.believe_ours(),
            Err(error) => return Err(error.into()),
        }
    }
    for note in &plan.notes {
        output.note(note)?;
    }
    if found.dry_run {
        if !may_ask {
            secrets.assign(&mut plan, false, output).await?;
        }
        return dry_run(plan, output);
    }
    let secrets = secrets.assign(&mut plan, may_ask, output).await?;
    carry_out(plan, &secrets, &client, output).await
}

/// That none of the named devices answered, or nobody at all.
fn none_of(named: &[DeviceId], answered: usize) -> Failure {
    match named {
        [_, ..] if answered > 0 => {
            let told: Vec<_> = named.iter().map(|id| nobody_of_id(id, answered)).collect();
            Failure::new(Exit::NothingFound, told.join("; ")).hint("see `fleets discover`")
        }
        _ => discover::nothing_found(),
    }
}

/// Who decides.
enum Chooser {
    /// All that are unclaimed.
    Auto,
    /// Everything that was named.
    Named,
    /// The numbers of `--select`.
    Numbers(String),
    /// A person with a list to choose from.
    List,
    /// A person who types numbers.
    Plain,
}

impl Chooser {
    fn of(args: &ConfigureArgs, output: &Output<'_>) -> Result<Self, Failure> {
        if args.auto {
            return Ok(Self::Auto);
        }
        if let Some(numbers) = &args.select {
            return Ok(Self::Numbers(numbers.clone()));
        }
        if !args.found.device.is_empty() {
            return Ok(Self::Named);
        }
        if args.plain_prompt {
            return Ok(Self::Plain);
        }
        if !output.terminal.can_ask() {
            return Err(Failure::usage(
                "there is no terminal to ask on which devices to configure",
            )
            .hint("give --auto, --select 1,3 or --select all, or --device ID"));
        }
        Ok(if output.terminal.dumb { Self::Plain } else { Self::List })
    }

    /// The places of the chosen devices; nothing where no person and no list decides.
    async fn choose(
        self,
        sightings: &[Sighting],
        output: &mut Output<'_>,
    ) -> Result<Option<Vec<usize>>, Failure> {
        match self {
            Self::Auto => Ok(None),
            Self::Named => Ok(Some((0..sightings.len()).collect())),
            Self::Numbers(text) => match prompt::parse_selection(&text, sightings.len()) {
                Ok(places) => Ok(Some(places)),
                Err(wrong) => Err(Failure::usage(format!("--select: {wrong}"))),
            },
            Self::List => {
                let places = prompt::choose(sightings, output)?;
                progress(output, "")?;
                Ok(Some(places))
            }
            Self::Plain => {
                let places = prompt::ask_numbers(sightings.len(), output).await?;
                progress(output, "")?;
                Ok(Some(places))
            }
        }
    }
}

/// Listens until the time is up, until all that were named have answered, or, if nobody was named
/// and no time given, until nobody new answers any more.
async fn listen(browse: &mut Browse, timeout: Option<Duration>, named: &[DeviceId]) {
    let started = Instant::now();
    let end = started + timeout.unwrap_or(LISTEN_MAX);
    loop {
        let quiet = Instant::now() + QUIET;
        let complete = !named.is_empty() && missing(&browse.sightings(), named).is_empty();
        let patience = match timeout {
            _ if complete => quiet,
            None if named.is_empty() => quiet.max(started + LISTEN_MIN),
            None | Some(_) => end,
        };
        if !discover::changed_by(browse, end.min(patience)).await {
            return;
        }
        discover::settle(browse, end).await;
    }
}

async fn carry_out(
    plan: Plan,
    secrets: &[Option<ClaimSecret>],
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let Plan { go, mut done, .. } = plan;
    let url = client.url();
    if !go.is_empty() {
        progress(output, &format!("Configuring {} device(s) with server URL: {url}", go.len()))?;
        progress(output, "")?;
    }
    for refused in &done {
        refused.tell(output)?;
    }
    let targets = go.iter().map(|(_, target)| target);
    let targets = targets.zip(secrets.iter().map(Option::as_ref));
    let mut outcomes = std::pin::pin!(provision_all(client, targets));
    while let Some((position, outcome)) = outcomes.next().await {
        let (name, target) = &go[position];
        let configured = Configured::from_outcome(name, target, outcome);
        configured.tell(output)?;
        done.push(configured);
    }
    if done.is_empty() {
        progress(output, "Nothing to configure.")?;
    }
    if !output.format.is_table() {
        output.list(&done)?;
    }
    let all = done.iter().all(|device| device.status == DiscoverOutcome::Configured);
    Ok(if all { Exit::Done } else { Exit::NotDone })
}

fn dry_run(plan: Plan, output: &mut Output<'_>) -> Result<Exit, Failure> {
    if output.format.is_table() {
        for refused in &plan.done {
            refused.tell(output)?;
        }
        for (name, _) in &plan.go {
            output.line(&format!("would configure {name}"))?;
        }
        return Ok(Exit::Done);
    }
    let would = plan.go.iter().map(|(name, target)| Configured {
        device_id: Some(target.device_id.clone()),
        name: name.clone(),
        status: DiscoverOutcome::Pending,
        reason: Some("would be configured (dry run)".to_owned()),
        hint: None,
    });
    let all: Vec<_> = would.chain(plan.done).collect();
    output.list(&all)?;
    Ok(Exit::Done)
}

/// The list that numbers refer to, as the documentation shows it.
fn show_found(sightings: &[Sighting], output: &mut Output<'_>) -> Result<(), Failure> {
    progress(output, "")?;
    progress(output, &format!("Found {} device(s):", sightings.len()))?;
    progress(output, "")?;
    for (place, sighting) in sightings.iter().enumerate() {
        for line in block(place + 1, sighting) {
            progress(output, &line)?;
        }
        progress(output, "")?;
    }
    Ok(())
}

fn block(number: usize, sighting: &Sighting) -> Vec<String> {
    let device = &sighting.device;
    let join = |addresses: &[std::net::IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![format!("{number}. Device: {}", device.name)];
    let mut add = |label: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("   {label}: {value}"));
        }
    };
    add("Host", device.host.to_string());
    add("IPv4", join(&device.ipv4));
    add("IPv6", join(&device.ipv6));
    add("Port", device.port.to_string());
    add("Device ID", device.device_id.as_ref().map(ToString::to_string).unwrap_or_default());
    add("Fingerprint", device.fingerprint.map(|it| it.to_string()).unwrap_or_default());
    add("State", state_line(device));
    lines
}

fn state_line(device: &Discovered) -> String {
    let state = discover::state_text(device);
    match (device.conflict, device.server) {
        (true, _) => format!("{state}: devices with different keys use this id"),
        (false, Some(server)) if device.state == Some(DeviceState::Claimed) => {
            format!("{state} by {server}")
        }
        (false, _) => state.to_owned(),
    }
}

/// A line of the running account: part of the result for people, beside it for programs.
fn progress(output: &mut Output<'_>, text: &str) -> Result<(), Failure> {
    if output.format.is_table() {
        output.line(text)?;
    } else {
        output.note(text)?;
    }
    Ok(())
}

fn output_empty(output: &mut Output<'_>) -> Result<(), Failure> {
    if !output.format.is_table() {
        output.list::<Configured>(&[])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::listed::Format;
    use crate::cli::output::Terminal;
    use crate::cli::plan::tests::sighting;
    use crate::cli::testing::{HOSTILE, assert_harmless, written};

    #[test]
    fn the_account_reads_as_documented() {
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        show_found(&[sighting("rpi4-001", DeviceState::Unclaimed)], &mut output).unwrap();
        let expected = "\nFound 1 device(s):\n\n\
            1. Device: fleetd-rpi4-001._fleetd._tcp.local.\n   \
            Host: raspberrypi.local\n   \
            IPv4: 192.168.1.100\n   \
            Port: 6789\n   \
            Device ID: rpi4-001\n   \
            Fingerprint: ";
        assert!(out.text().starts_with(expected), "{}", out.text());
        assert!(out.text().ends_with("   State: unclaimed (open)\n\n"), "{}", out.text());

        let (mut output, out, _) = written(Format::Table, Terminal::default());
        let mut done = Configured::refused(
            &sighting("rpi4-001", DeviceState::Unclaimed),
            "wrong key",
            Some("compare".to_owned()),
        );
        done.tell(&mut output).unwrap();
        done.status = DiscoverOutcome::Configured;
        done.hint = None;
        done.tell(&mut output).unwrap();
        assert_eq!(
            out.text(),
            "✗ fleetd-rpi4-001._fleetd._tcp.local.: wrong key\n   compare\n\
             ✅ Successfully configured fleetd-rpi4-001._fleetd._tcp.local.\n"
        );
    }

    #[test]
    fn hostile_devices_do_no_harm() {
        for format in [Format::Table, Format::Json, Format::Csv, Format::Name, Format::Jsonl] {
            let (mut output, out, err) = written(format, Terminal::default());
            for text in HOSTILE {
                let mut hostile = sighting("x", DeviceState::Unclaimed);
                hostile.device.name = (*text).into();
                hostile.device.host = (*text).into();
                hostile.device.device_id = None;
                hostile.target = None;
                show_found(std::slice::from_ref(&hostile), &mut output).unwrap();
                let done = Configured::refused(&hostile, *text, Some((*text).to_owned()));
                done.tell(&mut output).unwrap();
                output.list(&[done]).unwrap();
            }
            assert_harmless(&out.text());
            assert_harmless(&err.text());
        }
    }

    #[test]
    fn a_conflict_is_nobodys_doing_and_a_missing_name_is_told_beside_the_others() {
        let mut device = sighting("x", DeviceState::Claimed).device;
        let server = crate::identity::PrivateKey::from_seed(&[1; 32]).public().identity();
        device.server = Some(server);
        assert_eq!(state_line(&device), format!("claimed by {server}"));
        device.conflict = true;
        assert_eq!(state_line(&device), "conflict: devices with different keys use this id");

        let named = ["nodev".parse().unwrap()];
        let failure = none_of(&named, 3);
        assert_eq!(failure.exit(), Exit::NothingFound);
        assert_eq!(failure.message(), "no device nodev answered; 3 other(s) did");
        assert_eq!(none_of(&named, 0).message(), discover::nothing_found().message());
    }

    #[test]
    fn without_a_terminal_somebody_must_have_chosen() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Call {
            #[command(flatten)]
            args: ConfigureArgs,
        }
        let exit = |terminal: Terminal, call: &[&str]| {
            let args = Call::parse_from([&["configure"], call].concat()).args;
            let (output, ..) = written(Format::Table, terminal);
            Chooser::of(&args, &output).err().map(|failure| failure.exit())
        };
        let person = Terminal { stdin: true, stderr: true, ..Terminal::default() };
        assert_eq!(exit(Terminal::default(), &[]), Some(Exit::Usage));
        assert_eq!(exit(person, &[]), None);
        for call in [["--auto", "--dry-run"], ["--select", "all"], ["--device", "a,b"]] {
            assert_eq!(exit(Terminal::default(), &call), None, "{call:?}");
        }
    }
}
