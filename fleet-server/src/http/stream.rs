//! The live stream over HTTP.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use fleet_core::api::StreamView;
use fleet_core::id::Uid;
use fleet_core::limits::{METRIC_NAME_BYTES_MAX, VIEW_ROWS_MAX, WATCHED_METRICS_MAX};
use fleet_core::untrusted::Untrusted;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::query::Query;
use super::reply::{Failure, Reply, pieces, whole};
use crate::live::{Live, NoView, Wish};
use crate::ops::Access;
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;

/// When to come back where there is no room.
const RETRY_SECS: u64 = 10;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /stream`.
pub(super) fn open(
    live: &Arc<Live>,
    query: &Query,
    headers: &HeaderMap,
    principal: Option<Principal>,
    session: Option<SessionSecret>,
) -> Result<Reply, Failure> {
    let (key, access) = operator(principal)?;
    let header = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let wish = Wish {
        key,
        access,
        session,
        since: header.or(query.get("since")).map(str::to_owned),
        only: query.get("only").map(uids).transpose()?,
        has_all_events: match query.get("events") {
            None => false,
            Some("all") => true,
            Some(other) => {
                let problem = format!("is all or absent, not {}", Untrusted::from(other));
                return Err(Failure::invalid("events", &problem));
            }
        },
    };
    live.open(wish).map(reply).map_err(|full| {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string()).retry_after(RETRY_SECS)
    })
}

/// Server-sent events, as they come.
pub(super) fn reply(events: mpsc::Receiver<Bytes>) -> Reply {
    let mut reply = Response::new(pieces(events));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy in between must not collect what is meant to arrive at once.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    reply
}

/// `PUT /stream/{}/view`.
pub(super) fn look(
    live: &Live,
    stream: Uid,
    principal: Option<Principal>,
    view: StreamView,
) -> Result<Reply, Failure> {
    if view.rows.len() > VIEW_ROWS_MAX {
        return Err(Failure::invalid("rows", &format!("must not be more than {VIEW_ROWS_MAX}")));
    }
    let metrics = view.watch.as_ref().map_or(&[][..], |watch| &watch.metrics);
    // A view is kept for as long as its stream.
    if metrics.iter().any(|metric| metric.len() > METRIC_NAME_BYTES_MAX) {
        let problem = format!("must each not be longer than {METRIC_NAME_BYTES_MAX} bytes");
        return Err(Failure::invalid("watch.metrics", &problem));
    }
    if metrics.len() > WATCHED_METRICS_MAX {
        let problem = format!("must not be more than {WATCHED_METRICS_MAX}");
        return Err(Failure::invalid("watch.metrics", &problem));
    }
    live.look(stream, &operator(principal)?.0, view).map_err(|error| match error {
        NoView::Unknown => {
            let detail = "there is no such stream, or no more: open it again";
            Failure::new(StatusCode::CONFLICT, detail)
        }
        NoView::Foreign => Failure::new(StatusCode::FORBIDDEN, "another key opened this stream"),
    })?;
    let mut reply = Response::new(whole(Bytes::new()));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    Ok(reply)
}

/// The operator's key, and what whoever holds it may see.
pub(super) fn operator(principal: Option<Principal>) -> Result<(String, Access), Failure> {
    match principal {
        Some(Principal::Operator { key, access }) => Ok((key, access)),
        Some(Principal::Enrol { .. } | Principal::Device { .. }) | None => {
            Err(Failure::new(StatusCode::FORBIDDEN, "this needs an operator key"))
        }
    }
}

/// The devices that a stream is about.
fn uids(text: &str) -> Result<HashSet<Uid>, Failure> {
    let read = |word: &str| {
        let shown = || Failure::invalid("only", &format!("{} is no uid", Untrusted::from(word)));
        word.parse().map_err(|_| shown())
    };
    let uids: HashSet<Uid> = text.split(',').map(read).collect::<Result<_, _>>()?;
    if uids.len() > VIEW_ROWS_MAX {
        return Err(Failure::invalid("only", &format!("must not be more than {VIEW_ROWS_MAX}")));
    }
    Ok(uids)
}
