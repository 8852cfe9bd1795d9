//! Devices that are let in before they have come.

use async_trait::async_trait;
use fleet_core::id::DeviceId;
use fleet_core::identity::Fingerprint;
use fleet_core::time::Timestamp;

use super::{Device, StoreError};

/// Keys that an operator has vouched for beforehand. Each lets one device in, once.
#[async_trait]
pub trait PreauthStore: Send + Sync {
    /// Adds all of these, or none: if one is there already that has not expired at `now`, or if there
    /// would be more than `max`.
    async fn preauth_insert(
        &self,
        records: Vec<PreauthRecord>,
        now: Timestamp,
        max: usize,
    ) -> Result<(), StoreError>;

    /// The one for a key, expired or not.
    async fn preauth_get(&self, key: Fingerprint) -> Result<Option<PreauthRecord>, StoreError>;

    /// All of them, by key. Damaged ones are left out, and health says so.
    async fn preauth_list(&self) -> Result<Vec<PreauthRecord>, StoreError>;

    /// Adds the device that came with a key, and takes the word for that key away, in one piece.
    /// Fails as [`device_insert`](super::DeviceStore::device_insert) does, and then nothing changed.
    async fn preauth_admit(&self, key: Fingerprint, device: Device) -> Result<(), StoreError>;

    /// Takes one away. Says whether it was there.
    async fn preauth_remove(&self, key: Fingerprint) -> Result<bool, StoreError>;

    /// Removes those that expired before a time. Returns how many.
    async fn preauth_purge(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// A key that is let in, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreauthRecord {
    /// The key.
    pub key: Fingerprint,
    /// The id that the device gets; the one that it asks for if absent.
    pub device_id: Option<DeviceId>,
    /// A longer name.
    pub name: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Who vouched for it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Until when it counts.
    pub expires_at: Timestamp,
}
