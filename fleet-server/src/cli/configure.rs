//! `fleets configure`: finds devices, lets a person or `--auto` choose, and brings the chosen ones
//! into the fleet.
//!
//! ```text
//! check the call → find and check the key → listen → choose → provision, each device told apart
//! ```
//!
//! No device is touched before the server has taken the key. ✅ is printed when the server says
//! that a device is there, and not earlier.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use fleet_core::api::{DeviceState, DiscoverOutcome};
use fleet_core::id::DeviceId;
use fleet_core::identity::ServerIdentity;
use fleet_core::operator::browse::{Browse, Sighting};
use fleet_core::operator::claim::Target;
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;
use fleet_core::operator::provision::{Outcome, provision_all};
use fleet_core::untrusted::Untrusted;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::Instant;

use super::failure::Failure;
use super::output::{Format, FormatArgs, Listed, Output, Reader};
use super::session::{self, Interfaces, ServerChoice};
use super::table::{Cell, Column, Tone};
use super::{discover, prompt};

/// How long to listen at most unless told.
const LISTEN_MAX: Duration = Duration::from_secs(5);
/// How long to listen at least: two queries have gone out and were answered.
const LISTEN_MIN: Duration = Duration::from_millis(2200);
/// A silence of this length ends listening; whoever poses as a device that was named would have
/// answered by then.
const QUIET: Duration = Duration::from_millis(600);

/// Which devices, and which server.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigureArgs {
    #[command(flatten)]
    server: ServerChoice,
    /// Configure every unclaimed device without asking
    #[arg(long, conflicts_with = "select")]
    auto: bool,
    /// Take these numbers of the list without asking: 1,3 or all
    #[arg(long, value_name = "NUMBERS")]
    select: Option<String>,
    /// Only these devices; without --auto or --select they are the choice
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    device: Vec<DeviceId>,
    /// Ask for numbers instead of showing a list to choose from
    #[arg(long)]
    plain_prompt: bool,
    /// How long to listen for devices
    #[arg(long, value_parser = session::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    interfaces: Interfaces,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(super) fn run(args: ConfigureArgs) -> ExitCode {
    session::run(args.format.format(), None, async |output| configure(args, output).await)
}

async fn configure(args: ConfigureArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let chooser = Chooser::of(&args, output)?;
    let client = args.server.client(output)?;
    client.check_key().await?;

    progress(output, "Discovering fleetd devices on the network...")?;
    let mut browse = discover::start(args.interfaces)?;
    listen(&mut browse, args.timeout, &args.device).await;
    let mut sightings = browse.sightings();
    drop(browse);
    if !args.device.is_empty() {
        sightings.retain(|sighting| is_named(sighting, &args.device));
    }
    if sightings.is_empty() {
        output_empty(output)?;
        return Err(discover::nothing_found());
    }
    show_found(&sightings, output)?;

    let missing = missing(&sightings, &args.device);
    let plan = match chooser.choose(&sightings, output).await? {
        Some(places) => Plan::of_chosen(&sightings, &places, missing),
        None => Plan::automatic(&sightings, client.server(), &args.device, missing),
    };
    for note in &plan.notes {
        output.note(note)?;
    }
    if args.dry_run {
        return dry_run(plan, output);
    }
    carry_out(plan, &client, output).await
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
        if !args.device.is_empty() {
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
            Self::List => prompt::choose(sightings).map(Some),
            Self::Plain => prompt::ask_numbers(sightings.len(), output).await.map(Some),
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
    }
}

fn is_named(sighting: &Sighting, named: &[DeviceId]) -> bool {
    sighting.device.device_id.as_ref().is_some_and(|id| named.contains(id))
}

fn missing(sightings: &[Sighting], named: &[DeviceId]) -> Vec<DeviceId> {
    let seen: BTreeSet<_> =
        sightings.iter().filter_map(|sighting| sighting.device.device_id.as_ref()).collect();
    named.iter().filter(|id| !seen.contains(id)).cloned().collect()
}

/// What is to be done, and what is known already not to be.
#[derive(Default)]
struct Plan {
    go: Vec<(Untrusted, Target)>,
    done: Vec<Configured>,
    notes: Vec<String>,
}

impl Plan {
    fn of_chosen(sightings: &[Sighting], places: &[usize], missing: Vec<DeviceId>) -> Self {
        let mut plan = Self::default();
        for sighting in places.iter().filter_map(|place| sightings.get(*place)) {
            plan.add(sighting);
        }
        plan.add_missing(missing);
        plan
    }

