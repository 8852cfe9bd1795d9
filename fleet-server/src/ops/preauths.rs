//! Devices that are let in before they have come: an operator vouches for their keys, by the
//! fingerprints that `fleetd info` shows or that were noted when the devices were made.
//!
//! Such a device joins as what was noted when it first comes, once. What is noted is all of a request
//! or nothing of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fleet_core::api::{PreauthCreate, PreauthDevice, PreauthView, is_tag};
use fleet_core::id::DeviceId;
use fleet_core::identity::Fingerprint;
use fleet_core::limits::{PREAUTH_LIFETIME_DEFAULT, PREAUTHS_MAX, SHOWN_CHARS_MAX, TAG_BYTES_MAX};
use fleet_core::time::{DURATION_MAX, Timestamp};
use fleet_core::untrusted::Untrusted;
use tokio::sync::Mutex;

use super::{Actor, OpsError, World};
use crate::store::{Device, PreauthRecord};

/// Tags of one device.
const TAGS_MAX: usize = 32;

/// Operations on preauthorised devices.
pub(crate) struct Preauths {
    world: World,
    making: Mutex<()>,
}

impl Preauths {
    pub(crate) fn new(world: World) -> Self {
        Self { world, making: Mutex::default() }
    }

    /// Vouches for keys. Each is a stranger's until then: whoever has come already is judged by
    /// `accept`.
    pub(crate) async fn create(
        &self,
        wish: PreauthCreate,
        actor: &Actor,
    ) -> Result<Vec<PreauthView>, OpsError> {
        let now = self.world.now();
        let lifetime = match wish.expires_in_secs.map(Duration::from_secs) {
            None => PREAUTH_LIFETIME_DEFAULT,
            Some(lifetime) if lifetime.is_zero() || lifetime > DURATION_MAX => {
                let problem = "must be from a second to a hundred years";
                return Err(OpsError::invalid("expires_in_secs", problem));
            }
            Some(lifetime) => lifetime,
        };
        if wish.devices.is_empty() || wish.devices.len() > PREAUTHS_MAX {
            let problem = format!("must name 1 to {PREAUTHS_MAX} devices");
            return Err(OpsError::invalid("devices", problem));
        }
        // What is promised here is not promised to somebody else meanwhile.
        let _making = self.making.lock().await;
        self.check(&wish.devices).await?;
        let (created_by, expires_at) = (actor.to_string(), now.plus(lifetime));
        let record = |device: PreauthDevice| PreauthRecord {
            key: device.fingerprint,
            device_id: device.device_id,
            name: device.name.filter(|name| !name.is_empty()),
            tags: device.tags,
            created_by: created_by.clone(),
            created_at: now,
            expires_at,
        };
        let records: Vec<_> = wish.devices.into_iter().map(record).collect();
        self.world.store.preauth_insert(records.clone(), now, PREAUTHS_MAX).await?;
        Ok(records.into_iter().map(view).collect())
    }

    /// Those that count, by key.
    pub(crate) async fn list(&self) -> Result<Vec<PreauthView>, OpsError> {
        let now = self.world.now();
        let mut records = self.world.store.preauth_list().await?;
        records.retain(|record| counts(record, now));
        Ok(records.into_iter().map(view).collect())
    }

    /// Takes an operator's word for a key back.
    pub(crate) async fn delete(&self, fingerprint: &str) -> Result<(), OpsError> {
        let key: Fingerprint =
            fingerprint.parse().map_err(|error| OpsError::invalid("fingerprint", error))?;
        if self.world.store.preauth_remove(key).await? {
            Ok(())
        } else {
            Err(OpsError::NotFound(format!("preauthorised device {key}")))
        }
    }

    /// Refuses what could not come true.
    async fn check(&self, wished: &[PreauthDevice]) -> Result<(), OpsError> {
        let devices = self.world.store.device_list().await?;
        let mut known: HashMap<Fingerprint, &Device> = HashMap::new();
        for device in &devices {
            known.extend(device.keys().map(|key| (key.fingerprint(), device)));
        }
        // What was promised to these very keys is no obstacle here: the store tells that they are
        // preauthorised already.
        let wanted: HashSet<Fingerprint> = wished.iter().map(|wish| wish.fingerprint).collect();
        let mut promised = self.list().await?;
        promised.retain(|other| !wanted.contains(&other.fingerprint));
        let promised = promised.iter().filter_map(|other| other.device_id.as_ref());
        let taken = devices.iter().map(|device| &device.id).chain(promised);
        let mut ids: HashSet<&str> = taken.map(DeviceId::as_str).collect();
        let mut keys = HashSet::new();
        for (position, wished) in wished.iter().enumerate() {
            let at = |field: &str| format!("devices[{position}].{field}");
            let key = wished.fingerprint;
            if !keys.insert(key) {
                let problem = format!("{key} stands there twice");
                return Err(OpsError::invalid(at("fingerprint"), problem));
            }
            if let Some(device) = known.get(&key) {
                let id = &device.id;
                let problem =
                    format!("the device {id} has this key already; if it waits, accept it");
                return Err(OpsError::invalid(at("fingerprint"), problem));
            }
            if let Some(id) = &wished.device_id
                && !ids.insert(id.as_str())
            {
                let problem = format!("{id} is the id of another device, or promised to one");
                return Err(OpsError::invalid(at("device_id"), problem));
            }
            let name = wished.name.as_deref().unwrap_or_default();
            if name.chars().count() > SHOWN_CHARS_MAX {
                let problem = format!("must not be longer than {SHOWN_CHARS_MAX} characters");
                return Err(OpsError::invalid(at("name"), problem));
            }
            if wished.tags.len() > TAGS_MAX {
                return Err(OpsError::invalid(at("tags"), format!("more than {TAGS_MAX}")));
            }
            if let Some(tag) = wished.tags.iter().find(|tag| !is_tag(tag)) {
                let problem = format!(
                    "{} is no tag: one word without commas, of 1 to {TAG_BYTES_MAX} bytes",
                    Untrusted::from(tag.as_str())
                );
                return Err(OpsError::invalid(at("tags"), problem));
            }
        }
        Ok(())
    }
}

/// Whether one counts at a time.
pub(super) fn counts(record: &PreauthRecord, now: Timestamp) -> bool {
    now < record.expires_at
}

fn view(record: PreauthRecord) -> PreauthView {
    PreauthView {
        fingerprint: record.key,
        device_id: record.device_id,
        name: record.name.map(Untrusted::new),
        tags: record.tags.into_iter().map(Untrusted::new).collect(),
        created_by: record.created_by.into(),
        created_at: record.created_at,
        expires_at: record.expires_at,
    }
}
