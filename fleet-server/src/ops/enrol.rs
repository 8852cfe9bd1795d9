//! Enrolment: what a device that has just proved its key is to the server.
//!
//! | it has | it becomes |
//! |---|---|
//! | a key of an active device | that device |
//! | a live grant for its key, or an enrolment key with uses left | active; pending if its id is taken |
//! | a key that an operator vouched for beforehand | active, as what was noted; pending if its id is taken |
//! | neither | pending, until an operator says yes or no |
//! | a key that was rejected or revoked | what it is already |
//! | a key that it made to take the place of its own | the same device, with that key alone |
//! | a key whose place was taken so | nothing |
//!
//! A device never inherits another's record by its name: the key decides.

use std::net::IpAddr;
use std::sync::Arc;

use fleet_core::Chain;
use fleet_core::api::{AuditAction, EventKind, TagUpdate};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::limits::{PENDING_DEVICES_MAX, TELEMETRY_INTERVAL_MAX};
use fleet_core::secret::{ApiKey, KeyHash, KeyKind};
use fleet_core::wire::{Facts, Proof, Standing};

use super::audit::{Begun, Upshot};
use super::configs::Versions;
use super::events::NewEvent;
use super::preauths::counts;
use super::{Actor, Audit, Events, OpsError, Presence, World, audit, tags};
use crate::hub::Hub;
use crate::store::{
    Admission, Conflict, Device, GrantRecord, OtherKeys, PreauthRecord, Refusal, StoreError,
};

/// Characters of one fact.
const FACT_CHARS_MAX: usize = 256;
/// Addresses of one device.
const ADDRESSES_MAX: usize = 32;

/// Operations on devices that come for the first time, or again.
pub(crate) struct Enrolment {
    pub(crate) world: World,
    pub(crate) server: PublicKey,
    pub(crate) presence: Arc<Presence>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) events: Arc<Events>,
    pub(crate) audit: Arc<Audit>,
}

/// What lets a device in.
enum Ticket {
    Grant(GrantRecord),
    Preauthorised(PreauthRecord),
    EnrolmentKey(String),
    None { reason: String },
}

impl Ticket {
    /// What was noted of the device beforehand: a name, and tags.
    fn noted(&self) -> (Option<String>, TagUpdate) {
        match self {
            Self::Preauthorised(record) => {
                let tags = TagUpdate { add: record.tags.clone(), remove: Vec::new() };
                (record.name.clone(), tags)
            }
            Self::Grant(_) | Self::EnrolmentKey(_) | Self::None { .. } => Default::default(),
        }
    }
}

/// What the record calls it when a device comes.
const ENROL: AuditAction = AuditAction::DeviceEnrol;

/// What came of a device that came.
fn entry_words(device: &Device) -> String {
    let kind = match device.state {
        Admission::Active => EventKind::DeviceEnrolled,
        _ => EventKind::DevicePending,
    };
    format!("{}: {}", kind.word(), device.state_reason)
}

/// Writes down what came of what was begun.
async fn end_entry(begun: Option<Begun>, entered: &Result<Device, OpsError>) {
    let Some(begun) = begun else { return };
    let upshot = match entered {
        Ok(device) => Upshot {
            text: entry_words(device),
            targets: vec![device.id.to_string(), device.uid.to_string()],
            ..Upshot::default()
        },
        Err(error) => Upshot { text: Chain(error).to_string(), ..Upshot::default() },
    };
    begun.end(upshot).await;
}

/// Where one more pending device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// In a place that was free.
    Free,
    /// In the place of one that was forgotten for it.
    Made,
}

