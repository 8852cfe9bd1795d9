//! `fleets backup`: a server's whole state in one file, looked at, and put back.
//!
//! A running server is asked; a database that no server has open can be read itself. What comes is
//! written on a thread of its own, read once more from the disk, and gets its name only then.

mod telling;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Subcommand;
use fleet_core::Chain;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::FormatArgs;
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::operator::client::ClientError;
use fleet_core::operator::exit::Exit;
use fleet_core::operator::export::ExportStream;
use fleet_core::time::{Clock as _, SystemClock, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::interval;

use self::telling::About;
use crate::backup;
use crate::cli::db::megabytes;
use crate::cli::export;
use crate::place::{Kind, Place, PlaceError};
use crate::store::RedbStore;

/// Pieces that wait for the writing thread.
const PIECES_WAITING: usize = 4;
/// Between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What to do with which file.
#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take a backup of a server, which goes on meanwhile
    ///
    /// It holds devices, keys (as hashes), configurations, events, telemetry, and the server's own
    /// key, sealed. It does not hold secret.key, which lies beside the database and opens that:
    /// keep a copy of it somewhere else, or the devices have to be claimed anew. For your eyes only.
    Create(CreateArgs),
    /// Read a backup from beginning to end, and everything in it
    ///
    /// For that it is unpacked in the folder for temporary files (TMPDIR), and removed again.
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Put a backup where a server can be started on it; nothing may be there yet
    ///
    /// Only revoked.log may, the list of what was revoked: it stays, and counts.
    Restore {
        /// The backup
        file: PathBuf,
        /// The database to make, with what belongs beside it; its folder must be empty or not there
        #[arg(long, value_name = "FILE")]
        database: PathBuf,
        /// Where the server's data was before: what its revoked.log names stays revoked
        #[arg(long, value_name = "FOLDER")]
        old: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Where to: a file that is not there yet, or a folder; this folder unless given
    #[arg(long, default_value = ".", value_name = "PATH")]
    out: PathBuf,
    /// Read this database, which no server has open, rather than ask a server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "api_key", "context"])]
    database: Option<PathBuf>,
    #[command(flatten)]
    server: ServerChoice,
}

/// Runs the command.
pub(super) fn run(args: BackupArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| match args.action {
        Action::Create(args) => create(args, output).await,
        Action::Verify { file } => verify(file, output).await,
        Action::Restore { file, database, old } => restore(file, database, old, output).await,
    })
}

async fn create(args: CreateArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    if args.out.as_os_str() == "-" {
        let text = "a backup cannot be written to the standard output";
        let hint = "give a file or a folder: a backup is read once more when it is there";
        return Err(Failure::new(Exit::Usage, text).hint(hint));
    }
    let now = SystemClock.now();
    let target =
        if args.out.is_dir() { args.out.join(suggested_name(now)) } else { args.out.clone() };
    let source = Source::open(&args, output).await?;
    let place = Place::take(&target, Kind::Backup, false).map_err(no_place)?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let (told, bytes) = watch::channel(0);
    let part = place.part().to_owned();
    let mut writing = tokio::task::spawn_blocking(move || write(&part, receiver, &told));
    let feeding = source.feed(sender);
    tokio::pin!(feeding);
    let began = Instant::now();
    let mut ticks = interval(LOOK_INTERVAL);
    let mut is_fed = false;
    let written = loop {
        tokio::select! {
            fed = &mut feeding, if !is_fed => {
                fed?;
                is_fed = true;
            }
            written = &mut writing => break written,
            _ = ticks.tick() => {
                let (bytes, secs) = (*bytes.borrow(), began.elapsed().as_secs_f64().max(0.001));
                let rate = megabytes((bytes as f64 / secs) as u64);
                output.progress(&format!("{}  {rate}/s", megabytes(bytes)))?;
            }
        }
    };
    let written = written.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    written.map_err(|error| telling::not_written(&error, &target))?;
    let part = place.part().to_owned();
    let read = working(move || backup::read_through(&part)).await?;
    let (begin, contents) = read.map_err(telling::broken_off)?;
    let path = place.publish().map_err(no_place)?;
    output.progress("")?;
    output.one(&About::taken(&path, begin, contents))?;
    output.note(
        "It does not hold secret.key, which lies beside the database and opens the server's own \
         key: keep a copy of that somewhere else.",
    )?;
    Ok(Exit::Done)
}

