//! API keys in JSON.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::role::{Rights, Role};
use crate::id::DeviceId;
use crate::secret::KeyKind;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// How long an operator key lasts unless told otherwise.
pub const OPERATOR_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// How long a key goes on beside its successor unless told otherwise.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(86_400);

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
    /// Seconds until it expires. If absent, an operator key expires after
    /// [`OPERATOR_LIFE`], and other keys never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_secs: Option<u64>,
    /// That an operator key never expires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_expires: bool,
    /// What an operator key may do; what the role operator may, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What it may do besides.
    #[serde(default, skip_serializing_if = "Rights::is_empty")]
    pub rights: Rights,
    /// The devices that it is for, as a filter; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
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
    /// When it was last used, as far as that was noted.
    pub last_used: Option<Timestamp>,
    /// From where that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_from: Option<IpAddr>,
    /// An operator key's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The rights that it has.
    #[serde(default, skip_serializing_if = "Rights::is_empty")]
    pub rights: Rights,
    /// The devices that it is for, as a filter; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Untrusted>,
}

/// The body of `POST /keys/{id}/rotate`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotate {
    /// Seconds that the old key goes on; [`OVERLAP_DEFAULT`] if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_secs: Option<u64>,
}

/// `GET /me`: who asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Me {
    /// The key's id.
    pub id: String,
    /// What kind of key it is.
    pub kind: KeyKind,
    /// What it is for.
    pub label: Untrusted,
    /// An operator key's role.
    #[serde(default)]
    pub role: Option<Role>,
    /// The rights that it has.
    #[serde(default)]
    pub rights: Rights,
    /// The devices that it is for, as a filter; all if absent.
    #[serde(default)]
    pub scope: Option<Untrusted>,
    /// The device that a device key is for.
    #[serde(default)]
    pub device_id: Option<DeviceId>,
    /// When it expires.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}
