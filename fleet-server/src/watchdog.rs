//! What the service manager hears of a server that runs: how many devices are online, and that the
//! server goes on.
//!
//! A sign of life means that the runtime runs, that the store has answered a real read, and that
//! what is being written has not been under way for too long. A disk may be slow: a write is several
//! syncs, one after the other, so it is given [`PATIENCE`] times the time in which the manager wants
//! a sign. A store that answers, be it that its disk fails, lives: to start it again would help
//! nobody, and `/health/ready` tells.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use fleet_core::api::DeviceStatus;
use fleet_core::net::notify::Notifier;
use fleet_core::net::shutdown::Tasks;

use crate::live::Board;
use crate::store::RedbStore;
use crate::tasks::sleep;

/// How often the manager's time the store may take for a read or a write.
const PATIENCE: u32 = 2;

/// Who tells.
pub(crate) struct Watchdog {
    pub(crate) notifier: Notifier,
    pub(crate) store: Arc<RedbStore>,
    pub(crate) board: Arc<Board>,
    pub(crate) tasks: Tasks,
}

impl Watchdog {
    /// Tells, until the server stops.
    pub(crate) async fn run(self) {
        let look = self.notifier.look();
        let patience = self.notifier.watchdog().map(|time| time * PATIENCE);
        let (mut status, mut was_stuck) = (self.status(), false);
        self.notifier.ready(&status);
        loop {
            let asked = Instant::now();
            let mut question = pin!(self.store.busy_for());
            let mut answer = None;
            while answer.is_none() {
                tokio::select! {
                    () = self.tasks.stopping() => return,
                    busy = &mut question => answer = Some(busy),
                    () = tokio::time::sleep(look) => {}
                }
                let lasts = answer.unwrap_or_else(|| asked.elapsed());
                let is_stuck = patience.is_some_and(|patience| lasts >= patience);
                if is_stuck && !was_stuck {
                    let secs = lasts.as_secs();
                    tracing::error!(secs, "the store hangs: the service manager hears no more");
                    self.notifier.status("the store hangs");
                    status.clear();
                } else if !is_stuck {
                    self.notifier.alive();
                    self.tell_news(&mut status);
                }
                was_stuck = is_stuck;
            }
            if !sleep(&self.tasks, look).await {
                return;
            }
        }
    }

    fn tell_news(&self, told: &mut String) {
        let status = self.status();
        if status != *told {
            self.notifier.status(&status);
            *told = status;
        }
    }

    fn status(&self) -> String {
        let counts = self.board.counts();
        let online = counts.get(&DeviceStatus::Online).copied().unwrap_or_default();
        let all: u32 = counts.values().sum();
        format!("{online} of {all} {} online", if all == 1 { "device" } else { "devices" })
    }
}