impl Enrolment {
    /// Settles what a device is. Its signature has been checked.
    pub(crate) async fn admit(
        &self,
        key: PublicKey,
        proof: Proof,
        peer: IpAddr,
    ) -> Result<Device, OpsError> {
        let facts = bounded(proof.facts);
        let known = match self.world.store.device_by_key(key).await? {
            Some(device) => Some(self.by_one_of_its_keys(device, key, peer).await?),
            None => None,
        };
        match known {
            Some(device) if device.state == Admission::Pending => {
                let said = said_id(&proof.device_id, key)?;
                let ticket = self.ticket(key, &said, proof.enrol_key.as_deref()).await?;
                let begun = self.begin_entry(&ticket, key, &said, peer).await?;
                let entered = self.upgrade(device, said, ticket, facts, peer).await;
                end_entry(begun, &entered).await;
                entered
            }
            Some(device) => {
                if device.state == Admission::Active
                    && let Some(grant) = self.grant(key).await?
                {
                    self.world.store.grant_fulfil(grant.uid, device.uid).await?;
                }
                self.note_facts(device, facts).await
            }
            None => {
                let said = said_id(&proof.device_id, key)?;
                let ticket = self.ticket(key, &said, proof.enrol_key.as_deref()).await?;
                let begun = self.begin_entry(&ticket, key, &said, peer).await?;
                let entered = self.insert(key, said, ticket, facts, peer).await;
                end_entry(begun, &entered).await;
                entered
            }
        }
    }

    /// Notes what a device says it is, if that is new.
    pub(crate) async fn facts(&self, uid: Uid, facts: Facts) -> Result<(), OpsError> {
        let Some(device) = self.world.store.device_get(uid).await? else { return Ok(()) };
        self.note_facts(device, bounded(facts)).await?;
        Ok(())
    }

    /// How a device stands now; nothing once it is deleted.
    pub(crate) async fn standing(&self, uid: Uid) -> Result<Option<Standing>, OpsError> {
        Ok(self.world.store.device_get(uid).await?.and_then(|device| standing(&device)))
    }

    async fn note_facts(&self, device: Device, facts: Facts) -> Result<Device, OpsError> {
        if device.facts == facts {
            return Ok(device);
        }
        let change = move |device: &mut Device| {
            device.facts = facts;
            Ok(())
        };
        let device = self.world.store.device_update(device.uid, Box::new(change)).await?;
        self.hub.wake(device.uid);
        Ok(device)
    }

    async fn ticket(
        &self,
        key: PublicKey,
        said: &DeviceId,
        enrol_key: Option<&str>,
    ) -> Result<Ticket, OpsError> {
        if let Some(grant) = self.grant(key).await? {
            return Ok(Ticket::Grant(grant));
        }
        let vouched = self.world.store.preauth_get(key.fingerprint()).await?;
        if let Some(record) = vouched.filter(|record| counts(record, self.world.now())) {
            return Ok(Ticket::Preauthorised(record));
        }
        let Some(text) = enrol_key else {
            let reason = "waits for an operator: nobody has vouched for its key".to_owned();
            return Ok(Ticket::None { reason });
        };
        // An enrolment key settles no conflict, so none of its uses is spent on one.
        let owner = self.world.store.device_find(said).await?;
        if owner.is_some_and(|owner| owner.key != Some(key)) {
            return Ok(Ticket::None { reason: taken(said) });
        }
        Ok(match self.use_key(text).await? {
            Ok(id) => Ticket::EnrolmentKey(id),
            Err(problem) => Ticket::None { reason: format!("waits for an operator: {problem}") },
        })
    }

    async fn grant(&self, key: PublicKey) -> Result<Option<GrantRecord>, OpsError> {
        Ok(self.world.store.grant_live(key, self.world.now()).await?)
    }

