//! Configurations from the server: each has to show that the device still works under it, or the
//! device goes back to the one before.
//!
//! ```text
//! link ── push ──▶ checked ──▶ on the disk as tried ──▶ followed ──▶ reports under it
//!                    │                                                   │
//!                 refused          one reached the server: good ◀────────┤
//!                                  none within a minute: given up ◀──────┘
//! ```
//!
//! One that names another place of the server is tried while the device keeps the link that it has:
//! what shows that it works is a report that went to the new place.
//!
//! What must stay true: a step is on the disk before the server hears of it. A place that is good
//! is on the disk apart before it is in the record, so that a record which cannot be read cuts
//! nobody off. What is followed when the agent begins is what was good, or what is tried; the
//! latter is given up when the agent has ended twice under it of its own accord. What was given up
//! is not tried again by itself.

mod kept;
pub(crate) mod places;
mod record;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::Chain;
use fleet_core::api::ConfigDocument;
use fleet_core::disk::{Disk, Folder};
use fleet_core::identity::PublicKey;
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Clock;
use fleet_core::wire::{ConfigPush, ConfigReported, ConfigTrial, ToServer, TrialState};
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use crate::queue::{Placed, Queue};
use crate::telemetry::{Plan, Telemetry};
use kept::Kept;
use places::{Places, Tried};
use record::{Ground, Record, Version};

pub use record::{FOLDER, erase};

/// How long a configuration has to show that it works.
pub const PROBATION: Duration = Duration::from_secs(60);
/// Between looks at what is tried.
const LOOK: Duration = Duration::from_secs(1);
/// Between reports that are to show it, so that one that is lost on its way is not all.
const PROOF_AGAIN: Duration = Duration::from_secs(10);
/// Reports that are to show it.
const PROOFS_MAX: usize = 8;

/// The device's configuration.
pub(crate) struct Probation {
    inner: Mutex<Inner>,
    ground: Ground,
    telemetry: Arc<Telemetry>,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    /// There is something to look at.
    due: Notify,
    /// There is something to say.
    told: Notify,
    /// Where the server is looked for.
    places: watch::Sender<Places>,
}

#[derive(Default)]
struct Inner {
    /// As it is on the disk.
    record: Record,
    /// The places that were good, as they are on the disk.
    kept: Kept,
    trial: Option<Trial>,
    /// How the trial ended, until that is on the disk.
    outcome: Option<Record>,
    /// The link that there is.
    link: Option<Linked>,
}

/// Where a link of a device that is in the fleet leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    /// To the place that is tried.
    There,
    /// To another one.
    Elsewhere,
}

/// What is tried now.
struct Trial {
    until: Instant,
    /// Where the reports that were collected under it stand in the queue.
    proofs: Vec<Placed>,
    reported_at: Option<Instant>,
    looked_at: Instant,
    /// The place that is tried, if it is another one.
    place: Option<Tried>,
    /// Why that could not be reached, the last time.
    obstacle: Option<String>,
}

impl Trial {
    fn new(now: Instant, place: Option<Tried>) -> Self {
        Self {
            until: now + PROBATION,
            proofs: Vec::new(),
            reported_at: None,
            looked_at: now,
            place,
            obstacle: None,
        }
    }

    /// Lets time pass. Without a link nothing can be shown, which is not for want of a plan; a place has
    /// to be reached.
    fn pass(&mut self, now: Instant, link: Option<Linked>) {
        if link.is_none() && self.place.is_none() {
            self.until += now.saturating_duration_since(self.looked_at);
        }
        self.looked_at = now;
    }

    /// Whether a report can show that it works.
    fn can_be_shown(&self, link: Option<Linked>) -> bool {
        self.place.is_none() || link == Some(Linked::There)
    }

    /// Why it is given up when its time is over.
    fn why(&self, link: Option<Linked>) -> String {
        let secs = PROBATION.as_secs();
        match &self.place {
            Some(place) if !self.can_be_shown(link) => {
                let why = self.obstacle.as_deref().unwrap_or("no answer yet");
                format!("the server was not reached at {place} within {secs} s: {why}")
            }
            _ if self.proofs.is_empty() => {
                format!("nothing could be measured under it within {secs} s")
            }
            Some(place) => format!("no report reached the server at {place} within {secs} s"),
            None => format!("no report reached the server within {secs} s"),
        }
    }
}