    /// Only what nobody has claimed; of the rest, what was named counts as not done.
    fn automatic(
        sightings: &[Sighting],
        ours: ServerIdentity,
        named: &[DeviceId],
        missing: Vec<DeviceId>,
    ) -> Self {
        let mut plan = Self::default();
        for sighting in sightings {
            let device = &sighting.device;
            let name = device.name.to_string();
            let foreign = device.server.filter(|server| *server != ours);
            match (device.conflict, device.state, foreign) {
                (false, Some(DeviceState::Claimed), None) => {
                    plan.notes.push(format!("{name} says it belongs to this server already"));
                }
                (false, Some(DeviceState::Claimed), Some(server)) => {
                    let reason = format!("already managed by {server}");
                    if is_named(sighting, named) {
                        let hint = Some("run `sudo fleetd reset` on the device".to_owned());
                        plan.done.push(Configured::refused(sighting, reason, hint));
                    } else {
                        plan.notes.push(format!("{name} left alone: {reason}"));
                    }
                }
                (false, Some(DeviceState::Closed), _) => {
                    let reason = "it takes no claims: its claim window is over, or its policy";
                    let hint = "restart its agent to open the window again".to_owned();
                    plan.done.push(Configured::refused(sighting, reason, Some(hint)));
                }
                (true, _, _) | (false, Some(DeviceState::Unclaimed) | None, _) => {
                    plan.add(sighting);
                }
            }
        }
        plan.add_missing(missing);
        plan
    }

    fn add(&mut self, sighting: &Sighting) {
        match &sighting.target {
            Some(target) => self.go.push((sighting.device.name.clone(), target.clone())),
            None if sighting.device.conflict => self.done.push(Configured::refused(
                sighting,
                "conflict: another device with another key has the same id",
                Some("run `fleetd info` on the device and compare fingerprints".to_owned()),
            )),
            None => self.done.push(Configured::refused(
                sighting,
                "it announces no id or no key of its own",
                None,
            )),
        }
    }

    fn add_missing(&mut self, missing: Vec<DeviceId>) {
        self.done.extend(missing.into_iter().map(|id| Configured {
            name: Untrusted::from(id.as_str()),
            device_id: Some(id),
            status: DiscoverOutcome::Unreachable,
            reason: Some("no device of this id answered".to_owned()),
            hint: None,
        }));
    }
}

/// What became of one device.
#[derive(Debug, Serialize)]
struct Configured {
    device_id: Option<DeviceId>,
    name: Untrusted,
    status: DiscoverOutcome,
    reason: Option<String>,
    hint: Option<String>,
}

impl Configured {
    fn refused(sighting: &Sighting, reason: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            device_id: sighting.device.device_id.clone(),
            name: sighting.device.name.clone(),
            status: DiscoverOutcome::Refused,
            reason: Some(reason.into()),
            hint,
        }
    }

    fn from_outcome(name: &Untrusted, target: &Target, outcome: Outcome) -> Self {
        Self {
            device_id: outcome.device_id.or_else(|| Some(target.device_id.clone())),
            name: name.clone(),
            status: outcome.status,
            reason: outcome.reason,
            hint: outcome.hint,
        }
    }

    fn tell(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        if output.format != Format::Table {
            return Ok(());
        }
        let name = &self.name;
        let reason = self.reason.as_deref().unwrap_or("no reason given");
        output.line(&match self.status {
            DiscoverOutcome::Configured => format!("✅ Successfully configured {name}"),
            DiscoverOutcome::Pending => format!("⏳ {name}: {reason}"),
            DiscoverOutcome::Unreachable | DiscoverOutcome::Refused => {
                format!("✗ {name}: {reason}")
            }
        })?;
        if let Some(hint) = &self.hint {
            output.line(&format!("   {hint}"))?;
        }
        Ok(())
    }
}

impl Listed for Configured {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICE ID", 20),
        Column::new("STATUS", 11),
        Column::new("REASON", 40),
        Column::new("HINT", 20),
        Column::new("NAME", 20),
    ];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        vec![
            Cell::maybe(self.device_id.as_ref()),
            Cell::new(match self.status {
                DiscoverOutcome::Configured => "configured",
                DiscoverOutcome::Pending => "pending",
                DiscoverOutcome::Unreachable => "unreachable",
                DiscoverOutcome::Refused => "refused",
            })
            .toned(Tone::Plain),
            Cell::maybe(self.reason.as_ref()),
            Cell::maybe(self.hint.as_ref()),
            Cell::new(&self.name),
        ]
    }

    fn name(&self) -> String {
        self.device_id.as_ref().map_or_else(|| self.name.to_string(), ToString::to_string)
    }
}