async fn verify(file: PathBuf, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let path = file.clone();
    let verified = working(move || backup::verify(&path, &std::env::temp_dir())).await?;
    let restored = verified.map_err(|error| telling::bad(&error, &file))?;
    let damage = restored.damage.clone();
    output.one(&About::read(&file, restored))?;
    match damage {
        None => Ok(Exit::Done),
        Some(damage) => Err(telling::damaged(&damage, &file)
            .hint("a restore leaves out what cannot be read, and has all the rest")),
    }
}

async fn restore(
    file: PathBuf,
    database: PathBuf,
    old: Option<PathBuf>,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let (path, target) = (file.clone(), database.clone());
    let done = working(move || backup::restore(&path, &target, old.as_deref())).await?;
    let restored = done.map_err(|error| telling::not_restored(&error, &file))?;
    let (damage, lists) = (restored.damage.clone(), restored.lists.clone());
    output.one(&About::read(&database, restored))?;
    if let Some(damage) = damage {
        output.note(&format!(
            "Some of it was damaged when the backup was taken, and cannot be read; all else was \
             restored: {damage}"
        ))?;
    }
    output
        .note("Put the old server's secret.key beside it, or start with the same --secret-key.")?;
    for list in &lists {
        output.note(&format!("What {} names stays revoked.", list.display()))?;
    }
    if lists.is_empty() {
        output.note(
            "Keys and devices that were revoked after the backup was taken are good again: revoke \
             them anew, or restore once more with --old and the folder of the server's old data, \
             whose revoked.log names them.",
        )?;
    }
    Ok(Exit::Done)
}

/// Does something on a thread that may block.
async fn working<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Writes what comes.
fn write(
    part: &Path,
    mut pieces: mpsc::Receiver<Bytes>,
    told: &watch::Sender<u64>,
) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(part)?;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
        told.send_modify(|bytes| *bytes += piece.len() as u64);
    }
    file.sync_all()
}

fn no_place(error: PlaceError) -> Failure {
    export::no_place(error, "give another name; none is replaced")
}

/// What a backup of a time is called if nobody says otherwise.
fn suggested_name(now: Timestamp) -> String {
    let digits = |b: &char| b.is_ascii_alphanumeric();
    let seconds = Timestamp::from_millis(now.millis().div_euclid(1_000) * 1_000).to_string();
    format!("fleetd-{}.backup", seconds.chars().filter(digits).collect::<String>())
}

/// Where the pieces come from.
enum Source {
    Server(Box<ExportStream>),
    Database(Box<RedbStore>, PathBuf),
}

impl Source {
    async fn open(args: &CreateArgs, output: &mut Output<'_>) -> Result<Self, Failure> {
        if let Some(path) = &args.database {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            return match RedbStore::open_existing(&path) {
                Ok(store) => Ok(Self::Database(Box::new(store), path)),
                Err(error) => Err(export::closed(error, &path)),
            };
        }
        match args.server.client(output)?.backup().await {
            Ok(stream) => Ok(Self::Server(Box::new(stream))),
            Err(error @ ClientError::Connect { .. }) => Err(Failure::from(error).hint(
                "start it with `fleets server`, name another with --server, or read the database \
                 of one that does not run with --database FILE",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Passes on all pieces, or as many as are taken.
    async fn feed(self, sender: mpsc::Sender<Bytes>) -> Result<(), Failure> {
        match self {
            Self::Server(mut stream) => {
                while let Some(piece) = stream.next().await.map_err(telling::interrupted)? {
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(())
            }
            Self::Database(store, path) => {
                let copied = backup::copy(&*store, &path, SystemClock.now(), sender).await;
                copied.map_err(|error| Failure::new(Exit::Failed, Chain(&error).to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::UnpackError;

    #[test]
    fn a_name_says_when() {
        let now = "2024-01-15T10:30:00.25Z".parse().unwrap();
        assert_eq!(suggested_name(now), "fleetd-20240115T103000Z.backup");
    }

    #[test]
    fn a_target_that_is_there_is_a_conflict_and_a_missing_backup_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("none");
        let missing = backup::verify(&none, folder.path()).unwrap_err();
        assert_eq!(telling::bad(&missing, &none).exit(), Exit::NothingFound);
        let full = UnpackError::NotEmpty { folder: none.clone(), name: "fleet.db".to_owned() };
        assert_eq!(telling::not_restored(&full, &none).exit(), Exit::Conflict);
        assert_eq!(telling::bad(&full, &none).exit(), Exit::Conflict);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
}
