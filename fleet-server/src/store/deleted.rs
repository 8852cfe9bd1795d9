//! Devices that were deleted, for as long as they can be had back.

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::{Device, StoreError};

/// Deleted devices.
///
/// How a device stood is noted as it is deleted, and forgotten before the first of its data goes:
/// what can be had back is whole. A device that was forgotten is none of these.
#[async_trait]
pub trait DeletedStore: Send + Sync {
    /// All that can be had back, oldest first. Damaged ones are left out, and health says so.
    async fn deleted_list(&self) -> Result<Vec<Deleted>, StoreError>;

    /// Takes a deletion back: the device stands as it did, under its id and with its key, unless
    /// another device has either. Whoever waits with its key to be let in is the same device, and
    /// gives way.
    async fn deleted_restore(&self, uid: Uid) -> Result<Restored, StoreError>;
}

/// A deleted device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The device, as it stood.
    pub device: Device,
    /// When it was deleted.
    pub at: Timestamp,
}

/// A device that was had back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The device, as it stands now.
    pub device: Device,
    /// What gave way to it, and is forgotten: its keys, which asked to be let in anew.
    pub gave_way: Vec<Device>,
}
