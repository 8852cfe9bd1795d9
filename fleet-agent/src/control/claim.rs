//! `POST /v1/claim`: whether a grant makes the device part of a fleet.
//!
//! The device's own policy speaks first, then where the claimer is, then the grant itself. What is
//! refused leaves no trace but a line in the log; what is accepted is on the disk before the answer.

use std::net::IpAddr;

use fleet_core::Chain;
use fleet_core::api::{ClaimMode, DeviceState};
use fleet_core::grant::{ClaimAccepted, ClaimRequest, Grant, GrantError};
use fleet_core::identity::{PublicKey, ServerIdentity};
use hyper::StatusCode;

use crate::state::Device;
use crate::state::membership::ClaimError;

/// Why a claim was refused, in words for the claimer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The owner's policy.
    #[error("this device's policy takes no claims over the network")]
    Disabled,
    /// The claim window.
    #[error(
        "this device's time to be claimed is over; restart its agent, or run sudo fleetd reset on it, to begin it anew"
    )]
    Over,
    /// Somewhere else.
    #[error("claims are taken from the device's own network only")]
    Elsewhere,
    /// Not JSON, or not a claim's.
    #[error("the body is not {{\"grant\": \"…\"}}")]
    Body,
    /// The grant's text.
    #[error("the grant cannot be used: {0}")]
    Grant(GrantError),
    /// A grant for a device with another key.
    #[error("the grant is for another device")]
    OtherDevice,
    /// Taken.
    #[error("this device belongs to the server {0}; run sudo fleetd reset on it to free it")]
    OtherServer(ServerIdentity),
    /// The device's disk. What exactly is for its log only.
    #[error("this device cannot keep the claim")]
    Disk,
}

impl Refused {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Disabled | Self::Over | Self::Elsewhere => StatusCode::FORBIDDEN,
            Self::Body | Self::Grant(_) | Self::OtherDevice => StatusCode::UNPROCESSABLE_ENTITY,
            Self::OtherServer(_) => StatusCode::CONFLICT,
            Self::Disk => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// With a conflict, the server that the device belongs to.
    pub fn server(&self) -> Option<ServerIdentity> {
        match self {
            Self::OtherServer(server) => Some(*server),
            _ => None,
        }
    }
}

/// Takes or refuses a claim, and logs which.
pub fn take(
    device: &Device,
    body: &[u8],
    peer: IpAddr,
    is_on_link: impl Fn(IpAddr) -> bool,
) -> Result<ClaimAccepted, Refused> {
    let outcome = decide(device, body, peer, is_on_link);
    match &outcome {
        Ok(accepted) => {
            let server = device.membership.server().map(|server| server.to_string());
            tracing::info!(%peer, server, status = ?accepted.status, "claimed");
        }
        Err(reason) => tracing::warn!(%peer, %reason, "refused a claim"),
    }
    outcome
}

fn decide(
    device: &Device,
    body: &[u8],
    peer: IpAddr,
    is_on_link: impl Fn(IpAddr) -> bool,
) -> Result<ClaimAccepted, Refused> {
    if device.window.mode() == ClaimMode::Disabled {
        return Err(Refused::Disabled);
    }
    if !is_on_link(peer) {
        return Err(Refused::Elsewhere);
    }
    if device.state() == DeviceState::Closed {
        return Err(Refused::Over);
    }
    let request: ClaimRequest = serde_json::from_slice(body).map_err(|_| Refused::Body)?;
    let grant = Grant::open(&request.grant).map_err(Refused::Grant)?;
    if PublicKey::from_bytes(grant.device_pub) != device.identity.key.public() {
        return Err(Refused::OtherDevice);
    }
    let status = device.membership.claim(&grant).map_err(|error| match error {
        ClaimError::OtherServer(owner) => Refused::OtherServer(owner),
        ClaimError::Urls => Refused::Grant(GrantError::Urls),
        ClaimError::State(error) => {
            tracing::error!(error = %Chain(&error), "cannot keep a claim");
            Refused::Disk
        }
    })?;
    Ok(ClaimAccepted { device_id: device.id().to_string(), status })
}
