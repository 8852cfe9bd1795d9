//! A disk in memory that fails when told to, and loses in a power cut what was not synced.

use std::sync::{Arc, Mutex, MutexGuard};
use std::{fmt, io};

use fleet_core::disk::sim::SimDisk;
use fleet_server::store::{OpenError, RedbStore};
use redb::StorageBackend;

/// A disk with a database and a folder of telemetry. Its copies are the same disk, so that a store
/// can be reopened on it.
#[derive(Clone)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    telemetry: SimDisk,
}

#[derive(Default)]
struct State {
    /// What a reader sees.
    bytes: Vec<u8>,
    /// What is there after a power cut, if nothing of `pending` is.
    synced: Vec<u8>,
    /// What was written since the last sync.
    pending: Vec<Write>,
    /// Writes, syncs and growths until they fail.
    countdown: Option<u32>,
    /// Whether syncing only pretends.
    lies: bool,
}

enum Write {
    Len(usize),
    Data(usize, Vec<u8>),
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), telemetry: SimDisk::new(1) }
    }

    /// A disk that says it synced and did not.
    pub(crate) fn lying() -> Self {
        let disk = Self::new();
        disk.state().lies = true;
        disk.telemetry.lie(true);
        disk
    }

    /// Opens a store on it.
    pub(crate) fn store(&self) -> RedbStore {
        self.open().unwrap()
    }

    /// The same where it may not open.
    pub(crate) fn open(&self) -> Result<RedbStore, OpenError> {
        let (disk, telemetry) = (self.clone(), Arc::new(self.telemetry.clone()));
        RedbStore::open_in(move || disk.clone(), telemetry)
    }

    /// The part with the telemetry.
    pub(crate) fn telemetry(&self) -> &SimDisk {
        &self.telemetry
    }

    /// Fails all writes after so many more, until repaired.
    pub(crate) fn fail_after(&self, writes: u32) {
        self.state().countdown = Some(writes);
    }

    pub(crate) fn repair(&self) {
        self.state().countdown = None;
    }

    /// What is left after a power cut: everything synced, and of the rest what `kept` says.
    pub(crate) fn after_power_cut(&self, mut kept: impl FnMut() -> bool) -> Self {
        let state = self.state();
        let mut bytes = state.synced.clone();
        for write in &state.pending {
            if kept() {
                write.apply(&mut bytes);
            }
        }
        let cut = Self { state: Arc::default(), telemetry: self.telemetry.power_cut() };
        *cut.state() = State { bytes: bytes.clone(), synced: bytes, ..State::default() };
        cut
    }

    /// Whether a byte sequence is on the disk, and how often.
    pub(crate) fn count(&self, needle: &[u8]) -> usize {
        self.state().bytes.windows(needle.len()).filter(|window| *window == needle).count()
    }

    /// Flips a bit in every place where a byte sequence is, `offset` bytes after its start.
    pub(crate) fn flip(&self, needle: &[u8], offset: usize, bit: u8) {
        let mut state = self.state();
        let places: Vec<usize> = state
            .bytes
            .windows(needle.len())
            .enumerate()
            .filter(|(_, window)| *window == needle)
            .map(|(place, _)| place)
            .collect();
        for place in places {
            state.bytes[place + offset] ^= 1 << bit;
        }
    }

    /// Flips one bit, chosen by a number, in the part of the disk that is in use.
    pub(crate) fn flip_any(&self, number: u64) {
        let mut state = self.state();
        let used: Vec<usize> = (0..state.bytes.len()).filter(|at| state.bytes[*at] != 0).collect();
        let pick = used[usize::try_from(number >> 3).unwrap() % used.len()];
        state.bytes[pick] ^= 1 << (number & 7);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn write(&mut self, write: Write) -> io::Result<()> {
        self.spend()?;
        write.apply(&mut self.bytes);
        self.pending.push(write);
        Ok(())
    }

    fn spend(&mut self) -> io::Result<()> {
        match &mut self.countdown {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Data(from, data) => {
                let end = from + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*from..end].copy_from_slice(data);
            }
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let state = self.state();
        let read = state.bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().write(Write::Len(usize::try_from(len).unwrap()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().write(Write::Data(usize::try_from(offset).unwrap(), data.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.spend()?;
        if !state.lies {
            for write in std::mem::take(&mut state.pending) {
                write.apply(&mut state.synced);
            }
        }
        Ok(())
    }
}
