//! `POST /v1/claim`: whether a grant makes the device part of a fleet.
//!
//! The device's own policy speaks first, then where the claimer is, then the grant itself, then what
//! the claimer has to prove. What is refused leaves no trace but a line in the log, and a wrong proof
//! a number on the disk; what is accepted is on the disk before the answer. Its own server has proved
//! with the grant who it is.

use std::net::IpAddr;

use fleet_core::Chain;
use fleet_core::api::{ClaimMode, DeviceState};
use fleet_core::claim::ClaimContext;
use fleet_core::grant::{ClaimAccepted, ClaimRequest, Grant, GrantError};
use fleet_core::identity::{PublicKey, ServerIdentity};
use hyper::StatusCode;

use crate::state::Device;
use crate::state::folder::StateError;
use crate::state::guard::ProofError;
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
    /// What the device asks for was missing or wrong.
    #[error("{0}")]
    Proof(ProofError, ClaimMode),
    /// The device's disk. What exactly is for its log only.
    #[error("this device cannot keep the claim")]
    Disk,
}

impl Refused {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Proof(ProofError::Asleep(_), _) => StatusCode::TOO_MANY_REQUESTS,
            Self::Disabled | Self::Over | Self::Elsewhere | Self::Proof(..) => {
                StatusCode::FORBIDDEN
            }
            Self::Body | Self::Grant(_) | Self::OtherDevice => StatusCode::UNPROCESSABLE_ENTITY,
            Self::OtherServer(_) => StatusCode::CONFLICT,
            Self::Disk => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What was to be proved, if that was missing or wrong.
    pub fn asks_for(&self) -> Option<ClaimMode> {
        match self {
            Self::Proof(ProofError::Missing(_) | ProofError::Wrong { .. }, mode) => Some(*mode),
            _ => None,
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

/// Where a claim comes from.
pub struct Claimer<'a> {
    /// The other end's address.
    pub peer: IpAddr,
    /// The secret of the connection.
    pub exporter: [u8; 32],
    /// Whether no router lies between an address and the device.
    pub is_on_link: &'a dyn Fn(IpAddr) -> bool,
}

/// Takes or refuses a claim, and logs which.
pub fn take(device: &Device, body: &[u8], claimer: &Claimer<'_>) -> Result<ClaimAccepted, Refused> {
    let outcome = decide(device, body, claimer);
    let peer = claimer.peer;
    match &outcome {
        Ok(accepted) => {
            let server = device.membership.server().map(|server| server.to_string());
            tracing::info!(%peer, server, status = ?accepted.status, "claimed");
        }
        Err(reason) => tracing::warn!(%peer, %reason, "refused a claim"),
    }
    outcome
}

fn decide(device: &Device, body: &[u8], claimer: &Claimer<'_>) -> Result<ClaimAccepted, Refused> {
    let mode = device.window.mode();
    if mode == ClaimMode::Disabled {
        return Err(Refused::Disabled);
    }
    // A proof stands for being near.
    if mode == ClaimMode::Open && !(claimer.is_on_link)(claimer.peer) {
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
    let server_pub = grant.server_pub;
    match device.membership.server() {
        Some(own) if own == PublicKey::from_bytes(server_pub).identity() => {}
        Some(other) => return Err(Refused::OtherServer(other)),
        None => {
            let device_pub = grant.device_pub;
            let (exporter, grant) = (claimer.exporter, request.grant.as_str());
            let context = ClaimContext { exporter, device_pub, server_pub, grant };
            let checked = device.guard.check(&context, request.proof.as_deref());
            checked.map_err(|error| match error {
                ProofError::State(error) => not_kept(&error),
                error => Refused::Proof(error, mode),
            })?;
        }
    }
    let status = device.membership.claim(&grant).map_err(|error| match error {
        ClaimError::OtherServer(owner) => Refused::OtherServer(owner),
        ClaimError::Urls => Refused::Grant(GrantError::Urls),
        ClaimError::State(error) => not_kept(&error),
    })?;
    // The device has a server now, so the code is good for nothing, and gone with the next start.
    if let Err(error) = device.guard.spend() {
        tracing::warn!(error = %Chain(&error), "cannot take away the claim code that was used");
    }
    Ok(ClaimAccepted { device_id: device.id().to_string(), status })
}

fn not_kept(error: &StateError) -> Refused {
    tracing::error!(error = %Chain(error), "cannot keep a claim");
    Refused::Disk
}
