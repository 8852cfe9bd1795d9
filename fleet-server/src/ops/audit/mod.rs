//! The audit record: what is asked for is on the disk before anything of it is done, and what came
//! of it before that is answered.
//!
//! An intent of which the server does not live to tell what came is closed as unknown when it starts
//! again. An outcome that the store does not take waits here, and goes with the next record.

mod device;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::Chain;
use fleet_core::api::{
    ADMIN_LABEL, AuditAction, AuditActor, AuditEntry, AuditHash, AuditKind, AuditPoint, AuditRecord,
};
use fleet_core::audit::sign;
use fleet_core::identity::{PrivateKey, PublicKey};
use fleet_core::limits::{AUDIT_KEPT, PAGE_ROWS_MAX};
use fleet_core::net::shutdown::Tasks;
use fleet_core::secret::without_secrets;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::{Untrusted, cut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use self::device::{by_device, by_newcomer};
use super::keys::Principal;
use super::{OpsError, World};
use crate::door::household;
use crate::store::{AuditQuery, AuditStretch, Sealer, StoreError};
use crate::tasks::sleep;

/// Characters of what is said of a deed.
const TEXT_CHARS_MAX: usize = 1_000;
/// Targets that are named; all are counted.
const TARGETS_MAX: usize = 100;
/// Characters of a target, and of any other name.
const NAME_CHARS_MAX: usize = 128;
/// Outcomes that wait for the store.
const WAITING_MAX: usize = 1_000;
/// Intents that are closed in one commit.
const CLOSED_AT_ONCE: usize = 500;
/// Between two signatures of how far the record has come.
const SEAL_INTERVAL: Duration = Duration::from_secs(3_600);
/// Refusals that are recorded within [`REFUSALS_WINDOW`]: of one key or address, and in all.
const REFUSALS_OF_ONE_MAX: u32 = 10;
const REFUSALS_MAX: u32 = 300;
const REFUSALS_WINDOW: Duration = Duration::from_secs(60);
/// Requests of one key that are recorded at once, and how many more each second after that.
const HASTE_AT_ONCE: f64 = 20_000.0;
const HASTE_PER_SEC: f64 = 20.0;
/// Keys whose haste is remembered.
const HASTE_KEYS_MAX: usize = 10_000;
/// Those who read all of it at one time.
const READERS_MAX: usize = 4;

/// The audit record.
pub(crate) struct Audit {
    world: World,
    server: PublicKey,
    sealer: Sealer,
    waiting: Mutex<Vec<AuditEntry>>,
    /// Of strangers and devices, and of those who hold operators' keys.
    refusals: Mutex<[Refusals; 2]>,
    haste: Mutex<Haste>,
    /// For those who read all of it.
    places: Arc<Semaphore>,
}

/// Something that somebody asks for.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) request_id: String,
    pub(crate) actor: AuditActor,
    /// How they showed who they are.
    pub(crate) via: &'static str,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) action: AuditAction,
    pub(crate) targets: Vec<String>,
    pub(crate) body: Option<AuditHash>,
    pub(crate) reason: Option<String>,
    pub(crate) text: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upshot {
    pub(crate) status: Option<u16>,
    pub(crate) text: String,
    /// Targets that were not known before.
    pub(crate) targets: Vec<String>,
    /// How many things it concerns, if those are not all named.
    pub(crate) count: Option<u64>,
}

/// An intent that is on the disk. One that is dropped before it was ended is closed as a mistake of
/// the server's.
pub(crate) struct Begun {
    audit: Arc<Audit>,
    seq: u64,
    entry: Option<Box<AuditEntry>>,
}

/// Which records to look for.
#[derive(Debug, Default)]
pub(crate) struct AuditAsked {
    pub(crate) actor: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) before: Option<u64>,
    pub(crate) limit: usize,
}

/// How many refusals were recorded lately.
#[derive(Debug, Default)]
struct Refusals {
    since: Option<Instant>,
    of: HashMap<String, u32>,
    count: u32,
    left_out: u64,
}

