//! What an agent's own port says, in JSON: `GET /info`, and why a claim was refused.
//!
//! Anybody who reaches the port may read this, so nothing in it is secret; and whoever reads it
//! has a stranger's word, so what could be text of any kind is [`Untrusted`].

use serde::{Deserialize, Serialize};

use super::{ClaimMode, DeviceState, Problem};
use crate::id::DeviceId;
use crate::identity::{Fingerprint, ServerIdentity};
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// `GET /info` on the agent's port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentInfo {
    /// What the device is called.
    pub device_id: DeviceId,
    /// What the device asked to be called, where its server knows it by another id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_id: Option<DeviceId>,
    /// The agent's release.
    pub version: String,
    /// The device's key.
    pub fingerprint: Fingerprint,
    /// How far it has come.
    pub state: DeviceState,
    /// What a claimer must prove.
    pub claim: ClaimMode,
    /// How long it can still be claimed; 0 where no time is set for that.
    pub claim_seconds_left: u64,
    /// In claim mode `code` or `key`, wrong proofs that are left before it takes none for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_tries_left: Option<u8>,
    /// After those, how long it takes no claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_seconds_asleep: Option<u64>,
    /// The server it belongs to.
    pub server: Option<ServerIdentity>,
    /// How it stands with that server.
    pub link: LinkView,
    /// What waits to be sent there.
    pub queue: QueueView,
    /// How often it was made to forget its server since its start. An agent that does not say
    /// cannot be made to while it runs.
    #[serde(default)]
    pub resets: Option<u64>,
}

/// How far the link to the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// There is no server to dial.
    Unclaimed,
    /// There is none yet, or none any more.
    Connecting,
    /// The device belongs to the fleet and is heard.
    Connected,
    /// It is heard, and waits for an operator's word.
    Pending,
    /// An operator said no.
    Rejected,
    /// It belonged to the fleet and does no more.
    Revoked,
}

impl LinkState {
    /// The word in JSON and on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unclaimed => "unclaimed",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
        }
    }
}

/// The link to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// How far it has come.
    pub state: LinkState,
    /// Since when, by the device's clock.
    pub since: Timestamp,
    /// What went wrong last, until the device is connected again.
    pub last_error: Option<Untrusted>,
    /// After a no, when the device asks again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks_again: Option<Timestamp>,
}

/// Reports on their way to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// How many wait.
    pub waiting: u64,
    /// How many were dropped because there was no room.
    pub dropped: u64,
    /// How old the oldest is that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_secs: Option<u64>,
    /// Bytes that they take on the disk.
    #[serde(default)]
    pub bytes: u64,
    /// What was lost, for each reason.
    #[serde(default)]
    pub holes: Holes,
    /// How often the agent ended without saying so, by a power cut or a kill; each time what it
    /// collected in its last seconds may be lost.
    #[serde(default)]
    pub unclean_ends: u64,
    /// Why reports are kept in memory alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_error: Option<Untrusted>,
}

/// Reports that were collected and never reached the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holes {
    /// There was no room for them.
    pub quota: u64,
    /// The disk did not give them back.
    pub damaged: u64,
    /// They were not sure to be on the disk when the power went.
    pub power_cut: u64,
}

/// Why a claim was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimRefusal {
    /// The problem.
    #[serde(flatten)]
    pub problem: Problem,
    /// With a 409, the server that the device belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerIdentity>,
    /// What the device asks its claimer to prove, if that was missing or wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimMode>,
}
