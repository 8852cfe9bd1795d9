//! API keys in JSON.

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;
use crate::secret::KeyKind;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// The body of `POST /keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// What the key is to be.
    pub kind: KeyKind,
    /// What it is for, for people.
    #[serde(default)]
    pub label: String,
    /// How many devices an enrolment key lets in; without end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Seconds until it expires; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_secs: Option<u64>,
    /// The device a device key is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
}

/// The answer to `POST /keys`: the one time that the key's text is shown.
#[derive(Serialize, Deserialize)]
pub struct KeyCreated {
    /// The key's id.
    pub id: String,
    /// The text.
    pub key: String,
}

/// A key in `GET /keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// What it may do.
    pub kind: KeyKind,
    /// What it is for.
    pub label: Untrusted,
    /// The device a device key is for.
    pub device_id: Option<DeviceId>,
    /// Uses left.
    pub uses_left: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used: Option<Timestamp>,
}
