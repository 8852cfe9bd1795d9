//! Opening the database file, for the first time and again after it failed.
//!
//! Whatever the file holds, the outcome is a database or a sentence: redb may panic over a file
//! that was altered, so it is called inside a net. Only the first opening may make a new file, and
//! that gets its name when a database is in it, so that no power cut leaves half of one; after a
//! failure a missing or empty one is a loss, not a fresh start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use super::contain;
use super::damage::DamageLog;
use super::migrate::{Migrated, SCHEMA_CURRENT, migrate};
use super::tables::{Fault, Writing};
use crate::place::rename_anew;
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
            if occasion == Occasion::Failure || file.exists() {
                let opened = open_file(&file)?;
                let backend = FileBackend::new(opened).map_err(|error| refusal(&file, error))?;
                return create(&file, backend);
            }
            // A link may lead to where the file is to be.
            let linked = fs::read_link(&file);
            create_file(&linked.map_or_else(|_| file.clone(), |to| file.with_file_name(to)))
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
        let migrated = migrate(&Writing::new(&txn, damage)).map_err(|fault| match fault {
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

fn open_file(path: &Path) -> Result<File, OpenError> {
    let refused = |source| io_refusal(path, source);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(refused)?;
    let is_empty = file.metadata().map_err(refused)?.len() == 0;
    if is_empty { Err(OpenError::Empty(path.to_owned())) } else { Ok(file) }
}

/// Makes a database where none is.
fn create_file(path: &Path) -> Result<Database, OpenError> {
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
    let refused = |source| io_refusal(path, source);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&new).map_err(refused)?;
    // Whoever has the lock is alone with it, and may remove what a crash left.
    let backend = FileBackend::new(file).map_err(|error| refusal(path, error))?;
    backend.set_len(0).map_err(refused)?;
    let database = create(path, backend)?;
    rename_anew(&new, path).map_err(|error| match error.kind() {
        // Another server was quicker.
        io::ErrorKind::AlreadyExists => OpenError::InUse(path.to_owned()),
        _ => refused(error),
    })?;
    // The name must survive a power cut as the contents do.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
    Ok(database)
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
