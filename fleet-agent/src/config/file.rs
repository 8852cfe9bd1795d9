//! `config.yaml` as it is written, and the checks that turn it into a [`Config`].

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use fleet_core::limits::{
    TELEMETRY_INTERVAL_DEFAULT, TELEMETRY_INTERVAL_MAX, TELEMETRY_INTERVAL_MIN, URL_BYTES_MAX,
};
use fleet_core::metric::MetricName;
use fleet_core::time::parse_duration;
use fleet_core::untrusted::Untrusted;
use hyper::Uri;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::probes::{self, RawProbe};
use super::{ApiKey, Config, ConfigError, ConfigWarning, Loaded, Telemetry};
use crate::spool::SpoolSettings;
use fleet_core::yaml::{Document, Place};

/// Characters of a device's name.
const NAME_CHARS_MAX: usize = 255;
/// Bytes of an interface's name, as in the kernel.
const INTERFACE_BYTES_MAX: usize = 15;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 1024;
/// Mebibytes of a spool.
const SPOOL_MEBIBYTES_MAX: u64 = 64 * 1024;
/// Metrics that can be named.
const METRICS_MAX: usize = 256;
/// The mode bit that lets everybody read a file.
const READ_BY_OTHERS: u32 = 0o004;

/// The file as it is written, before anything is checked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    device_name: Option<Spanned<String>>,
    device_id: Option<Spanned<String>>,
    device_type: Option<Spanned<String>>,
    api_endpoint: Option<Spanned<String>>,
    /// Another name for the same, as in the server's interface.
    server_url: Option<Spanned<String>>,
    api_key: Option<Spanned<ApiKey>>,
    ca_file: Option<Spanned<String>>,
    telemetry: Option<RawTelemetry>,
    spool: Option<RawSpool>,
    port: Option<Spanned<String>>,
    interface: Option<Spanned<String>>,
    bind: Option<Spanned<String>>,
    probes: Option<Vec<Spanned<RawProbe>>>,
    log_level: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTelemetry {
    interval: Option<Spanned<String>>,
    metrics: Option<Vec<Spanned<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSpool {
    mebibytes: Option<Spanned<String>>,
    durable: Option<Spanned<String>>,
}

impl RawConfig {
    /// Every value checked, or the first that cannot be obeyed.
    pub(super) fn check(self, document: &Document) -> Result<Loaded, ConfigError> {
        let mut warnings = Vec::new();
        if self.api_key.is_some() && document.mode & READ_BY_OTHERS != 0 {
            warnings.push(ConfigWarning::KeyReadableByAll { path: document.path() });
        }
        let api_endpoint = one_of(document, self.api_endpoint, self.server_url)?;
        let (telemetry, metric_places) = self.telemetry.unwrap_or_default().check(document)?;
        let config = Config {
            device_name: document.check(self.device_name, device_name)?,
            device_id: document.check(self.device_id, parse)?,
            device_type: document.check(self.device_type, parse)?,
            api_endpoint: document.check(api_endpoint, endpoint)?,
            api_key: document.check(self.api_key, key)?,
            ca_file: document.check(self.ca_file, ca_file)?,
            telemetry,
            spool: self.spool.unwrap_or_default().check(document)?,
            port: document.check(self.port, port)?,
            interface: document.check(self.interface, interface)?,
            bind: document.check(self.bind, bind)?,
            probes: probes::check(self.probes.unwrap_or_default(), document)?,
            log_level: document.check(self.log_level, log_level)?,
        };
        Ok(Loaded { config, warnings, metric_places })
    }
}

impl RawTelemetry {
    /// The settings, and where each of the metrics stands.
    fn check(self, document: &Document) -> Result<(Telemetry, Vec<Place>), ConfigError> {
        let interval = document.check(self.interval, interval)?;
        let interval = interval.unwrap_or(TELEMETRY_INTERVAL_DEFAULT);
        let Some(written) = self.metrics else {
            return Ok((Telemetry { interval, metrics: None }, Vec::new()));
        };
        if let Some(first_too_many) = written.get(METRICS_MAX) {
            let place = document.place(first_too_many.referenced);
            return Err(place.error(format!("more than {METRICS_MAX} metrics")));
        }
        let places = written.iter().map(|metric| document.place(metric.referenced)).collect();
        let checked = written.into_iter().map(|metric| document.check_one(metric, metric_name));
        let metrics = Some(checked.collect::<Result<_, _>>()?);
        Ok((Telemetry { interval, metrics }, places))
    }
}

impl RawSpool {
    fn check(self, document: &Document) -> Result<SpoolSettings, ConfigError> {
        let default = SpoolSettings::default();
        let bytes_max = document.check(self.mebibytes, mebibytes)?.unwrap_or(default.bytes_max);
        let strict = document.check(self.durable, durable)?.unwrap_or(default.strict);
        Ok(SpoolSettings { bytes_max, strict })
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
    T: FromStr<Err: fmt::Display>,
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

/// A device's folder is not where its file is, so the path must be whole.
fn ca_file(text: String) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("ca_file is not a path like /etc/ca.pem".into()) }
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

fn mebibytes(text: String) -> Result<u64, String> {
    let sound = text.parse().ok().filter(|count| (1..=SPOOL_MEBIBYTES_MAX).contains(count));
    let count: u64 = sound
        .ok_or_else(|| format!("mebibytes must be a number from 1 to {SPOOL_MEBIBYTES_MAX}"))?;
    Ok(count * 1024 * 1024)
}

/// Whether each report is synced at once.
fn durable(text: String) -> Result<bool, String> {
    match text.as_str() {
        "strict" => Ok(true),
        "relaxed" => Ok(false),
        _ => Err("durable must be strict or relaxed".into()),
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

fn metric_name(text: String) -> Result<String, String> {
    parse::<MetricName>(text).map(String::from)
}

fn port(text: String) -> Result<u16, String> {
    text.parse().map_err(|_| "port is not a number from 0 to 65535".into())
}

fn bind(text: String) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "bind is not an IP address like 127.0.0.1 or ::".into())
}
