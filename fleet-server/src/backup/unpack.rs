//! What a backup holds, as a folder that a server can be started on.
//!
//! A folder is filled beside the place where it is to be, opened as a store, and read from the
//! first row to the last chunk. Only when all of it is good and on the disk it gets its name, by
//! one rename: a crash before that leaves a folder that nobody takes for a server's, and the next
//! attempt removes.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fleet_core::disk::Folder;
use fleet_core::untrusted::escaped;

use super::format::{self, BackupError, Begin, Contents, Piece};
use crate::keyring::SERVER_KEY_FILE;
use crate::place::exchange;
use crate::series::backup::Read;
use crate::store::revoked::{List, REVOKED_FILE, RevokedError};
use crate::store::{
    BALLAST_FILE, Failure, Loader, OpenError, RedbStore, StoreError, StoreHealth, TELEMETRY_FOLDER,
};

/// Says of a folder that it is one of ours in the making.
const MARK: &str = "restoring";

/// What was restored, or could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// What the backup says of itself.
    pub(crate) begin: Begin,
    /// How much there was.
    pub(crate) contents: Contents,
    /// What of telemetry was read.
    pub(crate) telemetry: Read,
    /// What cannot be read, because it was damaged when the backup was taken.
    pub(crate) damage: Option<String>,
    /// Lists of what was revoked, beside the backup's own, that were taken in.
    pub(crate) lists: Vec<PathBuf>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Something is where it should be.
    #[error("{} is not empty: there is {} in it", folder.display(), escaped(name))]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// What is in it.
        name: String,
    },
    /// Not a folder.
    #[error("{} is not a folder", .0.display())]
    NoFolder(PathBuf),
    /// The name of the database is another.
    #[error("the backup is of a database called {}, and the server's key is bound to that name", escaped(.0))]
    OtherName(String),
    /// The database that was made of it.
    #[error("what is in it makes no database")]
    Load(#[from] Failure),
    /// It cannot be opened.
    #[error("what is in it cannot be opened")]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error("what is in it cannot be read")]
    Store(#[from] StoreError),
    /// A list of what was revoked.
    #[error("cannot take in {}", path.display())]
    Revoked {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: RevokedError,
    },
    /// A part is not there at all.
    #[error("what is in it is not a whole server: {0} is missing")]
    Missing(&'static str),
    /// The disk.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Io { action, path, source }
}

/// Unpacks a backup into a folder of its own, reads all there is, and removes it again.
pub(crate) fn verify(backup: &Path, beside: &Path) -> Result<Restored, UnpackError> {
    let number = std::process::id();
    let draft = Draft::create(beside.join(format!("fleetd-verify-{number}")))?;
    draft.fill(backup, &[], |begin| Ok(draft.folder.join(plain(&begin.database)?)))
}

/// Unpacks a backup so that a server can be started on `database`, whose folder is not there, or has
/// a list of what was revoked in it at most. That list stays, and `old` may be a folder with another:
/// the one where the server's data was before.
pub(crate) fn restore(
    backup: &Path,
    database: &Path,
    old: Option<&Path>,
) -> Result<Restored, UnpackError> {
    let database = std::path::absolute(database).map_err(io_error("find", database))?;
    let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else {
        return Err(UnpackError::NoFolder(database));
    };
    let (Some(above), Some(folder_name)) = (folder.parent(), folder.file_name()) else {
        return Err(UnpackError::NoFolder(folder.to_owned()));
    };
    let has_list = check_empty(folder)?;
    let lists: Vec<&Path> = has_list.then_some(folder).into_iter().chain(old).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(above).map_err(io_error("make", above))?;
    let mut draft_name = OsString::from(folder_name);
    draft_name.push(".restoring");
    let draft = Draft::create(folder.with_file_name(draft_name))?;
    let restored = draft.fill(backup, &lists, |begin| {
        if name == begin.database.as_str() {
            Ok(draft.folder.join(name))
        } else {
            Err(UnpackError::OtherName(begin.database.clone()))
        }
    })?;
    draft.publish(folder, above)?;
    Ok(restored)
}

/// A name without a way in it.
fn plain(name: &str) -> Result<&str, BackupError> {
    let is_plain = Path::new(name).file_name().is_some_and(|plain| plain == name)
        && ![TELEMETRY_FOLDER, SERVER_KEY_FILE, REVOKED_FILE, BALLAST_FILE, MARK].contains(&name);
    if is_plain { Ok(name) } else { Err(BackupError::Foreign) }
}

/// Refuses a folder in which anything is but a list of what was revoked. Says whether that is.
fn check_empty(folder: &Path) -> Result<bool, UnpackError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(UnpackError::NoFolder(folder.to_owned()));
        }
        Err(error) => return Err(io_error("look at", folder)(error)),
    };
    let mut has_list = false;
    for entry in entries {
        let name = entry.map_err(io_error("look at", folder))?.file_name();
        if name != REVOKED_FILE {
            let name = name.to_string_lossy().into_owned();
            return Err(UnpackError::NotEmpty { folder: folder.to_owned(), name });
        }
        has_list = true;
    }
    Ok(has_list)
}

