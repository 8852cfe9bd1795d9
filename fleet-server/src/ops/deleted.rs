//! Deleted devices: which can be had back, until when, and having one back.

use std::time::Duration;

use fleet_core::api::{self, DeletedDevice, EventKind};
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::devices::or_other;
use super::events::NewEvent;
use super::{Access, Actor, Devices, OpsError};
use crate::store::{Admission, Conflict, Deleted, Device, StoreError};

/// How long a deleted device's data stays.
pub(crate) const DELETED_KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Devices {
    /// The deleted devices that can be had back, those that were deleted last first.
    pub(crate) async fn deleted(&self, access: &Access) -> Result<Vec<DeletedDevice>, OpsError> {
        let mut deleted = self.kept(access).await?;
        deleted.sort_by_key(|deleted| std::cmp::Reverse(deleted.at));
        Ok(deleted.into_iter().map(view).collect())
    }

    /// Has a deleted device back, as it was.
    pub(crate) async fn restore(
        &self,
        access: &Access,
        name: &str,
        actor: &Actor,
    ) -> Result<api::Device, OpsError> {
        let deleted = self.find_deleted(access, name).await?;
        let uid = deleted.device.uid;
        let restored = match self.world.store.deleted_restore(uid).await {
            Err(StoreError::Conflict(conflict)) => {
                return Err(self.in_the_way(access, &deleted.device, conflict).await?);
            }
            restored => restored?,
        };
        for stranger in &restored.gave_way {
            self.presence.forget(stranger.uid);
            self.versions.forget(stranger.uid);
            self.hub.wake(stranger.uid);
        }
        self.hub.wake(uid);
        // Layers may have changed meanwhile.
        self.layers.look_at(uid, None);
        let device = restored.device;
        let keys = restored.gave_way.iter().filter_map(|stranger| stranger.key);
        let keys: Vec<_> = keys.map(|key| key.fingerprint().to_string()).collect();
        let mut text = format!("had back by an operator, {} as it was", word(device.state));
        if !keys.is_empty() {
            text = format!("{text}; whoever waited with {} gave way", keys.join(", "));
        }
        let event = NewEvent::about(&device, EventKind::DeviceRestored, actor, text);
        self.events.record(event).await;
        self.view(device).await
    }

    /// Those whose time is not over: the data of the others goes at any moment.
    async fn kept(&self, access: &Access) -> Result<Vec<Deleted>, OpsError> {
        let now = self.world.now();
        let mut deleted = self.world.store.deleted_list().await?;
        deleted.retain(|deleted| now < kept_until(deleted.at) && access.has(&deleted.device));
        Ok(deleted)
    }

    /// The deleted device that an id or uid names.
    async fn find_deleted(&self, access: &Access, name: &str) -> Result<Deleted, OpsError> {
        let uid = name.parse::<Uid>().ok();
        let is_it = |deleted: &Deleted| match uid {
            Some(uid) => deleted.device.uid == uid,
            None => deleted.device.id.as_str() == name,
        };
        let mut found = self.kept(access).await?;
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

    /// Who has a key that was a deleted device's. Whoever only waits with one would give way.
    async fn holder_of_a_key(&self, deleted: &Device) -> Result<Option<Device>, OpsError> {
        for key in deleted.keys() {
            let holder = self.world.store.device_by_key(key).await?;
            if let Some(holder) = holder.filter(|holder| holder.state != Admission::Pending) {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    /// Why a deleted device cannot have its place again: what has it now.
    async fn in_the_way(
        &self,
        access: &Access,
        device: &Device,
        conflict: Conflict,
    ) -> Result<OpsError, OpsError> {
        let (what, other) = match &conflict {
            Conflict::DeviceKey => {
                ("its key is in the fleet anew, as", self.holder_of_a_key(device).await?)
            }
            _ => {
                let namesake = self.world.store.device_find(&device.id).await?;
                ("another device is called so now:", namesake)
            }
        };
        Ok(OpsError::Conflict(match other.filter(|other| access.has(other)) {
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
            // It went at this very moment, or is not theirs to know.
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
