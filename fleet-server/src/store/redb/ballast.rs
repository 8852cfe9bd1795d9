//! Room for the database's own changes, for when others fill the disk.
//!
//! What telemetry leaves free ([`super::room`]) keeps nobody but us from the rest. A log of another
//! program that grows without end would take it all, and then no key could be revoked any more. So a
//! file holds some room while there is enough. When there is none, the file goes, and at once the
//! database's own file is given what that held: its holes are filled, and room is allocated behind its
//! end. So whoever filled the disk and goes on does not take that too. It is much, and it has an end:
//! time to act in, not a promise for ever.
//!
//! The file is no data: a server without one works as well, as long as its disk is not full.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};

use super::room::{Disk, resumed};
use crate::store::revoked::REVOKED_FILE;

/// The file, beside the database.
pub(crate) const BALLAST_FILE: &str = "ballast";
/// What it holds: this, or a twentieth of a smaller file system.
const BALLAST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Less than this would not hold what a few changes write, so there is none on a disk so small.
const BALLAST_BYTES_MIN: u64 = 1024 * 1024;
/// The file goes when less than this part of what it holds is free besides.
const SPARE_PART: u64 = 4;
/// What of it goes to the list of what was revoked: some hundred keys or devices.
const LIST_BYTES: u64 = 64 * 1024;
/// How many parts go to the database, one after the other.
const PARTS: u64 = 8;
/// The least that is set aside at once.
const STEP_BYTES: u64 = 32 * 1024;
/// What a file's size on the disk is counted in.
const BLOCK_BYTES: u64 = 512;

/// The room that is held.
#[derive(Debug)]
pub(super) struct Ballast {
    database: PathBuf,
    /// Held while the disk is at work.
    state: Mutex<State>,
    news: Mutex<News>,
}

/// What is to be said of it, under a lock that nobody waits for.
#[derive(Debug, Default)]
struct News {
    trouble: Option<String>,
    /// What became of it when something could not be written, until it was told.
    given: Option<Turn>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// There is no file, since there was no need or no room so far.
    #[default]
    Without,
    /// The file holds so much.
    Held(u64),
    /// The file is gone, since the disk was full.
    Given,
    /// It cannot be made here.
    Impossible,
}

/// What became of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// So many bytes were given to the database's changes.
    Given(u64),
    /// So many bytes are held again.
    Held(u64),
}

impl Ballast {
    pub(super) fn beside(database: &Path) -> Self {
        Self { database: database.to_owned(), state: Mutex::default(), news: Mutex::default() }
    }

    /// Looks at the disk: gives the room away when there is no other, and holds some when there is.
    /// Says so if it was given, also by [`Self::give`], or is held again.
    pub(super) fn keep(&self) -> Option<Turn> {
        if let Some(given) = self.news().given.take() {
            return Some(given);
        }
        let mut state = self.lock();
        // Who cannot tell how much room there is finds out by writing.
        let disk = Disk::around(&self.database)?;
        self.give_if_short(&mut state, disk).or_else(|| self.hold(&mut state, disk))
    }

    /// Gives the room away if there is no other. For when something could not be written.
    pub(super) fn give(&self) {
        if let Some(disk) = Disk::around(&self.database) {
            self.give_on(disk);
        }
    }

    fn give_on(&self, disk: Disk) {
        let mut state = self.lock();
        if let Some(given) = self.give_if_short(&mut state, disk) {
            self.news().given = Some(given);
        }
    }

    /// What health says of it.
    pub(super) fn trouble(&self) -> Option<String> {
        self.news().trouble.clone()
    }

    fn give_if_short(&self, state: &mut State, disk: Disk) -> Option<Turn> {
        let State::Held(bytes) = *state else { return None };
        if disk.free >= bytes / SPARE_PART {
            return None;
        }
        if let Err(error) = self.hand_over(bytes) {
            if error.kind() == io::ErrorKind::NotFound {
                tracing::warn!("{BALLAST_FILE} is gone, and so no room is held back");
                *state = State::default();
            } else {
                tracing::error!(%error, "the room that is held back cannot be given");
            }
            return None;
        }
        *state = State::Given;
        // Once it is where it is to be.
        let needed = needed(disk.size, bytes);
        self.news().trouble = Some(format!(
            "the disk was full: {} that were held back went to the database's own changes, and are \
             held again when {} are free",
            mebibytes(bytes),
            mebibytes(needed)
        ));
        Some(Turn::Given(bytes))
    }