    /// Uses an enrolment key once; the inner error says to an operator why it does not count.
    async fn use_key(&self, text: &str) -> Result<Result<String, String>, OpsError> {
        let unknown = || "its enrolment key is not known here".to_owned();
        let Ok(key) = text.parse::<ApiKey>() else { return Ok(Err(unknown())) };
        if key.server().is_some_and(|server| server != self.server.identity()) {
            return Ok(Err("its enrolment key is for another server".to_owned()));
        }
        let record = self.world.store.key_get(key.id()).await?.filter(|record| {
            record.kind == KeyKind::Enrol
                && key.kind() == KeyKind::Enrol
                && KeyHash::from_bytes(record.hash).matches(key.hash())
        });
        if record.is_none() {
            return Ok(Err(unknown()));
        }
        match self.world.store.key_use(key.id(), self.world.now(), None).await {
            Ok(_) => Ok(Ok(key.id().to_owned())),
            Err(StoreError::KeyRefused(refusal)) => {
                Ok(Err(format!("its enrolment key does not count: {refusal}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lets a pending device in if something now does.
    async fn upgrade(
        &self,
        device: Device,
        said: DeviceId,
        ticket: Ticket,
        facts: Facts,
        peer: IpAddr,
    ) -> Result<Device, OpsError> {
        let (reason, wanted) = match &ticket {
            Ticket::None { .. } => return self.note_facts(device, facts).await,
            Ticket::Grant(grant) => (granted(grant), grant.device_id.clone()),
            Ticket::Preauthorised(record) => {
                (vouched(record), record.device_id.clone().unwrap_or(said))
            }
            Ticket::EnrolmentKey(id) => (enrolled(id), said),
        };
        let noted = ticket.noted();
        let at = self.world.now();
        let activate = |id: DeviceId, facts: Facts| {
            let (reason, (name, tags)) = (reason.clone(), noted.clone());
            move |device: &mut Device| {
                if device.state != Admission::Pending {
                    return Err(Refusal("the device was judged meanwhile".to_owned()));
                }
                device.id = id;
                device.facts = facts;
                device.state = Admission::Active;
                device.state_reason = reason;
                device.state_at = at;
                device.name = device.name.take().or(name);
                tags::change(&mut device.metadata, &tags)
            }
        };
        let store = &self.world.store;
        let change = Box::new(activate(wanted, facts.clone()));
        let device = match store.device_update(device.uid, change).await {
            // The id is another device's: this one stays what it is, and an operator decides.
            Err(StoreError::Conflict(Conflict::DeviceId(_))) => {
                self.note_facts(device, facts).await?
            }
            updated => {
                let device = updated?;
                self.record_entry(&ticket, &device, peer).await;
                device
            }
        };
        self.hub.wake(device.uid);
        self.fulfil(&ticket, &device).await?;
        Ok(device)
    }

    async fn insert(
        &self,
        key: PublicKey,
        said: DeviceId,
        ticket: Ticket,
        facts: Facts,
        peer: IpAddr,
    ) -> Result<Device, OpsError> {
        let now = self.world.now();
        let fingerprint = key.fingerprint();
        let (id, state, reason) = match &ticket {
            Ticket::Grant(grant) => (grant.device_id.clone(), Admission::Active, granted(grant)),
            Ticket::Preauthorised(record) => {
                let id = record.device_id.clone().unwrap_or(said);
                (id, Admission::Active, vouched(record))
            }
            Ticket::EnrolmentKey(id) => (said, Admission::Active, enrolled(id)),
            Ticket::None { reason } => (said, Admission::Pending, reason.clone()),
        };
        let (name, tags) = ticket.noted();
        let mut metadata = std::collections::BTreeMap::new();
        tags::change(&mut metadata, &tags).map_err(StoreError::from)?;
        let device = Device {
            uid: Uid::new(),
            id,
            key: Some(key),
            name,
            state,
            state_reason: reason,
            state_at: now,
            facts,
            metadata,
            created_at: now,
            last_seen: Some(now),
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        };
        let mut room = Room::Free;
        if state == Admission::Pending {
            room = self.make_room().await?;
        }
        let store = &self.world.store;
        let inserted = match &ticket {
            Ticket::Preauthorised(_) => store.preauth_admit(fingerprint, device.clone()).await,
            _ => store.device_insert(device.clone()).await,
        };
        let device = match inserted {
            Ok(()) => device,
            Err(StoreError::Conflict(Conflict::DeviceId(_))) => {
                if state != Admission::Pending {
                    room = self.make_room().await?;
                }
                self.insert_in_conflict(device, &fingerprint.to_string()).await?
            }
            Err(error) => return Err(error.into()),
        };
        // A stranger who takes another's place is no news: whoever has many keys could fill the
        // record with them, and push out what operators did.
        if device.state == Admission::Active || room == Room::Free {
            self.record_entry(&ticket, &device, peer).await;
        }
        self.hub.wake(device.uid);
        self.fulfil(&ticket, &device).await?;
        Ok(device)
    }

    /// Inserts a device whose id is another's, as pending under a marked id.
    async fn insert_in_conflict(
        &self,
        device: Device,
        fingerprint: &str,
    ) -> Result<Device, OpsError> {
        let device = Device {
            id: device.id.in_conflict(fingerprint),
            state: Admission::Pending,
            state_reason: taken(&device.id),
            ..device
        };
        self.world.store.device_insert(device.clone()).await?;
        Ok(device)
    }

    /// Records that a device has come, and who let it in.
    async fn record_entry(&self, ticket: &Ticket, device: &Device, peer: IpAddr) {
        let (kind, actor) = match (device.state, ticket) {
            (Admission::Active, Ticket::Grant(grant)) => {
                (EventKind::DeviceEnrolled, grant.created_by.clone())
            }
            (Admission::Active, Ticket::Preauthorised(record)) => {
                (EventKind::DeviceEnrolled, record.created_by.clone())
            }
            (Admission::Active, Ticket::EnrolmentKey(id)) => {
                (EventKind::DeviceEnrolled, Actor::Enrol(id.clone()).to_string())
            }
            _ => (EventKind::DevicePending, Actor::Device.to_string()),
        };
        self.events.record(NewEvent::about(device, kind, actor, &*device.state_reason)).await;
        if let Ticket::None { .. } = ticket {
            let deed = audit::by_device(device, device.key, peer, ENROL, entry_words(device));
            self.audit.refused(deed, None).await;
        }
    }

    /// Writes down that a device is about to be let in, by what.
    async fn begin_entry(
        &self,
        ticket: &Ticket,
        key: PublicKey,
        said: &DeviceId,
        peer: IpAddr,
    ) -> Result<Option<Begun>, OpsError> {
        let text = match ticket {
            Ticket::Grant(grant) => granted(grant),
            Ticket::Preauthorised(record) => vouched(record),
            Ticket::EnrolmentKey(id) => enrolled(id),
            Ticket::None { .. } => return Ok(None),
        };
        let deed = audit::by_newcomer(said, key, peer, ENROL, text);
        Ok(Some(self.audit.begin(deed).await?))
    }

    async fn fulfil(&self, ticket: &Ticket, device: &Device) -> Result<(), OpsError> {
        if device.state == Admission::Active {
            // However it came in, nobody's word for its key is left to let it in once more.
            for key in device.keys() {
                self.world.store.preauth_remove(key.fingerprint()).await?;
            }
        }
        match ticket {
            Ticket::Grant(grant) => {
                self.world.store.grant_fulfil(grant.uid, device.uid).await?;
            }
            // It is used up, also by a device that has to wait because its id is taken.
            Ticket::Preauthorised(record) => {
                self.world.store.preauth_remove(record.key).await?;
            }
            Ticket::EnrolmentKey(_) | Ticket::None { .. } => {}
        }
        Ok(())
    }

    /// Keeps strangers from filling the store: the oldest that waits gives way.
    async fn make_room(&self) -> Result<Room, OpsError> {
        let mut pending = self.world.store.device_list().await?;
        pending.retain(|device| device.state == Admission::Pending);
        if pending.len() < PENDING_DEVICES_MAX {
            return Ok(Room::Free);
        }
        if let Some(oldest) = pending.iter().min_by_key(|device| device.created_at) {
            tracing::warn!(device_id = %oldest.id, "too many devices wait, forgetting the oldest");
            self.world.store.device_forget(oldest.uid).await?;
            self.presence.forget(oldest.uid);
            self.versions.forget(oldest.uid);
            self.hub.wake(oldest.uid);
        }
        Ok(Room::Made)
    }
}

/// What to tell a device about how it stands.
pub(crate) fn standing(device: &Device) -> Option<Standing> {
    let reason = device.state_reason.clone();
    match device.state {
        Admission::Active => {
            let device_id = device.id.to_string();
            Some(Standing::Active { uid: device.uid.bytes(), device_id })
        }
        Admission::Pending => Some(Standing::Pending { reason }),
        Admission::Rejected => Some(Standing::Rejected { reason }),
        Admission::Revoked => Some(Standing::Revoked { reason }),
        Admission::Deleted => None,
    }
}

/// The id that a device says it has; one made from its key if that is none.
fn said_id(text: &str, key: PublicKey) -> Result<DeviceId, OpsError> {
    DeviceId::from_name(text)
        .or_else(|| format!("device-{}", key.fingerprint().short()).parse().ok())
        .ok_or_else(|| OpsError::invalid("device_id", "is not a device id"))
}

fn taken(id: &DeviceId) -> String {
    format!("waits for an operator: another device is called {id}")
}

fn granted(grant: &GrantRecord) -> String {
    format!("configured by {}", grant.created_by)
}

fn vouched(record: &PreauthRecord) -> String {
    format!("preauthorised by {}", record.created_by)
}

fn enrolled(key_id: &str) -> String {
    format!("enrolled with the key {key_id}")
}

/// Facts cut to what the server is willing to keep.
fn bounded(mut facts: Facts) -> Facts {
    let cut = |text: &mut String| {
        if let Some((end, _)) = text.char_indices().nth(FACT_CHARS_MAX) {
            text.truncate(end);
        }
    };
    for text in [
        &mut facts.hostname,
        &mut facts.device_type,
        &mut facts.model,
        &mut facts.os,
        &mut facts.kernel,
        &mut facts.arch,
        &mut facts.version,
        &mut facts.boot_id,
    ] {
        cut(text);
    }
    facts.name.iter_mut().for_each(cut);
    facts.addresses.truncate(ADDRESSES_MAX);
    facts.addresses.iter_mut().for_each(cut);
    let secs_max = u32::try_from(TELEMETRY_INTERVAL_MAX.as_secs()).unwrap_or(u32::MAX);
    facts.interval_secs = facts.interval_secs.min(secs_max);
    facts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::identity::PrivateKey;
    use fleet_core::time::SystemClock;
    use futures_util::future::try_join_all;

    use super::*;
    use crate::store::{RedbStore, Store};

    fn key() -> Arc<PrivateKey> {
        Arc::new(PrivateKey::from_seed(&[1; 32]))
    }

    fn stranger(number: usize) -> (PublicKey, Proof) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let facts = Facts::default();
        let device_id = format!("device-{number}");
        let proof = Proof { signature: [0; 64], device_id, enrol_key: None, facts };
        (PrivateKey::from_seed(&seed).public(), proof)
    }

    #[tokio::test]
    async fn t03_strangers_beyond_the_bound_leave_nothing_behind() {
        let store: Arc<dyn Store> = Arc::new(RedbStore::in_memory());
        let presence = Arc::new(Presence::default());
        let world = World { store: store.clone(), clock: Arc::new(SystemClock) };
        let events = Arc::new(Events::new(world.clone()));
        let enrolment = Enrolment {
            audit: Arc::new(Audit::new(world.clone(), key())),
            world,
            server: PrivateKey::from_seed(&[1; 32]).public(),
            presence: presence.clone(),
            versions: Arc::default(),
            hub: Arc::default(),
            events: events.clone(),
        };
        let (key, proof) = stranger(0);
        let peer = IpAddr::from([10, 0, 0, 1]);
        let first = enrolment.admit(key, proof, peer).await.unwrap();
        presence.heard(first.uid, first.created_at);
        let created_at = first.created_at.plus(Duration::from_secs(1));
        let others = (1..PENDING_DEVICES_MAX).map(|number| {
            let id = format!("device-{number}").parse().unwrap();
            let other = Device { uid: Uid::new(), id, key: None, created_at, ..first.clone() };
            store.device_insert(other)
        });
        try_join_all(others).await.unwrap();
        let (key, proof) = stranger(PENDING_DEVICES_MAX);
        enrolment.admit(key, proof, peer).await.unwrap();
        assert_eq!(store.device_list().await.unwrap().len(), PENDING_DEVICES_MAX);
        assert_eq!(store.device_get(first.uid).await.unwrap(), None);
        assert_eq!(presence.last_seen(first.uid), None);
        assert_eq!(*events.subscribe().borrow(), 1, "only the first one is an event");
    }

    #[test]
    fn a_devices_words_about_itself_are_cut() {
        let facts = bounded(Facts {
            hostname: "ü".repeat(1000),
            name: Some("x".repeat(1000)),
            addresses: vec!["y".repeat(1000); 1000],
            interval_secs: u32::MAX,
            ..Facts::default()
        });
        assert_eq!(facts.hostname.chars().count(), FACT_CHARS_MAX);
        assert_eq!(facts.name.map(|name| name.len()), Some(FACT_CHARS_MAX));
        assert_eq!(facts.addresses.len(), ADDRESSES_MAX);
        assert_eq!(facts.addresses[0].len(), FACT_CHARS_MAX);
        assert_eq!(facts.interval_secs, 86_400);
    }
}
