//! The engine: what is stored, in which order, and when it is safe.
//!
//! One lock gives every report its place in the log and applies it to its device's head, so both
//! have one order. The log's thread makes it safe; who stored it waits for that. A second thread
//! seals heads into chunks (`seal`). At the start the heads are made again from what the index
//! remembers and from the log.
//!
//! When the log fails, what it held in memory is unknown on the disk. Then all heads are made
//! again in the same way, from what is on the disk, while stores are refused and reads go on.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::JoinHandle;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::disk::Disk;
use fleet_core::id::Uid;
use indexmap::IndexMap;

use super::batch::Batch;
use super::catalog::{Catalog, Change, Floors, Loaded, SavedDevice};
use super::head::Head;
use super::names::Names;
use super::record::{Entry, Reader, Scribe};
use super::segments::{Ends, Segments};
use super::wal::{self, Lsn, Wal};
use crate::store::{Failure, Outcome, StoreError};

/// Rows of a device that are sealed together.
pub(super) const SEAL_ROWS: usize = 360;
/// A file of the log that has become so long is not written to any more.
const LOG_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The log may become so long before devices are sealed early to shorten it.
pub(super) const LOG_BYTES_TARGET: u64 = 256 * 1024 * 1024;
/// When it is this long all the same, nothing more is taken.
const LOG_BYTES_MAX: u64 = 2 * LOG_BYTES_TARGET;

/// The telemetry engine. Dropping it makes safe what waits, and ends its threads.
pub struct Engine {
    pub(super) shared: Arc<Shared>,
    sealer: Option<JoinHandle<()>>,
}

/// What the threads and callers share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) names: Names,
    pub(super) store: [u8; 16],
    pub(super) segments: Segments,
    /// Held by whoever adds or removes chunks, until the index knows.
    ends: Mutex<Ends>,
    log: Mutex<Log>,
    devices: RwLock<Devices>,
    floors: RwLock<Floors>,
    /// How many series the index has.
    saved_series: AtomicUsize,
    pub(super) work: Mutex<Work>,
    pub(super) bell: Condvar,
    trouble: Mutex<Trouble>,
}

/// All devices. Most stand in the order in which their memory was given to them, which is the
/// quickest to look at them all.
pub(super) type Devices = IndexMap<Uid, Arc<Device>>;

/// A device.
pub(super) struct Device {
    pub(super) uid: Uid,
    /// Whether it may report.
    is_live: AtomicBool,
    head: Mutex<Head>,
}

struct Log {
    /// None while it is being opened anew.
    wal: Option<Arc<Wal>>,
    /// The one that failed; its thread may still be at work.
    failed: Option<Arc<Wal>>,
    scribe: Scribe,
    last: Option<Lsn>,
}

/// What the sealer is to do.
#[derive(Default)]
pub(super) struct Work {
    /// Devices to seal, each once: what one holds must not be sealed twice at once.
    pub(super) due: IndexMap<Uid, Arc<Device>>,
    pub(super) log_failed: bool,
    pub(super) stopping: bool,
}

impl Work {
    /// Queues devices, unless they are.
    pub(super) fn add_due(&mut self, devices: Vec<Arc<Device>>) {
        self.due.extend(devices.into_iter().map(|device| (device.uid, device)));
    }
}

/// What does not work, for health.
#[derive(Default)]
struct Trouble {
    log: Option<String>,
    sealing: Option<String>,
    damage: Vec<String>,
}

/// Lines of damage that health shows.
const DAMAGE_MAX: usize = 16;

/// Reports that were taken, and are safe once [`Taken::safe`] returns.
pub(crate) struct Taken {
    outcomes: Vec<Outcome>,
    wal: Arc<Wal>,
    last: Option<Lsn>,
    shared: Arc<Shared>,
}