    /// Gives what the file holds to the list and to the database, a part at a time: others may take
    /// what is nobody's for a moment.
    fn hand_over(&self, bytes: u64) -> io::Result<()> {
        let ballast = OpenOptions::new().write(true).open(self.path())?;
        let list = self.database.with_file_name(REVOKED_FILE);
        let (mut file, mut part) = (&list, LIST_BYTES);
        let (mut left, mut short) = (bytes, None);
        while left > 0 {
            left -= part;
            ballast.set_len(left)?;
            short = short.or(give_to(file, part).err());
            (file, part) = (&self.database, (bytes / PARTS).min(left));
        }
        if let Some(error) = short {
            tracing::warn!(%error, "not all of the room that was held back is given");
        }
        fs::remove_file(self.path())
    }

    fn hold(&self, state: &mut State, disk: Disk) -> Option<Turn> {
        if matches!(state, State::Held(_) | State::Impossible) {
            return None;
        }
        let bytes = wanted(disk.size)?;
        let there = held(&self.path());
        let has_room = disk.free >= needed(disk.size, bytes);
        if there >= BALLAST_BYTES_MIN && (there >= bytes || !has_room) {
            // From an earlier start; also if it would be larger by now.
            return self.is_held(state, there.min(bytes));
        }
        if !has_room {
            return None;
        }
        if let Err(error) = make(&self.path(), bytes) {
            if error.kind() != io::ErrorKind::StorageFull {
                tracing::warn!(%error, "no room is held back for when the disk is full");
                *state = State::Impossible;
            }
            return None;
        }
        self.is_held(state, bytes)
    }

    /// Notes that so much is held; that is news if it was given before.
    fn is_held(&self, state: &mut State, bytes: u64) -> Option<Turn> {
        *state = State::Held(bytes);
        self.news().trouble.take().map(|_| Turn::Held(bytes))
    }

    fn path(&self) -> PathBuf {
        self.database.with_file_name(BALLAST_FILE)
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is held on a disk of a size, if anything.
fn wanted(size: u64) -> Option<u64> {
    let bytes = (size / 20).min(BALLAST_BYTES_MAX);
    (bytes >= BALLAST_BYTES_MIN).then_some(bytes)
}

/// What must be free for that: telemetry is not to be refused for it.
fn needed(size: u64, bytes: u64) -> u64 {
    resumed(size) + bytes
}

/// What a file really holds on the disk; nothing if it is not there, or no file.
fn held(path: &Path) -> u64 {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    found.map_or(0, |file| file.blocks() * BLOCK_BYTES)
}

/// Makes the file, in place of one that is smaller.
fn make(path: &Path, bytes: u64) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // Really there, not only as long; nothing else of it matters, and so nothing is synced.
    let made = allocate(&file, FallocateFlags::empty(), 0, bytes);
    if made.is_err() {
        fs::remove_file(path)?;
    }
    made
}

/// Gives a file that is there so many bytes of room that it has not: first in its holes, then behind
/// its end. Its contents and its length stay as they are.
fn give_to(path: &Path, bytes: u64) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let taken = || io::Result::Ok(file.metadata()?.blocks() * BLOCK_BYTES);
    let (end, enough) = (file.metadata()?.len(), taken()? + bytes);
    let mut at = 0;
    while at <= end {
        let hole = seek(&file, at, Whence::SeekHole)?.unwrap_or(end).min(end);
        let data = seek(&file, hole, Whence::SeekData)?.filter(|data| *data < end);
        at = hole;
        // What is set aside there already is a hole, too, and takes no more; so is what is behind
        // the end, of which no more than what was held can be set aside.
        let hole_end = data.unwrap_or(end + 2 * BALLAST_BYTES_MAX);
        while at < hole_end {
            let missing = enough.saturating_sub(taken()?).min(hole_end - at);
            if missing == 0 {
                return Ok(());
            }
            allocate_most(&file, at, missing)?;
            at += missing;
        }
    }
    Ok(())
}

