//! What can be done about a device that was seen: one judgement for the command line and the
//! console.
//!
//! It is made from what the device announces, so it decides what is tried and what is told, never
//! what is true: that is for the device's key and the server to say.

use super::browse::Sighting;
use super::claim::secret_hint;
use crate::api::{ClaimMode, DeviceState, DeviceStatus, DiscoverOutcome};
use crate::claim::ClaimSecret;
use crate::id::DeviceId;
use crate::identity::ServerIdentity;

/// Where a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has claimed it, and it can be claimed.
    New,
    /// It says that it belongs to this server, which has to confirm that: see [`unconfirmed`].
    Ours,
    /// It says that it belongs to another server.
    Foreign(ServerIdentity),
    /// It takes no claims.
    Closed(Option<ClaimMode>),
    /// Another device has the same id with another key.
    Conflict,
    /// It announces no id or no key, so that it cannot be met.
    Nameless,
}

/// Why a device is not to be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyNot {
    /// The reason.
    pub reason: String,
    /// What would help, if that is known.
    pub hint: Option<&'static str>,
}

impl Standing {
    /// Judges a device by what it announces; `ours` is the server that asks.
    pub fn of(seen: &Sighting, ours: Option<ServerIdentity>) -> Self {
        let device = &seen.device;
        if device.conflict {
            return Self::Conflict;
        }
        match device.state {
            Some(DeviceState::Claimed) => {
                let foreign = device.server.filter(|server| Some(*server) != ours);
                foreign.map_or(Self::Ours, Self::Foreign)
            }
            Some(DeviceState::Closed) => Self::Closed(device.claim),
            Some(DeviceState::Unclaimed) | None if seen.target.is_some() => Self::New,
            Some(DeviceState::Unclaimed) | None => Self::Nameless,
        }
    }

    /// Why it is not to be configured, if so.
    pub fn why_not(self) -> Option<WhyNot> {
        match self {
            Self::New => None,
            Self::Ours => Some(WhyNot::of("it says that it belongs to this server already")),
            Self::Foreign(server) => Some(WhyNot {
                reason: format!("already managed by {server}"),
                hint: Some("run `sudo fleetd reset` on the device"),
            }),
            Self::Closed(Some(ClaimMode::Disabled)) => {
                Some(WhyNot::of("its policy takes no claims").hint(
                    "edit /etc/fleetd/policy.yaml on the device, or give it its server in \
                     config.yaml",
                ))
            }
            Self::Closed(_) => Some(WhyNot::of("its time to be claimed is over").hint(
                "restart its agent, which begins that time anew, or give it its server in \
                     config.yaml",
            )),
            Self::Conflict => Some(
                WhyNot::of("conflict: another device with another key has the same id")
                    .hint("run `fleetd info` on the device and compare fingerprints"),
            ),
            Self::Nameless => Some(WhyNot::of("it announces no id or no key of its own")),
        }
    }
}

