//! The one writer: a thread that does queued jobs in groups.
//!
//! There is no timer. The thread takes one job and whatever else waits by then, does them in one
//! transaction, commits once, and answers them all; while it syncs, the next group gathers. A job
//! that refuses has written nothing, so it does not disturb the others; where one has, by a defect,
//! nothing of the group is kept. A failure of the database fails the whole group; the writer then
//! opens the database anew, with pauses that grow until a commit succeeds, and in between refuses jobs
//! at once.
//!
//! What a failed group has put on the list of what was ended may be there and not in the database: the
//! writer brings both together before it does anything else.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fleet_core::Chain;
use fleet_core::identity::PublicKey;
use redb::{Database, Durability, WriteTransaction};
use tokio::sync::oneshot;

use super::ballast::Ballast;
use super::open::Occasion;
use super::tables::{Fault, Writing};
use super::{Settled, Shared, contain};
use crate::store::revoked::REVOKED_FILE;
use crate::store::{Failure, StoreError};

/// Jobs that may wait.
const QUEUE_JOBS_MAX: usize = 4_096;
/// Rows that waiting jobs may hold in memory; a single job may hold more.
const QUEUE_WEIGHT_MAX: usize = 500_000;
/// Jobs of one group.
const GROUP_JOBS_MAX: usize = 1_024;
/// Times that something was ended anew which wait to be told to those in memory.
const SETTLED_MAX: usize = 1_000;
/// How often what is on the list and not in the database is tried before others go on without it.
const SETTLE_TRIES: usize = 5;
/// The first pause before the database is opened anew, once opening it at once did not help.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The way to the writer's thread. Dropping it waits until the thread has done what was queued.
pub(super) struct Writer {
    jobs: Option<SyncSender<Queued>>,
    weight: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&shared, &queue))?;
        Ok(Self { jobs: Some(jobs), weight: Arc::default(), thread: Some(thread) })
    }

    /// Queues work; the receiver gets its outcome once that is on the disk.
    pub(super) fn submit<T, F>(
        &self,
        weight: usize,
        work: F,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let load = Load::take(&self.weight, weight).ok_or(StoreError::Busy)?;
        let (answer, outcome) = oneshot::channel();
        let job = Box::new(Task { work: Some(work), result: None, answer });
        let jobs = self.jobs.as_ref().expect("only dropping takes the queue away");
        jobs.try_send(Queued { job, _load: load }).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => Failure::Closed.into(),
        })?;
        Ok(outcome)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// A write transaction that is durable once committed, whatever the disk does in between.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    Ok(txn)
}

fn run(shared: &Shared, queue: &Receiver<Queued>) {
    let mut failures = 0;
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(GROUP_JOBS_MAX - 1));
        let writing = shared.underway.begin();
        let done = do_group(shared, &mut group);
        drop(writing);
        match done {
            Ok(()) => {
                failures = 0;
                for queued in group {
                    queued.job.answer(Ok(()));
                }
            }
            Err(failure) => {
                shared.set_trouble(&failure);
                // If it was for want of room, the next group has some.
                let giving = shared.underway.begin();
                shared.ballast.iter().for_each(Ballast::give);
                drop(giving);
                let failure = Arc::new(failure);
                for queued in group {
                    queued.job.answer(Err(StoreError::Unavailable(Arc::clone(&failure))));
                }
                if recover(shared, queue, &mut failures).is_err() {
                    return shared.close();
                }
            }
        }
    }
    shared.close();
}

/// Opens the database anew, and ends in it what is on the list and it does not have.
fn recover(shared: &Shared, queue: &Receiver<Queued>, failures: &mut u32) -> Result<(), Closed> {
    let mut tries = 0;
    while tries < SETTLE_TRIES {
        reopen(shared, queue, failures)?;
        let _writing = shared.underway.begin();
        match do_group(shared, &mut []) {
            Ok(()) => return Ok(()),
            Err(failure) => shared.set_trouble(&failure),
        }
        // It may be that which fails, or the disk, which will have room again.
        tries += usize::from(shared.is_settling.swap(false, Ordering::Relaxed));
    }
    // Whatever else is to be written must not wait for it for ever.
    shared.is_behind.store(false, Ordering::Relaxed);
    tracing::error!("what is in {REVOKED_FILE} cannot be ended before the next start");
    reopen(shared, queue, failures)
}

