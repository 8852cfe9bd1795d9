//! What is said of a backup: what it is, why it was not taken, why it is no good.

use std::fs;
use std::io;
use std::path::Path;

use fleet_core::Chain;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{Listed, Reader};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::operator::client::ClientError;
use fleet_core::operator::exit::Exit;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use serde::Serialize;

use crate::backup::{BackupError, Begin, Contents, Restored, UnpackError};
use crate::cli::db::size;
use crate::store::revoked::RevokedError;

/// A backup, or what was made of it.
#[derive(Debug, Serialize)]
pub(super) struct About {
    file: String,
    taken_at: Timestamp,
    release: Untrusted,
    server: Untrusted,
    database: Untrusted,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    rows: u64,
    telemetry_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reports: Option<u64>,
}

impl About {
    /// One that was just taken.
    pub(super) fn taken(file: &Path, begin: Begin, contents: Contents) -> Self {
        Self {
            file: file.display().to_string(),
            taken_at: Timestamp::from_millis(begin.at_millis),
            release: Untrusted::new(begin.release),
            server: Untrusted::new(begin.server),
            database: Untrusted::new(begin.database),
            bytes: fs::metadata(file).ok().filter(fs::Metadata::is_file).map(|file| file.len()),
            rows: contents.rows,
            telemetry_bytes: contents.file_bytes,
            chunks: None,
            reports: None,
        }
    }

    /// One of which everything was read.
    pub(super) fn read(file: &Path, restored: Restored) -> Self {
        let Restored { begin, contents, telemetry, damage: _, lists: _ } = restored;
        Self {
            chunks: Some(telemetry.chunks),
            reports: Some(telemetry.reports),
            ..Self::taken(file, begin, contents)
        }
    }
}

impl Listed for About {
    const COLUMNS: &'static [Column] = &[
        Column::new("FILE", 30),
        Column::new("TAKEN", 20),
        Column::new("RELEASE", 8),
        Column::new("SERVER", 20),
        Column::new("DATABASE", 10),
        Column::new("SIZE", 10).of_numbers(),
        Column::new("ROWS", 8).of_numbers(),
        Column::new("TELEMETRY", 10).of_numbers(),
        Column::new("CHUNKS", 8).of_numbers(),
        Column::new("REPORTS", 8).of_numbers(),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        vec![
            Cell::new(&self.file),
            reader.time(Some(self.taken_at)),
            Cell::new(&self.release),
            Cell::new(&self.server),
            Cell::new(&self.database),
            Cell::maybe(self.bytes.map(|bytes| size(reader, bytes))),
            Cell::new(self.rows),
            Cell::new(size(reader, self.telemetry_bytes)),
            Cell::maybe(self.chunks),
            Cell::maybe(self.reports),
        ]
    }

    fn name(&self) -> String {
        self.file.clone()
    }
}

/// Why what came was not written.
pub(super) fn not_written(error: &io::Error, target: &Path) -> Failure {
    let text = format!("cannot write {}: {}", target.display(), Chain(error));
    Failure::new(Exit::Failed, text).hint("nothing of it was kept")
}

/// Why what came is of no use.
pub(super) fn broken_off(error: BackupError) -> Failure {
    let exit = match error {
        BackupError::Cut(_) | BackupError::Foreign => Exit::Unreachable,
        _ => Exit::Failed,
    };
    Failure::new(exit, format!("the backup broke off: {}", Chain(&error)))
        .hint("nothing of it was kept; the server's log says why, if it was not stopped")
}

/// Why nothing more came.
pub(super) fn interrupted(error: ClientError) -> Failure {
    Failure::new(error.exit(), format!("the backup broke off: {}", Chain(&error)))
        .hint("nothing of it was kept; try again")
}

/// Why a backup is no good.
pub(super) fn bad(error: &UnpackError, file: &Path) -> Failure {
    let told = |exit| Failure::new(exit, format!("{}: {}", file.display(), Chain(error)));
    match error {
        UnpackError::Backup(BackupError::Io(source)) => match source.kind() {
            io::ErrorKind::NotFound => {
                Failure::new(Exit::NothingFound, format!("there is no file {}", file.display()))
            }
            io::ErrorKind::PermissionDenied => told(Exit::NotAllowed),
            _ => told(Exit::Failed),
        },
        UnpackError::NotEmpty { .. } | UnpackError::NoFolder(_) => {
            Failure::new(Exit::Conflict, Chain(error).to_string())
        }
        UnpackError::OtherName(_) => told(Exit::Usage),
        UnpackError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotAllowed, Chain(error).to_string())
        }
        UnpackError::Io { .. } => Failure::new(Exit::Failed, Chain(error).to_string()),
        _ => told(Exit::Failed),
    }
}

/// That some of a backup cannot be read.
pub(super) fn damaged(damage: &str, file: &Path) -> Failure {
    let text = format!("{}: damaged when it was taken: {damage}", file.display());
    Failure::new(Exit::Failed, text)
}

/// Why nothing was restored.
pub(super) fn not_restored(error: &UnpackError, file: &Path) -> Failure {
    let failure = bad(error, file);
    match error {
        UnpackError::NotEmpty { .. } => failure.hint(
            "nothing was changed; give a folder that is empty or not there yet, or move away \
             what is in this one",
        ),
        UnpackError::Revoked { source: RevokedError::Io(_), .. } => {
            failure.hint("nothing was restored; --old names the folder of the server's old data")
        }
        UnpackError::Revoked { .. } => failure.hint(
            "nothing was restored; give a good copy of it, or leave it out and revoke anew what \
             must not come in",
        ),
        UnpackError::OtherName(name) => {
            failure.hint(format!("nothing was changed; give a path that ends with {name}"))
        }
        UnpackError::Io { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
            failure.hint("a disk is mounted there: give a folder in it")
        }
        _ => failure.hint("nothing was restored"),
    }
}
