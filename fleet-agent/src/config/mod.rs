//! What the device's owner wants: `/etc/fleetd/config.yaml`, and in [`policy`] what may be done to
//! the device at all.
//!
//! A file is read once, whole, and checked to the last key: what cannot be obeyed is an error with
//! its place, never a default that happens to apply. The key in it is kept out of every output.

pub mod policy;
mod yaml;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use fleet_core::id::DeviceId;
use fleet_core::limits::{
    TELEMETRY_INTERVAL_DEFAULT, TELEMETRY_INTERVAL_MAX, TELEMETRY_INTERVAL_MIN, URL_BYTES_MAX,
};
use fleet_core::metric::MetricName;
use fleet_core::time::parse_duration;
use fleet_core::untrusted::Untrusted;
use hyper::Uri;
use serde::Deserialize;
use serde_saphyr::Spanned;
use zeroize::Zeroizing;

pub use policy::{ClaimPolicy, Policy};
pub use yaml::ConfigError;
use yaml::{Document, Place};

use crate::collect::Sampler;
use crate::sys::host::DeviceType;

/// Where the agent's configuration is unless a flag says otherwise.
pub const PATH_DEFAULT: &str = "/etc/fleetd/config.yaml";

/// Characters of a device's name.
const NAME_CHARS_MAX: usize = 255;
/// Bytes of an interface's name, as in the kernel.
const INTERFACE_BYTES_MAX: usize = 15;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 1024;
/// Metrics that can be named.
const METRICS_MAX: usize = 256;
/// The mode bit that lets everybody read a file.
const READ_BY_OTHERS: u32 = 0o004;

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
    /// What is measured, and when.
    pub telemetry: Telemetry,
    /// The agent's own port; 0 lets the kernel choose.
    pub port: Option<u16>,
    /// The one interface on which the agent announces itself.
    pub interface: Option<String>,
    /// The address on which the agent's own port listens.
    pub bind: Option<IpAddr>,
    /// How much is logged.
    pub log_level: Option<tracing::Level>,
}

/// What is measured, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Time between reports.
    pub interval: Duration,
    /// The metrics to send; all where nothing is said.
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
            Some(document) => Loaded::from_document(&document),
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

    fn from_document(document: &Document) -> Result<Self, ConfigError> {
        let raw: RawConfig = document.parse()?;
        let mut warnings = Vec::new();
        if raw.api_key.is_some() && document.mode & READ_BY_OTHERS != 0 {
            warnings.push(ConfigWarning::KeyReadableByAll { path: document.path() });
        }
        let telemetry = raw.telemetry.unwrap_or_default();
        let metrics = telemetry.metrics.map(|metrics| check_metric_names(document, metrics));
        let metrics = metrics.transpose()?;
        let check = Check { document };
        let config = Config {
            device_name: check.optional(raw.device_name, device_name)?,
            device_id: check.optional(raw.device_id, parse)?,
            device_type: check.optional(raw.device_type, parse)?,
            api_endpoint: check
                .optional(one_of(document, raw.api_endpoint, raw.server_url)?, endpoint)?,
            api_key: check.optional(raw.api_key, key)?,
            telemetry: Telemetry {
                interval: check
                    .optional(telemetry.interval, interval)?
                    .unwrap_or(TELEMETRY_INTERVAL_DEFAULT),
                metrics: metrics
                    .as_ref()
                    .map(|metrics| metrics.iter().map(|metric| metric.value.clone()).collect()),
            },
            port: raw.port,
            interface: check.optional(raw.interface, interface)?,
            bind: check.optional(raw.bind, |text| {
                text.parse().map_err(|_| "bind is not an IP address like 127.0.0.1 or ::".into())
            })?,
            log_level: check.optional(raw.log_level, log_level)?,
        };
        let metric_places =
            metrics.iter().flatten().map(|metric| document.place(metric.referenced)).collect();
        Ok(Self { config, warnings, metric_places })
    }
}