/// Does a group's jobs and commits them. A panic counts as the database's failure.
fn do_group(shared: &Shared, group: &mut [Queued]) -> Result<(), Failure> {
    let is_behind = shared.is_behind.load(Ordering::Relaxed);
    if group.is_empty() && !is_behind {
        return Ok(());
    }
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    let database = database.as_ref().ok_or(Failure::Reopening)?;
    let failed = |error: redb::Error| Failure::Storage(error.into());
    contain(|| {
        let txn = begin(database).map_err(failed)?;
        let writing = Writing::new(&txn, &shared.damage);
        shared.is_settling.store(is_behind, Ordering::Relaxed);
        let settled = if is_behind { settle(shared, &writing)? } else { None };
        shared.is_settling.store(false, Ordering::Relaxed);
        let mut is_whole = true;
        for queued in &mut *group {
            let changes = writing.changes();
            queued.job.run(&writing).map_err(failed)?;
            is_whole &= !queued.job.refused() || writing.changes() == changes;
        }
        if settled.is_none() && group.iter().all(|queued| queued.job.refused()) {
            return txn.abort().map_err(|error| failed(error.into()));
        }
        if !is_whole {
            return Err(Failure::HalfWay);
        }
        let newest_event = writing.newest_event.get();
        note_ended(shared, &writing, settled.is_some())?;
        txn.commit().map_err(|error| failed(error.into()))?;
        shared.is_behind.store(is_behind && settled.is_none(), Ordering::Relaxed);
        shared.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(newest) = newest_event {
            shared.newest_event.send_replace(newest);
        }
        if let Some(settled) = settled {
            shared.tell_settled(settled);
        }
        Ok(())
    })?
}

/// Has the database end what is on the list and it has not; nothing while the list cannot be written.
fn settle(shared: &Shared, writing: &Writing<'_>) -> Result<Option<Settled>, Failure> {
    let failed = |fault| {
        if matches!(fault, Fault::Refused(_)) {
            // Again and again it would be no better; the next start says what is wrong.
            shared.is_behind.store(false, Ordering::Relaxed);
        }
        failure(fault)
    };
    let (server, known) = (owner(writing)?, super::meta::group(writing).map_err(failed)?);
    if shared.revoked.add(server, known, Vec::new()).is_err() {
        return Ok(None);
    }
    let (settled, news) = super::revoked::settle(writing, shared, None).map_err(failed)?;
    writing.ends(news);
    Ok(Some(settled))
}

/// Puts on its list what a group ends for good. Without that nothing of the group is done.
fn note_ended(shared: &Shared, writing: &Writing<'_>, has_settled: bool) -> Result<(), Failure> {
    let ended = writing.ended.take();
    if ended.is_empty() && !has_settled {
        return Ok(());
    }
    shared.is_behind.store(true, Ordering::Relaxed);
    let (server, known) = (owner(writing)?, super::meta::group(writing).map_err(failure)?);
    let group = shared.revoked.add(server, known, ended);
    let group = group.map_err(|error| Failure::Storage(redb::Error::Io(error).into()))?;
    super::meta::note_group(writing, group).map_err(failure)
}

fn failure(fault: Fault) -> Failure {
    match fault {
        Fault::Storage(error) => Failure::Storage(error.into()),
        Fault::Refused(error) => Failure::Storage(error.into()),
    }
}

/// Whose the database is, as far as that can be read.
fn owner(writing: &Writing<'_>) -> Result<Option<PublicKey>, Failure> {
    match super::meta::owner(writing) {
        Ok(server) => Ok(server),
        Err(fault @ Fault::Storage(_)) => Err(failure(fault)),
        Err(Fault::Refused(_)) => Ok(None), // damaged, and noted as such
    }
}

/// The queue's other end is gone: the store is being dropped.
struct Closed;

/// Opens the database anew, however long that takes, refusing jobs meanwhile.
fn reopen(shared: &Shared, queue: &Receiver<Queued>, failures: &mut u32) -> Result<(), Closed> {
    loop {
        wait(queue, reopen_pause(*failures))?;
        *failures = failures.saturating_add(1);
        let _opening = shared.underway.begin();
        match shared.reopen() {
            Ok(()) => return Ok(()),
            Err(failure) => shared.set_trouble(&failure),
        }
    }
}

/// At once the first time, since most failures pass; then ever more slowly.
fn reopen_pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => {
            REOPEN_PAUSE_MIN.saturating_mul(1 << doublings.min(16)).min(REOPEN_PAUSE_MAX)
        }
    }
}

fn wait(queue: &Receiver<Queued>, pause: Duration) -> Result<(), Closed> {
    if pause.is_zero() {
        return Ok(());
    }
    let end = Instant::now() + pause;
    loop {
        match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(queued) => queued.job.answer(Err(Failure::Reopening.into())),
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(Closed),
        }
    }
}

