//! Configurations: every version that a device was ever given.

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::StoreError;

/// The devices' configurations. Versions count from 1 without gaps and never change.
#[async_trait]
pub trait ConfigStore: Send + Sync {
    /// A device's latest version.
    async fn config_latest(&self, device: Uid) -> Result<Option<ConfigVersion>, StoreError>;

    /// One version of a device's configuration.
    async fn config_get(
        &self,
        device: Uid,
        version: u64,
    ) -> Result<Option<ConfigVersion>, StoreError>;

    /// The latest versions of many devices, or that there is none. Devices whose latest one is damaged
    /// are left out, and health says so.
    async fn config_latest_of(
        &self,
        devices: Vec<Uid>,
    ) -> Result<Vec<(Uid, Option<ConfigVersion>)>, StoreError>;

    /// Adds the next version, if `expected` is the latest (0 before the first) or not said;
    /// otherwise [`Conflict::Config`](super::Conflict::Config) says which is.
    async fn config_append(
        &self,
        device: Uid,
        expected: Option<u64>,
        config: NewConfig,
    ) -> Result<ConfigVersion, StoreError>;

    /// A device's versions, newest first; only those below `before`, if that is said. Damaged ones
    /// are left out, and health says so.
    async fn config_list(
        &self,
        device: Uid,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConfigVersion>, StoreError>;
}

/// The layers that devices share. Their versions count from 1 without gaps and never change.
#[async_trait]
pub trait LayerStore: Send + Sync {
    /// The latest version of each layer, by the layers' names. A damaged one is an error: without it
    /// nobody knows what devices shall be.
    async fn layer_list(&self) -> Result<Vec<(String, ConfigVersion)>, StoreError>;

    /// Adds a layer's next version, as [`ConfigStore::config_append`] does for a device.
    async fn layer_append(
        &self,
        name: &str,
        expected: Option<u64>,
        config: NewConfig,
    ) -> Result<ConfigVersion, StoreError>;

    /// A layer's versions, as [`ConfigStore::config_list`] has them for a device.
    async fn layer_history(
        &self,
        name: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConfigVersion>, StoreError>;
}

/// A configuration that has no version yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConfig {
    /// The JSON document.
    pub document: String,
    /// What of it is the device's own, if not all of it; the rest is its layers'.
    pub own: Option<String>,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// Why, in the author's words.
    pub comment: Option<String>,
    /// Where it says that the server is.
    pub server_url: Option<String>,
}

/// A configuration as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigVersion {
    /// Its number.
    pub version: u64,
    /// What it says, and who said so.
    pub config: NewConfig,
}
