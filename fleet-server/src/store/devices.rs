//! Devices: who they are and how they stand.

use std::collections::BTreeMap;

use async_trait::async_trait;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;

use super::{Directory, StoreError, Tell};

/// The fleet's devices.
///
/// Among devices that are not deleted, an id and a key each belong to one, keys that it had too. A
/// deleted device keeps its record for a while, found by its uid alone, and is no longer changed
/// unless it is had back.
#[async_trait]
pub trait DeviceStore: Send + Sync {
    /// All devices that are not deleted, by id and uid.
    fn directory(&self) -> &Directory;

    /// A device by its uid, deleted ones too.
    async fn device_get(&self, uid: Uid) -> Result<Option<Device>, StoreError>;

    /// The device that goes by an id.
    async fn device_find(&self, id: &DeviceId) -> Result<Option<Device>, StoreError>;

    /// The device that has a key, shall have it, or had it.
    async fn device_by_key(&self, key: PublicKey) -> Result<Option<Device>, StoreError>;

    /// All devices that are not deleted, oldest first. Damaged ones are left out, and health says
    /// so.
    async fn device_list(&self) -> Result<Vec<Device>, StoreError>;

    /// Adds a device, unless its uid, id or key is taken.
    async fn device_insert(&self, device: Device) -> Result<(), StoreError>;

    /// Changes a device in one piece: nobody else's change comes between what the closure reads
    /// and what it leaves. It may change anything but the uid and the time of creation; a new id
    /// or key must be free. The closure runs on the writer's thread, so it only computes. If
    /// it leaves the device rejected or revoked, open grants for the device's key end with it.
    /// Returns the device as it is now.
    async fn device_update(&self, uid: Uid, change: Change) -> Result<Device, StoreError> {
        self.device_update_told(uid, change, Box::new(|_| Vec::new())).await
    }

    /// The same, with the events that tell of it.
    async fn device_update_told(
        &self,
        uid: Uid,
        change: Change,
        tell: Tell<Device>,
    ) -> Result<Device, StoreError>;

    /// Ends a device: its id and key are free at once, open grants for the key end, its data
    /// stays until it is purged.
    async fn device_delete(&self, uid: Uid, at: Timestamp) -> Result<(), StoreError>;

    /// Removes a device with all that belongs to it, at once. For one whose data nobody will ask
    /// for; interrupted, it leaves a deleted device that the next purge removes.
    async fn device_forget(&self, uid: Uid) -> Result<(), StoreError>;

    /// Removes devices that were deleted before a time, with all their reports, cursors,
    /// configurations and commands. Returns how many devices.
    async fn device_purge(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Notes when devices were last heard of. The last word counts; unknown and deleted devices
    /// are passed over.
    async fn device_touch(&self, seen: Vec<(Uid, Timestamp)>) -> Result<(), StoreError>;
}

/// A change of a device, or its reason not to.
pub type Change = Box<dyn FnOnce(&mut Device) -> Result<(), Refusal> + Send>;

/// Why a change declined, in its author's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// A device, as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The server's own name for it.
    pub uid: Uid,
    /// What people call it.
    pub id: DeviceId,
    /// Its key; none if it only posts over HTTP.
    pub key: Option<PublicKey>,
    /// A name for people, that an operator gave it.
    pub name: Option<String>,
    /// How it stands.
    pub state: Admission,
    /// Why it stands so.
    pub state_reason: String,
    /// Since when.
    pub state_at: Timestamp,
    /// What it says it is.
    pub facts: Facts,
    /// What operators noted: names, and values as JSON text.
    pub metadata: BTreeMap<String, String>,
    /// When it was first known.
    pub created_at: Timestamp,
    /// When it was last heard of, by the server's clock.
    pub last_seen: Option<Timestamp>,
    /// Reports that it numbered but that never came.
    pub missed_reports: u64,
    /// Keys that it shall have, or had.
    pub other_keys: OtherKeys,
    /// What it last said about its configuration.
    pub reported: Option<ReportedConfig>,
}

/// Former keys of one device that are known for what they are. Older ones are strangers.
pub(crate) const FORMER_KEYS_MAX: usize = 16;

/// A device's keys beside the one that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherKeys {
    /// The one that it will come with.
    pub next: Option<NextKey>,
    /// Those that it had, the latest last.
    pub former: Vec<PublicKey>,
}

/// A key that a device offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextKey {
    /// The key.
    pub key: PublicKey,
    /// The command that asked for it, unless it was offered to a release that did not note that.
    pub command: Option<Uid>,
}

impl OtherKeys {
    /// The key that the device will come with.
    pub fn next_key(&self) -> Option<PublicKey> {
        self.next.map(|next| next.key)
    }
}

impl Device {
    /// All keys that are this device's and nobody else's.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        let next = self.other_keys.next_key();
        self.key.into_iter().chain(next).chain(self.other_keys.former.iter().copied())
    }

    /// Whether a key is one of them.
    pub fn has_key(&self, key: PublicKey) -> bool {
        self.keys().any(|known| known == key)
    }
}

/// How a device stands with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It waits for an operator's word.
    Pending,
    /// It belongs to the fleet.
    Active,
    /// An operator said no.
    Rejected,
    /// It belonged to the fleet and does no more.
    Revoked,
    /// It is no device any more; its data goes soon.
    Deleted,
}

/// What a device last said about its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedConfig {
    /// Which version.
    pub version: u64,
    /// The hash of that version's document.
    pub hash: String,
    /// When, by the device's clock.
    pub at: Timestamp,
    /// Why it was not applied.
    pub error: Option<String>,
    /// How far the device is with it.
    pub phase: ReportedPhase,
}

/// How far a device is with a configuration that it spoke of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReportedPhase {
    /// It has it, or refused it.
    #[default]
    Said,
    /// It follows it, and it has to show that it works.
    Trying,
    /// It followed it and went back.
    Reverted {
        /// To which version; 0 to its own file.
        holds: u64,
    },
}

impl ReportedConfig {
    /// The version that the device follows, if it is known: of one that refused a version it is not.
    pub fn holds(&self) -> Option<u64> {
        match self.phase {
            ReportedPhase::Said if self.error.is_some() => None,
            ReportedPhase::Said | ReportedPhase::Trying => Some(self.version),
            ReportedPhase::Reverted { holds } => Some(holds),
        }
    }
}