impl Shared {
    /// Lets go of the failed database and opens it again; while that lasts, reads wait.
    fn reopen(&self) -> Result<(), Failure> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop_contained(slot.take());
        let database = self
            .opener
            .open(Occasion::Failure, &self.damage)
            .map_err(|error| Failure::Reopen(Box::new(error)))?;
        *slot = Some(database);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::info!("the database was reopened");
        Ok(())
    }

    /// Says what was ended, since the list had it and the database had not.
    fn tell_settled(&self, settled: Settled) {
        let (keys, devices) = (settled.keys.len(), settled.devices.len() + settled.rekeyed.len());
        if keys + devices == 0 {
            return;
        }
        tracing::warn!(keys, devices, "what failed before is ended now, as {REVOKED_FILE} says");
        let mut due = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        due.push_back(settled);
        if due.len() > SETTLED_MAX {
            due.pop_front();
        }
        self.has_settled.notify_one();
    }

    fn close(&self) {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop_contained(slot.take());
    }

    fn set_trouble(&self, failure: &Failure) {
        let reason = Chain(failure).to_string();
        tracing::error!(reason, "the database failed");
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// Closing a broken database may panic, too.
fn drop_contained(database: Option<Database>) {
    if let Err(failure) = contain(move || drop(database)) {
        tracing::error!(error = %Chain(&failure), "closing the database failed");
    }
}

/// A job in the queue, and the room it takes there.
struct Queued {
    job: Box<dyn Job>,
    _load: Load,
}

/// Something that the writer does.
trait Job: Send {
    /// Does it, within the group's transaction. An error is the database's.
    fn run(&mut self, writing: &Writing<'_>) -> Result<(), redb::Error>;

    /// Whether it refused, and so has written nothing.
    fn refused(&self) -> bool;

    /// Tells whoever waits, once the group's fate is known.
    fn answer(self: Box<Self>, group: Result<(), StoreError>);
}

struct Task<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Writing<'_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, writing: &Writing<'_>) -> Result<(), redb::Error> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.result = Some(match work(writing) {
            Ok(value) => Ok(value),
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Storage(error)) => return Err(error),
        });
        Ok(())
    }

    fn refused(&self) -> bool {
        matches!(self.result, Some(Err(_)))
    }

    fn answer(self: Box<Self>, group: Result<(), StoreError>) {
        let result = match group {
            Ok(()) => self.result.unwrap_or_else(|| Err(Failure::Closed.into())),
            Err(error) => Err(error),
        };
        // Whoever asked may have gone; what was done stays done.
        drop(self.answer.send(result));
    }
}

/// A share of what the queue may hold, given back when dropped.
struct Load {
    total: Arc<AtomicUsize>,
    weight: usize,
}

impl Load {
    fn take(total: &Arc<AtomicUsize>, weight: usize) -> Option<Self> {
        let fits = |held: usize| {
            let sum = held.checked_add(weight)?;
            (held == 0 || sum <= QUEUE_WEIGHT_MAX).then_some(sum)
        };
        total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Self { total: Arc::clone(total), weight })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.total.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc;

    use super::super::RedbStore;
    use super::super::devices::tests::device;
    use super::super::tables::DEVICES_DELETED;
    use super::*;
    use crate::store::{Conflict, DeviceStore as _};

    /// Has the writer do two changes in one group.
    pub(in crate::store::redb) async fn together<T, U>(
        store: &RedbStore,
        one: impl Future<Output = T>,
        other: impl Future<Output = U>,
    ) -> (T, U) {
        let (go, wait) = mpsc::channel::<()>();
        // They are queued while it does this.
        let busy = store.write(move |_| {
            wait.recv().unwrap();
            Ok(())
        });
        // It is in their group, or in one before it, and so fares as they do, or well.
        let (_, one, other, ()) = tokio::join!(busy, one, other, async { go.send(()).unwrap() });
        (one, other)
    }

    #[tokio::test]
    async fn half_of_a_change_is_kept_with_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let store = RedbStore::open(&folder.path().join("fleet.db")).unwrap();
        let half = |txn: &Writing<'_>| {
            txn.open(&DEVICES_DELETED)?.put_sealed(&[1; 16], b"half")?;
            Err::<(), Fault>(Conflict::Exists("thing").into())
        };
        let there = async || store.read(|txn| txn.open(&DEVICES_DELETED)?.count()).await.unwrap();
        // Alone it is refused like any other.
        let refused = store.write(half).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        let one = device("one", 1);
        let insert = || store.device_insert(one.clone());
        let failed = together(&store, store.write(half), insert()).await;
        let Err(StoreError::Unavailable(failure)) = failed.1 else { panic!("{failed:?}") };
        assert!(matches!(*failure, Failure::HalfWay), "{failure:?}");
        assert_eq!(there().await, 0);
        assert_eq!(store.device_list().await.unwrap(), []);
        // Which is well again by itself.
        while insert().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(store.device_list().await.unwrap(), [one]);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<_> = (0..12).map(|n| reopen_pause(n).as_millis()).collect();
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000, 5_000]);
        assert_eq!(reopen_pause(u32::MAX), REOPEN_PAUSE_MAX);
    }

    #[test]
    fn the_queue_holds_so_much_and_one_heavy_job_alone() {
        let total = Arc::default();
        let heavy = Load::take(&total, QUEUE_WEIGHT_MAX * 2);
        assert!(heavy.is_some() && Load::take(&total, 1).is_none());
        drop(heavy);
        let light = Load::take(&total, 1);
        assert!(light.is_some() && Load::take(&total, QUEUE_WEIGHT_MAX).is_none());
        assert!(Load::take(&total, QUEUE_WEIGHT_MAX - 1).is_some());
    }
}
