//! The store in one redb file, with telemetry beside it.
//!
//! One thread writes ([`writer`]), in groups, each group one durable commit. Reads take a snapshot
//! and run beside it, those of a few rows at once and all others on blocking threads. redb may panic over a damaged file and refuses all
//! writes after an I/O error: panics are contained where it is called, and the writer opens the
//! database anew, during which reads wait or say that it is not available.

mod audit;
mod backup;
mod ballast;
mod batches;
mod commands;
mod configs;
mod damage;
mod deleted;
mod devices;
mod doubles;
mod events;
mod grants;
mod keys;
mod layers;
mod meta;
mod migrate;
mod open;
mod preauths;
mod revoked;
mod room;
mod row;
mod series;
mod sessions;
mod tables;
mod telemetry;
mod writer;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use fleet_core::disk::{Disk, Folder};
use redb::{Database, ReadableDatabase as _, StorageBackend};
use tokio::sync::{Notify, Semaphore, watch};

pub(crate) use self::backup::Loader;
use self::ballast::Ballast;
pub(crate) use self::ballast::{BALLAST_FILE, Turn};
use self::damage::DamageLog;
use self::open::{Occasion, Opener};
pub(crate) use self::revoked::{Settled, Telling, Words};
use self::room::Room;
#[cfg(any(test, fuzzing))]
pub(crate) use self::row::check_row;
use self::series::Index;
use self::tables::{Fault, Reading, Writing};
use self::writer::Writer;
use super::{Directory, Failure, OpenError, StoreError, StoreHealth};
use crate::series::engine::Engine;
use crate::store::revoked::Revoked;
use crate::underway::Underway;

/// The folder of telemetry, beside the database.
pub(crate) const TELEMETRY_FOLDER: &str = "telemetry";
/// Reads at one time; more wait. Each takes a blocking thread for as long as it runs.
const READS_MAX: usize = 16;

/// The store in one redb file. Dropping it finishes what waits and closes the file.
pub struct RedbStore {
    /// Goes first, since its threads write to the database.
    series: Arc<Engine>,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    reads: Arc<Semaphore>,
    room: Room,
    directory: Directory,
    /// Held while those in memory are told of a change, so that the last word is the last change's.
    turn: tokio::sync::Mutex<()>,
}

impl RedbStore {
    /// Opens the database in a file and the folder of telemetry beside it, or makes them, for this
    /// user alone.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let room = Room::around(path);
        let ballast = Some(Ballast::beside(path));
        let mut places = || Places::beside(path);
        Self::start(Opener::file(path), Occasion::Start, room, ballast, &mut places)
    }

    /// Opens a database that is there already, and makes none.
    pub fn open_existing(path: &Path) -> Result<Self, OpenError> {
        let room = Room::around(path);
        let mut places = || Places::beside(path);
        Self::start(Opener::file(path), Occasion::Failure, room, None, &mut places)
    }

    /// Opens the database in what `backend` returns, with all else on a disk. The backend is called
    /// again when the database must be opened anew, and must then return the same contents.
    pub fn open_in<B: StorageBackend>(
        backend: impl Fn() -> B + Send + Sync + 'static,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, OpenError> {
        let (opener, room) = (Opener::backend(backend), Room::unlimited());
        let mut places = || Ok(Places { telemetry: disk.clone(), lists: disk.clone() });
        Self::start(opener, Occasion::Start, room, None, &mut places)
    }

    /// One that is gone when it is dropped.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let disk = Arc::new(fleet_core::disk::sim::SimDisk::new(1));
        Self::open_in(redb::backends::InMemoryBackend::new, disk).expect("memory does not fail")
    }

    /// How many commits there were since the store was opened.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Reads something, whatever comes of it, and says for how long the disk has kept those busy who
    /// write. Who waits long for that waits for a disk that does not answer.
    pub(crate) async fn busy_for(&self) -> Duration {
        // An error is an answer.
        drop(self.read(meta::server_key).await);
        let (shared, series) = (Arc::clone(&self.shared), Arc::clone(&self.series));
        let looking =
            tokio::task::spawn_blocking(move || shared.underway.lasts().max(series.busy_for()));
        looking.await.unwrap_or_default()
    }

    fn start(
        opener: Opener,
        occasion: Occasion,
        room: Room,
        ballast: Option<Ballast>,
        places: &mut dyn FnMut() -> Result<Places, OpenError>,
    ) -> Result<Self, OpenError> {
        let damage = DamageLog::default();
        let database = opener.open(occasion, &damage)?;
        let Places { telemetry, lists } = places()?;
        let revoked = Revoked::open(lists).map_err(OpenError::Revoked)?;
        let shared = Arc::new(Shared {
            opener,
            database: RwLock::new(Some(database)),
            damage,
            trouble: Mutex::new(None),
            commits: AtomicU64::new(0),
            newest_event: watch::Sender::new(0),
            underway: Underway::default(),
            revoked,
            is_behind: AtomicBool::new(false),
            is_settling: AtomicBool::new(false),
            telling: OnceLock::new(),
            settled: Mutex::default(),
            has_settled: Notify::new(),
            ballast,
        });
        let newest = shared.read(events::newest_number).map_err(OpenError::Events)?;
        shared.newest_event.send_replace(newest);
        let writer = Arc::new(Writer::start(Arc::clone(&shared)).map_err(OpenError::Thread)?);
        let index = Index { shared: Arc::clone(&shared), writer: Arc::clone(&writer) };
        let series = Engine::open(telemetry, Arc::new(index)).map_err(OpenError::Telemetry)?;
        let directory = shared.read(devices::directory).map_err(OpenError::Devices)?;
        Ok(Self {
            series: Arc::new(series),
            shared,
            writer,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            room,
            directory,
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Reads a few rows from a snapshot, at once: to hand that to another thread takes many times as
    /// long. Only where the database is being opened anew it is left to one that may wait.
    async fn read_few<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Reading<'_>) -> Result<T, Fault> + Send + 'static,
    {
        match self.shared.read_at_once(work) {
            Ok(outcome) => outcome,
            Err(work) => self.read(work).await,
        }
    }

    /// Reads from a snapshot, on a blocking thread.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Reading<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| Failure::Closed)?;
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            shared.read(work)
        });
        reading.await.unwrap_or_else(|_| Err(Failure::Closed.into()))
    }

    /// Has the writer do something; returns when it is on the disk. The work checks everything
    /// before it writes anything, so that refusing leaves nothing behind.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.write_heavy(1, work).await
    }

    /// The same, for work that holds `weight` rows in memory.
    async fn write_heavy<T, F>(&self, weight: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.submit(weight, work)?.await.unwrap_or_else(|_| Err(Failure::Closed.into()))
    }

    /// Holds room for when the disk is full, and gives it when it is. Looks at the disk, so it is
    /// called by who may wait.
    pub(crate) fn keep_ballast(&self) -> Option<Turn> {
        self.shared.ballast.as_ref()?.keep()
    }

    fn health_now(&self) -> StoreHealth {
        // What a full disk brings with it says less than that it is full.
        let given = self.shared.ballast.as_ref().and_then(Ballast::trouble);
        match (self.room.shortage(), given) {
            (Some(shortage), None) => StoreHealth::Degraded(shortage.to_string()),
            (Some(shortage), Some(given)) => StoreHealth::Degraded(format!("{shortage}; {given}")),
            (None, Some(given)) => StoreHealth::Degraded(given),
            (None, None) => self.soundness(),
        }
    }

    /// What is wrong with what is stored, if anything, however much room there is for more.
    fn soundness(&self) -> StoreHealth {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = trouble.or_else(|| self.series.trouble());
        match trouble.or_else(|| self.shared.damage.summary()) {
            Some(reason) => StoreHealth::Degraded(reason),
            None => StoreHealth::Healthy,
        }
    }
}

