//! What waits for the disk: frames that are being filled, in memory, with a bound.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::format::{FILE_START_BYTES, Group, Lsn};
use super::{Failure, WalError};

/// Bytes of records that may be appended and not durable yet. A record is refused when there are
/// more.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// From so many bytes on the next record begins a frame of its own. Each frame is synced before
/// the next, so frames of a disk that keeps up are as large as what came during one sync.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a buffer that is kept to be used again.
const SPARE_BYTES_MAX: usize = 1024 * 1024;

/// The queue between those who append and the thread.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Rung when the thread sleeps and should not.
    bell: Condvar,
}

struct State {
    next: Lsn,
    groups: VecDeque<Waiting>,
    /// The next record begins a file.
    begins_file: bool,
    /// Bytes of the file that the next record goes to.
    file_bytes: u64,
    /// Bytes of records, in the queue and in the thread's hands.
    waiting: usize,
    spare: Vec<u8>,
    sleeps: bool,
    closed: bool,
    failure: Option<Arc<Failure>>,
}

/// A frame for the thread to write.
pub(super) struct Waiting {
    pub(super) group: Group,
    pub(super) begins_file: bool,
    /// Bytes that it takes of what may wait.
    weight: usize,
}

impl Queue {
    pub(super) fn new(next: Lsn) -> Self {
        let state = State {
            next,
            groups: VecDeque::new(),
            begins_file: true,
            file_bytes: 0,
            waiting: 0,
            spare: Vec::new(),
            sleeps: false,
            closed: false,
            failure: None,
        };
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    pub(super) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Lsn, WalError> {
        let mut state = self.lock();
        if let Some(failure) = &state.failure {
            return Err(WalError::Failed(Arc::clone(failure)));
        }
        if state.waiting > WAITING_BYTES_MAX {
            return Err(WalError::Busy);
        }
        let lsn = state.push(write)?;
        let sleeps = mem::take(&mut state.sleeps);
        drop(state);
        if sleeps {
            self.bell.notify_one();
        }
        Ok(lsn)
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let state = self.lock();
        state.failure.is_none() && state.waiting.saturating_add(bytes) <= WAITING_BYTES_MAX
    }

    pub(super) fn begin_file(&self) {
        let mut state = self.lock();
        state.begins_file = true;
        state.file_bytes = 0;
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.lock().file_bytes
    }

    pub(super) fn next(&self) -> Lsn {
        self.lock().next
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// What is to be written next; waits for it. Nothing once the queue is closed and empty, or
    /// the log has failed.
    pub(super) fn take(&self) -> Option<Waiting> {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some(waiting) = state.groups.pop_front() {
                return Some(waiting);
            }
            if state.closed {
                return None;
            }
            state.sleeps = true;
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes room for more in place of what was written.
    pub(super) fn done(&self, waiting: Waiting) {
        let buffer = waiting.group.into_buffer();
        let mut state = self.lock();
        state.waiting -= waiting.weight;
        if buffer.capacity() <= SPARE_BYTES_MAX {
            state.spare = buffer;
        }
    }

    /// Refuses whatever comes, and forgets what waits.
    pub(super) fn fail(&self, failure: &Arc<Failure>) {
        let mut state = self.lock();
        state.failure.get_or_insert_with(|| Arc::clone(failure));
        state.groups.clear();
        drop(state);
        self.bell.notify_one();
    }

    /// Lets the thread end when it has written what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A record whose writing panicked is not in any frame.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Lsn, WalError> {
        let last = self.groups.back_mut().filter(|_| !self.begins_file);
        let (length, bytes) = match last.filter(|last| last.group.bytes() < GROUP_BYTES) {
            Some(last) => {
                let before = last.group.bytes();
                let length = last.group.push(write).map_err(WalError::TooLarge)?;
                last.weight += length.max(1);
                (length, last.group.bytes() - before)
            }
            None => {
                let mut group = Group::new(self.next, mem::take(&mut self.spare));
                let length = group.push(write).map_err(WalError::TooLarge)?;
                let start = if self.begins_file { FILE_START_BYTES } else { 0 };
                let bytes = start + group.bytes();
                let begins_file = mem::take(&mut self.begins_file);
                self.groups.push_back(Waiting { group, begins_file, weight: length.max(1) });
                (length, bytes)
            }
        };
        self.waiting += length.max(1);
        self.file_bytes += bytes as u64;
        let lsn = self.next;
        self.next = lsn.after(1);
        Ok(lsn)
    }
}