impl Probation {
    /// As the last run of the agent left it, in a folder. A configuration of another server than the
    /// device's stays on the disk without effect.
    pub(crate) fn open(
        folder: PathBuf,
        server: Option<PublicKey>,
        telemetry: Arc<Telemetry>,
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ground: Ground = Box::new(move || Ok(Arc::new(Folder::open(&folder)?)));
        let probation = Self::at(ground, telemetry, queue, clock);
        probation.begin(server, Instant::now());
        probation
    }

    fn at(
        ground: Ground,
        telemetry: Arc<Telemetry>,
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (due, told) = (Notify::new(), Notify::new());
        let places = watch::Sender::default();
        Self { inner: Mutex::default(), ground, telemetry, queue, clock, due, told, places }
    }

    /// Takes over what is on the disk, if it is the server's word. A server sends its configuration
    /// again to whoever says that it has none, so a damaged file costs nothing but a line in the log.
    fn begin(&self, server: Option<PublicKey>, now: Instant) {
        let Some(server) = server else { return };
        let found = self.on_disk("the last configuration from the server", record::load);
        let found = found.filter(|record| record.is_from(server));
        let kept = self.on_disk("the places of the server that were good", kept::load);
        let kept = kept.filter(|kept| kept.is_from(server));
        let mut inner = self.lock();
        inner.kept = kept.unwrap_or_else(|| Kept::of(server));
        self.take_up(&mut inner, found.unwrap_or_else(|| Record::of(server)), now);
        let record = inner.record.clone();
        if let Err(error) = self.keep_places(&mut inner, &record) {
            tracing::warn!(%error, "the place of the server is noted in its configuration alone");
        }
        self.show(&inner);
    }

    fn on_disk<T>(
        &self,
        what: &str,
        load: impl FnOnce(&dyn Disk) -> io::Result<Option<T>>,
    ) -> Option<T> {
        let loaded = (self.ground)().and_then(|disk| load(disk.as_ref()));
        loaded.unwrap_or_else(|error| {
            tracing::warn!(%error, "doing without {what}");
            None
        })
    }

    fn take_up(&self, inner: &mut Inner, found: Record, now: Instant) {
        let started = found.start(self.now_millis());
        inner.record = found;
        let plan = started.trying.as_ref().map(|trying| self.plan_of(&trying.version));
        let (next, plan) = match plan {
            Some(Ok(plan)) => (started, Some(plan)),
            Some(Err(why)) => (started.give_up(why, self.now_millis()), None),
            None => (started, None),
        };
        if next != inner.record
            && let Err(error) = self.save(inner, next)
        {
            // Nobody could tell how often it was tried.
            tracing::warn!(%error, "cannot note that a configuration is tried");
            let why = format!("it could not be noted that it is tried: {error}");
            inner.outcome = Some(inner.record.give_up(why, self.now_millis()));
            self.follow_good(&inner.record);
            return;
        }
        match plan {
            Some(plan) => {
                tracing::info!(version = inner.record.newest(), "trying a configuration once more");
                self.telemetry.follow(plan);
                inner.trial = Some(Trial::new(now, places::tried(&inner.record, &inner.kept)));
            }
            None => self.follow_good(&inner.record),
        }
    }

