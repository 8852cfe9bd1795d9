//! Devices that seem to be there twice, with one key.

use std::net::IpAddr;

use async_trait::async_trait;
use fleet_core::api::DoubleSign;
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;

use super::StoreError;

/// Which devices' keys seem to be in two places.
#[async_trait]
pub trait DoubleStore: Send + Sync {
    /// Notes it of a device, in the place of what was noted before. It goes with the device.
    async fn double_put(&self, device: Uid, double: DoubleRecord) -> Result<(), StoreError>;

    /// All of them.
    async fn double_list(&self) -> Result<Vec<(Uid, DoubleRecord)>, StoreError>;
}

/// What speaks for two devices with one key. It says nothing of another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubleRecord {
    /// The key that both have.
    pub key: PublicKey,
    /// When it was first seen.
    pub since: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// Where they came from last.
    pub addresses: [IpAddr; 2],
    /// What was seen.
    pub sign: DoubleSign,
}
