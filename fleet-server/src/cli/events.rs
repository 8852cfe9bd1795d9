//! `fleets events`: what happened in the fleet, newest first.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use fleet_core::api::{EventKind, EventView};
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{self, FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::glyph::Tone;
use fleet_core::operator::client::EventQuery;
use fleet_core::operator::exit::Exit;
use serde::Serialize;

use super::newest::{Period, newest};

/// Events unless told otherwise.
const COUNT_USUAL: NonZeroUsize = NonZeroUsize::new(100).expect("a hundred is not nothing");

/// Which events.
#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Only about this device, by id or uid
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only of these kinds, such as device.offline, or config for all that begin so
    #[arg(long, value_delimiter = ',', value_parser = kind, value_name = "KIND,…")]
    kind: Vec<String>,
    #[command(flatten)]
    period: Period,
    /// The columns of the table or csv, such as timestamp,text
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = listed::column::<Event>,
        value_name = "COLUMN,…"
    )]
    columns: Vec<usize>,
    /// Events at most
    #[arg(long = "limit", default_value_t = COUNT_USUAL, value_name = "N")]
    count_max: NonZeroUsize,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(super) fn run(args: EventsArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| events(args, output).await)
}

async fn events(args: EventsArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    let query = args.query();
    let page = async |limit, before| {
        client.event_list(&EventQuery { before, limit: Some(limit), ..query.clone() }).await
    };
    let found = newest(args.count_max.get(), |event| event.seq, page).await?;
    let events: Vec<_> = found.into_iter().map(Event).collect();
    output.list_under(&args.columns, &events)?;
    if events.is_empty() {
        return Err(Failure::new(Exit::NothingFound, "no such events"));
    }
    Ok(Exit::Done)
}

impl EventsArgs {
    fn query(&self) -> EventQuery {
        let (since, until) = self.period.ends();
        EventQuery {
            device_id: self.device.clone(),
            kind: (!self.kind.is_empty()).then(|| self.kind.join(",")),
            since,
            until,
            ..EventQuery::default()
        }
    }
}

fn kind(text: &str) -> Result<String, String> {
    if EventKind::named(text).is_empty() {
        let known: Vec<_> = EventKind::ALL.iter().map(EventKind::word).collect();
        return Err(format!("must be one of {}, or its first part", known.join(", ")));
    }
    Ok(text.to_owned())
}

/// An event in a list.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Event(EventView);

impl Listed for Event {
    const COLUMNS: &'static [Column] = &[
        Column::new("TIMESTAMP", 20),
        Column::new("KIND", 15),
        Column::new("DEVICE ID", 20),
        Column::new("TEXT", 40),
        Column::spare("ACTOR", 20, 1),
        Column::spare("SEQ", 6, 2).of_numbers(),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(event) = self;
        vec![
            reader.moment(event.timestamp),
            Cell::new(event.kind.word()).toned(tone(event.kind)),
            Cell::maybe(event.device_id.as_ref()),
            Cell::new(&event.text),
            Cell::new(&event.actor),
            Cell::new(event.seq),
        ]
    }

    fn name(&self) -> String {
        self.0.seq.to_string()
    }
}

fn tone(kind: EventKind) -> Tone {
    match kind {
        EventKind::DeviceOffline
        | EventKind::DeviceLost
        | EventKind::ConfigRefused
        | EventKind::ConfigReverted
        | EventKind::CommandFailed
        | EventKind::CommandUnknown
        | EventKind::DbDamaged
        | EventKind::DbDiskFull => Tone::Bad,
        EventKind::DeviceLate
        | EventKind::DevicePending
        | EventKind::CommandExpired
        | EventKind::BatchPaused
        | EventKind::DeviceDoubleSuspected
        | EventKind::CertificateAtRisk => Tone::Warn,
        EventKind::DeviceOnline
        | EventKind::DeviceEnrolled
        | EventKind::DeviceRestored
        | EventKind::ConfigApplied
        | EventKind::CommandSucceeded
        | EventKind::DbDiskFreed => Tone::Good,
        EventKind::ServerStarted
        | EventKind::DeviceAccepted
        | EventKind::DeviceRejected
        | EventKind::DeviceRevoked
        | EventKind::DeviceDeleted
        | EventKind::DeviceUpdated
        | EventKind::DeviceRekeyed
        | EventKind::ConfigSet
        | EventKind::ConfigLayerSet
        | EventKind::CommandQueued
        | EventKind::CommandCancelled
        | EventKind::BatchBegun
        | EventKind::BatchContinued
        | EventKind::BatchDone
        | EventKind::BatchCancelled
        | EventKind::KeyCreated
        | EventKind::KeyRevoked
        | EventKind::DbPruned
        | EventKind::DbBackedUp
        | EventKind::CertificateRenewed
        | EventKind::Later(_) => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, ValueEnum as _};
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use fleet_core::time::Timestamp;

    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: EventsArgs,
    }

    #[test]
    fn kinds_are_words_or_their_first_part() {
        let query = |kinds: &str| {
            let call = Call::try_parse_from(["events", "--kind", kinds])?;
            Ok::<_, clap::Error>(call.args.query().kind)
        };
        let both = "device.late,config";
        assert_eq!(query(both).unwrap().as_deref(), Some(both));
        let refusal = query("device.gone").unwrap_err().to_string();
        assert!(refusal.contains("device.offline"), "{refusal}");
        assert_eq!(Call::parse_from(["events"]).args.query().kind, None);
        assert!(Call::try_parse_from(["events", "--limit", "0"]).is_err());
    }

    fn event(text: &str) -> Event {
        Event(EventView {
            seq: 7,
            timestamp: Timestamp::from_millis(1_705_314_600_123),
            kind: EventKind::DeviceOffline,
            actor: text.into(),
            device_id: Some("rpi4-001".parse().unwrap()),
            uid: None,
            text: text.into(),
        })
    }

    #[test]
    fn an_event_is_a_line() {
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.list(&[event("server")]).unwrap();
        let line = out.text().lines().nth(1).unwrap().to_owned();
        assert_eq!(line, "2024-01-15T10:30:00Z  device.offline  rpi4-001   server  server    7");
        let (mut output, out, _) = written(Format::Csv, Terminal::default());
        output.list(&[event("server")]).unwrap();
        assert!(
            out.text().contains("\n2024-01-15T10:30:00.123Z,device.offline,"),
            "{}",
            out.text()
        );
    }

    #[test]
    fn hostile_events_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, _) = written(*format, terminal);
            for text in HOSTILE {
                output.list(&[event(text)]).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