/// Where a store keeps what is not in its database.
struct Places {
    telemetry: Arc<dyn Disk>,
    /// Beside the database.
    lists: Arc<dyn Disk>,
}

impl Places {
    /// The folder of a database, and the one of telemetry in it.
    fn beside(path: &Path) -> Result<Self, OpenError> {
        let open = |folder: &Path| {
            let opened = Folder::open(folder).map_err(|error| open::io_refusal(folder, error))?;
            Ok::<Arc<dyn Disk>, OpenError>(Arc::new(opened))
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(Self {
            telemetry: open(&path.with_file_name(TELEMETRY_FOLDER))?,
            lists: open(parent.unwrap_or(Path::new(".")))?,
        })
    }
}

/// What the writer and the readers share.
struct Shared {
    opener: Opener,
    /// Held for reading by whoever uses the database, for writing by the writer while it opens the
    /// database anew; none if that failed, or the store is closed.
    database: RwLock<Option<Database>>,
    damage: DamageLog,
    /// Why the database does not work at present.
    trouble: Mutex<Option<String>>,
    commits: AtomicU64,
    newest_event: watch::Sender<u64>,
    /// What the writer does at present.
    underway: Underway,
    /// What was ended for good.
    revoked: Revoked,
    /// Whether that may have what the database has not. The writer alone looks.
    is_behind: AtomicBool,
    /// Whether it is about to end that.
    is_settling: AtomicBool,
    /// Who says what was ended since the list says so, once somebody does.
    telling: OnceLock<Telling>,
    /// What was ended so while the server runs, for whoever waits for that.
    settled: Mutex<VecDeque<Settled>>,
    has_settled: Notify,
    /// Room for when the disk is full, where a server runs on a file.
    ballast: Option<Ballast>,
}

impl Shared {
    fn read<T>(
        &self,
        work: impl FnOnce(&Reading<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        self.read_in(database.as_ref(), work)
    }

    /// Reads unless that would wait; then the work comes back.
    fn read_at_once<T, F>(&self, work: F) -> Result<Result<T, StoreError>, F>
    where
        F: FnOnce(&Reading<'_>) -> Result<T, Fault>,
    {
        match self.database.try_read() {
            Ok(database) => Ok(self.read_in(database.as_ref(), work)),
            Err(TryLockError::Poisoned(poisoned)) => {
                Ok(self.read_in(poisoned.into_inner().as_ref(), work))
            }
            Err(TryLockError::WouldBlock) => Err(work),
        }
    }

    fn read_in<T>(
        &self,
        database: Option<&Database>,
        work: impl FnOnce(&Reading<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let Some(database) = database else { return Err(Failure::Reopening.into()) };
        let outcome = contain(|| {
            let txn = database.begin_read().map_err(|error| Fault::Storage(error.into()))?;
            work(&Reading { txn: &txn, damage: &self.damage })
        });
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Fault::Refused(error))) => Err(error),
            Ok(Err(Fault::Storage(error))) => Err(Failure::Storage(error.into()).into()),
            Err(panic) => Err(panic.into()),
        }
    }
}

/// Turns a panic into a [`Failure`]. What the work touched is thrown away afterwards, or is behind
/// locks that say so.
fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Failure::Panic(panic_text(&*panic)))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
