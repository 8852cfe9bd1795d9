//! The link to the server, kept up for as long as the agent runs: dial, prove, talk; after a loss
//! soon again, then ever more rarely; after a no, about once a minute, or when a new claim comes.

mod dial;
mod scout;
mod session;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::LinkState;
use fleet_core::net::backoff::{self, Backoff};
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Clock;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::Facts;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::commands::Commands;
use crate::logs::LogSources;
use crate::new_key::NewKeys;
use crate::probation::places::Places;
use crate::probation::{self, Probation};
use crate::queue::Queue;
use crate::state::Device;
use crate::state::folder::Folder;
use crate::state::membership::{Expected, Target};
use crate::sys::SysRoot;
use crate::sys::host::{DeviceType, HostFacts};
use crate::telemetry::Telemetry;
use dial::LinkError;
use scout::{Ground, Scout};
use session::{End, Session};
use status::{Latency, LinkStatus};

/// How long to leave a server alone that does not want the device, at least: short enough that an
/// operator who changes their mind sees it.
const DISMISSED: Duration = Duration::from_secs(45);
/// By how much longer at most, so that many such devices do not come back at once.
const DISMISSED_SPREAD: Duration = Duration::from_secs(30);

/// All that the link needs of the agent.
pub struct Link {
    /// Who the device is, and its server.
    pub device: Arc<Device>,
    /// What to send.
    pub queue: Arc<Queue>,
    /// What to do.
    pub commands: Arc<Commands>,
    /// Which logs can be read.
    pub logs: Arc<LogSources>,
    /// Keys that take the place of the device's own.
    pub new_keys: Arc<NewKeys>,
    /// What to configure.
    pub telemetry: Arc<Telemetry>,
    /// Where the configuration is kept.
    pub folder: Folder,
    /// What the device is.
    pub facts: FactsSource,
    /// Where to say how it goes.
    pub status: Arc<LinkStatus>,
    /// Where to say how fast it is.
    pub latency: Latency,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// When to stop.
    pub tasks: Tasks,
}

/// Where a device's facts come from.
#[derive(Clone, Debug)]
pub struct FactsSource {
    /// The machine's files.
    pub root: SysRoot,
    /// What its owner says that it is.
    pub device_type: Option<DeviceType>,
    /// What its owner calls it.
    pub name: Option<String>,
}

/// How one turn of dialling and talking went.
enum Turn {
    Ended(End),
    Failed(LinkError),
}

/// What may end a turn from outside.
struct Calls {
    /// Grants that were taken.
    claims: watch::Receiver<u64>,
    resets: Resets,
    places: watch::Receiver<Places>,
    scout: Scout,
}

/// Servers that were forgotten, until the link has let go of them.
struct Resets {
    count: watch::Receiver<u64>,
    taken: u64,
}

impl Calls {
    fn new(link: &Link, probation: &Arc<Probation>) -> Self {
        let membership = &link.device.membership;
        let count = membership.resets();
        let taken = *count.borrow();
        let scout = Scout::new(Ground {
            device: link.device.clone(),
            telemetry: link.telemetry.clone(),
            facts: link.facts.clone(),
            probation: probation.clone(),
        });
        let (resets, places) = (Resets { count, taken }, probation.places());
        Self { claims: membership.claims(), resets, places, scout }
    }
}

impl Resets {
    /// Waits for one; the one that came stays until it is taken.
    async fn come(&mut self) {
        let taken = self.taken;
        // The sender outlives the link, which holds the device.
        drop(self.count.wait_for(|count| *count != taken).await);
    }

    fn take(&mut self) -> bool {
        let count = *self.count.borrow();
        std::mem::replace(&mut self.taken, count) != count
    }
}

impl Link {
    /// Keeps the link up until the agent stops.
    pub async fn run(self) {
        let mut targets = self.device.membership.subscribe();
        let probation = Arc::new(self.probation());
        let mut calls = Calls::new(&self, &probation);
        let (looked_after, within) = (probation.clone(), self.tasks.clone());
        self.tasks.spawn("configuration", async move { looked_after.run(&within).await });
        let mut backoff = Backoff::default();
        while !self.tasks.is_stopping() {
            if calls.resets.take() {
                backoff.reset();
                self.forget(&probation);
            }
            calls.claims.mark_unchanged();
            self.prefer(&mut calls.places);
            let target = tokio::select! {
                target = self.next_target(&mut targets) => target,
                () = calls.resets.come() => continue,
            };
            let Some(target) = target else { return };
            let turn = self.turn(&target, &mut calls, &probation).await;
            self.latency.forget();
            if self.status.view().state == LinkState::Connected {
                backoff.reset();
            }
            let wait = match turn {
                Turn::Ended(End::Stopping) => return,
                Turn::Ended(End::Claimed | End::Forgotten | End::Elsewhere) => Duration::ZERO,
                Turn::Ended(End::Dismissed) => self.dismissed(),
                Turn::Failed(error) => self.lost(&error, &mut backoff),
            };
            tokio::select! {
                () = sleep(wait) => {}
                _ = calls.claims.changed() => backoff.reset(),
                () = calls.resets.come() => {}
                () = calls.scout.come() => {}
                () = self.tasks.stopping() => return,
            }
        }
    }

