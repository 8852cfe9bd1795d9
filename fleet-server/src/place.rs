//! Where an export or a backup will be, and where it is until then.
//!
//! It is made under its name with `.part` behind it, for its owner alone, and gets its own name when
//! it is whole and on the disk. Dropped before that, it is removed; what a killed one left is
//! cleared by the next of that name. What is there already is replaced only if that is wanted and it
//! is of the same kind: nobody loses a database or a key to a slip.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fleet_core::api::ExportTable;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};

use crate::export::Format;
use crate::export::sqlite::APPLICATION_ID;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows.
    Export(Format),
    /// All that a server has.
    Backup,
}

const SQLITE: Kind = Kind::Export(Format::Sqlite);
const NDJSON: Kind = Kind::Export(Format::Ndjson);
const CSV: Kind = Kind::Export(Format::Csv);

impl Kind {
    fn word(self) -> &'static str {
        if self == Self::Backup { "backup" } else { "export" }
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    kind: Kind,
    target: PathBuf,
    part: PathBuf,
    may_replace: bool,
    is_published: bool,
    /// Held for as long as it is made.
    _lock: File,
}

/// Why it cannot be there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// No name.
    #[error("{} is not the name of a file", .0.display())]
    NoName(PathBuf),
    /// Something is there.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Something is there that is not to be lost.
    #[error("{} is not {one}, and nothing else is replaced", path.display())]
    Foreign {
        /// What is there.
        path: PathBuf,
        /// What should be.
        one: &'static str,
    },
    /// Somebody else is at it.
    #[error("another {kind} is being made in {}", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
        /// What.
        kind: &'static str,
    },
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

fn foreign(path: &Path, kind: Kind) -> PlaceError {
    let one = if kind == Kind::Backup { "a backup" } else { "an export" };
    PlaceError::Foreign { path: path.to_owned(), one }
}

impl Place {
    /// Takes a place.
    pub(crate) fn take(target: &Path, kind: Kind, may_replace: bool) -> Result<Self, PlaceError> {
        let target = std::path::absolute(target).map_err(io_error("find", target))?;
        let Some(name) = target.file_name() else { return Err(PlaceError::NoName(target)) };
        let mut part_name = OsString::from(name);
        part_name.push(".part");
        let part = target.with_file_name(part_name);
        check_free(&target, kind, may_replace)?;
        clear(&part, kind)?;
        create(&part, kind).map_err(io_error("make", &part))?;
        let lock = lock(&part, kind)?;
        Ok(Self { kind, target, part, may_replace, is_published: false, _lock: lock })
    }

    /// Where it is made: an empty file or folder.
    pub(crate) fn part(&self) -> &Path {
        &self.part
    }

    /// Gives it its name. It is whole and on the disk by now.
    pub(crate) fn publish(mut self) -> Result<PathBuf, PlaceError> {
        check_free(&self.target, self.kind, self.may_replace)?;
        let renamed = match (self.may_replace, self.kind) {
            (true, CSV) if self.target.exists() => {
                // What was there is then where the new one was made, and goes.
                exchange(&self.part, &self.target).and_then(|()| remove(&self.part, self.kind))
            }
            (true, _) => fs::rename(&self.part, &self.target),
            (false, _) => rename_anew(&self.part, &self.target),
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => PlaceError::Exists(self.target.clone()),
            _ => io_error("make", &self.target)(error),
        })?;
        self.is_published = true;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error("sync", folder))?;
        Ok(self.target.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(error) = remove(&self.part, self.kind)
        {
            let path = self.part.display();
            tracing::warn!(%path, %error, "an unfinished {} stays", self.kind.word());
        }
    }
}

/// Whether something may have a name.
fn check_free(target: &Path, kind: Kind, may_replace: bool) -> Result<(), PlaceError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io_error("look at", target)(source)),
        Ok(_) if !may_replace => Err(PlaceError::Exists(target.to_owned())),
        Ok(_) if is_of(target, kind).map_err(io_error("look at", target))? => Ok(()),
        Ok(_) => Err(foreign(target, kind)),
    }
}

