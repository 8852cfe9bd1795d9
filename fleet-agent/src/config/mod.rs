//! What the device's owner wants: `/etc/fleetd/config.yaml`, and in [`policy`] what may be done to
//! the device at all.
//!
//! A file is read once, whole, and checked to the last key: what cannot be obeyed is an error with
//! its place, never a default that happens to apply. The key in it is kept out of every output.

pub mod claim_key;
mod file;
pub mod policy;
mod probes;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::id::DeviceId;
use fleet_core::limits::TELEMETRY_INTERVAL_DEFAULT;
use fleet_core::untrusted::Untrusted;
use fleet_core::yaml::{self, Document, Place};
use serde::Deserialize;
use zeroize::Zeroizing;

use self::file::RawConfig;
use crate::collect::Sampler;
use crate::probe::Probe;
use crate::spool::SpoolSettings;
use crate::sys::host::DeviceType;

pub use self::policy::{ClaimPolicy, CommandPolicy, Policy};
pub use fleet_core::yaml::ConfigError;

/// Where the agent's configuration is unless a flag says otherwise.
pub const PATH_DEFAULT: &str = "/etc/fleetd/config.yaml";

/// The settings in the file. What it does not mention is left to flags, environment and defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What people call the device.
    pub device_name: Option<String>,
    /// Its id, where it shall not follow from the name.
    pub device_id: Option<DeviceId>,
    /// Its family, where detection is wrong.
    pub device_type: Option<DeviceType>,
    /// The server's URL, with `http` or `https`.
    pub api_endpoint: Option<String>,
    /// The key to enrol with.
    pub api_key: Option<ApiKey>,
    /// The authorities that are believed about a proxy in front of the server, where those of the
    /// system are not.
    pub ca_file: Option<PathBuf>,
    /// What is measured, and when.
    pub telemetry: Telemetry,
    /// What waits for the server, on the disk.
    pub spool: SpoolSettings,
    /// The agent's own port; 0 lets the kernel choose.
    pub port: Option<u16>,
    /// The one interface on which the agent announces itself.
    pub interface: Option<String>,
    /// The address on which the agent's own port listens.
    pub bind: Option<IpAddr>,
    /// Whom the device asks how well it reaches them.
    pub probes: Vec<Probe>,
    /// How much is logged.
    pub log_level: Option<tracing::Level>,
}

/// What is measured, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Time between reports.
    pub interval: Duration,
    /// The metrics to send: all where nothing is said, none where the list is empty.
    pub metrics: Option<Vec<String>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { interval: TELEMETRY_INTERVAL_DEFAULT, metrics: None }
    }
}

/// A secret: printed as dots, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// The key itself: to be sent, never to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for ApiKey {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A configuration, and what its owner should hear about it.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is allowed but unwise.
    pub warnings: Vec<ConfigWarning>,
    /// Where each of `telemetry.metrics` stands.
    metric_places: Vec<Place>,
}

/// Something that is allowed but unwise.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigWarning {
    /// The file has a secret in it and everybody can read it.
    #[error("{path} holds an api_key and every user can read it; run: chmod o-r {path}")]
    KeyReadableByAll { path: Untrusted },
}

impl Config {
    /// Reads a file. One that is `explicit`, named by flag or environment, must exist.
    pub fn load(path: &Path, explicit: bool) -> Result<Loaded, ConfigError> {
        match Document::read(path, explicit)? {
            Some(document) => document.parse::<RawConfig>()?.check(&document),
            None => Ok(Loaded {
                config: Self::default(),
                warnings: Vec::new(),
                metric_places: Vec::new(),
            }),
        }
    }
}

impl Loaded {
    /// Checks `telemetry.metrics` against the collectors there are, so that a name that selects
    /// nothing is an error with its line.
    pub fn check_metrics(&self, sampler: &Sampler) -> Result<(), ConfigError> {
        let chosen = self.config.telemetry.metrics.as_deref().unwrap_or_default();
        sampler.select(chosen).map(drop).map_err(|error| {
            let place = self.metric_places.get(error.index).cloned().unwrap_or_default();
            let hint = yaml::suggestion(error.name.raw(), error.known.iter().copied());
            place.error(format!("{error}{hint}"))
        })
    }
}

#[cfg(test)]
mod tests;
