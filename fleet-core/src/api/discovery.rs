//! Discovery and provisioning in JSON.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;
use crate::identity::{Fingerprint, ServerIdentity};
use crate::secret::hidden;
use crate::untrusted::Untrusted;

/// How far a device has come, as it announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Waits for a server.
    Unclaimed,
    /// Belongs to a server.
    Claimed,
    /// Unclaimed, but its claim window has passed or its policy forbids claims.
    Closed,
}

impl DeviceState {
    /// The word in TXT records, JSON and on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unclaimed => "unclaimed",
            Self::Claimed => "claimed",
            Self::Closed => "closed",
        }
    }
}

/// What a claimer must prove, as policy on the device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimMode {
    /// Nothing, within the claim window and from the local network.
    Open,
    /// That it knows the device's code.
    Code,
    /// That it knows the key that the device's owner put on it.
    Key,
    /// The port takes no claims.
    Disabled,
}

impl ClaimMode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Code, Self::Key, Self::Disabled];

    /// The word in TXT records, JSON and policy files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Code => "code",
            Self::Key => "key",
            Self::Disabled => "disabled",
        }
    }
}

/// A device as mDNS shows it. Hints from strangers, all of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Discovered {
    /// The full instance name, `fleetd-rpi4-001._fleetd._tcp.local.`.
    pub name: Untrusted,
    /// The host, `raspberrypi.local`.
    pub host: Untrusted,
    /// Its IPv4 addresses, those first that it answered from.
    pub ipv4: Vec<IpAddr>,
    /// Its IPv6 addresses.
    pub ipv6: Vec<IpAddr>,
    /// The port of its agent.
    pub port: u16,
    /// The id it gives, if that is one.
    pub device_id: Option<DeviceId>,
    /// The agent's release.
    pub version: Option<Untrusted>,
    /// How far it has come.
    pub state: Option<DeviceState>,
    /// What a claimer must prove.
    pub claim: Option<ClaimMode>,
    /// Its key.
    pub fingerprint: Option<Fingerprint>,
    /// The server it says it belongs to.
    pub server: Option<ServerIdentity>,
    /// Another device announces the same id with another key: neither is to be trusted.
    pub conflict: bool,
}

/// The body of `POST /discover`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscoverRequest {
    /// A device that `GET /discover` shows.
    pub device_id: String,
    /// The fingerprint of its key, if that is known: a device with another one is not claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Its claim code, if it asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What to tell it.
    #[serde(default)]
    pub config: DiscoverTarget,
}

/// What to tell a device at its claim.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscoverTarget {
    /// Where the device shall find this server; the server's own addresses if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
    /// Accepted for the reference's sake; a device makes its own key and gets no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
}

impl fmt::Debug for DiscoverRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device_id, fingerprint, code, config } = self;
        f.debug_struct("DiscoverRequest")
            .field("device_id", device_id)
            .field("fingerprint", fingerprint)
            .field("code", &hidden(code.as_ref()))
            .field("config", config)
            .finish()
    }
}

impl fmt::Debug for DiscoverTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_url, api_key } = self;
        f.debug_struct("DiscoverTarget")
            .field("server_url", server_url)
            .field("api_key", &hidden(api_key.as_ref()))
            .finish()
    }
}

/// What became of configuring one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscoverOutcome {
    /// It belongs to this server and has connected.
    Configured,
    /// It took the claim and has not connected yet, or waits for approval.
    Pending,
    /// It could not be reached.
    Unreachable,
    /// It, or the server, said no.
    Refused,
}

/// The answer to `POST /discover`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiscoverReply {
    /// The device.
    pub device_id: DeviceId,
    /// What became of it.
    pub status: DiscoverOutcome,
    /// Why.
    pub reason: Option<Untrusted>,
}
