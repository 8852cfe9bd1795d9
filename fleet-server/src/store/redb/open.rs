//! Opening the database file, for the first time and again after it failed.
//!
//! Whatever the file holds, the outcome is a database or a sentence: redb may panic over a file
//! that was altered, so it is called inside a net. Only the first opening may make a new file;
//! after a failure a missing or empty one is a loss, not a fresh start.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use super::contain;
use super::damage::DamageLog;
use super::migrate::{Migrated, SCHEMA_CURRENT, migrate};
use super::tables::{Fault, Writing};
use crate::store::{Failure, OpenError};

/// Memory for pages of the file; redb's own default is a gigabyte.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Where a database is, and how to open it.
pub(super) struct Opener {
    path: PathBuf,
    backend: Box<dyn Fn(Occasion) -> Result<Database, OpenError> + Send + Sync>,
}

/// Why a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The store starts; there may be no database yet.
    Start,
    /// There must be one: the store runs and its database failed, or somebody wants to see it.
    Failure,
}

impl Opener {
    /// A database in a file.
    pub(super) fn file(path: &Path) -> Self {
        let file = path.to_owned();
        let backend = move |occasion| {
            let opened = open_file(&file, occasion)?;
            let backend = FileBackend::new(opened).map_err(|error| refusal(&file, error))?;
            create(&file, backend)
        };
        Self { path: path.to_owned(), backend: Box::new(backend) }
    }

    /// A database in whatever the function returns, each time it is opened.
    pub(super) fn backend<B: StorageBackend>(make: impl Fn() -> B + Send + Sync + 'static) -> Self {
        let path = PathBuf::from("(in memory)");
        let name = path.clone();
        Self { path, backend: Box::new(move |_| create(&name, make())) }
    }

    /// Opens the database, brings its schema up to date, and shows by a commit that it can write.
    pub(super) fn open(
        &self,
        occasion: Occasion,
        damage: &DamageLog,
    ) -> Result<Database, OpenError> {
        let database = contain(|| (self.backend)(occasion))
            .unwrap_or_else(|panic| Err(self.damaged(panic)))?;
        // A panic may leave the database unusable, so it is dropped inside the net too.
        contain(move || self.prepare(database, occasion, damage))
            .unwrap_or_else(|panic| Err(self.damaged(panic)))
    }

    fn prepare(
        &self,
        database: Database,
        occasion: Occasion,
        damage: &DamageLog,
    ) -> Result<Database, OpenError> {
        let txn = super::writer::begin(&database).map_err(|error| self.failed(error))?;
        let migrated = migrate(&Writing { txn: &txn, damage }).map_err(|fault| match fault {
            Fault::Refused(error) => self.damaged(Failure::Storage(error.into())),
            Fault::Storage(error) => self.failed(error),
        })?;
        match migrated {
            Migrated::Newer(found) => {
                let path = self.path.clone();
                return Err(OpenError::Newer { path, found, known: SCHEMA_CURRENT });
            }
            Migrated::New if occasion == Occasion::Failure => {
                return Err(OpenError::NotADatabase(self.path.clone()));
            }
            Migrated::New | Migrated::Known => {}
        }
        txn.commit().map_err(|error| self.failed(error.into()))?;
        Ok(database)
    }

    fn damaged(&self, source: Failure) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), source: Box::new(source) }
    }

    fn failed(&self, error: redb::Error) -> OpenError {
        match error {
            redb::Error::Io(source) => io_refusal(&self.path, source),
            error => self.damaged(Failure::Storage(error.into())),
        }
    }
}

fn create(path: &Path, backend: impl StorageBackend) -> Result<Database, OpenError> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(|error| refusal(path, error))
}

fn open_file(path: &Path, occasion: Occasion) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let refused = |source| io_refusal(path, source);
    if occasion == Occasion::Failure || path.exists() {
        let file = options.open(path).map_err(refused)?;
        let is_empty = file.metadata().map_err(refused)?.len() == 0;
        return if is_empty { Err(OpenError::Empty(path.to_owned())) } else { Ok(file) };
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| {
        if source.kind() == io::ErrorKind::PermissionDenied {
            return OpenError::Permission { path: folder.to_owned(), source };
        }
        OpenError::Folder { path: folder.to_owned(), source }
    })?;
    let file = options.create(true).mode(0o600).open(path).map_err(refused)?;
    // The file's name must survive a power cut as its contents do.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
    Ok(file)
}

fn refusal(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse(path.to_owned())
        }
        DatabaseError::Storage(StorageError::Io(source)) => io_refusal(path, source),
        error => {
            let source = Box::new(Failure::Storage(error.into()));
            OpenError::Damaged { path: path.to_owned(), source }
        }
    }
}

pub(super) fn io_refusal(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        // How redb says that a file does not begin as its files do.
        io::ErrorKind::InvalidData => OpenError::NotADatabase(path),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            OpenError::Damaged { path, source: Box::new(Failure::Storage(source.into())) }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::Permission { path, source }
        }
        _ => OpenError::Io { path, source },
    }
}