/// Whether what is there is of a kind, or the beginning of such.
fn is_of(path: &Path, kind: Kind) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    if kind == CSV {
        if !found.is_dir() {
            return Ok(false);
        }
        let ours = csv_names();
        for entry in fs::read_dir(path)? {
            if !ours.iter().any(|name| entry.as_ref().is_ok_and(|it| it.file_name() == **name)) {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if !found.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    File::open(path)?.take(SQLITE_HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head.is_empty()
        || match kind {
            SQLITE => {
                head.ends_with(&APPLICATION_ID.to_be_bytes())
                    && head.starts_with(b"SQLite format 3\0")
            }
            NDJSON | CSV => head.starts_with(b"{\"table\":\""),
            Kind::Backup => BACKUP_HEAD.starts_with(&head) || head.starts_with(BACKUP_HEAD),
        })
}

/// How a frame begins, and so every backup.
const BACKUP_HEAD: &[u8] = b"\xF1eD\n";
/// Bytes of a database up to the end of its application's number.
const SQLITE_HEAD_BYTES: u64 = 72;

/// The files of a folder of tables.
pub(crate) fn csv_name(table: ExportTable) -> String {
    format!("{table}.csv")
}

fn csv_names() -> [String; ExportTable::ALL.len()] {
    ExportTable::ALL.map(csv_name)
}

/// Removes what one that was killed has left behind.
fn clear(part: &Path, kind: Kind) -> Result<(), PlaceError> {
    match fs::symlink_metadata(part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("look at", part)(source)),
        Ok(_) => {}
    }
    if !is_of(part, kind).map_err(io_error("look at", part))? {
        return Err(foreign(part, kind));
    }
    let _lock = lock(part, kind)?;
    remove(part, kind).map_err(io_error("remove", part))
}

fn create(part: &Path, kind: Kind) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    if kind == CSV {
        return DirBuilder::new().mode(0o700).create(part);
    }
    options.open(part).map(drop)
}

/// Locks a file or folder for this process, as long as it is open.
fn lock(part: &Path, kind: Kind) -> Result<File, PlaceError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(part);
    let file = opened.map_err(io_error("open", part))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(PlaceError::Busy { path: part.to_owned(), kind: kind.word() })
        }
        Err(TryLockError::Error(source)) => Err(io_error("lock", part)(source)),
    }
}

