//! Grant records: which device keys may join, and until when.

use async_trait::async_trait;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;

use super::StoreError;

/// The grants that the server signed.
#[async_trait]
pub trait GrantStore: Send + Sync {
    /// Adds a grant, unless its uid is taken.
    async fn grant_insert(&self, grant: GrantRecord) -> Result<(), StoreError>;

    /// A grant by its uid, whether it still works or not.
    async fn grant_get(&self, uid: Uid) -> Result<Option<GrantRecord>, StoreError>;

    /// The grant that lets a device key in now: not expired, not used. Of several, the one that
    /// lasts longest.
    async fn grant_live(
        &self,
        device_key: PublicKey,
        now: Timestamp,
    ) -> Result<Option<GrantRecord>, StoreError>;

    /// Notes the device that came in by a grant. Repeating it changes nothing; another device is
    /// [`Conflict::GrantUsed`](super::Conflict::GrantUsed).
    async fn grant_fulfil(&self, uid: Uid, device: Uid) -> Result<(), StoreError>;

    /// Removes grants that expired before a time. Returns how many.
    async fn grant_purge(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// What the server keeps of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// The grant's own number.
    pub uid: Uid,
    /// The device key that it lets in.
    pub device_key: PublicKey,
    /// The id under which the device was seen.
    pub device_id: DeviceId,
    /// Who asked for it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it stops letting in.
    pub expires_at: Timestamp,
    /// The device that came in.
    pub device: Option<Uid>,
}
