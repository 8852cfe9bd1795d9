//! Telemetry in JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::value_or_text;
use crate::id::DeviceId;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// One sample in `POST /telemetry`: an object, an array of them, or one a line (NDJSON).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryPost {
    /// The device, by id or uid.
    pub device_id: String,
    /// When; the time of arrival if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The metric.
    pub metric_name: String,
    /// The value.
    pub value: f64,
    /// Labels: an object, or a string that holds one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "value_or_text")]
    pub metadata: Option<Value>,
}

/// One point of `GET /telemetry/metrics`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MetricPoint {
    /// The device's id.
    pub device_id: String,
    /// When.
    pub timestamp: Timestamp,
    /// The metric.
    pub metric_name: String,
    /// The value.
    pub value: f64,
    /// The labels: a string that holds an object, as in the POST.
    pub metadata: Untrusted,
}

/// One step of `GET /telemetry/metrics?step=…`: what a device measured in that time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepPoint {
    /// The device's id.
    pub device_id: DeviceId,
    /// When the step begins.
    pub timestamp: Timestamp,
    /// The metric.
    pub metric_name: String,
    /// What was asked for with `agg`.
    pub value: f64,
    /// The labels: a string that holds an object.
    pub metadata: Untrusted,
    /// The least value.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// How many there were.
    pub count: f64,
}

/// One step of `GET /telemetry/metrics?step=…&group_by=…`: what devices with something in common
/// measured in that time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupPoint {
    /// What they have in common.
    pub group: Untrusted,
    /// When the step begins.
    pub timestamp: Timestamp,
    /// The metric.
    pub metric_name: String,
    /// What was asked for with `agg`.
    pub value: f64,
    /// The least value.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// How many there were.
    pub count: f64,
}

/// One line of `GET /telemetry/top`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopDevice {
    /// The device's id.
    pub device_id: DeviceId,
    /// Its mean.
    pub value: f64,
}
