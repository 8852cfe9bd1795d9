//! A device's configuration: the document that server and agent both read, and its JSON bodies.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ConfigState, Difference, value_or_text};
use crate::id::DeviceId;
use crate::limits::{REPORT_SAMPLES_MAX, TELEMETRY_INTERVAL_MAX, TELEMETRY_INTERVAL_MIN};
use crate::metric::MetricName;
use crate::secret::hidden;
use crate::time::{Timestamp, parse_duration};
use crate::untrusted::Untrusted;
use crate::url::{ServerUrl, ServerUrlError};

/// The path of the server's place.
pub const SERVER_URL: &str = "server_url";

/// What a server may configure on a device. Absent parts stay as the device's own file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDocument {
    /// Where the device finds its server. What its claim says stays behind it.
    pub server_url: Option<ServerUrl>,
    /// Telemetry.
    pub telemetry: TelemetryConfig,
}

/// What to collect, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Between reports.
    pub interval: Option<Duration>,
    /// The metrics to send; all when absent.
    pub metrics: Option<Vec<MetricName>>,
}

/// What is wrong with a document, and where in it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    /// The place, such as `config.telemetry.interval`.
    pub path: Untrusted,
    /// What is wrong there.
    pub problem: String,
}

fn wrong(path: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError { path: Untrusted::from(path), problem: problem.into() }
}

impl ConfigDocument {
    /// Reads a document. Every key must be known. `telemetry_interval` is the reference's short
    /// form of `telemetry.interval`, in seconds.
    pub fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let mut document = Self::default();
        for (key, value) in object("config", value)? {
            match key.as_str() {
                SERVER_URL => document.server_url = Some(server_url(value)?),
                "telemetry" => document.telemetry.read(value)?,
                "telemetry_interval" => {
                    document.telemetry.interval =
                        Some(interval("config.telemetry_interval", value)?);
                }
                other => {
                    return Err(unknown(&format!("config.{other}"), "server_url, telemetry"));
                }
            }
        }
        Ok(document)
    }

    /// The document as it is stored and sent.
    pub fn to_json(&self) -> Value {
        let mut telemetry = Map::new();
        if let Some(interval) = self.telemetry.interval {
            telemetry.insert("interval".to_owned(), json!(interval.as_secs()));
        }
        if let Some(metrics) = &self.telemetry.metrics {
            telemetry.insert("metrics".to_owned(), json!(metrics));
        }
        let mut document = Map::new();
        if let Some(url) = &self.server_url {
            document.insert(SERVER_URL.to_owned(), json!(url));
        }
        if !telemetry.is_empty() {
            document.insert("telemetry".to_owned(), Value::Object(telemetry));
        }
        Value::Object(document)
    }
}

impl TelemetryConfig {
    fn read(&mut self, value: &Value) -> Result<(), ConfigError> {
        for (key, value) in object("config.telemetry", value)? {
            match key.as_str() {
                "interval" => self.interval = Some(interval("config.telemetry.interval", value)?),
                "metrics" => self.metrics = Some(metrics(value)?),
                other => {
                    let path = format!("config.telemetry.{other}");
                    return Err(unknown(&path, "interval, metrics"));
                }
            }
        }
        Ok(())
    }
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a Map<String, Value>, ConfigError> {
    value.as_object().ok_or_else(|| wrong(path, "must be an object"))
}

fn unknown(path: &str, known: &str) -> ConfigError {
    wrong(path, format!("is not a key that devices know; known here: {known}"))
}

fn server_url(value: &Value) -> Result<ServerUrl, ConfigError> {
    let url = value.as_str().ok_or(ServerUrlError).and_then(str::parse);
    url.map_err(|error| wrong("config.server_url", error.to_string()))
}

/// Seconds as a number, or text such as `30s`.
fn interval(path: &str, value: &Value) -> Result<Duration, ConfigError> {
    let interval = match value {
        Value::Number(number) => number.as_u64().map(Duration::from_secs),
        Value::String(text) => parse_duration(text).ok(),
        _ => None,
    };
    let interval = interval.ok_or_else(|| wrong(path, "must be seconds, or text like \"30s\""))?;
    if (TELEMETRY_INTERVAL_MIN..=TELEMETRY_INTERVAL_MAX).contains(&interval)
        && interval.subsec_nanos() == 0
    {
        Ok(interval)
    } else {
        Err(wrong(path, "must be whole seconds from 1s to 24h"))
    }
}

fn metrics(value: &Value) -> Result<Vec<MetricName>, ConfigError> {
    let path = "config.telemetry.metrics";
    let names = value.as_array().ok_or_else(|| wrong(path, "must be a list of metric names"))?;
    if names.len() > REPORT_SAMPLES_MAX {
        return Err(wrong(path, format!("must not name more than {REPORT_SAMPLES_MAX} metrics")));
    }
    let name = |(position, name): (usize, &Value)| {
        name.as_str()
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| wrong(&format!("{path}[{position}]"), "is not a metric name"))
    };
    names.iter().enumerate().map(name).collect()
}