fn remove(part: &Path, kind: Kind) -> io::Result<()> {
    if kind != CSV {
        return fs::remove_file(part);
    }
    for name in csv_names() {
        match fs::remove_file(part.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::remove_dir(part)
}

/// Renames, unless the new name is taken.
pub(crate) fn rename_anew(from: &Path, to: &Path) -> io::Result<()> {
    match rename(from, to, RenameFlags::RENAME_NOREPLACE) {
        // Some network file systems cannot do both in one.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        renamed => renamed,
    }
}

/// Lets two files or folders change places.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rename(one, other, RenameFlags::RENAME_EXCHANGE)
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 4] = [SQLITE, NDJSON, CSV, Kind::Backup];

    /// The beginning of an export, as it is made.
    fn make(part: &Path, kind: Kind, text: &str) {
        match kind {
            CSV => fs::write(part.join("events.csv"), text).unwrap(),
            NDJSON => fs::write(part, format!("{{\"table\":\"{text}\"}}\n")).unwrap(),
            Kind::Backup => fs::write(part, [BACKUP_HEAD, text.as_bytes()].concat()).unwrap(),
            SQLITE => {
                let mut head = b"SQLite format 3\0".to_vec();
                head.resize(68, 0);
                head.extend(APPLICATION_ID.to_be_bytes());
                head.extend(text.as_bytes());
                fs::write(part, head).unwrap();
            }
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn holds(path: &Path, kind: Kind, text: &str) -> bool {
        let path = if kind == CSV { path.join("events.csv") } else { path.to_owned() };
        String::from_utf8_lossy(&fs::read(path).unwrap()).contains(text)
    }

    #[test]
    fn it_gets_its_name_when_it_is_whole() {
        for kind in KINDS {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("out");
            let place = Place::take(&target, kind, false).unwrap();
            make(place.part(), kind, "one");
            assert_eq!(names(folder.path()), ["out.part"]);
            assert_eq!(place.publish().unwrap(), target);
            assert_eq!(names(folder.path()), ["out"]);
            assert!(holds(&target, kind, "one"));

            let place = Place::take(&target, kind, true).unwrap();
            make(place.part(), kind, "two");
            assert!(holds(&target, kind, "one"));
            place.publish().unwrap();
            assert_eq!(names(folder.path()), ["out"]);
            assert!(holds(&target, kind, "two"));

            let place = Place::take(&target, kind, true).unwrap();
            make(place.part(), kind, "three");
            drop(place);
            assert_eq!(names(folder.path()), ["out"]);
            assert!(holds(&target, kind, "two"));
        }
    }

    #[test]
    fn what_is_there_stays_unless_it_is_of_the_kind_and_to_be_replaced() {
        for kind in KINDS {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("out");
            let take = |may_replace| Place::take(&target, kind, may_replace).map(drop);
            make_whole(&target, kind);
            assert!(matches!(take(false), Err(PlaceError::Exists(_))), "{kind:?}");
            take(true).unwrap();
            // It comes while the export is made.
            remove(&target, kind).unwrap();
            let place = Place::take(&target, kind, false).unwrap();
            make(place.part(), kind, "late");
            let other = folder.path().join("other");
            make_whole(&other, kind);
            fs::rename(&other, &target).unwrap();
            assert!(matches!(place.publish(), Err(PlaceError::Exists(_))), "{kind:?}");
            assert!(holds(&target, kind, "whole"));
            assert_eq!(names(folder.path()), ["out"]);
            remove(&target, kind).unwrap();

            for foreign in ["redb\x1a\n\u{fffd}\r\n", "flt_op_x", "SQLite format 3\0"] {
                fs::write(&target, foreign.repeat(20)).unwrap();
                assert!(matches!(take(false), Err(PlaceError::Exists(_))));
                assert!(
                    matches!(take(true), Err(PlaceError::Foreign { .. })),
                    "{kind:?} {foreign}"
                );
            }
            fs::remove_file(&target).unwrap();
            fs::create_dir(&target).unwrap();
            fs::write(target.join("fleet.db"), "x").unwrap();
            assert!(matches!(take(true), Err(PlaceError::Foreign { .. })), "{kind:?}");
            fs::remove_dir_all(&target).unwrap();
            let real = folder.path().join("real");
            make_whole(&real, kind);
            std::os::unix::fs::symlink(&real, &target).unwrap();
            assert!(matches!(take(true), Err(PlaceError::Foreign { .. })), "{kind:?}");
        }
    }

    fn make_whole(target: &Path, kind: Kind) {
        let place = Place::take(target, kind, false).unwrap();
        make(place.part(), kind, "whole");
        place.publish().unwrap();
    }

    #[test]
    fn a_part_is_made_by_one_and_what_a_killed_one_left_is_cleared() {
        for kind in KINDS {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("out");
            let place = Place::take(&target, kind, false).unwrap();
            make(place.part(), kind, "one");
            let second = Place::take(&target, kind, false);
            assert!(matches!(second, Err(PlaceError::Busy { .. })), "{kind:?} {second:?}");
            // As if it were killed.
            let part = folder.path().join("out.part");
            let kept = folder.path().join("kept");
            fs::rename(&part, &kept).unwrap();
            drop(place);
            fs::rename(&kept, &part).unwrap();
            drop(Place::take(&target, kind, false).unwrap());
            assert_eq!(names(folder.path()), [""; 0]);

            fs::write(&part, "somebody's own").unwrap();
            let refused = Place::take(&target, kind, true);
            assert!(matches!(refused, Err(PlaceError::Foreign { .. })), "{kind:?} {refused:?}");
            assert_eq!(fs::read(&part).unwrap(), b"somebody's own");
        }
    }

    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        for kind in KINDS {
            let folder = tempfile::tempdir().unwrap();
            let place = Place::take(&folder.path().join("out"), kind, false).unwrap();
            let mode = fs::metadata(place.part()).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if kind == CSV { 0o700 } else { 0o600 });
        }
    }

    #[test]
    fn a_place_that_cannot_be_is_told() {
        for path in ["/", "/nonexistent/folder/out"] {
            assert!(Place::take(Path::new(path), SQLITE, false).is_err(), "{path}");
        }
    }
}
