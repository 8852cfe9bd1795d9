//! The list of devices, whole or by pages.

use fleet_core::id::DeviceId;
use fleet_core::limits::PAGE_ROWS_MAX;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::query::Query;
use super::reply::{Failure, Reply, json};
use crate::ops::Ops;

/// `GET /devices`: everything, or with `limit` one page and in `Link` where the next one is.
pub(super) async fn list(ops: &Ops, query: &Query) -> Result<Reply, Failure> {
    let limit = query.count("limit", PAGE_ROWS_MAX)?;
    let after: Option<DeviceId> = query.parsed("cursor")?;
    // One more than the page holds tells whether there is another page.
    let rows = limit.map_or(usize::MAX, |limit| limit + 1);
    let mut devices = ops.devices.list(after.as_ref(), rows).await?;
    let mut next = None;
    if let Some(limit) = limit
        && devices.len() > limit
    {
        devices.truncate(limit);
        next = devices.last().map(|device| {
            format!("</api/v1/devices?limit={limit}&cursor={}>; rel=\"next\"", device.id)
        });
    }
    let mut reply = json(StatusCode::OK, &devices);
    if let Some(link) = next.and_then(|link| HeaderValue::from_str(&link).ok()) {
        reply.headers_mut().insert(header::LINK, link);
    }
    Ok(reply)
}
