//! What one run of the agent goes by: flags and environment over the file, all of it resolved and
//! checked before anything starts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::beacon::AGENT_PORT;
use fleet_core::claim::ClaimKey;
use fleet_core::id::DeviceId;
use fleet_core::limits::{CLAIM_REST, CLAIM_WINDOW};
use fleet_core::net::authorities::Authorities;
use fleet_core::net::url::{ServerUrl, ServerUrlError};
use fleet_core::secret::{ApiKey, ApiKeyError, KeyKind};

use crate::collect::{Sampler, SelectionError};
use crate::config::{self, ClaimPolicy, Config, ConfigError, Policy};
use crate::log_tail::LogTail;
use crate::paths;
use crate::state::membership::Provisioned;
use crate::sys::SysRoot;

/// What flags and environment say.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data_dir: Option<PathBuf>,
    /// The agent's port.
    pub port: Option<u16>,
    /// The address it listens on.
    pub bind: Option<IpAddr>,
    /// The interfaces to announce on.
    pub interfaces: Vec<String>,
    /// The folder that stands for `/`.
    pub sysroot: Option<PathBuf>,
    /// The device's id.
    pub device_id: Option<DeviceId>,
    /// The file with the authorities that it believes about a proxy's name.
    pub ca_file: Option<PathBuf>,
}

/// What one run of the agent goes by.
#[derive(Debug)]
pub struct Settings {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The folder that stands for `/`.
    pub root: SysRoot,
    /// The agent's port; 0 for any free one.
    pub port: u16,
    /// The one address to listen on; all if there is none.
    pub bind: Option<IpAddr>,
    /// The interfaces to announce on; all if there is none.
    pub interfaces: Vec<String>,
    /// The id that the device's owner chose.
    pub device_id: Option<DeviceId>,
    /// The rest of the file.
    pub config: Config,
    /// The server that the file names.
    pub provisioned: Option<Provisioned>,
    /// What others may do.
    pub policy: Policy,
    /// What claimers must know, if the policy asks for a key.
    pub claim_key: Option<ClaimKey>,
    /// The file with the authorities that it believes about a proxy's name; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// How long the device can be claimed.
    pub claim_window: Duration,
    /// How long it takes no claims after too many that were wrong.
    pub claim_rest: Duration,
    /// What the agent logged.
    pub log: LogTail,
}