impl Taken {
    /// Waits until the reports are on the disk; what became of each.
    pub(crate) async fn safe(self) -> Result<Vec<Outcome>, StoreError> {
        if let Some(last) = self.last {
            let safe = self.wal.durable(last).await;
            safe.map_err(|error| self.shared.log_failed(&mut self.shared.log(), &error))?;
        }
        Ok(self.outcomes)
    }
}

impl Engine {
    /// Starts on a disk, with an index.
    pub(crate) fn open(disk: Arc<dyn Disk>, catalog: Arc<dyn Catalog>) -> Result<Self, StoreError> {
        let mut loaded = catalog.load()?;
        let names = Names::default();
        restore_names(&names, &mut loaded);
        let saved_series = names.len();
        let (segments, ends) = Segments::open(disk.clone(), loaded.store, &loaded.segments)
            .map_err(|error| StoreError::from(Failure::Storage(error.into())))?;
        let mut trouble = Trouble::default();
        for info in loaded.segments.iter().filter(|info| !segments.holds(info)) {
            trouble.note(format!("the file of chunks {} is missing or too short", info.number));
        }
        let begun = begin(disk.clone(), loaded.store, &names, loaded.devices, &mut trouble)?;
        let shared = Arc::new(Shared {
            disk,
            catalog,
            names,
            store: loaded.store,
            segments,
            ends: Mutex::new(ends),
            log: Mutex::new(begun.log),
            devices: RwLock::new(begun.devices),
            floors: RwLock::new(loaded.floors),
            saved_series: AtomicUsize::new(saved_series),
            work: Mutex::default(),
            bell: Condvar::new(),
            trouble: Mutex::new(trouble),
        });
        shared.look_for_due();
        let sealer = start_sealer(shared.clone())
            .map_err(|error| StoreError::from(Failure::Storage(error.into())))?;
        Ok(Self { shared, sealer: Some(sealer) })
    }

    /// Series and shapes by number.
    pub fn names(&self) -> &Names {
        &self.shared.names
    }

    /// Takes reports, in their order. They are not safe yet.
    pub(crate) fn take(&self, batch: &Batch) -> Result<Taken, StoreError> {
        let shared = &self.shared;
        let mut log = shared.log();
        let wal = log.wal.clone().ok_or(Failure::Reopening)?;
        let log = &mut *log;
        let mut bytes = 0;
        for (report, _) in batch.iter() {
            let most = log.scribe.bytes_at_most(&report.shape, &shared.names);
            // A record that the log refused would leave names behind that are in no file.
            if most > wal::RECORD_BYTES_MAX {
                return Err(StoreError::TooLarge("text that names a report's series"));
            }
            bytes += most;
        }
        if bytes > wal::WAITING_BYTES_MAX {
            return Err(StoreError::TooLarge("text that names the reports' series"));
        }
        if !wal.has_room(bytes) || wal.bytes() > LOG_BYTES_MAX {
            return match wal.failure() {
                Some(failure) => Err(shared.log_failed(log, &failure)),
                None => Err(StoreError::Busy),
            };
        }
        let mut due = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        let devices = shared.devices();
        for (report, numbers) in batch.iter() {
            let Some(device) = devices.get(&report.device).filter(|device| device.is_live()) else {
                outcomes.push(Outcome::NoDevice);
                continue;
            };
            let mut head = device.head();
            let mut device_mark = head.mark;
            let stream = match report.stream {
                None => None,
                Some((stream, seq)) => match head.admit(stream, seq) {
                    Some(cursor) => Some((stream, &mut cursor.mark, seq)),
                    None => {
                        outcomes.push(Outcome::Duplicate);
                        continue;
                    }
                },
            };
            let entry = Entry {
                device: report.device,
                device_mark: &mut device_mark,
                stream,
                at: report.at,
                shape: &report.shape,
                numbers,
            };
            // There is room, and none is too large; if the log has failed meanwhile, heads and marks are made anew.
            let lsn = wal
                .append(|out| log.scribe.write(entry, &shared.names, out))
                .map_err(|error| Failure::Storage(error.into()))?;
            head.mark = device_mark;
            head.apply(lsn, report.at, &report.shape, numbers);
            if head.unsealed_rows() >= SEAL_ROWS && !head.is_due {
                head.is_due = true;
                due.push(device.clone());
            }
            log.last = Some(lsn);
            outcomes.push(Outcome::Stored);
        }
        drop(devices);
        if wal.file_bytes() >= LOG_FILE_BYTES || log.scribe.is_full() {
            wal.begin_file();
            log.scribe.begin_file();
        }
        if !due.is_empty() || wal.bytes() > LOG_BYTES_TARGET {
            shared.work().add_due(due);
            shared.bell.notify_one();
        }
        Ok(Taken { outcomes, wal, last: log.last, shared: shared.clone() })
    }