/// The file as it is written, before anything is checked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    device_name: Option<Spanned<String>>,
    device_id: Option<Spanned<String>>,
    device_type: Option<Spanned<String>>,
    api_endpoint: Option<Spanned<String>>,
    /// Another name for the same, as in the server's interface.
    server_url: Option<Spanned<String>>,
    api_key: Option<Spanned<ApiKey>>,
    telemetry: Option<RawTelemetry>,
    port: Option<u16>,
    interface: Option<Spanned<String>>,
    bind: Option<Spanned<String>>,
    log_level: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTelemetry {
    interval: Option<Spanned<String>>,
    metrics: Option<Vec<Spanned<String>>>,
}

/// Turns a written value into a setting, or says what is wrong and where.
struct Check<'a> {
    document: &'a Document,
}

impl Check<'_> {
    fn optional<W, S>(
        &self,
        written: Option<Spanned<W>>,
        check: impl FnOnce(W) -> Result<S, String>,
    ) -> Result<Option<S>, ConfigError> {
        let Some(written) = written else { return Ok(None) };
        let place = self.document.place(written.referenced);
        check(written.value).map(Some).map_err(|problem| place.error(problem))
    }
}

fn one_of(
    document: &Document,
    api_endpoint: Option<Spanned<String>>,
    server_url: Option<Spanned<String>>,
) -> Result<Option<Spanned<String>>, ConfigError> {
    match (api_endpoint, server_url) {
        (Some(_), Some(again)) => {
            let place = document.place(again.referenced);
            Err(place.error("server_url is another name for api_endpoint, which is set too"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn parse<T>(text: String) -> Result<T, String>
where
    T: std::str::FromStr<Err: fmt::Display>,
{
    text.parse().map_err(|error| format!("{:?} is {error}", Untrusted::new(text)))
}

fn device_name(text: String) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().count() > NAME_CHARS_MAX {
        return Err(format!("device_name must have 1 to {NAME_CHARS_MAX} characters"));
    }
    Ok(text)
}

fn endpoint(text: String) -> Result<String, String> {
    let uri = text.parse::<Uri>().ok().filter(|_| text.len() <= URL_BYTES_MAX);
    let sound = uri.is_some_and(|uri| {
        let host = uri.authority().filter(|host| !host.as_str().contains('@'));
        matches!(uri.scheme_str(), Some("http" | "https")) && host.is_some()
    });
    if sound { Ok(text) } else { Err("api_endpoint is not a URL like https://server:8080".into()) }
}

fn key(key: ApiKey) -> Result<ApiKey, String> {
    let text = key.expose();
    if text.is_empty() || text.len() > KEY_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err("api_key is not a key".into());
    }
    Ok(key)
}

fn interval(text: String) -> Result<Duration, String> {
    let interval = parse_duration(&text);
    let interval =
        interval.map_err(|error| format!("interval {:?} is {error}", Untrusted::new(text)))?;
    if (TELEMETRY_INTERVAL_MIN..=TELEMETRY_INTERVAL_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err("interval must be between 1s and 24h".into())
    }
}

fn interface(text: String) -> Result<String, String> {
    let sound = (1..=INTERFACE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if sound { Ok(text) } else { Err("interface is not an interface's name like eth0".into()) }
}

fn log_level(text: String) -> Result<tracing::Level, String> {
    use tracing::Level;
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(&text))
        .ok_or_else(|| "log_level must be error, warn, info, debug or trace".into())
}

fn check_metric_names(
    document: &Document,
    metrics: Vec<Spanned<String>>,
) -> Result<Vec<Spanned<String>>, ConfigError> {
    if let Some(first_too_many) = metrics.get(METRICS_MAX) {
        let place = document.place(first_too_many.referenced);
        return Err(place.error(format!("more than {METRICS_MAX} metrics")));
    }
    for metric in &metrics {
        if let Err(error) = metric.value.parse::<MetricName>() {
            let shown = Untrusted::from(metric.value.as_str());
            return Err(document.place(metric.referenced).error(format!("{shown:?} is {error}")));
        }
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests;
