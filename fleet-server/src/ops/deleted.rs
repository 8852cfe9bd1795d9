//! Deleted devices: which can be had back, until when, and having one back.

use std::time::Duration;

use fleet_core::api::{self, DeletedDevice, EventKind};
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::devices::or_other;
use super::events::NewEvent;
use super::{Actor, Devices, OpsError};
use crate::store::{Admission, Conflict, Deleted, Device, StoreError};

/// How long a deleted device's data stays.
pub(crate) const DELETED_KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Devices {
    /// The deleted devices that can be had back, those that were deleted last first.
    pub(crate) async fn deleted(&self) -> Result<Vec<DeletedDevice>, OpsError> {
        let mut deleted = self.kept().await?;
        deleted.sort_by_key(|deleted| std::cmp::Reverse(deleted.at));
        Ok(deleted.into_iter().map(view).collect())
    }

    /// Has a deleted device back, as it was.
    pub(crate) async fn restore(&self, name: &str, actor: &Actor) -> Result<api::Device, OpsError> {
        let deleted = self.find_deleted(name).await?;
        let uid = deleted.device.uid;
        let restored = match self.world.store.deleted_restore(uid).await {
            Err(StoreError::Conflict(conflict)) => {
                return Err(self.in_the_way(&deleted.device, conflict).await?);
            }
            restored => restored?,
        };
        for stranger in restored.gave_way {
            self.presence.forget(stranger);
            self.versions.forget(stranger);
            self.hub.wake(stranger);
        }
        self.hub.wake(uid);
        // Layers may have changed meanwhile.
        self.layers.look_at(uid, None);
        let device = restored.device;
        let text = format!("had back by an operator, {} as it was", word(device.state));
        let event = NewEvent::about(&device, EventKind::DeviceRestored, actor, text);
        self.events.record(event).await;
        self.view(device).await
    }

    /// Those whose time is not over: the data of the others goes at any moment.
    async fn kept(&self) -> Result<Vec<Deleted>, OpsError> {
        let now = self.world.now();
        let mut deleted = self.world.store.deleted_list().await?;
        deleted.retain(|deleted| now < kept_until(deleted.at));
        Ok(deleted)
    }

    /// The deleted device that an id or uid names.
    async fn find_deleted(&self, name: &str) -> Result<Deleted, OpsError> {
        let uid = name.parse::<Uid>().ok();
        let is_it = |deleted: &Deleted| match uid {
            Some(uid) => deleted.device.uid == uid,
            None => deleted.device.id.as_str() == name,
        };
        let mut found = self.kept().await?;
        found.retain(is_it);
        let uids: Vec<_> = found.iter().map(|found| found.device.uid.to_string()).collect();
        match (found.pop(), uids.as_slice()) {
            (Some(deleted), [_]) => Ok(deleted),
            (Some(_), uids) => Err(OpsError::Conflict(format!(
                "several deleted devices were called {}: name one by its uid: {}",
                Untrusted::from(name),
                uids.join(", ")
            ))),
            (None, _) => {
                Err(OpsError::NotFound(format!("deleted device {}", Untrusted::from(name))))
            }
        }
    }

    /// Why a deleted device cannot have its place again: what has it now.
    async fn in_the_way(&self, device: &Device, conflict: Conflict) -> Result<OpsError, OpsError> {
        let store = &self.world.store;
        let by_key = match device.key {
            Some(key) => store.device_by_key(key).await?,
            None => None,
        };
        let (what, other) = match by_key {
            Some(other) => ("its key is in the fleet anew, as", Some(other)),
            None => ("another device is called so now:", store.device_find(&device.id).await?),
        };
        Ok(OpsError::Conflict(match other {
            Some(other) => format!(
                "{} is not had back: {what} {} ({}, uid {}, {}); delete that one first",
                device.id,
                other.id,
                word(other.state),
                other.uid,
                other.key.map(PublicKey::fingerprint).map_or_else(
                    || "without a key".to_owned(),
                    |fingerprint| format!("fingerprint {fingerprint}")
                ),
            ),
            // It went at this very moment.
            None => conflict.to_string(),
        }))
    }
}

/// Until when a device can be had back that was deleted then.
pub(crate) fn kept_until(deleted_at: Timestamp) -> Timestamp {
    deleted_at.plus(DELETED_KEPT)
}

fn view(deleted: Deleted) -> DeletedDevice {
    let Deleted { device, at } = deleted;
    let name = device.name.or(device.facts.name);
    DeletedDevice {
        name: Untrusted::new(name.unwrap_or_else(|| device.id.to_string())),
        device_type: or_other(&device.facts.device_type),
        fingerprint: device.key.map(PublicKey::fingerprint),
        was: Untrusted::from(word(device.state)),
        deleted_at: at,
        kept_until: kept_until(at),
        uid: device.uid,
        id: device.id,
    }
}

/// How a device stands, in a word.
fn word(state: Admission) -> &'static str {
    match state {
        Admission::Pending => "pending",
        Admission::Active => "active",
        Admission::Rejected => "rejected",
        Admission::Revoked => "revoked",
        Admission::Deleted => "deleted",
    }
}
