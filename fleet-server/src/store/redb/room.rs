//! Whether there is room for telemetry.
//!
//! When little of the disk is free, no more telemetry is taken: agents keep theirs, other senders
//! are told to come again, and what is left is for the rest of the server, which goes on. It takes
//! telemetry again once somewhat more is free, so that it does not change its mind with each report.
//!
//! The system is asked once a second at most, by whoever wants to know.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use crate::store::Shortage;

/// What must stay free: this, or a tenth of a smaller file system.
const FLOOR_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How long an answer of the system is good enough.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The room on a disk.
#[derive(Debug)]
pub(super) struct Room {
    /// A folder there; none if nobody can tell.
    folder: Option<PathBuf>,
    began: Instant,
    /// When to ask again, in milliseconds since then.
    due: AtomicU64,
    is_short: AtomicBool,
    free: AtomicU64,
    needed: AtomicU64,
}

impl Room {
    /// The room where a file lies.
    pub(super) fn around(file: &Path) -> Self {
        Self::new(Some(folder_of(file).to_owned()))
    }

    /// Room without an end.
    pub(super) fn unlimited() -> Self {
        Self::new(None)
    }

    /// None at all.
    #[cfg(test)]
    pub(super) fn full() -> Self {
        let room = Self::around(Path::new("/"));
        room.due.store(u64::MAX, Ordering::Relaxed);
        room.is_short.store(true, Ordering::Relaxed);
        room
    }

    fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            began: Instant::now(),
            due: AtomicU64::new(0),
            is_short: AtomicBool::new(false),
            free: AtomicU64::new(0),
            needed: AtomicU64::new(0),
        }
    }

    /// By how much there is too little, if there is.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        let folder = self.folder.as_deref()?;
        let now = millis(self.began.elapsed());
        let due = self.due.load(Ordering::Relaxed);
        let next = now + millis(GOOD_FOR);
        let (order, lost) = (Ordering::Relaxed, Ordering::Relaxed);
        if now >= due && self.due.compare_exchange(due, next, order, lost).is_ok() {
            self.look(folder);
        }
        self.is_short.load(Ordering::Relaxed).then(|| Shortage {
            free: self.free.load(Ordering::Relaxed),
            needed: self.needed.load(Ordering::Relaxed),
        })
    }

    fn look(&self, folder: &Path) {
        // Who cannot tell how much room there is finds out by writing.
        let Some(Disk { size, free }) = Disk::of(folder) else { return };
        let was_short = self.is_short.load(Ordering::Relaxed);
        let needed = needed(size, was_short);
        let is_short = free < needed;
        let shortage = Shortage { free, needed: if is_short { resumed(size) } else { needed } };
        self.free.store(shortage.free, Ordering::Relaxed);
        self.needed.store(shortage.needed, Ordering::Relaxed);
        self.is_short.store(is_short, Ordering::Relaxed);
        match (was_short, is_short) {
            (false, true) => tracing::warn!("{shortage}"),
            (true, false) => tracing::info!("telemetry is stored again: the disk has room"),
            _ => {}
        }
    }
}

/// A file system's size and what of it is free, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) size: u64,
    pub(super) free: u64,
}

impl Disk {
    fn of(folder: &Path) -> Option<Self> {
        let disk = statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
        Some(Self { size: bytes(disk.blocks()), free: bytes(disk.blocks_available()) })
    }

    /// The one on which a file lies.
    pub(super) fn around(file: &Path) -> Option<Self> {
        Self::of(folder_of(file))
    }
}

fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// What must be free on a disk of a size for telemetry to be taken.
fn needed(size: u64, was_short: bool) -> u64 {
    if was_short { resumed(size) } else { floor(size) }
}

fn floor(size: u64) -> u64 {
    (size / 10).min(FLOOR_BYTES_MAX)
}

/// What must be free again once there was too little.
pub(super) fn resumed(size: u64) -> u64 {
    floor(size) / 4 * 5
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn more_must_be_free_to_begin_again_than_to_go_on() {
        assert_eq!([needed(20 * MIB, false), needed(40 * MIB, true)], [2 * MIB, 5 * MIB]);
        assert_eq!(needed(100_000 * MIB, false), 512 * MIB);
        assert_eq!(needed(100_000 * MIB, true), 640 * MIB);
        assert_eq!(needed(0, true), 0, "nobody knows how large it is");
    }

    #[test]
    fn what_nobody_can_tell_is_no_shortage() {
        assert_eq!(Room::unlimited().shortage(), None);
        assert_eq!(Room::around(Path::new("/nowhere/at/all")).shortage(), None);
    }
}
