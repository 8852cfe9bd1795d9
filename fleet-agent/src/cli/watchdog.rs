//! What the service manager hears of an agent that runs: how its link stands, and that it goes on.
//!
//! The agent has one thread, on which it also waits for its disk. A sign of life comes from its main
//! loop, so it means that this went round and no disk holds it up; and that no report is overdue.

use fleet_core::net::notify::Notifier;
use tokio::time::{Instant, sleep_until};

use crate::app::App;

/// Who tells, and when next.
pub(super) struct Watchdog {
    notifier: Notifier,
    next: Instant,
    told: String,
    was_overdue: bool,
}

impl Watchdog {
    /// Tells that the agent serves.
    pub(super) fn begin(app: &App) -> Self {
        let notifier = Notifier::from_environment();
        let told = status(app);
        notifier.ready(&told);
        let next = Instant::now() + notifier.look();
        Self { notifier, next, told, was_overdue: false }
    }

    /// Waits until it is time to look; for ever if nobody listens.
    pub(super) async fn rest(&self) {
        if self.notifier.is_heard() {
            sleep_until(self.next).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Tells how the agent is, and that it goes on, if it does.
    pub(super) fn look(&mut self, app: &App) {
        self.next = Instant::now() + self.notifier.look();
        let overdue = app.overdue();
        let is_overdue = self.notifier.watchdog().is_some_and(|time| overdue >= time);
        if is_overdue && !self.was_overdue {
            let secs = overdue.as_secs();
            tracing::error!(secs, "no reports any more: the service manager hears no more");
        }
        self.was_overdue = is_overdue;
        if !is_overdue {
            self.notifier.alive();
        }
        let status = if is_overdue { "reports are overdue".to_owned() } else { status(app) };
        if status != self.told {
            self.notifier.status(&status);
            self.told = status;
        }
    }

    /// Tells that the agent ends.
    pub(super) fn stopping(&self) {
        self.notifier.stopping();
    }
}

/// The link, and the server that it goes to.
fn status(app: &App) -> String {
    let link = app.link();
    let target = app.device().membership.target();
    let server = target.and_then(|target| target.urls.first().map(ToString::to_string));
    match (server, link.last_error) {
        (None, _) => link.state.word().to_owned(),
        (Some(server), None) => format!("{}: {server}", link.state.word()),
        (Some(server), Some(error)) => format!("{}: {server}: {error}", link.state.word()),
    }
}