/// The body of `POST /config?device_id=…`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigUpdate {
    /// Where the device shall find its server: the same as `server_url` in the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
    /// A key for that server. Never stored, not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The document: an object, or a string that holds one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "value_or_text")]
    pub config: Option<Value>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Instead of a document: what this version said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_to: Option<u64>,
    /// Of a layer: only if so many devices get a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<usize>,
}

impl fmt::Debug for ConfigUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_url, api_key, config, comment, rollback_to, expect } = self;
        f.debug_struct("ConfigUpdate")
            .field("server_url", server_url)
            .field("api_key", &hidden(api_key.as_ref()))
            .field("config", config)
            .field("comment", comment)
            .field("rollback_to", rollback_to)
            .field("expect", expect)
            .finish()
    }
}

/// `GET /config?device_id=…`, and the answer to a POST.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigView {
    /// `updated` in the answer to a POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The device.
    pub device_id: DeviceId,
    /// Where the device finds its server.
    pub server_url: Option<Untrusted>,
    /// Never the key.
    pub api_key: String,
    /// The document, as a string that holds it.
    pub config: String,
    /// Its number; 0 before the first.
    pub version: u64,
    /// The first 16 characters of the document's SHA-256.
    pub hash: String,
    /// Who set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Untrusted>,
    /// How far the device is with it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::config_state::said"
    )]
    pub state: Option<ConfigState>,
    /// What the device goes by that is otherwise than it shall be, as far as it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Difference>,
    /// What the device last said about it.
    pub reported: Option<ReportedView>,
    /// The device's own part of the document, as a string that holds it; the rest is its layers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// For each path of the document the layer that it is from: `fleet`, `tag:NAME` or `device`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, String>,
    /// What of the version is kept but not acted on, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_applied: Option<String>,
}

/// A version that a configuration had or has: `GET /config/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigVersionView {
    /// Its number.
    pub version: u64,
    /// The first 16 characters of the document's SHA-256.
    pub hash: String,
    /// The document.
    pub document: Value,
    /// Who set it.
    pub author: Untrusted,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Untrusted>,
}

/// What a device said about a configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportedView {
    /// Which version.
    pub version: u64,
    /// Its hash.
    pub hash: String,
    /// When it was applied, by the server's clock.
    pub applied_at: Timestamp,
    /// Why it was not.
    pub error: Option<Untrusted>,
    /// The version that the device goes by, if that is known; 0 for its own file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<ConfigDocument, String> {
        ConfigDocument::from_json(&value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_references_short_form_and_the_full_form_mean_the_same() {
        let short = read(json!({"telemetry_interval": 30})).unwrap();
        let full = read(json!({"telemetry": {"interval": "30s"}})).unwrap();
        assert_eq!(short, full);
        assert_eq!(short.to_json(), json!({"telemetry": {"interval": 30}}));
        assert_eq!(read(short.to_json()).unwrap(), short);
    }

    #[test]
    fn a_servers_place_is_said_in_one_form() {
        let moved = read(json!({"server_url": "HTTP://Server:8080/"})).unwrap();
        assert_eq!(moved.to_json(), json!({"server_url": "http://server:8080"}));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (value, message) in [
            (json!([]), "config: must be an object"),
            (
                json!({"telemtry": {}}),
                "config.telemtry: is not a key that devices know; known here: server_url, telemetry",
            ),
            (
                json!({"server_url": "gopher://a"}),
                "config.server_url: not a server URL like http://your-server:8080",
            ),
            (
                json!({"telemetry": {"interval": 0}}),
                "config.telemetry.interval: must be whole seconds from 1s to 24h",
            ),
            (
                json!({"telemetry": {"interval": true}}),
                "config.telemetry.interval: must be seconds, or text like \"30s\"",
            ),
            (
                json!({"telemetry": {"metrics": ["cpu_usage", "a b"]}}),
                "config.telemetry.metrics[1]: is not a metric name",
            ),
        ] {
            assert_eq!(read(value), Err(message.to_owned()));
        }
    }
}
