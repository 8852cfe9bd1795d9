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

use nix::fcntl::{FallocateFlags, fallocate};

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
/// Bytes of a file that are made sure of at once.
const STEP_BYTES: u64 = 32 * 1024;
/// What a file's size on the disk is counted in.
const BLOCK_BYTES: u64 = 512;

/// The room that is held.
#[derive(Debug)]
pub(super) struct Ballast {
    database: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// There is no file, since there was no need or no room so far.
    #[default]
    Without,
    /// The file holds so much.
    Held(u64),
    /// The file is gone, since the disk was full; so much has to be free for a new one.
    Given {
        /// What it held.
        bytes: u64,
        /// What must be free.
        needed: u64,
    },
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
        Self { database: database.to_owned(), state: Mutex::default() }
    }

    /// Looks at the disk: gives the room away when there is no other, and holds some when there is.
    /// Says so if it was given, or is held again.
    pub(super) fn keep(&self) -> Option<Turn> {
        let mut state = self.lock();
        // Who cannot tell how much room there is finds out by writing.
        let disk = Disk::around(&self.database)?;
        self.give_if_short(&mut state, disk).or_else(|| self.hold(&mut state, disk))
    }

    /// Gives the room away if there is no other. For when something could not be written.
    pub(super) fn give(&self) -> Option<Turn> {
        let mut state = self.lock();
        self.give_if_short(&mut state, Disk::around(&self.database)?)
    }

    /// What health says of it.
    pub(super) fn trouble(&self) -> Option<String> {
        match *self.lock() {
            State::Given { bytes, needed } => Some(format!(
                "the disk was full: {} that were held back went to the database's own changes, and \
                 are held again when {} are free",
                mebibytes(bytes),
                mebibytes(needed)
            )),
            State::Without | State::Held(_) | State::Impossible => None,
        }
    }

    fn give_if_short(&self, state: &mut State, disk: Disk) -> Option<Turn> {
        let State::Held(bytes) = *state else { return None };
        if disk.free >= bytes / SPARE_PART {
            return None;
        }
        if let Err(error) = fs::remove_file(self.path()) {
            tracing::error!(%error, "the room that is held back cannot be given");
            return None;
        }
        *state = State::Given { bytes, needed: needed(disk.size, bytes) };
        let list = self.database.with_file_name(REVOKED_FILE);
        for (file, bytes) in [(list, LIST_BYTES), (self.database.clone(), bytes - LIST_BYTES)] {
            if let Err(error) = give_to(&file, bytes) {
                let file = file.display();
                tracing::warn!(%error, %file, "not all of the room that was held back is given");
            }
        }
        Some(Turn::Given(bytes))
    }

    fn hold(&self, state: &mut State, disk: Disk) -> Option<Turn> {
        let was_given = match *state {
            State::Held(_) | State::Impossible => return None,
            State::Given { .. } => true,
            State::Without => false,
        };
        let bytes = wanted(disk.size)?;
        let there = held(&self.path());
        let has_room = disk.free >= needed(disk.size, bytes);
        if there >= BALLAST_BYTES_MIN && (there >= bytes || !has_room) {
            // From an earlier start; also if it would be larger by now.
            *state = State::Held(there.min(bytes));
            return was_given.then_some(Turn::Held(bytes));
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
        *state = State::Held(bytes);
        was_given.then_some(Turn::Held(bytes))
    }

    fn path(&self) -> PathBuf {
        self.database.with_file_name(BALLAST_FILE)
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
    let found = file.metadata()?;
    let taken = |file: &File| io::Result::Ok(file.metadata()?.blocks() * BLOCK_BYTES);
    let enough = taken(&file)? + bytes;
    for at in (0..found.len() + bytes).step_by(STEP_BYTES as usize) {
        let room = enough.saturating_sub(taken(&file)?);
        if room < STEP_BYTES {
            break;
        }
        allocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, at, STEP_BYTES)?;
    }
    Ok(())
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
        // A server that starts on it has it, also if the disk is full by then.
        let next = Ballast::beside(&database);
        assert_eq!(next.hold(&mut next.lock(), room(0)), None);
        assert_eq!(next.give_if_short(&mut next.lock(), room(0)), Some(Turn::Given(2 * MIB)));
    }

    #[test]
    fn where_it_cannot_be_nothing_is_held_and_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(BALLAST_FILE)).unwrap();
        let ballast = Ballast::beside(&folder.path().join("fleet.db"));
        assert_eq!(ballast.keep(), None);
        assert_eq!(*ballast.lock(), State::Impossible);
        assert_eq!((ballast.keep(), ballast.give(), ballast.trouble()), (None, None, None));
        assert!(folder.path().join(BALLAST_FILE).is_dir());
    }
}
