//! `fleets discover`: the devices that can be seen from here. Needs no server and no key.
//!
//! On a terminal each row appears as soon as its device has answered; what comes to light later,
//! such as a second device of the same id, is told in a line of its own. Elsewhere the list is
//! written once, when the time is up.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::args::{self, Interfaces};
use super::failure::Failure;
use super::listed::{FormatArgs, Listed, Reader};
use super::output::Output;
use super::session;
use super::table::{Cell, Column};
use crate::Chain;
use crate::api::{ClaimMode, DeviceState, Discovered};
use crate::glyph::Tone;
use crate::operator::browse::Browse;
use crate::operator::exit::Exit;

/// How long a device's first answer waits for the rest of it.
const SETTLE: Duration = Duration::from_millis(120);

/// What to look for, and for how long.
#[derive(Debug, clap::Args)]
pub struct DiscoverArgs {
    /// How long to listen
    #[arg(long, default_value = "5s", value_parser = args::time_limit, value_name = "DURATION")]
    timeout: Duration,
    /// Stop as soon as this many devices have answered
    #[arg(long, value_name = "N")]
    count: Option<NonZeroUsize>,
    #[command(flatten)]
    interfaces: Interfaces,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub fn run(args: DiscoverArgs) -> ExitCode {
    session::run(args.format, None, async |output| discover(args, output).await)
}

async fn discover(args: DiscoverArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let mut browse = start(args.interfaces, output)?;
    let deadline = Instant::now() + args.timeout;
    let count = args.count.map_or(usize::MAX, NonZeroUsize::get);
    let devices = if output.format.is_table() && output.terminal.stdout {
        live(&mut browse, deadline, count, output).await?
    } else {
        while browse.devices().len() < count {
            if !changed_by(&mut browse, deadline).await {
                break;
            }
            settle(&mut browse, deadline).await;
        }
        let mut devices = browse.devices();
        devices.truncate(count);
        output.list(&devices)?;
        devices
    };
    if devices.is_empty() {
        return Err(nothing_found());
    }
    Ok(Exit::Done)
}

/// Begins to look.
pub(super) fn start(interfaces: Interfaces, output: &mut Output<'_>) -> Result<Browse, Failure> {
    Browse::start(interfaces.options(output)?).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot look for devices: {}", Chain(&error)))
    })
}

/// That nobody answered, and what to do about it.
pub(super) fn nothing_found() -> Failure {
    Failure::new(Exit::NothingFound, "no device answered on the local network").hint(
        "is `fleetd agent` running on a device of this network, and UDP port 5353 open? \
         See also --timeout and --interface",
    )
}

/// Waits for something new until then. False when the time is up or the search has ended.
pub(super) async fn changed_by(browse: &mut Browse, deadline: Instant) -> bool {
    matches!(timeout_at(deadline, browse.changed()).await, Ok(true))
}

/// Takes in what follows a device's first answer at once. In a flood, this is also how often all that
/// was seen is looked at.
pub(super) async fn settle(browse: &mut Browse, deadline: Instant) {
    let settled = deadline.min(Instant::now() + SETTLE);
    while changed_by(browse, settled).await {}
}

/// Prints each device once, when it has had time to say everything.
async fn live(
    browse: &mut Browse,
    deadline: Instant,
    count: usize,
    output: &mut Output<'_>,
) -> Result<Vec<Discovered>, Failure> {
    let mut shown = BTreeSet::new();
    let mut contested = BTreeSet::new();
    while shown.len() < count && changed_by(browse, deadline).await {
        settle(browse, deadline).await;
        let devices = browse.devices();
        for device in &devices {
            if shown.len() >= count {
                break;
            }
            let key = (device.name.clone(), device.fingerprint);
            if shown.contains(&key) {
                continue;
            }
            if shown.is_empty() {
                output.live_titles::<Discovered>()?;
            }
            output.live_row(device)?;
            shown.insert(key);
        }
        let in_conflict = devices.iter().filter(|device| device.conflict);
        for id in in_conflict.filter_map(|device| device.device_id.as_ref()) {
            if contested.insert(id.clone()) {
                output.note(&format!(
                    "conflict: two devices with different keys call themselves {id}; \
                     neither is configured until one is gone"
                ))?;
            }
        }
    }
    Ok(browse.devices())
}

