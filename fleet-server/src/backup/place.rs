//! Where a backup will be, and where it is until then.
//!
//! It is made under its name with `.part` behind it, for its owner alone, and gets its own name
//! when it is whole and on the disk, never in the place of anything. Dropped before that, it is
//! removed; what a killed one left is cleared by the next of that name.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fleet_core::time::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// How a frame begins, and so every backup.
const HEAD: &[u8] = b"\xF1eD\n";

/// A place that is taken for a backup until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    target: PathBuf,
    part: PathBuf,
    is_published: bool,
    /// Locked for as long as the backup is made.
    file: File,
}

/// Why a backup cannot be there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// No name.
    #[error("{} is not the name of a file", .0.display())]
    NoName(PathBuf),
    /// Something is there.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// What is where it would be made is something else.
    #[error("{} is not the beginning of a backup, and is not replaced", .0.display())]
    Foreign(PathBuf),
    /// Somebody else is at it.
    #[error("another backup is being made in {}", .0.display())]
    Busy(PathBuf),
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

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Io { action, path, source }
}

/// What a backup of a time is called if nobody says otherwise.
pub(crate) fn suggested_name(now: Timestamp) -> String {
    let digits = |b: &char| b.is_ascii_alphanumeric();
    let seconds = Timestamp::from_millis(now.millis().div_euclid(1_000) * 1_000).to_string();
    format!("fleetd-{}.backup", seconds.chars().filter(digits).collect::<String>())
}

impl Place {
    /// Takes a place.
    pub(crate) fn take(target: &Path) -> Result<Self, PlaceError> {
        let target = std::path::absolute(target).map_err(io_error("find", target))?;
        let Some(name) = target.file_name() else { return Err(PlaceError::NoName(target)) };
        let mut part_name = OsString::from(name);
        part_name.push(".part");
        let part = target.with_file_name(part_name);
        check_free(&target)?;
        clear(&part)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&part).map_err(io_error("make", &part))?;
        lock(&file, &part)?;
        Ok(Self { target, part, is_published: false, file })
    }

    /// What it is made in.
    pub(crate) fn file(&self) -> Result<File, PlaceError> {
        self.file.try_clone().map_err(io_error("open", &self.part))
    }

    /// Where that is.
    pub(crate) fn part(&self) -> &Path {
        &self.part
    }

    /// Gives the backup its name, which is whole by now.
    pub(crate) fn publish(mut self) -> Result<PathBuf, PlaceError> {
        self.file.sync_all().map_err(io_error("write", &self.part))?;
        rename_anew(&self.part, &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => PlaceError::Exists(self.target.clone()),
            _ => io_error("make", &self.target)(error),
        })?;
        self.is_published = true;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(io_error("sync", folder))?;
        Ok(self.target.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(error) = fs::remove_file(&self.part)
        {
            tracing::warn!(path = %self.part.display(), %error, "an unfinished backup stays");
        }
    }
}

fn check_free(target: &Path) -> Result<(), PlaceError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io_error("look at", target)(source)),
        Ok(_) => Err(PlaceError::Exists(target.to_owned())),
    }
}

/// Removes what a backup that was killed has left behind.
fn clear(part: &Path) -> Result<(), PlaceError> {
    match fs::symlink_metadata(part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("look at", part)(source)),
        Ok(found) if !found.is_file() => return Err(PlaceError::Foreign(part.to_owned())),
        Ok(_) => {}
    }
    let file = File::open(part).map_err(io_error("look at", part))?;
    let mut head = Vec::new();
    let looked = (&file).take(HEAD.len() as u64).read_to_end(&mut head);
    looked.map_err(io_error("look at", part))?;
    if !HEAD.starts_with(&head) {
        return Err(PlaceError::Foreign(part.to_owned()));
    }
    lock(&file, part)?;
    fs::remove_file(part).map_err(io_error("remove", part))
}

fn lock(file: &File, part: &Path) -> Result<(), PlaceError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => PlaceError::Busy(part.to_owned()),
        TryLockError::Error(source) => io_error("lock", part)(source),
    })
}

/// Renames, unless the new name is taken.
fn rename_anew(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some network file systems cannot do both in one.
        Err(Errno::EINVAL) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_backup_gets_its_name_when_it_is_whole_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let place = Place::take(&target).unwrap();
        place.file().unwrap().write_all(HEAD).unwrap();
        assert!(matches!(Place::take(&target), Err(PlaceError::Busy(_))));
        assert_eq!(names(folder.path()), ["out.part"]);
        let mode = fs::metadata(place.part()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&target, "somebody's own").unwrap();
        assert!(matches!(place.publish(), Err(PlaceError::Exists(_))));
        assert!(matches!(Place::take(&target), Err(PlaceError::Exists(_))));
        assert_eq!(fs::read(&target).unwrap(), b"somebody's own");
        assert_eq!(names(folder.path()), ["out"]);
        fs::remove_file(&target).unwrap();
        assert_eq!(Place::take(&target).unwrap().publish().unwrap(), target);
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn what_a_killed_one_left_is_cleared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (target, part) = (folder.path().join("out"), folder.path().join("out.part"));
        for left in [&b""[..], HEAD, b"\xF1eD\nand more"] {
            fs::write(&part, left).unwrap();
            drop(Place::take(&target).unwrap());
            assert_eq!(names(folder.path()), [""; 0]);
        }
        fs::write(&part, "somebody's own").unwrap();
        assert!(matches!(Place::take(&target), Err(PlaceError::Foreign(_))));
        assert_eq!(fs::read(&part).unwrap(), b"somebody's own");
        assert!(matches!(Place::take(Path::new("/")), Err(PlaceError::NoName(_))));
    }

    #[test]
    fn a_name_says_when() {
        let now = "2024-01-15T10:30:00.25Z".parse().unwrap();
        assert_eq!(suggested_name(now), "fleetd-20240115T103000Z.backup");
    }
}
