//! Opening logs, and a disk that can be held up.

use std::sync::{Arc, Condvar, Mutex};
use std::{io, thread};

use fleet_core::disk::sim::SimDisk;
use fleet_core::disk::{Disk, DiskFile};

pub(super) use super::super::check::{STORE, Shown};
use super::super::*;

/// Opens the log of a disk and returns what it shows.
pub(super) fn open(disk: &SimDisk) -> Result<(Wal, Recovered, Vec<Shown>), OpenError> {
    open_at(disk, Lsn(0))
}

pub(super) fn open_at(
    disk: &SimDisk,
    at_least: Lsn,
) -> Result<(Wal, Recovered, Vec<Shown>), OpenError> {
    let mut shown = Vec::new();
    let mut starts = 0;
    let (wal, recovered) =
        Wal::open(Arc::new(disk.clone()), STORE, at_least, &mut |entry| match entry {
            Entry::FileStart => starts += 1,
            Entry::Record { lsn, bytes } => shown.push((lsn.0, bytes.to_vec())),
        })?;
    assert_eq!((starts, shown.len() as u64), (recovered.files, recovered.records));
    Ok((wal, recovered, shown))
}

/// Appends a record, and returns what it is shown as.
pub(super) fn append(wal: &Wal, bytes: &[u8]) -> Shown {
    let lsn = wal.append(|out| out.extend(bytes)).unwrap();
    (lsn.0, bytes.to_vec())
}

/// Names of a disk's files, in order.
pub(super) fn names(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.names().unwrap();
    names.sort_unstable();
    names
}

/// Waits until something holds.
pub(super) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < end, "waited for {what}");
        thread::yield_now();
    }
}

/// A disk whose syncs wait while it is held up.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) disk: SimDisk,
    state: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum GateState {
    #[default]
    Open,
    Closed,
    /// Syncing panics.
    Broken,
}

impl Gate {
    pub(super) fn new(disk: SimDisk) -> Self {
        Self { disk, state: Arc::default() }
    }

    pub(super) fn set(&self, state: GateState) {
        *self.state.0.lock().unwrap() = state;
        self.state.1.notify_all();
    }

    fn pass(&self) {
        let state = self.state.0.lock().unwrap();
        let is_closed = |state: &mut GateState| *state == GateState::Closed;
        let state = *self.state.1.wait_while(state, is_closed).unwrap();
        assert!(state != GateState::Broken, "on purpose");
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(GateFile { gate: self.clone(), file })
    }
}

impl Disk for Gate {
    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.disk.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.disk.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        self.pass();
        Disk::sync(&self.disk)
    }
}

struct GateFile {
    gate: Gate,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for GateFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }
}
