//! The files of the log: which there are, and letting go of the oldest.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::disk::Disk;

use super::format::{self, Lsn, Named};
use super::{Failure, Shared};

/// Damaged files that are kept when they are not needed any more; the oldest give way.
const DAMAGED_FILES_MAX: usize = 4;

/// All files, oldest first.
pub(super) struct Files {
    list: Mutex<VecDeque<LogFile>>,
    /// Held while files are let go of.
    releasing: Mutex<()>,
}

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogFile {
    /// The number of its first record, by its name.
    pub(super) first: Lsn,
    /// The number after its last record.
    pub(super) end: Lsn,
    pub(super) bytes: u64,
    pub(super) is_damaged: bool,
}

impl LogFile {
    fn has_records(&self) -> bool {
        self.first < self.end
    }
}

impl Files {
    pub(super) fn new(list: VecDeque<LogFile>) -> Self {
        Self { list: Mutex::new(list), releasing: Mutex::new(()) }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|file| file.bytes).sum()
    }

    /// The first record of each file, oldest first.
    pub(super) fn firsts(&self) -> Vec<Lsn> {
        self.lock().iter().map(|file| file.first).collect()
    }

    /// The newest file.
    pub(super) fn newest(&self) -> Option<LogFile> {
        self.lock().back().copied()
    }

    /// The number that a file follows which begins with `first`: the one after the last record
    /// before it. Files without records do not count, since their names may not be sure.
    pub(super) fn end_before(&self, first: Lsn) -> Lsn {
        let list = self.lock();
        let before = list.iter().rfind(|file| file.first < first && file.has_records());
        let end = before.map(|file| file.end);
        end.or(list.front().map(|oldest| oldest.first)).unwrap_or(first)
    }

    /// Notes a new file, in place of one that has its name.
    pub(super) fn add(&self, file: LogFile) {
        let mut list = self.lock();
        if list.back().is_some_and(|newest| newest.first == file.first) {
            list.pop_back();
        }
        list.push_back(file);
    }

    /// Notes what was written to the newest file.
    pub(super) fn grow(&self, end: Lsn, bytes: u64) {
        if let Some(newest) = self.lock().back_mut() {
            newest.end = end;
            newest.bytes = bytes;
        }
    }

    /// The oldest file, if it has only records before `below` and there are records after it. A
    /// file without records keeps no numbers: its name may not be sure.
    fn oldest_before(&self, below: Lsn) -> Option<LogFile> {
        let list = self.lock();
        let is_followed = list.iter().skip(1).any(LogFile::has_records);
        list.front().filter(|oldest| is_followed && oldest.end <= below).copied()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<LogFile>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Lets go of the files that have only records before `below`. Each removal is made sure of
    /// before the next: otherwise a power cut could leave a gap between those that are left.
    pub(super) fn release(&self, below: Lsn) -> Result<(), Arc<Failure>> {
        let _one = self.files.releasing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = self.files.oldest_before(below) {
            let name = format::file_name(oldest.first);
            let gone = if oldest.is_damaged {
                keep_damaged(self.disk.as_ref(), oldest.first)
            } else {
                self.disk.remove(&name)
            };
            gone.or_else(missing_is_gone).map_err(Failure::at("removing", &name))?;
            self.disk.sync().map_err(|error| {
                let failure = Arc::new(Failure::at("syncing the folder of", &name)(error));
                self.fail(&failure);
                failure
            })?;
            self.files.lock().pop_front();
        }
        Ok(())
    }
}

/// Gives a damaged file the name under which it is nobody's, and removes the oldest such beyond
/// the few that are kept.
pub(super) fn keep_damaged(disk: &dyn Disk, first: Lsn) -> io::Result<()> {
    disk.rename(&format::file_name(first), &format::damaged_name(first))?;
    let names = disk.names()?;
    let is_kept = |name: &&String| format::read_name(name) == Some(Named::Damaged);
    let mut kept: Vec<_> = names.iter().filter(is_kept).collect();
    kept.sort_unstable();
    let beyond = kept.len().saturating_sub(DAMAGED_FILES_MAX);
    kept[..beyond].iter().try_for_each(|name| disk.remove(name))
}

fn missing_is_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