    /// From now on a device may report.
    pub(crate) fn device_began(&self, uid: Uid) {
        let mut devices = self.shared.devices.write().unwrap_or_else(PoisonError::into_inner);
        let device = devices.entry(uid).or_insert_with(|| Device::new(uid, true, Head::default()));
        device.is_live.store(true, Ordering::Relaxed);
    }

    /// From now on a device may not report any more.
    pub(crate) fn device_ended(&self, uid: Uid) {
        if let Some(device) = self.shared.device(uid) {
            device.is_live.store(false, Ordering::Relaxed);
        }
    }

    /// Nothing is held of a device any more.
    pub(super) fn device_is_gone(&self, uid: Uid) {
        self.shared.devices.write().unwrap_or_else(PoisonError::into_inner).swap_remove(&uid);
    }

    /// Reports of a device that were numbered and never came.
    pub(crate) fn missed(&self, uid: Uid) -> u64 {
        self.shared.device(uid).map_or(0, |device| device.head().missed())
    }

    /// How long the log has been at what it writes.
    pub(crate) fn busy_for(&self) -> Duration {
        self.shared.wal().map_or(Duration::ZERO, |wal| wal.busy_for())
    }

    /// What does not work, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = self.shared.lock_trouble();
        let first = trouble.log.as_ref().or(trouble.sealing.as_ref());
        first.cloned().or_else(|| trouble.damage())
    }

    /// What of telemetry is damaged, if anything.
    pub(crate) fn damage(&self) -> Option<String> {
        self.shared.lock_trouble().damage()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.work().stopping = true;
        self.shared.bell.notify_all();
        if let Some(thread) = self.sealer.take()
            && thread.join().is_err()
        {
            tracing::error!("the telemetry engine's sealer panicked");
        }
        // The log is made safe and closed by being dropped.
        self.shared.log().wal = None;
    }
}

