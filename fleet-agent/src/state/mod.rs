//! What the agent keeps on disk, and how the device stands because of it.
//!
//! | file in the data folder | what it is |
//! |---|---|
//! | `device.key`, `device.id` | who the device is ([`crate::identity`]) |
//! | `claim` | whom it belongs to ([`membership`]) |
//! | `applied-config` | what its server configured ([`applied`]) |
//! | `agent.json` | where the running agent listens ([`crate::running`]) |
//! | `lock` | locked while an agent runs ([`folder`]) |

pub mod applied;
pub mod folder;
pub mod membership;

use std::time::{Duration, Instant};

use fleet_core::api::{ClaimMode, DeviceState};

use crate::config::{ClaimPolicy, Policy};
use crate::identity::Identity;
use membership::Membership;

/// Who the device is and how it stands: what the port, the announcement and the link share.
pub struct Device {
    /// Its name and key.
    pub identity: Identity,
    /// Its server.
    pub membership: Membership,
    /// When, and whether, it may be claimed.
    pub window: ClaimWindow,
}

impl Device {
    /// How far the device has come.
    pub fn state(&self) -> DeviceState {
        if self.membership.server().is_some() {
            DeviceState::Claimed
        } else if self.window.is_open() {
            DeviceState::Unclaimed
        } else {
            DeviceState::Closed
        }
    }
}

/// The time in which an unclaimed device can be claimed. A clock that is set does not change it.
#[derive(Clone, Copy, Debug)]
pub struct ClaimWindow {
    policy: ClaimPolicy,
    started: Instant,
    length: Duration,
}

impl ClaimWindow {
    /// Opens now, if the policy lets it.
    pub fn open(policy: Policy, length: Duration) -> Self {
        Self { policy: policy.claim, started: Instant::now(), length }
    }

    /// What a claimer must prove.
    pub fn mode(&self) -> ClaimMode {
        match self.policy {
            ClaimPolicy::Open => ClaimMode::Open,
            ClaimPolicy::Disabled => ClaimMode::Disabled,
        }
    }

    /// How long it stays open.
    pub fn left(&self) -> Duration {
        match self.policy {
            ClaimPolicy::Open => self.length.saturating_sub(self.started.elapsed()),
            ClaimPolicy::Disabled => Duration::ZERO,
        }
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        !self.left().is_zero()
    }
}
