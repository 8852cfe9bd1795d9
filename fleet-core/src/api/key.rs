//! API keys in JSON.

use std::fmt;
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
/// The label of the key that a server makes for itself, in `admin.key` beside its database; nobody
/// else may give it to a key, and only the server puts another one in its place.
pub const ADMIN_LABEL: &str = "admin.key";
/// How long a key goes on beside its successor unless told otherwise.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(86_400);

/// How long an installing link, and the key that goes with it, lasts unless told otherwise.
pub const INSTALL_LIFE: Duration = Duration::from_secs(86_400);

/// The body of `POST /keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Seconds until it expires. If absent, an operator key expires after [`OPERATOR_LIFE`], one with
    /// a link to install agents by after [`INSTALL_LIFE`], and other keys never.
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
    /// That an enrolment key shall come with a link by which agents are installed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub install_url: bool,
}

impl KeyCreate {
    /// How long the key shall last; without end if nothing is said.
    pub fn life(&self) -> Option<Duration> {
        let usual = match self.kind {
            KeyKind::Operator if !self.never_expires => Some(OPERATOR_LIFE),
            KeyKind::Enrol if self.install_url => Some(INSTALL_LIFE),
            _ => None,
        };
        self.expires_in_secs.map(Duration::from_secs).or(usual)
    }
}

/// The answer to `POST /keys`: the one time that the key's text is shown.
#[derive(Serialize, Deserialize)]
pub struct KeyCreated {
    /// The key's id.
    pub id: String,
    /// The text.
    pub key: String,
    /// When it expires, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// An operator key's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What an operator key may do besides.
    #[serde(default, skip_serializing_if = "Rights::is_empty")]
    pub rights: Rights,
    /// For which devices an operator key is, if not for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Untrusted>,
    /// How agents are installed with it, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<InstallLink>,
}

/// A link to a script that installs an agent on a device and brings it into the fleet. It is as
/// secret as the key, and lasts as long.
#[derive(Serialize, Deserialize)]
pub struct InstallLink {
    /// The link.
    pub url: String,
    /// What to run on a device.
    pub command: String,
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
    /// Who made it, as events name them; absent of keys that are older than this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Untrusted>,
    /// The id of the key that it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeds: Option<String>,
    /// The id of the key that takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_by: Option<String>,
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

/// How it stands with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyState {
    /// It lets its holder in.
    Active,
    /// It does so beside its successor, for a while.
    Rotating,
    /// It has let in as many devices as it was for.
    UsedUp,
    /// Its time is over.
    Expired,
    /// Somebody ended it.
    Revoked,
}

impl KeyState {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::UsedUp => "used up",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Whether the key lets its holder in.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Active | Self::Rotating)
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl KeyView {
    /// How it stands with the key at a time, by the server's clock.
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked_at.is_some() {
            KeyState::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            KeyState::Expired
        } else if self.uses_left == Some(0) {
            KeyState::UsedUp
        } else if self.succeeded_by.is_some() {
            KeyState::Rotating
        } else {
            KeyState::Active
        }
    }
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
