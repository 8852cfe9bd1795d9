//! What programs leave behind where the agent is the first process, as in a container.
//!
//! A process whose parent has ended becomes a child of the first one, which has to wait for its end, or
//! its number stays taken. Elsewhere that is the system's manager. Here it is whoever is there: the
//! agent, which otherwise waits for the programs alone that it has started.

use std::collections::BTreeSet;
use std::io;
use std::process;
use std::sync::{Mutex, PoisonError};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of the first process.
const FIRST: u32 = 1;

/// The programs that the agent has started itself, and whose end somebody waits for.
static OWN: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

/// Notes that a program's end is waited for elsewhere, until [`let_go`] is called.
pub(super) fn hold(program: Pid) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(program);
}

/// Nobody waits for this one any more.
pub(super) fn let_go(program: Pid) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).remove(&program);
}

fn is_own(program: Pid) -> bool {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).contains(&program)
}

/// Waits for the ends of whatever has no other parent.
pub struct Orphans(Option<Signal>);

impl Orphans {
    /// Begins to, if that is this process' task.
    pub fn begin() -> io::Result<Self> {
        let is_first = process::id() == FIRST;
        is_first.then(|| signal(SignalKind::child())).transpose().map(Self)
    }

    /// Goes on for good. May be dropped while it waits.
    pub async fn reap(&mut self) {
        let Some(ends) = &mut self.0 else { return std::future::pending().await };
        loop {
            reap_all();
            if ends.recv().await.is_none() {
                return std::future::pending().await;
            }
        }
    }
}

/// Waits for all that has ended, as far as it is nobody else's to do. What stands behind a program
/// of the agent's own waits for the next end.
fn reap_all() {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) = waitid(Id::All, look)
    {
        if is_own(pid) || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
        tracing::debug!(pid = pid.as_raw(), "an orphan has ended");
    }
}