/// A folder in the making, removed when it is dropped before it has its name.
struct Draft {
    folder: PathBuf,
}

impl Draft {
    /// Makes it, in place of one that was left behind.
    fn create(folder: PathBuf) -> Result<Self, UnpackError> {
        match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("look at", &folder)(error)),
            Ok(_) if folder.join(MARK).is_file() => {
                fs::remove_dir_all(&folder).map_err(io_error("remove", &folder))?;
            }
            // Where it has a list in it, that stays, and somebody has to look.
            Ok(_) => check_empty(&folder)
                .and_then(|_| fs::remove_dir(&folder).map_err(io_error("remove", &folder)))?,
        }
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(&folder).map_err(io_error("make", &folder))?;
        let draft = Self { folder };
        let mark = draft.folder.join(MARK);
        File::create_new(&mark).map_err(io_error("make", &mark))?;
        Ok(draft)
    }

    /// Puts in what a backup holds, and reads all of it.
    fn fill(
        &self,
        backup: &Path,
        lists: &[&Path],
        database: impl FnOnce(&Begin) -> Result<PathBuf, UnpackError>,
    ) -> Result<Restored, UnpackError> {
        let (begin, contents) = format::read_through(backup)?;
        let path = database(&begin)?;
        self.unpack(backup, &path)?;
        let lists = self.take_in(lists, &begin)?;
        let store = RedbStore::open_existing(&path)?;
        let (telemetry, health) = store.read_all()?;
        let audit = store.audit_verify(None)?;
        drop(store);
        let damage = match (health, audit) {
            (StoreHealth::Degraded(what), _) => Some(what),
            (StoreHealth::Healthy, Some(Err(broken))) => {
                Some(format!("the audit record is not as it was written: {broken}"))
            }
            (StoreHealth::Healthy, Some(Ok(_)) | None) => None,
        };
        Ok(Restored { begin, contents, telemetry, damage, lists })
    }

    fn unpack(&self, backup: &Path, database: &Path) -> Result<(), UnpackError> {
        let telemetry = self.folder.join(TELEMETRY_FOLDER);
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(&telemetry).map_err(io_error("make", &telemetry))?;
        let mut loader = Loader::create(database)?;
        let mut current: Option<(PathBuf, File)> = None;
        let mut has_key = false;
        let mut revoked: Option<(PathBuf, File)> = None;
        format::read(backup, &mut |piece| {
            match piece {
                Piece::Begin(_) | Piece::End(_) => {}
                Piece::Key(bytes) => {
                    let path = self.folder.join(SERVER_KEY_FILE);
                    let mut file = create(&path)?;
                    let written = file.write_all(bytes).and_then(|()| file.sync_all());
                    written.map_err(io_error("write", &path))?;
                    has_key = true;
                }
                Piece::Revoked(bytes) => {
                    let (path, mut file) = match revoked.take() {
                        Some(open) => open,
                        None => {
                            let path = self.folder.join(REVOKED_FILE);
                            let file = create(&path)?;
                            (path, file)
                        }
                    };
                    file.write_all(bytes).map_err(io_error("write", &path))?;
                    revoked = Some((path, file));
                }
                Piece::Rows { table, rows } => loader.put(table, &rows)?,
                Piece::File { name, offset, bytes } => {
                    let path = telemetry.join(name);
                    let file = match current.take() {
                        Some((open, file)) if open == path => file,
                        before => {
                            before.map_or(Ok(()), sync)?;
                            create(&path)?
                        }
                    };
                    file.write_all_at(bytes, offset).map_err(io_error("write", &path))?;
                    current = Some((path, file));
                }
            }
            Ok::<(), UnpackError>(())
        })?;
        current.map_or(Ok(()), sync)?;
        revoked.map_or(Ok(()), sync)?;
        loader.finish()?;
        if !has_key {
            return Err(UnpackError::Missing(SERVER_KEY_FILE));
        }
        sync_folder(&telemetry)
    }

    /// Takes in what the lists in other folders say, which may be older or newer than the backup's own.
    fn take_in(&self, folders: &[&Path], begin: &Begin) -> Result<Vec<PathBuf>, UnpackError> {
        let bad = |folder: &Path| {
            let path = folder.join(REVOKED_FILE);
            move |source| UnpackError::Revoked { path, source }
        };
        let open = |folder: &Path| Folder::open_existing(folder).map_err(io_error("open", folder));
        let draft = open(&self.folder)?;
        let mut all = List::read_in(&draft).map_err(bad(&self.folder))?.unwrap_or_default();
        let mut taken = Vec::new();
        for folder in folders {
            let list = List::read_in(&open(folder)?).map_err(bad(folder))?;
            let Some(list) = list else { continue };
            let is_ours =
                list.owner().is_none_or(|owner| owner.identity().to_string() == begin.server);
            if !is_ours {
                return Err(bad(folder)(RevokedError::OtherServer));
            }
            all.merge(list);
            taken.push(folder.join(REVOKED_FILE));
        }
        if !taken.is_empty() {
            all.write(&draft).map_err(io_error("write", &self.folder.join(REVOKED_FILE)))?;
        }
        Ok(taken)
    }

    /// Gives the folder its name, in place of an empty one, or one with a list that was taken in.
    fn publish(mut self, target: &Path, above: &Path) -> Result<(), UnpackError> {
        sync_folder(&self.folder.join(TELEMETRY_FOLDER))?;
        sync_folder(&self.folder)?;
        if check_empty(target)? {
            // At no moment there is no list; the old one goes with the draft.
            exchange(&self.folder, target).map_err(io_error("make", target))?;
            if let Err(not_empty) = check_empty(&self.folder) {
                exchange(&self.folder, target).map_err(io_error("make", target))?;
                return Err(not_empty);
            }
        } else {
            // An empty folder is replaced, and no other.
            fs::rename(&self.folder, target).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                    check_empty(target).err().unwrap_or_else(|| io_error("make", target)(error))
                }
                _ => io_error("make", target)(error),
            })?;
            self.folder = PathBuf::new();
        }
        sync_folder(above)?;
        // Nobody minds it where it is now, if a crash leaves it there.
        let mark = target.join(MARK);
        fs::remove_file(&mark).map_err(io_error("remove", &mark))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.folder.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(path = %self.folder.display(), %error, "an unfinished folder stays");
        }
    }
}

fn create(path: &Path) -> Result<File, UnpackError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map_err(io_error("make", path))
}

fn sync((path, file): (PathBuf, File)) -> Result<(), UnpackError> {
    file.sync_all().map_err(io_error("write", &path))
}

fn sync_folder(folder: &Path) -> Result<(), UnpackError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}