    /// Looks for the server first where its configuration that is good says.
    fn prefer(&self, places: &mut watch::Receiver<Places>) {
        let Places { server, good, .. } = places.borrow_and_update().clone();
        self.device.membership.prefer(server, good);
    }

    /// What its server configured, as the last run of the agent left it.
    fn probation(&self) -> Probation {
        let target = self.device.membership.target();
        let server = target.and_then(|target| match target.server {
            Expected::Key(key) => Some(key),
            Expected::Identity(_) | Expected::FirstContact => None,
        });
        let folder = self.folder.path().join(probation::FOLDER);
        let (telemetry, queue) = (self.telemetry.clone(), self.queue.clone());
        Probation::open(folder, server, telemetry, queue, self.clock.clone())
    }

    /// The server to dial, once there is one; nothing when the agent stops.
    async fn next_target(
        &self,
        targets: &mut watch::Receiver<Option<Arc<Target>>>,
    ) -> Option<Arc<Target>> {
        tokio::select! {
            target = targets.wait_for(Option::is_some) => target.ok()?.clone(),
            () = self.tasks.stopping() => None,
        }
    }

    async fn turn(&self, target: &Target, calls: &mut Calls, probation: &Probation) -> Turn {
        self.status.set(LinkState::Connecting);
        let facts = self.facts.read(self.telemetry.interval());
        let opened = if let Some(found) = calls.scout.take() {
            Ok(found)
        } else {
            let dialled = dial::dial(target, &self.device, &facts);
            tokio::select! {
                opened = dialled => opened,
                () = calls.scout.come() => return Turn::Ended(End::Elsewhere),
                _ = calls.claims.changed() => return Turn::Ended(End::Claimed),
                () = calls.resets.come() => return Turn::Ended(End::Forgotten),
                () = self.tasks.stopping() => return Turn::Ended(End::Stopping),
            }
        };
        match opened {
            Ok(opened) => {
                let (session, standing) = Session::new(self, probation, opened, facts);
                let ended = Box::pin(session.run(standing, calls)).await;
                probation.linked(None);
                self.queue.disconnected();
                self.commands.disconnected();
                // Nobody can be looking at a device that nobody is linked to.
                self.telemetry.watch(Duration::ZERO);
                ended.map_or_else(Turn::Failed, Turn::Ended)
            }
            Err(error) => Turn::Failed(error),
        }
    }

    /// Leaves nothing of the old server to the next one.
    fn forget(&self, probation: &Probation) {
        probation.forget();
        self.commands.forget();
        self.new_keys.forget();
        self.status.forgotten();
    }

    fn dismissed(&self) -> Duration {
        let random = f64::from(backoff::random()) / f64::from(u32::MAX);
        let wait = DISMISSED + DISMISSED_SPREAD.mul_f64(random);
        tracing::info!(again_in = %seconds(wait), "asks the server again later");
        self.status.asks_again_in(wait);
        wait
    }

    fn lost(&self, error: &LinkError, backoff: &mut Backoff) -> Duration {
        let wait = backoff.next_wait(backoff::random());
        let reason = Untrusted::new(Chain(error).to_string());
        if self.status.view().last_error.as_ref() == Some(&reason) {
            tracing::debug!(again_in = %seconds(wait), "still no link to the server");
        } else {
            tracing::warn!(error = %reason, again_in = %seconds(wait), "no link to the server");
        }
        self.status.failed(LinkState::Connecting, reason);
        wait
    }
}

/// A wait as a person reads it.
fn seconds(wait: Duration) -> String {
    format!("{:.1}s", wait.as_secs_f64())
}

impl FactsSource {
    /// What the device is now, for its server.
    pub fn read(&self, interval: Duration) -> Facts {
        let host = HostFacts::read(&self.root, self.device_type);
        Facts {
            hostname: host.hostname,
            device_type: host.device_type.as_str().to_owned(),
            model: host.model.unwrap_or_default(),
            os: host.os.unwrap_or_default(),
            kernel: host.kernel,
            arch: host.arch,
            version: fleet_core::VERSION.to_owned(),
            boot_id: host.boot_id.unwrap_or_default(),
            name: self.name.clone(),
            cores: host.cores,
            memory_bytes: host.memory_bytes,
            addresses: host.addresses,
            interval_secs: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
        }
    }
}
