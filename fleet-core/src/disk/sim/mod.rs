//! A disk in memory, for tests. Without being told otherwise it is a plain one; told to, it fails
//! as real ones do, and in a power cut it loses what was not made sure of.
//!
//! What holds:
//!
//! - All that happens follows from the seed and the order of calls.
//! - [`SimDisk::power_cut`] keeps what was synced. Of each file's other changes any may be there,
//!   not be there, or be there in part: its first bytes, or some of its sectors. A length may be
//!   any that the file had since, with zeros where bytes did not make it. Of the names made, given
//!   and removed any may hold.
//! - What a failed sync was to make sure of stays unsure, whatever is synced later.
//! - Who used the disk before a power cut, or has a file open from before, gets errors.

mod contents;
mod dice;
pub mod image;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::dice::Dice;

use self::contents::Contents;
use self::names::Names;
use super::{Disk, DiskFile};

/// What a disk says when it fails.
const EIO: i32 = 5;

/// A disk. Its clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Which stretch between two power cuts this one may be used in.
    life: u64,
}

/// What can be made to go wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A write or a change of length fails and changes nothing.
    Write,
    /// A write fails in its middle.
    ShortWrite,
    /// A sync, of a file or of the folder, fails.
    Sync,
    /// A file cannot be made, renamed or removed.
    Name,
    /// The power fails in the middle of any of these: from there on everything does.
    Power,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State { dice: Dice::new(seed), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), life: 0 }
    }

    /// Cuts the power and returns the disk as it is found afterwards. The faults that were asked
    /// for are over; a quota stays, and so does lying.
    #[must_use = "the disk from before the power cut only fails"]
    pub fn power_cut(&self) -> Self {
        let mut state = self.lock();
        state.power_cut();
        let life = state.life;
        drop(state);
        Self { state: Arc::clone(&self.state), life }
    }

    /// Lets a fault happen after so many more of its kind went well.
    pub fn fail(&self, fault: Fault, after: u64) {
        self.lock().faults.insert(fault, after);
    }

    /// Takes back the faults that did not happen yet.
    pub fn repair(&self) {
        self.lock().faults.clear();
    }

    /// Lets all files have so many bytes together; what goes beyond fails for want of space, in
    /// its middle. Names take no space.
    pub fn limit(&self, bytes: Option<usize>) {
        self.lock().quota = bytes;
    }

    /// Lets syncing say that it succeeded without doing anything.
    pub fn lie(&self, lies: bool) {
        self.lock().lies = lies;
    }

    /// Writes, changes of length, syncs, and changes of names so far.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// What readers of a file see.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.names.find(name)?;
        Some(state.files[&file].contents.now().to_vec())
    }

    /// Alters a file as a failing medium does: nothing and nobody notices. All that was written to
    /// it before counts as synced. False if there is no such file.
    pub fn rot(&self, name: &str, alter: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        let Some(file) = state.names.find(name) else { return false };
        state.file(file).contents.rot(alter);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        state.check(self.life)?;
        Ok(state)
    }

    fn handle(&self, state: &mut State, file: u64) -> Arc<dyn DiskFile> {
        state.file(file).handles += 1;
        Arc::new(Handle { disk: self.clone(), file })
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.live()?.names.all())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.live()?;
        if state.names.find(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.next_file;
        state.change_names(|state| {
            state.next_file += 1;
            state.files.insert(file, File::default());
            state.names.make(name, file);
        })?;
        Ok(self.handle(&mut state, file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.live()?;
        let file = state.names.find(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&mut state, file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.live()?;
        let file = state.names.find(name).ok_or(io::ErrorKind::NotFound)?;
        state.change_names(|state| state.names.remove(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.live()?;
        let file = state.names.find(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_names(|state| state.names.rename(from, to, file))
    }

    fn sync(&self) -> io::Result<()> {
        self.live()?.sync(|state, succeeds| state.names.sync(succeeds))
    }
}

/// An open file.
struct Handle {
    disk: SimDisk,
    file: u64,
}

impl DiskFile for Handle {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.live()?.file(self.file).contents.now().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.live()?;
        let from = place(offset)?;
        let bytes = state.file(self.file).contents.now().get(from..);
        let bytes = bytes.and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.live()?;
        let at = place(offset)?;
        state.write(self.file, at, bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.live()?;
        let bytes = place(bytes)?;
        state.truncate(self.file, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.live()?;
        state.sync(|state, succeeds| state.file(self.file).contents.sync(succeeds))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.life == self.disk.life {
            state.file(self.file).handles -= 1;
            state.drop_files();
        }
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[derive(Default)]
struct State {
    dice: Dice,
    life: u64,
    files: BTreeMap<u64, File>,
    next_file: u64,
    names: Names,
    faults: BTreeMap<Fault, u64>,
    quota: Option<usize>,
    lies: bool,
    /// The power failed, and was not cut and given back yet.
    is_off: bool,
    steps: u64,
}

#[derive(Default)]
struct File {
    contents: Contents,
    handles: usize,
}

impl State {
    fn check(&self, life: u64) -> io::Result<()> {
        if self.is_off || self.life != life { Err(off()) } else { Ok(()) }
    }

    fn file(&mut self, file: u64) -> &mut File {
        self.files.get_mut(&file).expect("files with a name or a handle are kept")
    }

    /// Whether a fault happens now.
    fn strikes(&mut self, fault: Fault) -> bool {
        match self.faults.get_mut(&fault) {
            None => false,
            Some(0) => {
                self.faults.remove(&fault);
                true
            }
            Some(after) => {
                *after -= 1;
                false
            }
        }
    }

    /// Counts a change, and fails those that power fails in. They are done all the same, since
    /// nothing of them is sure.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        self.is_off = self.strikes(Fault::Power);
        if self.is_off { Err(off()) } else { Ok(()) }
    }

    fn write(&mut self, file: u64, at: usize, bytes: &[u8]) -> io::Result<()> {
        let (part, failure) = if self.strikes(Fault::Write) {
            (0, Some(eio()))
        } else if self.strikes(Fault::ShortWrite) {
            (self.dice.below(bytes.len().max(1)), Some(eio()))
        } else {
            let room = self.room(file, at);
            let full = room < bytes.len();
            (bytes.len().min(room), full.then(|| io::ErrorKind::StorageFull.into()))
        };
        if part > 0 {
            self.file(file).contents.write(at, &bytes[..part]);
        }
        self.step()?;
        failure.map_or(Ok(()), Err)
    }

    fn truncate(&mut self, file: u64, bytes: usize) -> io::Result<()> {
        if self.strikes(Fault::Write) {
            return Err(eio());
        }
        if bytes > self.file(file).contents.now().len() && self.room(file, 0) < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file(file).contents.truncate(bytes);
        self.step()
    }

    /// How many bytes a file may have from a place on.
    fn room(&mut self, file: u64, at: usize) -> usize {
        let Some(quota) = self.quota else { return usize::MAX };
        let is_there = |number, file: &File| file.handles > 0 || self.names.has(number);
        let there = self.files.iter().filter(|(number, file)| is_there(**number, file));
        let bytes: usize = there.map(|(_, file)| file.contents.now().len()).sum();
        let own = self.file(file).contents.now().len();
        (quota.saturating_sub(bytes) + own).saturating_sub(at)
    }

    fn change_names(&mut self, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        if self.strikes(Fault::Name) {
            return Err(eio());
        }
        change(self);
        self.drop_files();
        self.step()
    }

    fn sync(&mut self, sync: impl FnOnce(&mut Self, bool)) -> io::Result<()> {
        let fails = self.strikes(Fault::Sync);
        self.step()?;
        if fails || !self.lies {
            sync(self, !fails);
            self.drop_files();
        }
        if fails { Err(eio()) } else { Ok(()) }
    }

    /// Forgets files that nobody can reach, not even after a power cut.
    fn drop_files(&mut self) {
        let Self { files, names, .. } = self;
        files.retain(|number, file| file.handles > 0 || names.may_have(*number));
    }

    fn power_cut(&mut self) {
        self.life += 1;
        self.is_off = false;
        self.faults.clear();
        self.names.cut(&mut self.dice);
        for file in self.files.values_mut() {
            file.handles = 0;
            file.contents.cut(&mut self.dice);
        }
        self.drop_files();
    }
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The next sync makes it sure.
    Unsure,
    /// A sync failed with it; no later one knows of it.
    Forgotten,
    /// It is sure, and remembered only because it came after a forgotten one.
    Sure,
}

impl Fate {
    /// What a sync makes of changes.
    fn settle<T>(changes: &mut Vec<T>, fate: impl Fn(&mut T) -> &mut Self, succeeds: bool) {
        let forgotten = changes.iter_mut().any(|change| *fate(change) == Self::Forgotten);
        if succeeds && !forgotten {
            changes.clear();
        }
        for fate in changes.iter_mut().map(fate).filter(|fate| **fate == Self::Unsure) {
            *fate = if succeeds { Self::Sure } else { Self::Forgotten };
        }
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

fn off() -> io::Error {
    io::Error::other("the power was cut")
}
