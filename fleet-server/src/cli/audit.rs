//! `fleets audit`: what was asked for, by whom and why, and what came of it; and whether that record
//! is as it was written.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::api::{AuditAction, AuditKind, AuditRecord};
use fleet_core::audit::{Broken, Verified};
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{self, FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::glyph::Tone;
use fleet_core::identity::ServerIdentity;
use fleet_core::operator::audit::{AuditError, AuditQuery};
use fleet_core::operator::exit::Exit;
use fleet_core::secret::ApiKey;
use fleet_core::time::Timestamp;
use serde::Serialize;

use super::export;
use super::newest::{Period, newest};
use crate::store::RedbStore;

/// Records unless told otherwise.
const COUNT_USUAL: NonZeroUsize = NonZeroUsize::new(100).expect("a hundred is not nothing");
/// Between two words about how far a chain has come, in records.
const PROGRESS_STEP: u64 = 1_000;

/// Which records.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    period: Period,
    /// Only of this actor: operator, enrol, device, server, nobody, or a key by its id or label
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Only this action, such as device.delete, or device for all that begin so
    #[arg(long, value_parser = action, value_name = "ACTION")]
    action: Option<String>,
    /// Only about this device, by id or uid
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// The columns of the table or csv, such as timestamp,text
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = listed::column::<Record>,
        value_name = "COLUMN,…"
    )]
    columns: Vec<usize>,
    /// Records at most
    #[arg(long = "limit", default_value_t = COUNT_USUAL, value_name = "N")]
    count_max: NonZeroUsize,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Compute the whole record anew, and say whether it is as it was written
    ///
    /// Every record holds the hash of the one before, and the server signs the newest. What was
    /// removed, changed, added or moved is found, and the number of the first such record is named.
    Verify {
        /// Read this database, which no server has open, rather than ask a server
        #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "api_key", "context"])]
        database: Option<PathBuf>,
    },
}

/// Runs the command.
pub(super) fn run(args: AuditArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| match args.action {
        None => list(args.list, &args.server, output).await,
        Some(Action::Verify { database: None }) => verify(&args.server, output).await,
        Some(Action::Verify { database: Some(path) }) => verify_closed(path, output).await,
    })
}

async fn list(
    args: ListArgs,
    server: &ServerChoice,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let client = server.client(output)?;
    let query = args.query();
    let page = async |limit, before| {
        client.audit_list(&AuditQuery { before, limit: Some(limit), ..query.clone() }).await
    };
    let found = newest(args.count_max.get(), |record| record.seq, page).await?;
    let records: Vec<_> = found.into_iter().map(Record).collect();
    output.list_under(&args.columns, &records)?;
    if records.is_empty() {
        return Err(Failure::new(Exit::NothingFound, "no such records"));
    }
    Ok(Exit::Done)
}

impl ListArgs {
    fn query(&self) -> AuditQuery {
        let (since, until) = self.period.ends();
        AuditQuery {
            device_id: self.device.clone(),
            action: self.action.clone(),
            actor: self.actor.clone(),
            since,
            until,
            ..AuditQuery::default()
        }
    }
}

async fn verify(server: &ServerChoice, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = server.client(output)?;
    let mut told = Ok(());
    let verified = client
        .audit_verify(|seq| {
            if seq % PROGRESS_STEP == 0 && told.is_ok() {
                told = output.progress(&format!("{seq} records"));
            }
        })
        .await;
    told?;
    output.progress("")?;
    match verified {
        Ok(verified) => tell(verified, output),
        Err(AuditError::Client(error)) => Err(error.into()),
        Err(AuditError::Broken(why)) => Err(broken(&why)),
        Err(error @ AuditError::Answer(_)) => Err(Failure::new(Exit::Failed, error.to_string())),
    }
}

async fn verify_closed(path: PathBuf, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let path = std::path::absolute(&path).unwrap_or(path);
    let store = RedbStore::open_existing(&path).map_err(|error| export::closed(error, &path))?;
    let expected = neighbour(&path);
    let work = move || store.audit_verify(expected);
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("the audit record cannot be read: {error}"))
    };
    let verified = tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?;
    match verified.map_err(|error| failed(&error))? {
        Some(Ok(verified)) => tell(verified, output),
        Some(Err(why)) => Err(broken(&why)),
        None => Err(Failure::new(Exit::NothingFound, "the database is no server's yet")),
    }
}

/// The server that the admin key beside a database names.
fn neighbour(database: &Path) -> Option<ServerIdentity> {
    let text = fs::read_to_string(database.with_file_name("admin.key")).ok()?;
    text.trim().parse::<ApiKey>().ok()?.server()
}

fn tell(verified: Verified, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let signed = verified.signed.as_ref().map(|point| point.seq);
    let last = verified.last;
    output.one(&Whole::of(verified))?;
    output.note(&match signed {
        _ if last == 0 => "There are no records yet.".to_owned(),
        Some(seq) if seq == last => "Every record is as it was written, and signed.".to_owned(),
        Some(seq) => {
            format!("Every record is as it was written; those after {seq} are not signed yet.")
        }
        None => "Every record is as it was written; none is signed yet.".to_owned(),
    })?;
    Ok(Exit::Done)
}

fn broken(why: &Broken) -> Failure {
    Failure::new(Exit::Failed, format!("the audit record is not as it was written: {why}"))
}