async fn carry_out(plan: Plan, client: &Client, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let Plan { go, mut done, .. } = plan;
    let url = client.url();
    if !go.is_empty() {
        progress(output, &format!("Configuring {} device(s) with server URL: {url}", go.len()))?;
        progress(output, "")?;
    }
    for refused in &done {
        refused.tell(output)?;
    }
    let mut outcomes = std::pin::pin!(provision_all(client, go.iter().map(|(_, target)| target)));
    while let Some((position, outcome)) = outcomes.next().await {
        let (name, target) = &go[position];
        let configured = Configured::from_outcome(name, target, outcome);
        configured.tell(output)?;
        done.push(configured);
    }
    if done.is_empty() {
        progress(output, "Nothing to configure.")?;
    }
    if output.format != Format::Table {
        output.list(&done)?;
    }
    let all = done.iter().all(|device| device.status == DiscoverOutcome::Configured);
    Ok(if all { Exit::Done } else { Exit::NotDone })
}

fn dry_run(plan: Plan, output: &mut Output<'_>) -> Result<Exit, Failure> {
    if output.format == Format::Table {
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
    let owner = device.server.map(|server| format!(" by {server}")).unwrap_or_default();
    add("State", format!("{}{owner}", discover::state_text(device)));
    lines
}

/// A line of the running account: part of the result for people, beside it for programs.
fn progress(output: &mut Output<'_>, text: &str) -> Result<(), Failure> {
    if output.format == Format::Table {
        output.line(text)?;
    } else {
        output.note(text)?;
    }
    Ok(())
}

fn output_empty(output: &mut Output<'_>) -> Result<(), Failure> {
    if output.format != Format::Table {
        output.list::<Configured>(&[])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fleet_core::identity::PrivateKey;

    use super::*;
    use crate::cli::output::Terminal;
    use crate::cli::output::tests::{HOSTILE, assert_harmless, written};

    fn identity(seed: u8) -> ServerIdentity {
        PrivateKey::from_seed(&[seed; 32]).public().identity()
    }

    fn sighting(id: &str, state: DeviceState) -> Sighting {
        let device = discover::example(id, state);
        let target = device.fingerprint.map(|fingerprint| Target {
            device_id: id.parse().unwrap(),
            addresses: Vec::new(),
            fingerprint,
        });
        Sighting { device, target }
    }

    fn in_conflict(id: &str) -> Sighting {
        let mut sighting = sighting(id, DeviceState::Unclaimed);
        sighting.device.conflict = true;
        sighting.target = None;
        sighting
    }

    fn claimed(id: &str, server: ServerIdentity) -> Sighting {
        let mut sighting = sighting(id, DeviceState::Claimed);
        sighting.device.server = Some(server);
        sighting
    }

    fn going(plan: &Plan) -> Vec<&str> {
        plan.go.iter().map(|(_, target)| target.device_id.as_str()).collect()
    }

    #[test]
    fn auto_takes_what_nobody_has_claimed_and_says_what_it_leaves() {
        let sightings = [
            sighting("free", DeviceState::Unclaimed),
            sighting("closed", DeviceState::Closed),
            in_conflict("twice"),
            claimed("mine", identity(1)),
            claimed("theirs", identity(2)),
        ];
        let plan = Plan::automatic(&sightings, identity(1), &[], Vec::new());
        assert_eq!(going(&plan), ["free"]);
        let refused: Vec<_> =
            plan.done.iter().filter_map(|device| device.device_id.as_ref()).collect();
        assert_eq!(refused.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["closed", "twice"]);
        assert_eq!(plan.notes.len(), 2);

        let named = ["theirs".parse().unwrap()];
        let plan = Plan::automatic(&sightings[4..], identity(1), &named, Vec::new());
        let reason = plan.done[0].reason.clone().unwrap();
        assert_eq!(reason, format!("already managed by {}", identity(2)));
    }

    #[test]
    fn a_conflict_is_not_configured_even_if_chosen() {
        let sightings = [in_conflict("twice"), sighting("free", DeviceState::Unclaimed)];
        let missing = vec!["gone".parse().unwrap()];
        let plan = Plan::of_chosen(&sightings, &[0, 1], missing);
        assert_eq!(going(&plan), ["free"]);
        assert_eq!(plan.done.len(), 2);
        assert_eq!(plan.done[1].status, DiscoverOutcome::Unreachable);
    }

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
