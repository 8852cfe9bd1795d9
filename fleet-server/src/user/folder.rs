//! Handing the folder of a database over to another user.
//!
//! Root does it, and what lies in the folder may be the work of somebody who would like root to do
//! more: a link in the place of a file, or a second name of a file elsewhere. So each thing is opened
//! without following anything, looked at by what was opened, and given away by that, too: what its name
//! leads to a moment later does not matter.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fleet_core::untrusted::escaped;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::fchownat;

use super::Account;
use crate::store::TELEMETRY_FOLDER;

/// What a file system has at its root, by itself.
const FOUND: &str = "lost+found";
/// Everybody else, and what they may do that makes a folder anybody's.
const OTHERS: u32 = 0o007;
const ANYBODY_WRITES: u32 = 0o002;
/// The folder that is made, if there is none.
const MODE: u32 = 0o700;

/// Why a folder is not handed over.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// One that is not the server's alone.
    #[error(
        "cannot hand {} over to the user {user}: {why}; give the database a folder of its own",
        path.display()
    )]
    Shared {
        /// The folder.
        path: PathBuf,
        /// Who would have it.
        user: String,
        /// How that shows.
        why: String,
    },
    /// A file that is in another place, too.
    #[error(
        "cannot hand {} over to the user {user}: the file has {names} names, and may be \
         somebody else's by another; remove it, or copy it to its place",
        path.display()
    )]
    ManyNames {
        /// The file.
        path: PathBuf,
        /// Who would have it.
        user: String,
        /// How many.
        names: String,
    },
    /// The system does not let it.
    #[error("cannot {action} {} for the user {user}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// For whom.
        user: String,
        /// What the system said.
        source: io::Error,
    },
}

impl FolderError {
    /// Whether it is about what the server was told, rather than about the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Shared { .. })
    }
}

/// Makes the folder of a database, its files and its telemetry a user's, as far as they are not.
pub(super) fn hand_over(database: &Path, account: &Account) -> Result<(), FolderError> {
    let path = database.parent().unwrap_or(Path::new("/"));
    let giving = Giving { account };
    make(path).map_err(giving.failed("make", path))?;
    // The way to the folder is whoever's who names it, links and all; what lies in it may not be.
    let flags = (OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let folder = opened.map_err(giving.failed("open", path))?;
    let found = folder.metadata().map_err(giving.failed("look at", path))?;
    let is_theirs = found.uid() == account.uid.as_raw();
    if !is_theirs {
        giving.check_alone(path, &folder, found.mode())?;
    }
    giving.give_all(path, &folder)?;
    if is_theirs {
        return Ok(());
    }
    // Last, so that nobody else is in there meanwhile; and the mode before it is its owner's to say.
    let mode = Mode::from_bits_truncate(found.mode() & !OTHERS);
    fchmod(&folder, mode)
        .map_err(|error| giving.failed("change the mode of", path)(error.into()))?;
    giving.give(path, &folder)
}

/// Makes a folder that nobody else may use, and those above it as usual.
fn make(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    DirBuilder::new().mode(MODE).create(path)
}

struct Giving<'a> {
    account: &'a Account,
}