/// Sets room aside from a place on: all of it, or what there is.
fn allocate_most(file: &File, mut at: u64, bytes: u64) -> io::Result<()> {
    let end = at + bytes;
    let mut step = bytes;
    while at < end {
        match allocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, at, step.min(end - at)) {
            Ok(()) => at += step.min(end - at),
            Err(error) if error.kind() == io::ErrorKind::StorageFull && step > STEP_BYTES => {
                step = (step / 2).max(STEP_BYTES);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The next hole, or what is behind it; nothing where the file ends before.
fn seek(file: &File, from: u64, to: Whence) -> io::Result<Option<u64>> {
    match lseek(file, i64::try_from(from).map_err(io::Error::other)?, to) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn allocate(file: &File, flags: FallocateFlags, at: u64, bytes: u64) -> io::Result<()> {
    let number = |number: u64| i64::try_from(number).map_err(io::Error::other);
    Ok(fallocate(file, flags, number(at)?, number(bytes)?)?)
}

/// Bytes as a person reads them.
fn mebibytes(bytes: u64) -> String {
    crate::store::mebibytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_small_part_of_a_disk_is_held() {
        assert_eq!(wanted(10 * MIB), None);
        assert_eq!(wanted(100 * MIB), Some(5 * MIB));
        assert_eq!(wanted(1_000_000 * MIB), Some(64 * MIB));
    }

    #[test]
    fn it_is_given_when_the_disk_is_full_and_held_again_when_it_has_room() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("fleet.db");
        // A database with a hole.
        let file = File::create(&database).unwrap();
        file.set_len(3 * MIB).unwrap();
        file.write_all_at(b"data", 0).unwrap();
        let list = folder.path().join(REVOKED_FILE);
        fs::write(&list, "list").unwrap();
        let ballast = Ballast::beside(&database);
        let path = folder.path().join(BALLAST_FILE);
        let size = 40 * MIB;
        let room = |free| Disk { size, free: free * MIB };
        let step = |free| {
            let mut state = ballast.lock();
            let given = ballast.give_if_short(&mut state, room(free));
            given.or_else(|| ballast.hold(&mut state, room(free)))
        };
        assert_eq!(step(6), None);
        assert!(!path.exists(), "telemetry would be refused for it");
        assert_eq!(step(20), None, "no news that it is there");
        assert!(held(&path) >= 2 * MIB);
        assert_eq!((step(1), ballast.trouble()), (None, None));
        assert_eq!(step(0), Some(Turn::Given(2 * MIB)));
        assert!(!path.exists() && ballast.trouble().unwrap().contains("2.0 MiB"));
        // The database has all of it, and does not look different.
        let given = held(&database) + held(&list);
        assert!((2 * MIB - STEP_BYTES..=2 * MIB + STEP_BYTES).contains(&given), "{given}");
        assert!(held(&list) >= STEP_BYTES, "{}", held(&list));
        assert_eq!((fs::metadata(&database).unwrap().len(), step(0)), (3 * MIB, None));
        assert_eq!(fs::read(&list).unwrap(), b"list");
        assert_eq!(step(6), None);
        assert!(ballast.trouble().is_some());
        assert_eq!(step(20), Some(Turn::Held(2 * MIB)));
        assert_eq!(ballast.trouble(), None);
        // A server that starts on it has it, also if the disk is full by then. Whoever could not write
        // gives it, and it is told all the same.
        let next = Ballast::beside(&database);
        assert_eq!(next.hold(&mut next.lock(), room(0)), None);
        next.give_on(room(0));
        assert!(!path.exists());
        assert_eq!(next.keep(), Some(Turn::Given(2 * MIB)));
    }

    #[test]
    fn holes_are_filled_first_and_what_is_there_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(1024 * MIB).unwrap();
        for at in [0, 7, 8, 512] {
            file.write_all_at(&[1; 4096], at * MIB).unwrap();
        }
        let (before, size) = (held(&path), file.metadata().unwrap().len());
        give_to(&path, 6 * MIB).unwrap();
        let is_about = |found: u64, wanted| (wanted..=wanted + 4 * STEP_BYTES).contains(&found);
        assert!(is_about(held(&path), before + 6 * MIB), "{}", held(&path));
        give_to(&path, 2 * MIB).unwrap();
        assert!(is_about(held(&path), before + 8 * MIB), "{}", held(&path));
        assert_eq!(file.metadata().unwrap().len(), size);
        // All of it was in holes, so that is where it is used first.
        file.set_len(9 * MIB).unwrap();
        assert!(held(&path) >= 8 * MIB, "{}", held(&path));
        give_to(&path, 4 * MIB).unwrap();
        let file = fs::read(&path).unwrap();
        assert_eq!(file.len() as u64, 9 * MIB);
        assert_eq!(file.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 3 * 4096);
    }

    #[test]
    fn no_hole_is_too_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        for page in [0, 2] {
            file.write_all_at(&[1; 4096], page * 4096).unwrap();
        }
        give_to(&path, MIB).unwrap();
        // What is behind its end goes.
        file.set_len(3 * 4096 - 1).unwrap();
        assert!(held(&path) >= 3 * 4096, "{}", held(&path));
    }

    #[test]
    fn a_lock_that_is_held_while_the_disk_works_keeps_nobody_from_asking() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::beside(&folder.path().join("fleet.db"));
        let _at_work = ballast.lock();
        assert_eq!(ballast.trouble(), None);
    }

    #[test]
    fn where_it_cannot_be_nothing_is_held_and_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(BALLAST_FILE)).unwrap();
        let ballast = Ballast::beside(&folder.path().join("fleet.db"));
        assert_eq!(ballast.keep(), None);
        assert_eq!(*ballast.lock(), State::Impossible);
        ballast.give();
        assert_eq!((ballast.keep(), ballast.trouble()), (None, None));
        assert!(folder.path().join(BALLAST_FILE).is_dir());
    }
}
