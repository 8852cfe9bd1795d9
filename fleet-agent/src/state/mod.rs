//! What the agent keeps on disk, and how the device stands because of it.
//!
//! | file in the data folder | what it is |
//! |---|---|
//! | `device.key`, `device.id` | who the device is ([`crate::identity`]) |
//! | `new-key` | a key that is to take the place of that one ([`crate::new_key`]) |
//! | `claim` | whom it belongs to ([`membership`]) |
//! | `claim-code`, `claim-tries` | what its claimer must know, and how often that was wrong ([`guard`]) |
//! | `given-id` | what its server calls it ([`membership`]) |
//! | `configuration/` | what its server configured ([`crate::probation`]) |
//! | `agent.json` | where the running agent listens ([`crate::running`]) |
//! | `journal/` | what the device was told to do ([`crate::journal`]) |
//! | `spool/` | what waits for the server ([`crate::spool`]) |
//! | `lock` | locked while an agent runs ([`folder`]) |

pub mod folder;
pub mod guard;
pub mod membership;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::api::{ClaimMode, DeviceState};
use fleet_core::id::DeviceId;

use crate::config::ClaimPolicy;
use crate::identity::Identity;
use guard::ClaimGuard;
use membership::Membership;

/// Who the device is and how it stands: what the port, the announcement and the link share.
pub struct Device {
    /// Its name and key.
    pub identity: Identity,
    /// Its server.
    pub membership: Membership,
    /// When, and whether, it may be claimed.
    pub window: ClaimWindow,
    /// What its claimer must prove.
    pub guard: ClaimGuard,
    /// The file with the authorities that it believes about a proxy's name; the system's if absent.
    pub ca_file: Option<PathBuf>,
}

impl Device {
    /// What the device goes by: the id that its server gave, before it has one its own.
    pub fn id(&self) -> DeviceId {
        self.membership.device_id().unwrap_or_else(|| self.identity.id.clone())
    }

    /// What it asked to be called, if its server knows it by another id.
    pub fn asked_id(&self) -> Option<DeviceId> {
        let given = self.membership.device_id()?;
        (given != self.identity.id).then(|| self.identity.id.clone())
    }

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

/// The time in which an unclaimed device can be claimed; without end where its claimer has to prove
/// something. A clock that is set does not change it.
#[derive(Debug)]
pub struct ClaimWindow {
    policy: ClaimPolicy,
    started: Mutex<Instant>,
    length: Duration,
}

impl ClaimWindow {
    /// Opens now, if the policy lets it.
    pub fn open(policy: ClaimPolicy, length: Duration) -> Self {
        Self { policy, started: Mutex::new(Instant::now()), length }
    }

    /// Begins anew, as at the agent's start.
    pub fn reopen(&self) {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// What a claimer must prove.
    pub fn mode(&self) -> ClaimMode {
        self.policy.mode()
    }

    /// How long it stays open; nothing if it has no end.
    pub fn left(&self) -> Option<Duration> {
        match self.policy {
            ClaimPolicy::Open => {
                let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
                Some(self.length.saturating_sub(started.elapsed()))
            }
            ClaimPolicy::Code | ClaimPolicy::Key => None,
            ClaimPolicy::Disabled => Some(Duration::ZERO),
        }
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.left() != Some(Duration::ZERO)
    }
}
