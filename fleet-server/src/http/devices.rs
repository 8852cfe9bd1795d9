//! The list of devices: all or some, whole or by pages.

use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{Filter, Words};
use fleet_core::id::DeviceId;
use fleet_core::limits::PAGE_ROWS_MAX;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::query::{Query, encoded};
use super::reply::{Failure, Reply, json};
use crate::ops::{Access, Ops};

/// The order unless another one is asked for, and the only one that has pages: a device that comes
/// or changes meanwhile moves no other to a page that was read already.
const BY_ID: SortKey = SortKey { field: Field::Device, is_descending: false };

/// `GET /devices`: everything that the filter finds, or with `limit` one page and in `Link` where
/// the next one is.
pub(super) async fn list(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let limit = query.count("limit", PAGE_ROWS_MAX)?;
    let after: Option<DeviceId> = query.parsed("cursor")?;
    let filter = filter(query)?;
    let sort = query.parsed("sort")?.unwrap_or(BY_ID);
    if after.is_some() && sort != BY_ID {
        let problem = "pages follow each other by id only: leave out sort or cursor";
        return Err(Failure::invalid("cursor", problem));
    }
    // One more than the page holds tells whether there is another page.
    let rows = limit.map_or(usize::MAX, |limit| limit + 1);
    let mut devices = if filter.is_empty() && sort == BY_ID {
        ops.devices.list(access, after.as_ref(), rows).await?
    } else {
        let mut found = ops.devices.select(access, &filter, sort).await?;
        found.retain(|device| after.as_ref().is_none_or(|after| device.id > *after));
        found
    };
    let mut next = None;
    if let Some(limit) = limit
        && devices.len() > limit
    {
        devices.truncate(limit);
        let last = devices.last().filter(|_| sort == BY_ID);
        next = last.map(|device| next_page(limit, &device.id, query.get("filter")));
    }
    let mut reply = json(StatusCode::OK, &devices);
    if let Some(link) = next.and_then(|link| HeaderValue::from_str(&link).ok()) {
        reply.headers_mut().insert(header::LINK, link);
    }
    Ok(reply)
}

fn filter(query: &Query) -> Result<Filter, Failure> {
    let text = query.get("filter").unwrap_or_default();
    Filter::parse(text, Words::Refused)
        .map_err(|error| Failure::invalid("filter", &error.caret(text)))
}

fn next_page(limit: usize, last: &DeviceId, filter: Option<&str>) -> String {
    let filter = filter.map(|filter| format!("&filter={}", encoded(filter))).unwrap_or_default();
    format!("</api/v1/devices?limit={limit}&cursor={last}{filter}>; rel=\"next\"")
}
