//! Configurations over HTTP: the version is an entity tag, so that nobody overwrites unseen; and
//! what was before.

use std::time::Duration;

use fleet_core::api::ConfigView;
use fleet_core::limits::PAGE_ROWS_MAX;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};

use super::body;
use super::query::Query;
use super::reply::{Failure, Reply, json};
use crate::ops::{Actor, Ops};

/// Versions of a reply unless told otherwise.
const ROWS_DEFAULT: usize = 100;

/// `GET /config`.
pub(super) async fn get(ops: &Ops, query: &Query) -> Result<Reply, Failure> {
    Ok(reply(&ops.configs.get(query.need("device_id")?).await?))
}

/// `POST /config`.
pub(super) async fn post(
    ops: &Ops,
    query: &Query,
    author: &Actor,
    request: Request<Incoming>,
    patience: Duration,
) -> Result<Reply, Failure> {
    let name = query.need("device_id")?;
    let expected = if_match(request.headers())?;
    let update = body::json(request, patience).await?;
    Ok(reply(&ops.configs.update(name, expected, update, author).await?))
}

/// `GET /config/history`: versions, newest first.
pub(super) async fn history(ops: &Ops, query: &Query) -> Result<Reply, Failure> {
    let name = query.need("device_id")?;
    let before = query.parsed("before")?;
    let limit = query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(ROWS_DEFAULT);
    Ok(json(StatusCode::OK, &ops.configs.history(name, before, limit).await?))
}

fn reply(view: &ConfigView) -> Reply {
    let mut reply = json(StatusCode::OK, view);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", view.version)) {
        reply.headers_mut().insert(header::ETAG, tag);
    }
    reply
}

/// The version that the sender has seen: `"3"`, or `3`; any with `*`.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let problem = "must be a configuration's version, such as \"3\"";
    bare.parse().map(Some).map_err(|_| Failure::invalid("If-Match", problem))
}
