//! `/etc/fleetd/policy.yaml`: what the device's owner lets others do to it. Only who may write
//! this file may change it; no server can.

use std::path::Path;

use serde::Deserialize;

use fleet_core::yaml::{ConfigError, Document};

/// Where the policy is unless a flag says otherwise.
pub const PATH_DEFAULT: &str = "/etc/fleetd/policy.yaml";

/// What others may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Who may make the device part of a fleet.
    pub claim: ClaimPolicy,
}

/// Who may make an unclaimed device part of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimPolicy {
    /// Whoever is on the same link, once, for a time after the start.
    #[default]
    Open,
    /// Nobody over the network.
    Disabled,
}

impl Policy {
    /// Reads a file. One that is `explicit`, named by flag or environment, must exist; a policy
    /// that cannot be read is an error, so that it never falls open.
    pub fn load(path: &Path, explicit: bool) -> Result<Self, ConfigError> {
        Document::read(path, explicit)?.map_or_else(|| Ok(Self::default()), |file| file.parse())
    }
}
