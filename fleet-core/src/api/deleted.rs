//! Deleted devices, for as long as they can be had back.

use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, Uid};
use crate::identity::Fingerprint;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// A deleted device: in `GET /deleted-devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedDevice {
    /// What people called it.
    pub id: DeviceId,
    /// The server's own name for it, which finds it also when others are called so.
    pub uid: Uid,
    /// A longer name; the id unless somebody gave one.
    pub name: Untrusted,
    /// `raspberrypi`, `jetson`, `x86` and so on.
    #[serde(rename = "type")]
    pub device_type: Untrusted,
    /// Its key; absent for a device that only a third party reports.
    pub fingerprint: Option<Fingerprint>,
    /// How it stood: `active`, `pending`, `rejected` or `revoked`. It would stand so again.
    pub was: Untrusted,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// Until when it can be had back, with all that was kept of it.
    pub kept_until: Timestamp,
}

/// The answer to `DELETE /devices/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDeleted {
    /// `deleted`.
    pub status: String,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// Until when it can be had back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
}
