//! Questions about telemetry.

use fleet_core::limits::{TELEMETRY_ROWS_DEFAULT, TELEMETRY_ROWS_MAX, WATCHED_METRICS_MAX};
use fleet_core::metric::{MetricName, SampleError};
use fleet_core::time::{DurationError, parse_duration};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::fleetwide;
use super::query::Query;
use super::reply::{Failure, Reply, bytes_reply, json};
use super::rows;
use crate::ops::series::SeriesAsked;
use crate::ops::telemetry::MetricQuery;
use crate::ops::{Access, Ops};
use crate::store::Tier;

const RESOLUTION: HeaderName = HeaderName::from_static("fleetd-resolution");

/// `GET /telemetry/metrics`: points of one metric, newest first.
pub(super) async fn metrics(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    if query.get("step").is_some() {
        return fleetwide::steps(ops, access, query).await;
    }
    for name in ["agg", "filter", "group_by"] {
        if query.get(name).is_some() {
            return Err(Failure::invalid(name, "takes a step, such as step=5m"));
        }
    }
    let device = query.need("device_id")?.to_owned();
    query.need("metric")?;
    let Some(metric) = query.parsed::<MetricName>("metric")? else {
        return Err(Failure::invalid("metric", "is missing from the query"));
    };
    let limit = query.count("limit", TELEMETRY_ROWS_MAX)?.unwrap_or(TELEMETRY_ROWS_DEFAULT);
    let question = MetricQuery {
        device,
        metric: metric.into(),
        from: query.parsed("from")?,
        to: query.parsed("to")?,
        limit,
    };
    let points = ops.telemetry.query(access, question).await?;
    Ok(resolved(bytes_reply(StatusCode::OK, rows::points(&points)), Tier::Raw))
}

/// Says of which values a reply was made.
pub(super) fn resolved(mut reply: Reply, tier: Tier) -> Reply {
    reply.headers_mut().insert(RESOLUTION, HeaderValue::from_static(tier.word()));
    reply
}

/// `GET /telemetry/series`: curves of some metrics.
pub(super) async fn series(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let asked = SeriesAsked {
        device: query.need("device_id")?.to_owned(),
        metrics: metric_names(query.need("metrics")?)?,
        from: query.parsed("from")?,
        to: query.parsed("to")?,
        step: query.get("step").map(parse_duration).transpose().map_err(wrong_step)?,
    };
    let (curves, resolution) = ops.telemetry.series(access, asked).await?;
    Ok(resolved(json(StatusCode::OK, &curves), resolution))
}

/// The metrics that a list names, each once.
pub(super) fn metric_names(text: &str) -> Result<Vec<MetricName>, Failure> {
    let mut names = Vec::new();
    for name in text.split(',') {
        let wrong = |error: SampleError| Failure::invalid("metrics", &error.to_string());
        let name: MetricName = name.parse().map_err(wrong)?;
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > WATCHED_METRICS_MAX {
            let problem = format!("names more than {WATCHED_METRICS_MAX} metrics");
            return Err(Failure::invalid("metrics", &problem));
        }
    }
    Ok(names)
}

pub(super) fn wrong_step(error: DurationError) -> Failure {
    Failure::invalid("step", &error.to_string())
}
