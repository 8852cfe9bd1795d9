//! Curves: `GET /api/v1/telemetry/series?device_id&metrics=a,b&from&to&step`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// Some metrics of one device over a time, in equal steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesReply {
    /// The beginning of the first step; a multiple of the step since 1970.
    pub from: Timestamp,
    /// Milliseconds of one step.
    pub step_millis: u64,
    /// How many steps there are.
    pub steps: u32,
    /// The curves, one for each metric and set of labels.
    pub series: Vec<Series>,
    /// How many curves were left out because there are more than
    /// [`SERIES_CURVES_MAX`](crate::limits::SERIES_CURVES_MAX), as far as they were counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The metric.
    pub metric: String,
    /// What tells it from its sisters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Untrusted>,
    /// `[step, mean, min, max]` for each step in which something was measured; the others are gaps.
    pub points: Vec<SeriesPoint>,
}

/// What was measured in one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesPoint(
    /// Which step, from 0.
    pub u32,
    /// The mean.
    pub f64,
    /// The lowest.
    pub f64,
    /// The highest.
    pub f64,
);