impl WhyNot {
    /// A reason without more to say.
    pub fn of(reason: &str) -> Self {
        Self { reason: reason.to_owned(), hint: None }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

/// What a device asks its claimer to prove that `secret` does not.
pub fn unproven(claim: Option<ClaimMode>, secret: Option<&ClaimSecret>) -> Option<WhyNot> {
    let mode = claim.filter(|mode| secret.is_none_or(|secret| secret.mode() != *mode))?;
    let reason = match mode {
        ClaimMode::Open | ClaimMode::Disabled => return None,
        ClaimMode::Code => "it asks for its claim code",
        ClaimMode::Key => "it asks for the claim key of its owner",
    };
    Some(WhyNot { reason: reason.to_owned(), hint: secret_hint(mode) })
}

/// What still has to be done for a device that says it belongs to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// In one word.
    pub status: DiscoverOutcome,
    /// What is missing.
    pub reason: &'static str,
    /// What would help.
    pub hint: String,
}

/// Compares what a device says of belonging to a server with how that server knows its key;
/// nothing if all is well.
pub fn unconfirmed(known: Option<(&DeviceId, DeviceStatus)>) -> Option<Unconfirmed> {
    let (status, reason, hint) = match known {
        Some((id, DeviceStatus::Pending)) => (
            DiscoverOutcome::Pending,
            "claimed, and waits for approval at the server",
            format!("fleets devices accept {id}"),
        ),
        Some((id, DeviceStatus::Rejected)) => (
            DiscoverOutcome::Refused,
            "the server has rejected it",
            format!("fleets devices accept {id}"),
        ),
        Some((id, DeviceStatus::Revoked)) => (
            DiscoverOutcome::Refused,
            "the server has revoked it",
            format!("`fleets devices delete {id}` forgets it; configure it again then"),
        ),
        // Of what only a later release knows there is nothing to say either.
        Some((
            _,
            DeviceStatus::Online
            | DeviceStatus::Late
            | DeviceStatus::Offline
            | DeviceStatus::Lost
            | DeviceStatus::Later(_),
        )) => return None,
        None => (
            DiscoverOutcome::Pending,
            "says it belongs to this server, which has not heard from it",
            "`fleetd status` on the device says what it waits for".to_owned(),
        ),
    };
    Some(Unconfirmed { status, reason, hint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Discovered;
    use crate::identity::PrivateKey;
    use crate::operator::claim::Target;

    fn identity(seed: u8) -> ServerIdentity {
        PrivateKey::from_seed(&[seed; 32]).public().identity()
    }

    fn seen(state: Option<DeviceState>, server: Option<u8>) -> Sighting {
        let fingerprint = PrivateKey::from_seed(&[7; 32]).public().fingerprint();
        let device_id: DeviceId = "rpi4-001".parse().unwrap();
        let device = Discovered {
            name: "fleetd-rpi4-001".into(),
            host: "rpi4.local".into(),
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            port: 6789,
            device_id: Some(device_id.clone()),
            version: None,
            state,
            claim: Some(ClaimMode::Open),
            fingerprint: Some(fingerprint),
            server: server.map(identity),
            conflict: false,
        };
        Sighting {
            device,
            target: Some(Target { device_id, addresses: Vec::new(), fingerprint, claim: None }),
        }
    }

    #[test]
    fn a_device_is_judged_by_what_it_announces() {
        use DeviceState::{Claimed, Closed, Unclaimed};
        for (state, server, expected) in [
            (Some(Unclaimed), None, Standing::New),
            (None, None, Standing::New),
            (Some(Claimed), Some(1), Standing::Ours),
            (Some(Claimed), None, Standing::Ours),
            (Some(Claimed), Some(2), Standing::Foreign(identity(2))),
            (Some(Closed), None, Standing::Closed(Some(ClaimMode::Open))),
        ] {
            let standing = Standing::of(&seen(state, server), Some(identity(1)));
            assert_eq!(standing, expected, "{state:?} {server:?}");
            assert_eq!(standing.why_not().is_none(), standing == Standing::New);
        }
    }

    #[test]
    fn a_conflict_and_a_device_without_a_key_are_never_new() {
        let mut conflict = seen(Some(DeviceState::Unclaimed), None);
        conflict.device.conflict = true;
        assert_eq!(Standing::of(&conflict, None), Standing::Conflict);
        let mut keyless = seen(Some(DeviceState::Unclaimed), None);
        keyless.target = None;
        assert_eq!(Standing::of(&keyless, None), Standing::Nameless);
    }

    #[test]
    fn a_device_that_is_well_has_nothing_left_to_be_done() {
        let id: DeviceId = "rpi4-001".parse().unwrap();
        for status in [DeviceStatus::Online, DeviceStatus::Late, DeviceStatus::Lost] {
            assert_eq!(unconfirmed(Some((&id, status))), None);
        }
        let revoked = unconfirmed(Some((&id, DeviceStatus::Revoked))).unwrap();
        assert_eq!(revoked.status, DiscoverOutcome::Refused);
        assert_eq!(unconfirmed(None).unwrap().status, DiscoverOutcome::Pending);
    }
}