impl Deed {
    /// The deed as it is recorded.
    pub(super) fn entry(self, kind: AuditKind, at: Timestamp) -> AuditEntry {
        AuditEntry {
            timestamp: at,
            kind,
            intent: None,
            request_id: name(&self.request_id),
            actor: self.actor,
            via: self.via.into(),
            peer: self.peer.map(|peer| peer.to_canonical().to_string().into()),
            action: self.action.word().into(),
            targets: self.targets.iter().take(TARGETS_MAX).map(|target| name(target)).collect(),
            target_count: self.targets.len() as u64,
            body_sha256: self.body,
            reason: self.reason.map(|reason| said(&reason)),
            status: None,
            text: said(&self.text),
        }
    }
}

impl Audit {
    pub(crate) fn new(world: World, key: Arc<PrivateKey>) -> Self {
        let (server, clock) = (key.public(), world.clock.clone());
        let sealer: Sealer =
            Arc::new(move |kind, seq, hash| sign(&key, kind, seq, hash, clock.now()));
        let (waiting, refusals, haste) = (Mutex::default(), Mutex::default(), Mutex::default());
        let places = Arc::new(Semaphore::new(READERS_MAX));
        Self { world, server, sealer, waiting, refusals, haste, places }
    }

    /// Who signs it.
    pub(crate) fn server(&self) -> PublicKey {
        self.server
    }

    /// A place for somebody who reads all of it, unless too many do.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// What the record calls whoever holds a key.
    pub(crate) async fn actor(&self, principal: &Principal) -> Result<AuditActor, OpsError> {
        let (kind, key, role) = match principal {
            Principal::Operator { key, access } => ("operator", key, Some(access.might().role)),
            Principal::Enrol { key } => ("enrol", key, None),
            Principal::Device { key, .. } => ("device", key, None),
        };
        let label = self.world.store.key_get(key).await?.map(|record| record.label);
        Ok(AuditActor {
            key_id: Some(name(key)),
            label: label.filter(|label| !label.is_empty()).map(|label| name(&label)),
            role: role.map(|role| name(role.word())),
            ..AuditActor::bare(kind)
        })
    }

    /// How long whoever asks has to wait until more of theirs is recorded: nobody may push out what
    /// others did by asking for much that comes to nothing.
    pub(crate) fn hold_up(&self, key: &str) -> Option<Duration> {
        lock(&self.haste).ask(key, Instant::now())
    }

    /// Writes down what is about to be done. When this returns, that is on the disk.
    pub(crate) async fn begin(self: &Arc<Self>, deed: Deed) -> Result<Begun, StoreError> {
        let entry = self.entry(deed, AuditKind::Intent);
        let seq = self.append(entry.clone()).await?;
        Ok(Begun { audit: self.clone(), seq, entry: Some(Box::new(entry)) })
    }

    /// Writes down what was decided at once. If the store fails it is in the log instead.
    pub(crate) async fn note(&self, deed: Deed, status: Option<u16>) {
        let entry = AuditEntry { status, ..self.entry(deed, AuditKind::Single) };
        if let Err(error) = self.append(entry.clone()).await {
            tell_lost(&entry, &error);
        }
    }

    /// The same of what was refused, unless there is too much of that: who has no right could
    /// otherwise fill the record, and push out what others did.
    pub(crate) async fn refused(&self, mut deed: Deed, status: Option<u16>) {
        let of = match (&deed.actor.key_id, deed.peer) {
            (Some(key), _) if deed.via != "none" && deed.via != "link" => key.raw().to_owned(),
            (_, Some(peer)) => household(peer).to_string(),
            (_, None) => String::new(),
        };
        // Strangers leave room for what those were refused who have a key.
        let budget = usize::from(deed.actor.kind.raw() == "operator");
        let Some(left_out) = lock(&self.refusals)[budget].admit(of, Instant::now()) else { return };
        if left_out > 0 {
            deed.text = format!("{} ({left_out} earlier ones are not recorded)", deed.text);
        }
        self.note(deed, status).await;
    }