fn start_sealer(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("series-sealer".to_owned())
        .spawn(move || super::seal::run(&shared))
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn devices(&self) -> RwLockReadGuard<'_, Devices> {
        self.devices.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn device(&self, uid: Uid) -> Option<Arc<Device>> {
        self.devices().get(&uid).cloned()
    }

    pub(super) fn floors(&self) -> Floors {
        *self.floors.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many series the index has.
    pub(super) fn saved_series(&self) -> usize {
        self.saved_series.load(Ordering::Relaxed)
    }

    /// Only the sealer says so.
    pub(super) fn set_saved_series(&self, count: usize) {
        self.saved_series.store(count, Ordering::Relaxed);
    }

    /// After a commit that failed, the index may still show what was before, although it held. Once
    /// another holds, what is read is what there is.
    fn make_sure(&self) -> Result<(), StoreError> {
        self.catalog.commit(Change::default()).map(drop)
    }

    /// Removes what failing left behind.
    pub(super) fn clear_abandoned(&self, ends: &mut Ends) -> Result<(), StoreError> {
        if !ends.has_abandoned() {
            return Ok(());
        }
        self.make_sure()?;
        let cleared = self.segments.clear_abandoned(ends, &self.catalog.segments()?);
        cleared.map_err(|error| Failure::Storage(error.into()).into())
    }

    /// Removes files of which the index has forgotten all chunks.
    pub(super) fn remove_segments(&self, ends: &mut Ends, dead: &[u64]) {
        if let Err(error) = self.segments.remove(ends, dead) {
            tracing::warn!(error = %Chain(&error), "old files of chunks were not removed");
        }
    }

    pub(super) fn floors_to_raise(&self) -> RwLockWriteGuard<'_, Floors> {
        self.floors.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log, unless it has failed.
    pub(super) fn wal(&self) -> Option<Arc<Wal>> {
        self.log().wal.clone()
    }

    /// The last record of the log, and of which no device needs any before it.
    pub(super) fn release_log(&self) {
        let (wal, end) = {
            let log = self.log();
            let Some(wal) = log.wal.clone() else { return };
            (wal, log.last.map_or(Lsn(0), |last| Lsn(last.0 + 1)))
        };
        let firsts = self.devices();
        let first = firsts.values().filter_map(|device| device.head().first()).min();
        drop(firsts);
        if let Err(error) = wal.release(first.unwrap_or(end).min(end)) {
            tracing::warn!(error = %Chain(&error), "old files of the log were not removed");
        }
    }

    /// Notes that the log has failed, and has it opened anew.
    fn log_failed(&self, log: &mut Log, error: &(dyn Error + 'static)) -> StoreError {
        let reason = Chain(error).to_string();
        // Who waits for a log that has been replaced tells nothing new.
        if let Some(failed) = log.wal.take_if(|wal| wal.failure().is_some()) {
            log.failed = Some(failed);
            self.lock_trouble().log = Some(format!("the telemetry log failed: {reason}"));
            self.work().log_failed = true;
        }
        self.bell.notify_one();
        Failure::Storage(reason.into()).into()
    }

    /// Makes the heads again from what is on the disk.
    pub(super) fn reopen_log(&self) -> Result<(), StoreError> {
        // What is sealed meanwhile would be in the index and in the new heads too.
        let _sealing = self.ends();
        // What its thread still writes would be missing from what is read.
        let failed = self.log().failed.take();
        if let Some(failed) = failed {
            failed.end();
        }
        self.make_sure()?;
        let loaded = self.catalog.load()?;
        let mut trouble = Trouble::default();
        let begun =
            begin(self.disk.clone(), self.store, &self.names, loaded.devices, &mut trouble)?;
        let mut log = self.log();
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        // Devices may have come or gone since the index was read.
        let mut heads = begun.devices;
        for (uid, device) in devices.iter() {
            let anew = || Device::new(*uid, device.is_live(), Head::default());
            let head = heads.entry(*uid).or_insert_with(anew);
            head.is_live.store(device.is_live(), Ordering::Relaxed);
        }
        heads.retain(|uid, _| devices.contains_key(uid));
        *devices = heads;
        *log = Log { scribe: Scribe::new(Some(&log.scribe)), ..begun.log };
        drop((log, devices));
        let mut known = self.lock_trouble();
        known.log = None;
        trouble.damage.into_iter().for_each(|line| known.note(line));
        drop(known);
        self.work().log_failed = false;
        self.look_for_due();
        tracing::info!("the telemetry log was opened anew");
        Ok(())
    }

    /// What goes wrong with sealing, or that nothing does any more.
    pub(super) fn set_sealing_trouble(&self, trouble: Option<String>) {
        self.lock_trouble().sealing = trouble;
    }

    /// Notes damage, for health.
    pub(super) fn note_damage(&self, line: String) {
        tracing::error!(damage = line, "telemetry is damaged");
        self.lock_trouble().note(line);
    }

    fn lock_trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_for_due(&self) {
        let mut due = Vec::new();
        for device in self.devices().values() {
            let mut head = device.head();
            if head.unsealed_rows() >= SEAL_ROWS && !head.is_due {
                head.is_due = true;
                due.push(device.clone());
            }
        }
        self.work().add_due(due);
        self.bell.notify_one();
    }
}

impl Device {
    fn new(uid: Uid, is_live: bool, head: Head) -> Arc<Self> {
        Arc::new(Self { uid, is_live: AtomicBool::new(is_live), head: Mutex::new(head) })
    }

    /// Whether it may report: it is not deleted.
    pub(super) fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Relaxed)
    }

    pub(super) fn head(&self) -> MutexGuard<'_, Head> {
        // A head is changed by code that does not panic; if it did, the log would still be right.
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn damage(&self) -> Option<String> {
        let lines = || self.damage.join("; ");
        (!self.damage.is_empty()).then(|| format!("telemetry is damaged: {}", lines()))
    }

    fn note(&mut self, line: String) {
        if self.damage.len() < DAMAGE_MAX && !self.damage.contains(&line) {
            self.damage.push(line);
        }
    }
}

