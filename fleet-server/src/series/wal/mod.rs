//! The write-ahead log: what was appended and is durable is found again after any crash, in order,
//! once. It knows records as bytes.
//!
//! A record gets its number when it is appended, in memory, under a short lock. One thread takes
//! whatever waits by then, writes it as one frame, syncs, and tells those who wait for it; while
//! it syncs, the next frame gathers. There is no timer.
//!
//! What holds:
//!
//! - A record is acknowledged only when its frame and all before it are synced, and the name of
//!   its file too. A frame is written only when the one before it is synced, so a crash can tear
//!   nothing but the last frame of the last file. Anything else that does not read is damage:
//!   named, never passed over, and in the way of nothing else.
//! - Numbers grow by one and are never given to two records that were acknowledged.
//! - What opening the log shows is durable from then on, even if the disk had failed before:
//!   whatever may be in its cache alone is written once more.
//! - After a failed write or sync nothing more is written or acknowledged. The log must be
//!   dropped and opened anew.

#[cfg(any(test, fuzzing))]
pub(crate) mod check;
mod error;
mod files;
mod format;
mod hold;
mod progress;
mod queue;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::disk::Disk;

pub use self::error::{Failure, OpenError, WalError};
pub use self::format::{Lsn, RECORD_BYTES_MAX};
pub(in crate::series) use self::hold::HeldLog;
pub use self::queue::WAITING_BYTES_MAX;
pub use self::recover::{DAMAGE_MAX, Damage, Entry, Recovered};

use self::files::Files;
use self::progress::Progress;
use self::queue::Queue;
use crate::underway::Underway;

/// A log in a folder of files, of which it uses those named `wal-…`. Dropping it writes what
/// waits, unless it failed.
pub struct Wal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and the thread share.
struct Shared {
    disk: Arc<dyn Disk>,
    store: [u8; 16],
    queue: Queue,
    progress: Progress,
    files: Files,
    /// What the thread does at present.
    underway: Underway,
}

impl Wal {
    /// Reads the log of a store, record by record, and makes ready for more.
    ///
    /// The first record appended begins a new file and is numbered `at_least` so: a log that lost
    /// its end must not give out numbers that its owner has already noted as done. What was shown
    /// before an error counts for nothing.
    pub fn open(
        disk: Arc<dyn Disk>,
        store: [u8; 16],
        at_least: Lsn,
        visit: &mut dyn FnMut(Entry<'_>),
    ) -> Result<(Self, Recovered), OpenError> {
        let (files, recovered) = recover::recover(disk.as_ref(), store, visit)?;
        let next = recovered.next.max(at_least);
        let shared = Arc::new(Shared {
            disk,
            store,
            queue: Queue::new(next),
            progress: Progress::new(next.before()),
            files,
            underway: Underway::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || writer::run(&theirs))
            .map_err(OpenError::Thread)?;
        let thread = Mutex::new(Some(thread));
        Ok((Self { shared, thread }, Recovered { next, ..recovered }))
    }

    /// Numbers a record, which is what `write` appends to the buffer, and queues it. Callers that
    /// apply records in order hold a lock of their own around this and that. If it is refused, or
    /// if `write` panics, nothing has happened.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Lsn, WalError> {
        self.shared.queue.append(write)
    }

    /// Whether records of so many bytes together may be appended now, an empty one counting as
    /// one byte. If so, and nobody else appends in between, they are not refused as
    /// [`WalError::Busy`]. False also if the log failed.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.shared.queue.has_room(bytes)
    }

    /// Waits until a record that was appended is durable.
    pub async fn durable(&self, lsn: Lsn) -> Result<(), WalError> {
        self.shared.progress.reach(lsn).await
    }

    /// The same, for threads that may block.
    pub fn durable_blocking(&self, lsn: Lsn) -> Result<(), WalError> {
        self.shared.progress.reach_blocking(lsn)
    }

    /// The last record that is durable, and all before it.
    pub fn durable_to(&self) -> Lsn {
        self.shared.progress.reached()
    }

    /// The number that the next record gets.
    pub fn next(&self) -> Lsn {
        self.shared.queue.next()
    }

    /// Lets the next record begin a new file. More than once before that record is like once.
    /// Files are released, and read into memory when the log is opened, each as a whole: they
    /// should be small.
    pub fn begin_file(&self) {
        self.shared.queue.begin_file();
    }

    /// Bytes of the file that the next record goes to, with what waits for it: none if that
    /// record begins it.
    pub fn file_bytes(&self) -> u64 {
        self.shared.queue.file_bytes()
    }

    /// Removes the files that have only records before `below`, never the newest. Damaged ones are
    /// kept under another name, a few of them. It waits for the disk. A failure leaves the rest
    /// for the next time; the log goes on unless [`Wal::failure`] says otherwise.
    pub fn release(&self, below: Lsn) -> Result<(), Arc<Failure>> {
        self.shared.release(below)
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.shared.files.count()
    }

    /// Bytes of all files, with the room that was made for more.
    pub fn bytes(&self) -> u64 {
        self.shared.files.bytes()
    }

    /// Bytes of records that are not durable yet.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.queue.waiting()
    }

    /// How long what the thread does has been under way.
    pub(in crate::series) fn busy_for(&self) -> Duration {
        self.shared.underway.lasts()
    }

    /// Writes what waits, unless it failed, and waits until nothing is written any more.
    pub fn end(&self) {
        self.shared.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of the write-ahead log panicked");
        }
    }

    /// Why nothing more can be appended, if so.
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.shared.progress.failure()
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Ends the log's life, and tells everybody.
    fn fail(&self, failure: &Arc<Failure>) {
        tracing::error!(reason = %Chain(failure), "the write-ahead log failed");
        self.queue.fail(failure);
        self.progress.fail(failure);
    }
}
