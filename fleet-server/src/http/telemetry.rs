//! Questions about telemetry.

use fleet_core::limits::{TELEMETRY_ROWS_DEFAULT, TELEMETRY_ROWS_MAX};
use fleet_core::metric::MetricName;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::query::Query;
use super::reply::{Failure, Reply, json};
use crate::ops::Ops;
use crate::ops::telemetry::MetricQuery;

const RESOLUTION: HeaderName = HeaderName::from_static("fleetd-resolution");

/// `GET /telemetry/metrics`: points of one metric, newest first.
pub(super) async fn metrics(ops: &Ops, query: &Query) -> Result<Reply, Failure> {
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
    let mut reply = json(StatusCode::OK, &ops.telemetry.query(question).await?);
    reply.headers_mut().insert(RESOLUTION, HeaderValue::from_static("raw"));
    Ok(reply)
}