fn restore_names(names: &Names, loaded: &mut Loaded) {
    for (number, saved) in std::mem::take(&mut loaded.series).into_iter().enumerate() {
        names.restore(number, saved);
    }
}

struct Begun {
    log: Log,
    devices: Devices,
}

/// Makes the heads from what is remembered of the devices and from the log.
fn begin(
    disk: Arc<dyn Disk>,
    store: [u8; 16],
    names: &Names,
    saved: Vec<SavedDevice>,
    trouble: &mut Trouble,
) -> Result<Begun, StoreError> {
    let live: HashMap<Uid, bool> =
        saved.iter().map(|device| (device.uid, device.is_live)).collect();
    let head = |device: SavedDevice| {
        let remembered = device.remembered;
        (device.uid, remembered.map_or_else(Head::forgetful, Head::remembering))
    };
    let mut heads: IndexMap<Uid, Head> = saved.into_iter().map(head).collect();
    // The log may have lost its end; what the index says was done stays done.
    let applied = heads.values().filter_map(Head::last).max();
    let at_least = applied.map_or(Lsn(0), |applied| Lsn(applied.0 + 1));
    let (mut reader, mut unreadable, mut last) = (Reader::default(), 0_u64, None);
    let opened = Wal::open(disk, store, at_least, &mut |entry| match entry {
        wal::Entry::FileStart => reader = Reader::default(),
        wal::Entry::Record { lsn, bytes } => {
            last = Some(lsn);
            let read = reader.read(bytes, names, |logged| {
                let Some(head) = heads.get_mut(&logged.device) else { return };
                if head.last().is_some_and(|applied| lsn <= applied) {
                    return;
                }
                if let Some((stream, seq)) = logged.stream {
                    head.admit(stream, seq);
                }
                head.apply(lsn, logged.at, logged.shape, logged.numbers);
            });
            unreadable += u64::from(read.is_err());
        }
    });
    let (wal, recovered) = opened.map_err(|error| Failure::Storage(error.into()))?;
    for damage in recovered.damage {
        trouble.note(words_of(&damage));
    }
    if unreadable > 0 {
        trouble.note(format!("{unreadable} records of the log cannot be read"));
    }
    let devices = heads
        .into_iter()
        .map(|(uid, head)| (uid, Device::new(uid, live.get(&uid) == Some(&true), head)))
        .collect();
    let wal = Some(Arc::new(wal));
    let log = Log { wal, failed: None, scribe: Scribe::new(None), last };
    Ok(Begun { log, devices })
}

fn words_of(damage: &wal::Damage) -> String {
    let wal::Damage { file, at, bytes, lost } = damage;
    match lost {
        Some(lost) => {
            format!("{} records of the log are lost in {file} at {at}", lost.end.0 - lost.start.0)
        }
        None => format!("{bytes} bytes of the log cannot be read in {file} at {at}"),
    }
}
