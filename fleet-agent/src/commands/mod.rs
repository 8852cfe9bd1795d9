//! What the device is told to do: orders from the link, done one after the other.
//!
//! ```text
//! link ── order, cancel, noted ──▶ desk ── step ──▶ journal (synced)
//!   ▲                               │ ▲
//!   └────────── news ───────────────┘ └── job, what came of it ──▶ effects
//! ```
//!
//! What must stay true: a step is in the journal before anything follows from it. An order is
//! accepted before its server hears so, begun before its effect, and over before that is said. So
//! each order has its effect once at most, whatever comes twice and whenever the agent ends;
//! [`crate::journal`] says how, and `desk/recover.rs` what becomes of what was under way.

#[cfg(any(test, fuzzing))]
pub(crate) mod check;
mod desk;
pub mod effects;
pub mod outcome;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
mod world;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::disk::Folder;
use fleet_core::identity::ServerIdentity;
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Clock;
use fleet_core::wire::{CommandNews, CommandOrder};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::config::CommandPolicy;
use crate::queue;
use crate::spool::Moment;
use crate::sys::SysRoot;
pub use desk::Job;
use desk::{Desk, Ground, Here, Next};
use effects::Effects;

/// Tells the time by both of the device's clocks.
type Now = Box<dyn Fn() -> Moment + Send + Sync>;

/// The commands of this device.
pub struct Commands {
    desk: Mutex<Desk>,
    effects: Box<dyn Effects>,
    now: Now,
    /// There may be something to do.
    due: Notify,
    /// There is something to say.
    told: Notify,
    /// Changes when all is let go of.
    forgotten: watch::Sender<u64>,
}

impl Commands {
    /// With the journal in a folder, which is opened once there is a server.
    pub fn new(
        folder: PathBuf,
        root: &SysRoot,
        policy: CommandPolicy,
        effects: Box<dyn Effects>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, getrandom::Error> {
        let mut run = [0; 16];
        getrandom::fill(&mut run)?;
        let here = Here { run, boot: queue::boot_id(root) };
        let ground: Ground = Box::new(move || Ok(Arc::new(Folder::open(&folder)?)));
        let now: Now = Box::new(move || queue::moment(clock.as_ref()));
        Ok(Self::at(Desk::new(ground, here, policy), effects, now))
    }

    fn at(desk: Desk, effects: Box<dyn Effects>, now: Now) -> Self {
        Self {
            desk: Mutex::new(desk),
            effects,
            now,
            due: Notify::new(),
            told: Notify::new(),
            forgotten: watch::Sender::new(0),
        }
    }

    /// Takes note of whose orders are taken. What another server gave is let go of.
    pub fn serve(&self, server: ServerIdentity) {
        if self.with(|desk, now| desk.serve(server, now)) {
            self.forgotten.send_modify(|count| *count += 1);
        }
        self.due.notify_one();
    }

    /// Lets go of everything, for another server; what is being done, too.
    pub fn forget(&self) {
        self.with(|desk, _| desk.forget());
        self.forgotten.send_modify(|count| *count += 1);
    }

    /// Takes note that the server listens from now on. It hears all that it may not have.
    pub fn connected(&self) {
        self.with(|desk, _| desk.connected());
    }

    /// Takes note that it no longer does.
    pub fn disconnected(&self) {
        self.with(|desk, _| desk.disconnected());
    }

    /// Takes an order, whose signature was checked.
    pub fn order(&self, order: CommandOrder) {
        self.with(|desk, now| desk.order(order, now));
        self.due.notify_one();
    }

    /// Takes an order back, unless it came before this.
    pub fn cancel(&self, id: [u8; 16]) {
        self.with(|desk, now| desk.cancel(id, now));
    }

    /// Takes note that the server has a result.
    pub fn noted(&self, id: [u8; 16]) {
        self.with(|desk, now| desk.noted(id, now));
    }

    /// Waits until there may be something to say since the last wait ended.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// The next thing to say, if there is one.
    pub fn news(&self) -> Option<CommandNews> {
        self.with(|desk, _| desk.take_news())
    }

    /// Does what there is to do, until the agent stops.
    pub async fn run(&self, tasks: &Tasks) {
        let mut forgotten = self.forgotten.subscribe();
        while !tasks.is_stopping() {
            let Some(rest) = self.turn(&mut forgotten).await else { continue };
            let rest = async {
                match rest {
                    Some(rest) => sleep(rest).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = rest => {}
                () = self.due.notified() => {}
                () = tasks.stopping() => {}
            }
        }
    }

    /// Does one thing. If there is none, says how long to rest, unless there is more before.
    async fn turn(&self, forgotten: &mut watch::Receiver<u64>) -> Option<Option<Duration>> {
        forgotten.mark_unchanged();
        let (next, now) = self.with(|desk, now| (desk.next(now), now));
        match next {
            Next::Do(job) => self.perform(job, forgotten).await,
            Next::Rest(until) => {
                let rest = until.map(|until| until.saturating_sub(now.up_millis));
                return Some(rest.map(Duration::from_millis));
            }
        }
        None
    }

    async fn perform(&self, job: Job, forgotten: &mut watch::Receiver<u64>) {
        let performed = tokio::select! {
            performed = self.effects.perform(&job) => performed,
            // The sender is in `self`.
            _ = forgotten.changed() => return,
        };
        self.with(|desk, now| desk.performed(job.id, performed, now));
    }

    fn with<T>(&self, deed: impl FnOnce(&mut Desk, Moment) -> T) -> T {
        let now = (self.now)();
        let mut desk = self.lock();
        let done = deed(&mut desk, now);
        if desk.has_news() {
            self.told.notify_one();
        }
        done
    }

    /// No step of the desk's ends in its middle by a panic.
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
