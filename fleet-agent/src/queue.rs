//! The reports that wait for the server, as the rest of the agent sees them: a [`Spool`], with the
//! machine's clocks and a task that does what is due.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::api::QueueView;
use fleet_core::codec::CodecError;
use fleet_core::identity::ServerIdentity;
use fleet_core::metric::Sample;
use fleet_core::time::{Clock, Timestamp};
use fleet_core::wire::Samples;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::spool::{Acknowledged, Lane, Moment, OnFolder, Spool, SpoolSettings};
use crate::sys::SysRoot;

/// The spool's folder in the agent's own.
pub const FOLDER: &str = "spool";
/// The kernel's name for this boot.
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

/// Where a report stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its stream.
    pub stream: [u8; 16],
    /// Its number there.
    pub seq: u64,
}

/// The queue between the collectors and the link.
pub struct Queue {
    spool: Mutex<Spool>,
    clock: Arc<dyn Clock>,
    pushed: Notify,
    due_changed: Notify,
}

impl Queue {
    /// Opens what earlier runs of the agent left in a folder.
    pub fn open(
        folder: PathBuf,
        settings: SpoolSettings,
        root: &SysRoot,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, getrandom::Error> {
        let now = moment(clock.as_ref());
        let spool = Spool::open(Box::new(OnFolder(folder)), settings, boot(root)?, now)?;
        let (pushed, due_changed) = (Notify::new(), Notify::new());
        Ok(Self { spool: Mutex::new(spool), clock, pushed, due_changed })
    }

    /// Takes note that the last run of the agent did not end by itself.
    pub fn unclean_end(&self) {
        self.with(Spool::unclean_end);
    }

    /// Adds what was collected at one time, and says where it stands.
    pub fn push(
        &self,
        at: Timestamp,
        collected: Instant,
        samples: Vec<Sample>,
    ) -> Result<Placed, CodecError> {
        let ago = u64::try_from(collected.elapsed().as_millis()).unwrap_or(u64::MAX);
        let pushed = self.with(|spool, now| {
            let up_millis = now.up_millis.saturating_sub(ago);
            let seq = spool.push(at, up_millis, samples, now)?;
            Ok(Placed { stream: spool.stream(), seq })
        });
        self.pushed.notify_one();
        pushed
    }

    /// Takes note of whom reports are for.
    pub fn serve(&self, server: ServerIdentity) {
        self.with(|spool, now| spool.serve(server, now));
    }

    /// Takes note that reports can be handed over from now on.
    pub fn connected(&self) {
        self.with(Spool::connected);
    }

    /// Takes note that they no longer can.
    pub fn disconnected(&self) {
        self.with(Spool::disconnected);
    }

    /// Lets go of everything, for another server.
    pub fn begin_anew(&self) {
        self.with(Spool::begin_anew);
    }

    /// Waits until there may be more to send since the last wait ended.
    pub async fn pushed(&self) {
        self.pushed.notified().await;
    }

    /// Reports to send, if there are any. They are under way until the server has them.
    pub fn take(&self, lane: Lane) -> Option<Samples> {
        self.with(|spool, now| spool.take(lane, now))
    }

    /// Lets go of what the server has, and says what that was.
    pub fn acknowledge(&self, stream: [u8; 16], seq: u64) -> Vec<Acknowledged> {
        self.with(|spool, now| spool.acknowledge(stream, seq, now))
    }

    /// Keeps what waits on the disk, without end.
    pub async fn keep(&self) {
        loop {
            let due = self.lock().due();
            let wait = async {
                match due {
                    Some(due) => {
                        let now = moment(self.clock.as_ref());
                        sleep(Duration::from_millis(due.saturating_sub(now.up_millis))).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {
                    self.with(Spool::tick);
                    self.pushed.notify_one();
                }
                () = self.due_changed.notified() => {}
            }
        }
    }

    /// Leaves what waits on the disk, for the agent's end.
    pub fn close(&self) {
        self.with(Spool::close);
    }

    /// How much waits.
    pub fn view(&self) -> QueueView {
        self.with(|spool, now| spool.view(now))
    }

    fn with<T>(&self, deed: impl FnOnce(&mut Spool, Moment) -> T) -> T {
        let now = moment(self.clock.as_ref());
        let mut spool = self.lock();
        let before = spool.due();
        let done = deed(&mut spool, now);
        if spool.due() != before {
            self.due_changed.notify_one();
        }
        done
    }

    /// No code that holds the lock can leave the numbers wrong by a panic.
    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Now, by both of the device's clocks.
pub(crate) fn moment(clock: &dyn Clock) -> Moment {
    // The clock that goes on while the machine sleeps.
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let up_millis = u64::try_from(up.as_millis()).unwrap_or(u64::MAX);
    Moment { wall: clock.now(), up_millis }
}

/// The kernel's id of this boot, if it has one.
pub(crate) fn boot_id(root: &SysRoot) -> Option<[u8; 16]> {
    let text = root.text(BOOT_ID).ok()?.replace('-', "");
    u128::from_str_radix(text.trim(), 16).ok().map(u128::to_be_bytes)
}

/// The same. Where there is none each run of the agent counts as a boot.
fn boot(root: &SysRoot) -> Result<[u8; 16], getrandom::Error> {
    if let Some(id) = boot_id(root) {
        return Ok(id);
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(id)
}