impl Giving<'_> {
    fn failed(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
        let (path, user) = (shown(path), self.account.to_string());
        move |source| FolderError::Io { action, path, user, source }
    }

    /// That a folder is no one's but the server's: neither of the whole system, nor full of others'
    /// folders.
    fn check_alone(&self, path: &Path, folder: &File, mode: u32) -> Result<(), FolderError> {
        let shared = |why: String| {
            Err(FolderError::Shared { path: shown(path), user: self.account.to_string(), why })
        };
        if path.parent().is_none() {
            return shared("it is the whole system's".to_owned());
        }
        if mode & ANYBODY_WRITES != 0 {
            return shared("everybody may write to it".to_owned());
        }
        self.each(path, folder, |name, _, found| {
            let is_own = [TELEMETRY_FOLDER, FOUND].iter().any(|own| name == *own);
            if kind(found) == SFlag::S_IFDIR && !is_own {
                let name = escaped(&name.to_string_lossy());
                return shared(format!("it holds other folders, such as {name}"));
            }
            Ok(())
        })
    }

    /// Gives away the files of the database's folder, and the folder of telemetry in it.
    fn give_all(&self, path: &Path, folder: &File) -> Result<(), FolderError> {
        self.each(path, folder, |name, opened, found| {
            let below = path.join(name);
            match kind(found) {
                SFlag::S_IFREG => self.give_file(&below, opened, found),
                SFlag::S_IFDIR if name == TELEMETRY_FOLDER => {
                    if !self.is_theirs(found) {
                        self.give(&below, opened)?;
                    }
                    self.each(&below, opened, |name, opened, found| match kind(found) {
                        SFlag::S_IFREG => self.give_file(&below.join(name), opened, found),
                        _ => Ok(()),
                    })
                }
                // A link, a pipe, somebody's folder: nothing that the server writes.
                _ => Ok(()),
            }
        })
    }

    fn is_theirs(&self, found: &FileStat) -> bool {
        found.st_uid == self.account.uid.as_raw()
    }

    fn give_file(
        &self,
        path: &Path,
        opened: &OwnedFd,
        found: &FileStat,
    ) -> Result<(), FolderError> {
        if self.is_theirs(found) {
            return Ok(());
        }
        if found.st_nlink > 1 {
            let (path, user) = (shown(path), self.account.to_string());
            return Err(FolderError::ManyNames { path, user, names: found.st_nlink.to_string() });
        }
        self.give(path, opened)
    }

    /// Gives away what was opened, whatever its name leads to by now.
    fn give(&self, path: &Path, opened: impl AsFd) -> Result<(), FolderError> {
        let (uid, gid) = (Some(self.account.uid), Some(self.account.gid));
        fchownat(opened, "", uid, gid, AtFlags::AT_EMPTY_PATH)
            .map_err(|error| self.failed("change the owner of", path)(error.into()))
    }

    /// Opens one thing of a folder after the other, only to look at it; what it is, and its name.
    fn each(
        &self,
        path: &Path,
        folder: impl AsFd,
        mut with: impl FnMut(&OsStr, &OwnedFd, &FileStat) -> Result<(), FolderError>,
    ) -> Result<(), FolderError> {
        let read = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&folder, ".", read, Mode::empty())
            .map_err(|error| self.failed("read", path)(error.into()))?;
        for entry in listing.iter() {
            let entry = entry.map_err(|error| self.failed("read", path)(error.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let look = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let looked = openat(&folder, name, look, Mode::empty())
                .and_then(|opened| fstat(&opened).map(|found| (opened, found)));
            match looked {
                Ok((opened, found)) => with(name, &opened, &found)?,
                // Gone meanwhile.
                Err(Errno::ENOENT) => {}
                Err(error) => {
                    return Err(self.failed("look at", &path.join(name))(error.into()));
                }
            }
        }
        Ok(())
    }
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

fn shown(path: &Path) -> PathBuf {
    PathBuf::from(escaped(&path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nix::unistd::{Gid, Uid, geteuid};

    use super::*;

    /// Somebody who has nothing.
    fn account() -> Account {
        let (uid, gid) = (Uid::from_raw(4242), Gid::from_raw(4243));
        Account { name: "4242".to_owned(), listed: None, uid, gid }
    }

    #[test]
    fn folders_that_others_use_are_no_servers() {
        let folder = tempfile::tempdir().unwrap();
        let database = |place: &str| folder.path().join(place).join("fleet.db");
        for place in ["lib/dpkg", "tmp"] {
            fs::create_dir_all(folder.path().join(place)).unwrap();
        }
        fs::set_permissions(folder.path().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        for (path, word) in [
            (Path::new("/fleet.db").to_owned(), "the whole system's"),
            (database("lib"), "other folders, such as dpkg"),
            (database("tmp"), "everybody may write"),
        ] {
            let error = hand_over(&path, &account()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.is_configuration(), "{error}");
        }
        let owner = fs::metadata(folder.path().join("lib")).unwrap().uid();
        assert_eq!(owner, geteuid().as_raw());
    }
}