    /// Closes what a crash left open. Called before anything is asked for.
    pub(crate) async fn close_open(&self) -> Result<(), StoreError> {
        loop {
            let open = self.world.store.audit_unfinished(CLOSED_AT_ONCE).await?;
            let count = open.len();
            let upshot = Upshot {
                text: "unknown: the server ended before it was written down what came of it"
                    .to_owned(),
                ..Upshot::default()
            };
            let close =
                |record: AuditRecord| self.outcome(record.seq, record.entry, upshot.clone());
            let entries: Vec<AuditEntry> = open.into_iter().map(close).collect();
            if !entries.is_empty() {
                tracing::warn!(count, "it is not known what came of some requests");
                self.world.store.audit_append(entries, self.sealer.clone()).await?;
            }
            if count < CLOSED_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Signs how far the record has come.
    pub(crate) async fn seal(&self) -> Result<AuditPoint, StoreError> {
        self.write_waiting().await?;
        self.world.store.audit_seal(self.sealer.clone()).await
    }

    /// Signs now and then how far the record has come, until the server stops.
    pub(crate) async fn run(self: Arc<Self>, tasks: Tasks) {
        while sleep(&tasks, SEAL_INTERVAL).await {
            if let Err(error) = self.seal().await {
                tracing::warn!(error = %Chain(&error), "the audit record was not signed");
            }
        }
    }

    /// Removes what is too old by a clock that can be trusted.
    pub(crate) async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.world.store.audit_purge(now.minus(AUDIT_KEPT), self.sealer.clone()).await
    }

    /// Records that are asked for, newest first.
    pub(crate) async fn list(&self, asked: AuditAsked) -> Result<Vec<AuditRecord>, OpsError> {
        let targets = match asked.device {
            // It may have had another id then, and its uid is the same.
            Some(name) => match self.world.store.directory().find(&name) {
                Some((uid, _)) => vec![uid.to_string(), name],
                None => vec![name],
            },
            None => Vec::new(),
        };
        let query = AuditQuery {
            actor: asked.actor,
            action: asked.action,
            targets,
            since: asked.since.unwrap_or(Timestamp::from_millis(0)),
            until: asked.until.unwrap_or(Timestamp::from_millis(i64::MAX)),
            before: asked.before.unwrap_or(u64::MAX),
            limit: asked.limit.min(PAGE_ROWS_MAX),
        };
        Ok(self.world.store.audit_list(query).await?)
    }

    /// A part of the chain.
    pub(crate) async fn chain(&self, after: u64, limit: usize) -> Result<AuditStretch, OpsError> {
        Ok(self.world.store.audit_chain(after, limit).await?)
    }

    /// The places that were signed.
    pub(crate) async fn signed(&self) -> Result<Vec<AuditPoint>, OpsError> {
        Ok(self.world.store.audit_signed().await?)
    }

    fn entry(&self, deed: Deed, kind: AuditKind) -> AuditEntry {
        deed.entry(kind, self.world.now())
    }

    fn outcome(&self, intent: u64, entry: AuditEntry, upshot: Upshot) -> AuditEntry {
        AuditEntry { timestamp: self.world.now(), ..outcome(intent, entry, upshot) }
    }

    /// Adds a record behind all that waits. Returns its number.
    async fn append(&self, entry: AuditEntry) -> Result<u64, StoreError> {
        let waiting: Vec<AuditEntry> = lock(&self.waiting).drain(..).collect();
        let mut entries = waiting.clone();
        entries.push(entry);
        match self.world.store.audit_append(entries, self.sealer.clone()).await {
            Ok(seqs) => Ok(seqs.last().copied().unwrap_or_default()),
            Err(error) => {
                self.wait(waiting);
                Err(error)
            }
        }
    }

    async fn write_waiting(&self) -> Result<(), StoreError> {
        let waiting: Vec<AuditEntry> = lock(&self.waiting).drain(..).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let written = self.world.store.audit_append(waiting.clone(), self.sealer.clone()).await;
        if written.is_err() {
            self.wait(waiting);
        }
        written.map(drop)
    }

    /// Has outcomes wait. What there is no room for is closed as unknown by the next start.
    fn wait(&self, entries: Vec<AuditEntry>) {
        let mut waiting = lock(&self.waiting);
        let room = WAITING_MAX - waiting.len();
        waiting.extend(entries.into_iter().take(room));
    }
}

impl Begun {
    /// Writes down what came of it. When this returns, that is on the disk, unless the store fails:
    /// what was done is done all the same.
    pub(crate) async fn end(mut self, upshot: Upshot) {
        let Some(entry) = self.entry.take() else { return };
        let outcome = self.audit.outcome(self.seq, *entry, upshot);
        if let Err(error) = self.audit.append(outcome.clone()).await {
            tell_lost(&outcome, &error);
            self.audit.wait(vec![outcome]);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let text = "the server made a mistake; its log names this request".to_owned();
            let upshot = Upshot { status: Some(500), text, ..Upshot::default() };
            // The clock may be what failed, so nobody looks at it.
            self.audit.wait(vec![outcome(self.seq, *entry, upshot)]);
        }
    }
}

/// How fast those who hold keys may have things recorded: so many at once, and then as many more as
/// come back each second.
#[derive(Debug, Default)]
struct Haste(HashMap<String, (Instant, f64)>);

impl Haste {
    /// Takes one, or says how long to wait for it.
    fn ask(&mut self, key: &str, now: Instant) -> Option<Duration> {
        if self.0.len() >= HASTE_KEYS_MAX && !self.0.contains_key(key) {
            self.0.retain(|_, (at, left)| refilled(*at, *left, now) < HASTE_AT_ONCE);
        }
        let (at, left) = self.0.entry(key.to_owned()).or_insert((now, HASTE_AT_ONCE));
        *left = refilled(*at, *left, now);
        *at = now;
        if *left < 1.0 {
            return Some(Duration::from_secs_f64((1.0 - *left) / HASTE_PER_SEC));
        }
        *left -= 1.0;
        None
    }
}

fn refilled(at: Instant, left: f64, now: Instant) -> f64 {
    let back = now.saturating_duration_since(at).as_secs_f64() * HASTE_PER_SEC;
    (left + back).min(HASTE_AT_ONCE)
}

impl Refusals {
    /// Whether one more is recorded, and how many were left out before it.
    fn admit(&mut self, of: String, now: Instant) -> Option<u64> {
        let is_over =
            self.since.is_none_or(|since| now.saturating_duration_since(since) >= REFUSALS_WINDOW);
        if is_over {
            self.since = Some(now);
            self.of.clear();
            self.count = 0;
        }
        if self.count >= REFUSALS_MAX || self.of.get(&of).copied() >= Some(REFUSALS_OF_ONE_MAX) {
            self.left_out += 1;
            return None;
        }
        self.count += 1;
        *self.of.entry(of).or_default() += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// What came of an intent, at the time of that.
fn outcome(intent: u64, entry: AuditEntry, upshot: Upshot) -> AuditEntry {
    let AuditEntry { mut targets, mut target_count, .. } = entry;
    for target in upshot.targets {
        let target = name(&target);
        if !targets.contains(&target) {
            target_count += 1;
            targets.push(target);
        }
    }
    targets.truncate(TARGETS_MAX);
    AuditEntry {
        kind: AuditKind::Outcome,
        intent: Some(intent),
        body_sha256: None,
        reason: None,
        status: upshot.status,
        text: said(&upshot.text),
        targets,
        target_count: upshot.count.unwrap_or(target_count).max(target_count),
        ..entry
    }
}

/// Devices that were made because an operator's key posted for them.
pub(super) fn posted(key: &str, ids: Vec<String>) -> Deed {
    let actor = AuditActor { key_id: Some(name(key)), ..AuditActor::bare("operator") };
    let deed = bare(actor, "key", AuditAction::DeviceEnrol);
    Deed { targets: ids, text: "posted for".to_owned(), ..deed }
}

/// The administrator's key beside the database, which the server makes and ends by itself.
pub(crate) fn own_key(id: &str, action: AuditAction) -> Deed {
    own(action, vec![id.to_owned()], ADMIN_LABEL.to_owned())
}

/// Something that the server does by itself.
pub(super) fn own(action: AuditAction, targets: Vec<String>, text: String) -> Deed {
    Deed { targets, text, ..bare(AuditActor::bare("server"), "none", action) }
}

/// The same as it is recorded, for tests of what records it.
#[cfg(test)]
pub(crate) fn own_entry(action: AuditAction, targets: Vec<String>, at: Timestamp) -> AuditEntry {
    own(action, targets, String::new()).entry(AuditKind::Single, at)
}

fn bare(actor: AuditActor, via: &'static str, action: AuditAction) -> Deed {
    Deed {
        request_id: String::new(),
        actor,
        via,
        peer: None,
        action,
        targets: Vec::new(),
        body: None,
        reason: None,
        text: String::new(),
    }
}

/// What the record calls those whose key is not good.
pub(crate) const NOBODY: &str = "nobody";

fn name(text: &str) -> Untrusted {
    cut(without_secrets(text).into_owned(), NAME_CHARS_MAX).into()
}

/// What somebody says, without keys that slipped into it.
fn said(text: &str) -> Untrusted {
    cut(without_secrets(text).into_owned(), TEXT_CHARS_MAX).into()
}

fn tell_lost(entry: &AuditEntry, error: &StoreError) {
    let (action, request_id) = (&entry.action, &entry.request_id);
    tracing::warn!(error = %Chain(error), %action, %request_id, text = %entry.text, "an audit record was not stored");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use fleet_core::time::SystemClock;

    use super::*;
    use crate::store::{AuditStore as _, RedbStore};

    fn audit() -> (Arc<RedbStore>, Arc<Audit>) {
        let store = Arc::new(RedbStore::in_memory());
        let world = World { store: store.clone(), clock: Arc::new(SystemClock) };
        (store, Arc::new(Audit::new(world, Arc::new(PrivateKey::from_seed(&[7; 32])))))
    }

    fn deed() -> Deed {
        Deed {
            request_id: "r".to_owned(),
            actor: AuditActor::bare("operator"),
            via: "key",
            peer: "::ffff:10.0.0.1".parse().ok(),
            action: AuditAction::DeviceDelete,
            targets: vec!["a".to_owned()],
            body: None,
            reason: None,
            text: String::new(),
        }
    }

    async fn texts(store: &RedbStore) -> Vec<(AuditKind, Option<u64>, Option<u16>, String)> {
        let records = store.audit_chain(0, 99).await.unwrap().records.into_iter();
        let told = |AuditRecord { entry, .. }| {
            (entry.kind, entry.intent, entry.status, entry.text.into_raw())
        };
        records.map(told).collect()
    }

    #[tokio::test]
    async fn an_intent_that_nobody_ends_is_closed_with_the_next_record_or_start() {
        let (store, audit) = audit();
        drop(audit.begin(deed()).await.unwrap());
        assert_eq!(texts(&store).await.len(), 1);
        audit.begin(deed()).await.unwrap().end(Upshot::default()).await;
        let told = texts(&store).await;
        assert_eq!(told[1].1, Some(1));
        assert_eq!(told[1].2, Some(500));
        assert_eq!(told[3].1, Some(3));
        // As a crash leaves it.
        std::mem::forget(audit.begin(deed()).await.unwrap());
        audit.close_open().await.unwrap();
        audit.close_open().await.unwrap();
        let told = texts(&store).await;
        assert_eq!((told.len(), told[5].1, told[5].2), (6, Some(5), None));
        assert!(told[5].3.starts_with("unknown"), "{told:?}");
    }

    #[tokio::test]
    async fn targets_are_named_up_to_a_bound_and_counted_beyond() {
        let (store, audit) = audit();
        let targets = (0..150).map(|number| number.to_string()).collect();
        let begun = audit.begin(Deed { targets, ..deed() }).await.unwrap();
        begun.end(Upshot { count: Some(10_000), ..Upshot::default() }).await;
        let records = store.audit_chain(0, 9).await.unwrap().records;
        let counts = records.iter().map(|it| (it.entry.targets.len(), it.entry.target_count));
        assert_eq!(counts.collect::<Vec<_>>(), [(100, 150), (100, 10_000)]);
        assert_eq!(records[0].entry.peer, Some("10.0.0.1".into()));
    }

    #[test]
    fn nobody_fills_the_record_faster_than_it_can_be_read() {
        let (mut haste, start) = (Haste::default(), Instant::now());
        for _ in 0..HASTE_AT_ONCE as u32 {
            assert_eq!(haste.ask("a", start), None);
        }
        let wait = haste.ask("a", start).expect("too many at once");
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(50), "{wait:?}");
        assert_eq!(haste.ask("b", start), None, "others are not held up");
        let later = start + Duration::from_secs(1);
        for _ in 0..HASTE_PER_SEC as u32 {
            assert_eq!(haste.ask("a", later), None);
        }
        assert!(haste.ask("a", later).is_some());
    }

    #[tokio::test]
    async fn refusals_fill_nothing() {
        let (store, audit) = audit();
        for _ in 0..50 {
            audit.refused(deed(), Some(403)).await;
        }
        assert_eq!(texts(&store).await.len(), REFUSALS_OF_ONE_MAX as usize);
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let admitted = (0..1_000).filter(|it| refusals.admit(it.to_string(), start).is_some());
        assert_eq!(admitted.count(), REFUSALS_MAX as usize);
        assert_eq!(refusals.admit(String::new(), start + REFUSALS_WINDOW), Some(700));
    }
}
