//! Enrolment: what a device that has just proved its key is to the server.
//!
//! | it has | it becomes |
//! |---|---|
//! | a key of an active device | that device |
//! | a live grant for its key, or an enrolment key with uses left | active; pending if its id is taken |
//! | neither | pending, until an operator says yes or no |
//! | a key that was rejected or revoked | what it is already |
//!
//! A device never inherits another's record by its name: the key decides.

use fleet_core::id::DeviceId;
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::limits::{PENDING_DEVICES_MAX, TELEMETRY_INTERVAL_MAX};
use fleet_core::secret::{ApiKey, KeyHash, KeyKind};
use fleet_core::wire::{Facts, Proof, Standing};

use super::{OpsError, World};
use crate::store::{Admission, Conflict, Device, GrantRecord, StoreError};

/// Characters of one fact.
const FACT_CHARS_MAX: usize = 256;
/// Addresses of one device.
const ADDRESSES_MAX: usize = 32;

/// Operations on devices that come for the first time, or again.
pub(crate) struct Enrolment {
    pub(crate) world: World,
    pub(crate) server: PublicKey,
}

/// What lets a device in.
enum Ticket {
    Grant(GrantRecord),
    EnrolmentKey(String),
    None { reason: String },
}

impl Enrolment {
    /// Settles what a device is. Its signature has been checked.
    pub(crate) async fn admit(&self, key: PublicKey, proof: Proof) -> Result<Device, OpsError> {
        let facts = bounded(proof.facts);
        let known = self.world.store.device_by_key(key).await?;
        match known {
            Some(device) if device.state == Admission::Pending => {
                let ticket = self.ticket(key, proof.enrol_key.as_deref()).await?;
                self.upgrade(device, ticket, facts).await
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
                let ticket = self.ticket(key, proof.enrol_key.as_deref()).await?;
                self.insert(key, &proof.device_id, ticket, facts).await
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
        Ok(self.world.store.device_update(device.uid, Box::new(change)).await?)
    }

    async fn ticket(&self, key: PublicKey, enrol_key: Option<&str>) -> Result<Ticket, OpsError> {
        if let Some(grant) = self.grant(key).await? {
            return Ok(Ticket::Grant(grant));
        }
        let Some(text) = enrol_key else {
            let reason = "waits for an operator: nobody has vouched for its key".to_owned();
            return Ok(Ticket::None { reason });
        };
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
        match self.world.store.key_use(key.id(), self.world.now()).await {
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
        ticket: Ticket,
        facts: Facts,
    ) -> Result<Device, OpsError> {
        let (reason, wanted) = match &ticket {
            Ticket::None { .. } => return self.note_facts(device, facts).await,
            Ticket::Grant(grant) => (granted(grant), grant.device_id.clone()),
            Ticket::EnrolmentKey(id) => (enrolled(id), device.id.clone()),
        };
        let at = self.world.now();
        let activate = |id: DeviceId, facts: Facts| {
            let reason = reason.clone();
            move |device: &mut Device| {
                device.id = id;
                device.facts = facts;
                device.state = Admission::Active;
                device.state_reason = reason;
                device.state_at = at;
                Ok(())
            }
        };
        let store = &self.world.store;
        let change = Box::new(activate(wanted, facts.clone()));
        let device = match store.device_update(device.uid, change).await {
            // The id is another device's: this one stays what it is, and an operator decides.
            Err(StoreError::Conflict(Conflict::DeviceId(_))) => {
                self.note_facts(device, facts).await?
            }
            updated => updated?,
        };
        self.fulfil(&ticket, &device).await?;
        Ok(device)
    }

    async fn insert(
        &self,
        key: PublicKey,
        id: &str,
        ticket: Ticket,
        facts: Facts,
    ) -> Result<Device, OpsError> {
        let now = self.world.now();
        let fingerprint = key.fingerprint();
        let said = DeviceId::from_name(id)
            .or_else(|| format!("device-{}", fingerprint.short()).parse().ok());
        let (id, state, reason) = match &ticket {
            Ticket::Grant(grant) => {
                (Some(grant.device_id.clone()), Admission::Active, granted(grant))
            }
            Ticket::EnrolmentKey(id) => (said, Admission::Active, enrolled(id)),
            Ticket::None { reason } => (said, Admission::Pending, reason.clone()),
        };
        let id = id.ok_or_else(|| OpsError::invalid("device_id", "is not a device id"))?;
        let device = Device {
            uid: Uid::new(),
            id,
            key: Some(key),
            name: None,
            state,
            state_reason: reason,
            state_at: now,
            facts,
            metadata: std::collections::BTreeMap::new(),
            created_at: now,
            last_seen: Some(now),
            missed_reports: 0,
            reported: None,
        };
        if state == Admission::Pending {
            self.make_room().await?;
        }
        let device = self.insert_or_conflict(device, &fingerprint.to_string()).await?;
        self.fulfil(&ticket, &device).await?;
        Ok(device)
    }

    /// Inserts a device; if its id is another's, as pending under a marked id.
    async fn insert_or_conflict(
        &self,
        device: Device,
        fingerprint: &str,
    ) -> Result<Device, OpsError> {
        match self.world.store.device_insert(device.clone()).await {
            Ok(()) => return Ok(device),
            Err(StoreError::Conflict(Conflict::DeviceId(_))) => {}
            Err(error) => return Err(error.into()),
        }
        if device.state != Admission::Pending {
            self.make_room().await?;
        }
        let taken = device.id.clone();
        let device = Device {
            id: taken.in_conflict(fingerprint),
            state: Admission::Pending,
            state_reason: format!("waits for an operator: another device is called {taken}"),
            ..device
        };
        self.world.store.device_insert(device.clone()).await?;
        Ok(device)
    }

    async fn fulfil(&self, ticket: &Ticket, device: &Device) -> Result<(), OpsError> {
        if let Ticket::Grant(grant) = ticket {
            self.world.store.grant_fulfil(grant.uid, device.uid).await?;
        }
        Ok(())
    }

    /// Keeps strangers from filling the store: the oldest that waits gives way.
    async fn make_room(&self) -> Result<(), OpsError> {
        let mut pending = self.world.store.device_list().await?;
        pending.retain(|device| device.state == Admission::Pending);
        if pending.len() < PENDING_DEVICES_MAX {
            return Ok(());
        }
        if let Some(oldest) = pending.iter().min_by_key(|device| device.created_at) {
            tracing::warn!(device_id = %oldest.id, "too many devices wait, forgetting the oldest");
            self.world.store.device_delete(oldest.uid, self.world.now()).await?;
        }
        Ok(())
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

fn granted(grant: &GrantRecord) -> String {
    format!("configured by {}", grant.created_by)
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
    use super::*;

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