fn action(text: &str) -> Result<String, String> {
    if AuditAction::named(text).is_empty() {
        let known: Vec<_> = AuditAction::ALL.iter().map(|action| action.word()).collect();
        return Err(format!("must be one of {}, or its first part", known.join(", ")));
    }
    Ok(text.to_owned())
}

/// A record in a list.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Record(AuditRecord);

impl Listed for Record {
    const COLUMNS: &'static [Column] = &[
        Column::new("TIMESTAMP", 20),
        Column::new("ACTOR", 12),
        Column::new("ACTION", 14),
        Column::new("TARGET", 16),
        Column::new("STATUS", 6).of_numbers(),
        Column::new("TEXT", 30),
        Column::spare("REASON", 20, 1),
        Column::spare("KIND", 7, 2),
        Column::spare("PEER", 15, 3),
        Column::spare("SEQ", 6, 4).of_numbers(),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(AuditRecord { seq, entry, .. }) = self;
        let target = match (entry.targets.first(), entry.target_count) {
            (None, _) => None,
            (Some(one), 1) => Some(one.to_string()),
            // A device goes by two names.
            (Some(one), 2) => Some(one.to_string()),
            (Some(one), count) => Some(format!("{one} and {} more", count - 1)),
        };
        vec![
            reader.moment(entry.timestamp),
            Cell::new(&entry.actor),
            Cell::new(&entry.action),
            Cell::maybe(target),
            Cell::maybe(entry.status).toned(tone(self)),
            Cell::new(&entry.text),
            Cell::maybe(entry.reason.as_ref()),
            Cell::new(entry.kind.word()),
            Cell::maybe(entry.peer.as_ref()),
            Cell::new(seq),
        ]
    }

    fn name(&self) -> String {
        self.0.seq.to_string()
    }
}

fn tone(Record(record): &Record) -> Tone {
    match (record.entry.kind, record.entry.status) {
        (_, Some(200..400)) => Tone::Good,
        (_, Some(_)) => Tone::Bad,
        (AuditKind::Outcome, None) => Tone::Warn,
        (AuditKind::Intent | AuditKind::Single, None) => Tone::Plain,
    }
}

/// A record that is as it was written.
#[derive(Debug, Serialize)]
struct Whole {
    server: ServerIdentity,
    records: u64,
    first: u64,
    last: u64,
    open: u64,
    signed_seq: Option<u64>,
    signed_hash: Option<String>,
    signed_at: Option<Timestamp>,
}

impl Whole {
    fn of(verified: Verified) -> Self {
        let Verified { server, first, last, records, open, signed } = verified;
        Self {
            server,
            records,
            first,
            last,
            open,
            signed_seq: signed.as_ref().map(|point| point.seq),
            signed_hash: signed.as_ref().map(|point| point.hash.to_string()),
            signed_at: signed.map(|point| point.timestamp),
        }
    }
}

impl Listed for Whole {
    const COLUMNS: &'static [Column] = &[
        Column::new("SERVER", 23),
        Column::new("RECORDS", 8).of_numbers(),
        Column::new("FIRST", 6).of_numbers(),
        Column::new("LAST", 6).of_numbers(),
        Column::new("OPEN", 6).of_numbers(),
        Column::new("SIGNED", 6).of_numbers(),
        Column::new("SIGNED AT", 20),
        Column::spare("SIGNED HASH", 64, 1),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        vec![
            Cell::new(self.server),
            Cell::new(self.records),
            Cell::new(self.first),
            Cell::new(self.last),
            Cell::new(self.open),
            Cell::maybe(self.signed_seq),
            reader.time(self.signed_at),
            Cell::maybe(self.signed_hash.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.last.to_string()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, ValueEnum as _};
    use fleet_core::api::{AuditActor, AuditEntry, AuditHash};
    use fleet_core::audit::follow;
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};

    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: AuditArgs,
    }

    fn record(text: &str) -> Record {
        let entry = AuditEntry {
            timestamp: Timestamp::from_millis(1_705_314_600_123),
            kind: AuditKind::Outcome,
            intent: Some(6),
            request_id: text.into(),
            actor: AuditActor { label: Some(text.into()), ..AuditActor::bare("operator") },
            via: "key".into(),
            peer: Some(text.into()),
            action: "device.delete".into(),
            targets: vec![text.into()],
            target_count: 1,
            body_sha256: None,
            reason: Some(text.into()),
            status: Some(200),
            text: text.into(),
        };
        Record(follow(7, entry, AuditHash::default()).unwrap())
    }

    #[test]
    fn actions_are_words_or_their_first_part() {
        let query = |action: &str| {
            let call = Call::try_parse_from(["audit", "--action", action])?;
            Ok::<_, clap::Error>(call.args.list.query().action)
        };
        assert_eq!(query("device").unwrap().as_deref(), Some("device"));
        let refusal = query("device.gone").unwrap_err().to_string();
        assert!(refusal.contains("device.delete"), "{refusal}");
    }

    #[test]
    fn a_record_is_a_line() {
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.list(&[record("x")]).unwrap();
        let line = out.text().lines().nth(1).unwrap().to_owned();
        for part in ["2024-01-15T10:30:00Z  operator:x  device.delete  x", "200", "outcome"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn hostile_records_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, _) = written(*format, terminal);
            for text in HOSTILE {
                output.list(&[record(text)]).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