/// Why the settings cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The server's URL.
    #[error("api_endpoint in the configuration file is no server")]
    Endpoint(#[source] ServerUrlError),
    /// A metric that nothing measures.
    #[error("telemetry.metrics in the configuration file")]
    Metrics(#[source] SelectionError),
}

/// A policy beside the configuration file that is not the machine's, if there is one.
fn strange_policy(config: &Path, policy: &Path) -> Option<PathBuf> {
    let beside = config.with_file_name(policy.file_name()?);
    let is_it = beside.canonicalize().ok()? == policy.canonicalize().unwrap_or_default();
    (!is_it).then_some(beside)
}

impl Settings {
    /// Reads the files and lays flags and environment over them. Says in the log what is allowed
    /// but unwise.
    pub fn resolve(overrides: Overrides) -> Result<Self, SettingsError> {
        let root = overrides.sysroot.map_or_else(SysRoot::real, SysRoot::at);
        let explicit = overrides.config.is_some();
        let file = overrides.config.unwrap_or_else(|| paths::config_file(&root));
        let loaded = Config::load(&file, explicit)?;
        let policy = Policy::load(&paths::policy_file(&root), false)?;
        let claim_key = match policy.claim {
            ClaimPolicy::Key => Some(config::claim_key::load(&paths::claim_key_file(&root))?),
            ClaimPolicy::Open | ClaimPolicy::Code | ClaimPolicy::Disabled => None,
        };
        loaded.check_metrics(&sampler(&root))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let owners = paths::policy_file(&root);
        if let Some(strange) = strange_policy(&file, &owners) {
            let (strange, owners) = (strange.display(), owners.display());
            tracing::warn!("{strange} is not read: the device's policy is {owners}");
        }
        let config = loaded.config;
        let interfaces = if overrides.interfaces.is_empty() {
            config.interface.iter().cloned().collect()
        } else {
            overrides.interfaces
        };
        let ca_file = overrides.ca_file.or_else(|| config.ca_file.clone());
        // Nobody needs it whose server is no proxy's, so nothing ends by it.
        if let Err(error) = Authorities::of(ca_file.clone()).check() {
            tracing::warn!(error = %Chain(&error), "ca_file is of no use as it is");
        }
        Ok(Self {
            ca_file,
            data_dir: overrides.data_dir.unwrap_or_else(paths::data_dir),
            port: overrides.port.or(config.port).unwrap_or(AGENT_PORT),
            bind: overrides.bind.or(config.bind),
            interfaces,
            device_id: overrides.device_id.or_else(|| chosen_id(&config)),
            provisioned: provisioned(&config)?,
            root,
            config,
            policy,
            claim_key,
            claim_window: CLAIM_WINDOW,
            claim_rest: CLAIM_REST,
            log: LogTail::default(),
        })
    }
}

/// The collectors of an agent, as far as settings can name their metrics.
fn sampler(root: &SysRoot) -> Sampler {
    let mut sampler = Sampler::new(root);
    let own = "the built-in metrics have names of their own";
    sampler.add(Box::new(crate::link::status::Latency::default())).expect(own);
    sampler.add(Box::new(crate::probe::Probes::default())).expect(own);
    sampler
}

fn chosen_id(config: &Config) -> Option<DeviceId> {
    let named = config.device_name.as_deref().and_then(DeviceId::from_name);
    config.device_id.clone().or(named)
}

fn provisioned(config: &Config) -> Result<Option<Provisioned>, SettingsError> {
    let Some(endpoint) = &config.api_endpoint else { return Ok(None) };
    let url: ServerUrl = endpoint.parse().map_err(SettingsError::Endpoint)?;
    let key = config.api_key.as_ref().and_then(|key| usable_key(key.expose().parse()));
    Ok(Some(Provisioned { url, key }))
}

/// A key is of use if it names its server, and sent only if it is made for enrolment.
fn usable_key(key: Result<ApiKey, ApiKeyError>) -> Option<ApiKey> {
    let key = match key {
        Ok(key) => key,
        Err(error) => {
            tracing::warn!(
                %error,
                "api_key is no key; the first server found at api_endpoint is held on to, \
                 and this device waits there for an operator's word"
            );
            return None;
        }
    };
    if key.server().is_none() {
        tracing::warn!("api_key lacks its end, @FD1-…, so it cannot be trusted to a server");
        return None;
    }
    if key.kind() != KeyKind::Enrol {
        tracing::warn!(
            kind = %key.kind(),
            "api_key is no enrolment key (flt_en_…); it is not sent and should not be on a device"
        );
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use fleet_core::identity::PrivateKey;

    use super::*;

    fn resolve(yaml: &str) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, yaml).unwrap();
        let sysroot = Some(folder.path().to_owned());
        Settings::resolve(Overrides { config: Some(file), sysroot, ..Overrides::default() })
    }

    #[test]
    fn a_policy_beside_the_file_is_strange_unless_it_is_the_machines() {
        let folder = tempfile::tempdir().unwrap();
        let (config, owners) =
            (folder.path().join("mine/config.yaml"), folder.path().join("policy.yaml"));
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        assert_eq!(strange_policy(&config, &owners), None);
        let beside = folder.path().join("mine/policy.yaml");
        std::fs::write(&beside, "claim: disabled").unwrap();
        assert_eq!(strange_policy(&config, &owners), Some(beside.clone()));
        assert_eq!(strange_policy(&config, &beside), None);
    }

    #[test]
    fn the_references_file_means_what_it_says() {
        let settings = resolve(
            "device_name: \"rpi4-001\"\napi_endpoint: \"http://fleet-server:8080\"\n\
             api_key: \"auto-generated-key\"\ntelemetry:\n  interval: 60s\n  metrics:\n    \
             - cpu_usage\n    - latency_ms\n",
        )
        .unwrap();
        assert_eq!(settings.device_id.unwrap().as_str(), "rpi4-001");
        let provisioned = settings.provisioned.unwrap();
        assert_eq!(provisioned.url.to_string(), "http://fleet-server:8080");
        assert!(provisioned.key.is_none());
        assert_eq!((settings.port, settings.bind), (AGENT_PORT, None));
    }

    #[test]
    fn a_key_without_its_server_is_not_used() {
        let server = PrivateKey::from_seed(&[7; 32]).public().identity();
        let key = ApiKey::generate(KeyKind::Enrol, server).unwrap().reveal();
        let bare = key.split('@').next().unwrap();
        for (key, used) in [(key.as_str(), true), (bare, false)] {
            let yaml = format!("api_endpoint: http://a:1\napi_key: {key}\n");
            let provisioned = resolve(&yaml).unwrap().provisioned.unwrap();
            assert_eq!(provisioned.key.is_some(), used, "{key}");
        }
    }

    #[test]
    fn an_endpoint_with_a_path_is_no_server() {
        let error = resolve("api_endpoint: http://a:1/path\n").unwrap_err();
        assert!(matches!(error, SettingsError::Endpoint(_)));
        assert!(matches!(resolve("prot: 1\n").unwrap_err(), SettingsError::File(_)));
    }
}