    /// Looks after what is tried, until the agent stops.
    pub(crate) async fn run(&self, tasks: &Tasks) {
        loop {
            let is_busy = {
                let inner = self.lock();
                inner.trial.is_some() || inner.outcome.is_some()
            };
            let next = async {
                if is_busy {
                    sleep_until((Instant::now() + LOOK).into()).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = next => {}
                () = self.due.notified() => {}
                () = tasks.stopping() => return self.stop(),
            }
            self.tick(Instant::now());
        }
    }

    /// Notes that the agent ends because it was told to.
    fn stop(&self) {
        let mut inner = self.lock();
        let next = inner.record.stop();
        if next != inner.record
            && let Err(error) = self.save(&mut inner, next)
        {
            tracing::warn!(%error, "this end counts against the configuration that is tried");
        }
    }

    /// Waits until there is something to say.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    /// How the device stands with its configuration.
    pub(crate) fn word(&self, server: PublicKey) -> ToServer {
        let inner = self.lock();
        word(Some(&inner.record).filter(|record| record.is_from(server)))
    }

    /// Takes a new one; gives what to tell the server, if it is worth an answer. What is not the
    /// server's word for this device is dropped without one.
    pub(crate) fn take(
        &self,
        push: ConfigPush,
        device: [u8; 16],
        server: PublicKey,
        now: Instant,
    ) -> Option<ToServer> {
        if !push.is_signed(device, server) {
            tracing::warn!("dropped a configuration that the server did not sign for this device");
            return None;
        }
        let mut inner = self.lock();
        if !inner.record.is_from(server) {
            let link = inner.link;
            let (record, kept) = (Record::of(server), Kept::of(server));
            *inner = Inner { record, kept, link, ..Inner::default() };
        }
        let newest = inner.record.newest();
        if push.version <= newest {
            return (push.version == newest).then(|| word(Some(&inner.record)));
        }
        let (version, at_millis) = (push.version, self.now_millis());
        let new = Version { number: version, document: push.document, at_millis };
        match self.try_it(&mut inner, new, now) {
            Ok(()) => {
                tracing::info!(version, "trying the server's configuration");
                self.show(&inner);
                self.due.notify_one();
                Some(word(Some(&inner.record)))
            }
            Err(error) => {
                tracing::warn!(version, %error, "refused the server's configuration");
                let error = Some(error);
                Some(ToServer::ConfigReported(ConfigReported { version, at_millis, error }))
            }
        }
    }

    /// Kept first, followed then: what the server hears of is what holds after a power cut too.
    fn try_it(&self, inner: &mut Inner, new: Version, now: Instant) -> Result<(), String> {
        let value =
            serde_json::from_str(&new.document).map_err(|_| "not a JSON document".to_owned())?;
        ConfigDocument::from_json(&value).map_err(|error| Chain(&error).to_string())?;
        let plan = self.plan_of(&new)?;
        // How an earlier one ended that is not on the disk yet goes there with this.
        let before = inner.outcome.clone().unwrap_or_else(|| inner.record.clone());
        let next = before.begin(new);
        if let Err(error) = self.save(inner, next) {
            // It may be on the disk all the same, and must not be tried after it was refused.
            let record = inner.record.clone();
            drop(self.save(inner, record));
            return Err(format!("cannot write the configuration down: {error}"));
        }
        self.telemetry.follow(plan);
        inner.outcome = None;
        inner.trial = Some(Trial::new(now, places::tried(&inner.record, &inner.kept)));
        Ok(())
    }

    /// The server has the reports of a stream up to a number.
    pub(crate) fn acknowledged(&self, server: PublicKey, stream: [u8; 16], seq: u64) {
        let mut inner = self.lock();
        let Some(trial) = &inner.trial else { return };
        let is_proof = |proof: &Placed| proof.stream == stream && proof.seq <= seq;
        if inner.record.is_from(server) && trial.proofs.iter().any(is_proof) {
            inner.trial = None;
            inner.outcome = Some(inner.record.prove());
            self.settle(&mut inner);
            self.show(&inner);
        }
    }

    /// Takes note of the link that there is, or that there is none. What waits to be reported by one
    /// link is no proof by another.
    pub(crate) fn linked(&self, link: Option<Linked>) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.link, link);
        let Some(trial) = inner.trial.as_mut().filter(|_| before != link) else { return };
        if trial.place.is_some() {
            trial.proofs.clear();
            trial.reported_at = None;
        }
        self.show(&inner);
        self.due.notify_one();
    }

    /// Takes note of why the place that is tried was not reached.
    pub(crate) fn not_reached(&self, why: String) {
        if let Some(trial) = &mut self.lock().trial {
            trial.obstacle = Some(why);
        }
    }

    /// Where the server is looked for, and its changes.
    pub(crate) fn places(&self) -> watch::Receiver<Places> {
        self.places.subscribe()
    }

    /// Tells where the server is looked for.
    fn show(&self, inner: &Inner) {
        let good = inner.outcome.as_ref().unwrap_or(&inner.record);
        let trial = inner.trial.as_ref();
        let new = Places {
            server: PublicKey::from_bytes(good.server_pub),
            good: inner.kept.under(good).urls(),
            tried: trial.and_then(|trial| trial.place.clone()),
            is_reached: inner.link == Some(Linked::There),
        };
        self.places.send_if_modified(|known| {
            let is_news = *known != new;
            *known = new;
            is_news
        });
    }

    /// Does what is due now.
    fn tick(&self, now: Instant) {
        let mut inner = self.lock();
        if inner.outcome.is_some() {
            self.settle(&mut inner);
        }
        let link = inner.link;
        let Some(trial) = &mut inner.trial else { return };
        trial.pass(now, link);
        if trial.until <= now {
            let why = trial.why(link);
            inner.trial = None;
            inner.outcome = Some(inner.record.give_up(why, self.now_millis()));
            self.follow_good(&inner.record);
            self.settle(&mut inner);
            self.show(&inner);
            return;
        }
        let is_due = trial.reported_at.is_none_or(|at| at + PROOF_AGAIN <= now);
        if !is_due || !trial.can_be_shown(link) || trial.proofs.len() >= PROOFS_MAX {
            return;
        }
        match self.telemetry.report_placed(&self.queue, self.clock.as_ref()) {
            Ok(Some(place)) => {
                trial.reported_at = Some(now);
                trial.proofs.push(place);
            }
            // Rates need two looks: there may be something the next time.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a report is lost"),
        }
    }

    /// Has how a trial ended on the disk, and then told.
    fn settle(&self, inner: &mut Inner) {
        let Some(outcome) = inner.outcome.take() else { return };
        if let Err(error) = self.save(inner, outcome.clone()) {
            tracing::warn!(%error, "cannot write down what became of a configuration");
            inner.outcome = Some(outcome);
            return;
        }
        let version = inner.record.newest();
        match &inner.record.given_up {
            Some(given_up) => {
                tracing::warn!(version, why = given_up.why, "went back to the last configuration");
            }
            None => tracing::info!(version, "the server's configuration works"),
        }
        self.told.notify_one();
    }

    /// Goes back to the device's own file. What the disk keeps in spite of an error has no effect
    /// at another server.
    pub(crate) fn forget(&self) {
        let mut inner = self.lock();
        *inner = Inner::default();
        self.show(&inner);
        self.telemetry.follow_file();
        if let Err(error) = (self.ground)().and_then(|disk| record::clear_all(disk.as_ref())) {
            tracing::warn!(%error, "a configuration of the old server was left behind");
        }
    }

    fn save(&self, inner: &mut Inner, next: Record) -> io::Result<()> {
        self.keep_places(inner, &next)?;
        record::save((self.ground)()?.as_ref(), &next)?;
        inner.record = next;
        Ok(())
    }

    /// Has the places on the disk that are good under a record.
    fn keep_places(&self, inner: &mut Inner, record: &Record) -> io::Result<()> {
        let kept = inner.kept.under(record);
        if kept != inner.kept {
            kept::save((self.ground)()?.as_ref(), &kept)?;
            inner.kept = kept;
        }
        Ok(())
    }

    fn follow_good(&self, record: &Record) {
        match record.good.as_ref().map(|good| self.plan_of(good)) {
            Some(Ok(plan)) => self.telemetry.follow(plan),
            Some(Err(error)) => {
                tracing::warn!(error, "the last configuration from the server no longer fits");
                self.telemetry.follow_file();
            }
            None => self.telemetry.follow_file(),
        }
    }

    fn plan_of(&self, version: &Version) -> Result<Plan, String> {
        self.telemetry.plan_for(&version.read()).map_err(|error| Chain(&error).to_string())
    }

    fn now_millis(&self) -> i64 {
        self.clock.now().millis()
    }

    /// No code that holds the lock can leave the record wrong by a panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record means to its server.
fn word(record: Option<&Record>) -> ToServer {
    let trial = |version, at_millis, state| {
        ToServer::ConfigTrial(ConfigTrial { version, at_millis, state })
    };
    let good = record.and_then(|record| record.good.as_ref());
    let holds = good.map_or(0, |good| good.number);
    if let Some(trying) = record.and_then(|record| record.trying.as_ref()) {
        let Version { number, at_millis, .. } = trying.version;
        return trial(number, at_millis, TrialState::Trying);
    }
    if let Some(given_up) = record.and_then(|record| record.given_up.clone()) {
        let state = TrialState::Reverted { holds, why: given_up.why };
        return trial(given_up.version, given_up.at_millis, state);
    }
    let at_millis = good.map_or(0, |good| good.at_millis);
    ToServer::ConfigReported(ConfigReported { version: holds, at_millis, error: None })
}