/// How far a device has come, in a few words.
pub fn state_text(device: &Discovered) -> &'static str {
    if device.conflict {
        return "conflict";
    }
    match (device.state, device.claim) {
        (Some(DeviceState::Unclaimed), Some(ClaimMode::Open)) => "unclaimed (open)",
        (Some(DeviceState::Unclaimed), Some(ClaimMode::Code)) => "unclaimed (code)",
        (Some(DeviceState::Unclaimed), Some(ClaimMode::Key)) => "unclaimed (key)",
        (Some(DeviceState::Unclaimed), _) => "unclaimed",
        (Some(DeviceState::Claimed), _) => "claimed",
        (Some(DeviceState::Closed), Some(ClaimMode::Disabled)) => "closed (by policy)",
        (Some(DeviceState::Closed), _) => "closed (window over)",
        (None, _) => "unknown",
    }
}

impl Listed for Discovered {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICE ID", 20),
        Column::new("STATE", 20),
        Column::new("IPV4", 15),
        Column::new("PORT", 5).of_numbers(),
        Column::spare("VERSION", 7, 2),
        Column::spare("FINGERPRINT", 16, 1),
        Column::spare("HOST", 20, 3),
        Column::spare("SERVER", 23, 4),
        Column::spare("IPV6", 25, 5),
        Column::spare("NAME", 20, 6),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let tone = match (self.conflict, self.state) {
            (true, _) => Tone::Bad,
            (false, Some(DeviceState::Unclaimed)) => Tone::Good,
            (false, Some(DeviceState::Closed) | None) => Tone::Warn,
            (false, Some(DeviceState::Claimed)) => Tone::Plain,
        };
        vec![
            Cell::maybe(self.device_id.as_ref()),
            Cell::new(state_text(self)).toned(tone),
            addresses(&self.ipv4, reader),
            Cell::new(self.port),
            Cell::maybe(self.version.as_ref()),
            Cell::maybe(self.fingerprint),
            Cell::new(&self.host),
            Cell::maybe(self.server),
            addresses(&self.ipv6, reader),
            Cell::new(&self.name),
        ]
    }

    fn name(&self) -> String {
        self.device_id.as_ref().map_or_else(|| self.name.to_string(), ToString::to_string)
    }
}

fn addresses(addresses: &[std::net::IpAddr], reader: Reader) -> Cell {
    match (reader, addresses) {
        (_, []) => Cell::default(),
        (Reader::Person { narrow: true, .. }, [first, _, ..]) => {
            Cell::new(format!("{first} +{}", addresses.len() - 1))
        }
        _ => {
            let all: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            Cell::new(all.join(" "))
        }
    }
}

/// A device for tests.
#[cfg(test)]
pub(super) fn example(id: &str, state: DeviceState) -> Discovered {
    use crate::identity::PrivateKey;
    use crate::untrusted::Untrusted;

    let key = PrivateKey::from_seed(&[u8::try_from(id.len()).unwrap(); 32]).public();
    Discovered {
        name: Untrusted::new(format!("fleetd-{id}._fleetd._tcp.local.")),
        host: "raspberrypi.local".into(),
        ipv4: vec!["192.168.1.100".parse().unwrap()],
        ipv6: Vec::new(),
        port: 6789,
        device_id: id.parse().ok(),
        version: Some("0.1.0".into()),
        state: Some(state),
        claim: Some(ClaimMode::Open),
        fingerprint: Some(key.fingerprint()),
        server: None,
        conflict: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::listed::Format;
    use crate::cli::output::Terminal;
    use crate::cli::testing::{HOSTILE, assert_harmless, written};
    use crate::untrusted::Untrusted;
    use clap::ValueEnum as _;

    #[test]
    fn a_table_shows_all_that_is_known() {
        let devices = [
            example("rpi4-001", DeviceState::Unclaimed),
            Discovered { conflict: true, ..example("jetson-002", DeviceState::Claimed) },
        ];
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.list(&devices).unwrap();
        let text = out.text();
        for shown in ["rpi4-001", "unclaimed (open)", "192.168.1.100", "6789", "0.1.0"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(text.contains("conflict"), "{text}");
        assert!(text.contains(&devices[0].fingerprint.unwrap().to_string()), "{text}");
    }

    #[test]
    fn nothing_found_is_an_empty_list() {
        let (mut output, out, _) = written(Format::Json, Terminal::default());
        output.list::<Discovered>(&[]).unwrap();
        assert_eq!(out.text(), "[]\n");
    }

    #[test]
    fn hostile_devices_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, _) = written(*format, terminal);
            for text in HOSTILE {
                let hostile = || Untrusted::from(*text);
                let device = Discovered {
                    name: hostile(),
                    host: hostile(),
                    version: Some(hostile()),
                    device_id: None,
                    ..example("x", DeviceState::Unclaimed)
                };
                output.live_row(&device).unwrap();
                output.list(&[device]).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
