//! Grants in JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, Uid};
use crate::identity::PublicKey;
use crate::time::Timestamp;

/// The body of `POST /grants`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The id under which the device was seen.
    pub device_id: DeviceId,
    /// The key that its TLS certificate showed.
    pub device_key: PublicKey,
    /// The URL by which the asking program reached the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
    /// The device's address, so that a device on this host is told a loopback URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_address: Option<IpAddr>,
}

/// The answer to `POST /grants`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantCreated {
    /// The grant's number.
    pub uid: Uid,
    /// The text to carry to the device.
    pub grant: String,
    /// When it stops letting the device in.
    pub expires_at: Timestamp,
    /// The URLs in it.
    pub urls: Vec<String>,
}

/// How far a grant has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// The device has not connected.
    Waiting,
    /// It has, and belongs to the fleet.
    Active,
    /// It has, and waits: its id is taken.
    Pending,
    /// Too late.
    Expired,
}

/// `GET /grants/{uid}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantView {
    /// The grant's number.
    pub uid: Uid,
    /// How far it has come.
    pub state: GrantState,
    /// The device, once it has connected.
    pub device_id: Option<DeviceId>,
}
