//! Questions about what many devices measured.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::filter::{Filter, Words};
use fleet_core::id::DeviceId;
use fleet_core::limits::{PAGE_ROWS_MAX, TELEMETRY_ROWS_DEFAULT, TELEMETRY_ROWS_MAX};
use fleet_core::metric::MetricName;
use fleet_core::time::{Timestamp, parse_duration};
use hyper::StatusCode;

use super::query::Query;
use super::reply::{Failure, Reply, bytes_reply, json, parts_reply};
use super::rows::{self, LatestRows};
use super::telemetry::{metric_names, resolved, wrong_step};
use crate::ops::fleetwide::{Aggregate, StepsAsked, WhoseSteps};
use crate::ops::{Access, Ops};
use crate::store::{NewestValue, Top};

/// The time over which a mean is taken unless told otherwise.
const WINDOW_DEFAULT: Duration = Duration::from_secs(300);
/// Devices of a ranking unless told otherwise.
const TOP_DEFAULT: usize = 10;
/// The shortest step.
const STEP_MIN: Duration = Duration::from_secs(1);

/// `GET /telemetry/latest`: the newest values of some metrics, of all devices.
pub(super) async fn latest(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let metrics = metric_names(query.need("metrics")?)?;
    let metrics: Arc<[String]> = metrics.iter().map(ToString::to_string).collect();
    let store = ops.world.store.clone();
    let begin = |devices| LatestRows::new(&metrics, devices);
    let show = move |rows: &mut LatestRows, device: &DeviceId, values: &[NewestValue]| {
        rows.put(device, values, store.names());
    };
    let parts = ops.telemetry.latest(access, &metrics, begin, show).await?;
    Ok(parts_reply(StatusCode::OK, LatestRows::finish(parts)))
}

/// `GET /telemetry/top`: the devices with the greatest mean of a metric, or the least.
pub(super) async fn top(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let window = query.get("window").map(parse_duration).transpose();
    let window = window.map_err(|error| Failure::invalid("window", &error.to_string()))?;
    let to = query.parsed::<Timestamp>("to")?.unwrap_or_else(|| ops.world.now());
    match query.get("agg") {
        None | Some("avg" | "mean") => {}
        Some(_) => return Err(Failure::invalid("agg", "must be avg")),
    }
    let is_least = match query.get("order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Failure::invalid("order", "must be desc or asc")),
    };
    let top = Top {
        metric: metric(query)?.into(),
        from: to.minus(window.unwrap_or(WINDOW_DEFAULT)),
        to,
        is_least,
        limit: query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(TOP_DEFAULT),
    };
    Ok(json(StatusCode::OK, &ops.telemetry.top(access, top).await?))
}

/// `GET /telemetry/metrics` with a step: values drawn together, of one device or of many.
pub(super) async fn steps(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let step = parse_duration(query.need("step")?).map_err(wrong_step)?;
    if step < STEP_MIN {
        return Err(Failure::invalid("step", "must be at least 1s"));
    }
    let whose = match (query.get("device_id"), query.get("filter")) {
        (Some(device), None) => WhoseSteps::Device(device.to_owned()),
        (None, Some(text)) => {
            let filter = Filter::parse(text, Words::Refused);
            WhoseSteps::Filter(
                filter.map_err(|error| Failure::invalid("filter", &error.caret(text)))?,
            )
        }
        (None, None) if query.get("group_by").is_some() => WhoseSteps::Filter(Filter::default()),
        (None, None) => return Err(Failure::invalid("device_id", "is missing from the query")),
        (Some(_), Some(_)) => {
            return Err(Failure::invalid("filter", "not together with device_id"));
        }
    };
    let asked = StepsAsked {
        whose,
        metric: metric(query)?,
        from: query.parsed("from")?,
        to: query.parsed("to")?,
        step,
        aggregate: query.parsed::<Aggregate>("agg")?.unwrap_or_default(),
        limit: query.count("limit", TELEMETRY_ROWS_MAX)?.unwrap_or(TELEMETRY_ROWS_DEFAULT),
    };
    match query.get("group_by") {
        Some(group_by) => {
            let (points, tier) =
                ops.telemetry.grouped(access, &ops.devices, &asked, group_by).await?;
            Ok(resolved(json(StatusCode::OK, &points), tier))
        }
        None => {
            let (points, tier) = ops.telemetry.steps(access, &ops.devices, &asked).await?;
            Ok(resolved(bytes_reply(StatusCode::OK, rows::steps(&points)), tier))
        }
    }
}

fn metric(query: &Query) -> Result<MetricName, Failure> {
    query.need("metric")?;
    let missing = || Failure::invalid("metric", "is missing from the query");
    query.parsed::<MetricName>("metric")?.ok_or_else(missing)
}
