//! Devices that are let in before they have come, in JSON.

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;
use crate::identity::Fingerprint;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// The body of `POST /preauthorized`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreauthCreate {
    /// The devices; all of them are noted, or none.
    pub devices: Vec<PreauthDevice>,
    /// Seconds until that counts no more; 90 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_secs: Option<u64>,
}

/// One device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreauthDevice {
    /// Its key, as `fleetd info` shows it on the device.
    pub fingerprint: Fingerprint,
    /// The id that it is to have; the one that it asks for if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// A longer name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A preauthorised device in `GET /preauthorized`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreauthView {
    /// Its key.
    pub fingerprint: Fingerprint,
    /// The id that it is to have.
    pub device_id: Option<DeviceId>,
    /// A longer name.
    pub name: Option<Untrusted>,
    /// Its tags.
    pub tags: Vec<Untrusted>,
    /// Who vouched for it.
    pub created_by: Untrusted,
    /// When.
    pub created_at: Timestamp,
    /// Until when it counts.
    pub expires_at: Timestamp,
}
