//! Configurations over HTTP: the version is an entity tag, so that nobody overwrites unseen; and
//! what was before.

use std::time::Duration;

use fleet_core::api::{ConfigLayer, LayerError};
use fleet_core::limits::PAGE_ROWS_MAX;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Serialize;

use super::body;
use super::body::Payload;
use super::query::Query;
use super::reply::{Failure, Reply, json};
use crate::ops::{Access, Actor, Ops};

/// Versions of a reply unless told otherwise.
const ROWS_DEFAULT: usize = 100;

/// Whose configuration a request is about.
enum Whose<'a> {
    Device(&'a str),
    Layer(ConfigLayer),
}

/// `GET /config`.
pub(super) async fn get(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    match whose(query)? {
        Whose::Device(name) => {
            let view = ops.configs.get(access, name).await?;
            Ok(reply(view.version, &view))
        }
        Whose::Layer(layer) => {
            let view = ops.configs.layer_get(access, &layer).await?;
            Ok(reply(view.version, &view))
        }
    }
}

/// `POST /config`.
pub(super) async fn post(
    ops: &Ops,
    access: &Access,
    query: &Query,
    author: &Actor,
    request: Request<Payload>,
    patience: Duration,
) -> Result<Reply, Failure> {
    let whose = whose(query)?;
    let expected = if_match(request.headers())?;
    let update = body::json(request, patience).await?;
    match whose {
        Whose::Device(name) => {
            let view = ops.configs.update(access, name, expected, update, author).await?;
            Ok(reply(view.version, &view))
        }
        Whose::Layer(layer) => {
            let view = ops.configs.layer_update(access, &layer, expected, update, author).await?;
            Ok(reply(view.version, &view))
        }
    }
}

/// `GET /config/history`: versions, newest first.
pub(super) async fn history(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let before = query.parsed("before")?;
    let limit = query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(ROWS_DEFAULT);
    let versions = match whose(query)? {
        Whose::Device(name) => ops.configs.history(access, name, before, limit).await?,
        Whose::Layer(layer) => ops.configs.layer_history(access, &layer, before, limit).await?,
    };
    Ok(json(StatusCode::OK, &versions))
}

/// `POST /config/preview`: what a change of a layer would be.
pub(super) async fn preview(
    ops: &Ops,
    access: &Access,
    query: &Query,
    author: &Actor,
    request: Request<Payload>,
    patience: Duration,
) -> Result<Reply, Failure> {
    let layer = layer(query.need("layer")?)?;
    let update = body::json(request, patience).await?;
    Ok(json(StatusCode::OK, &ops.configs.layer_preview(access, &layer, update, author).await?))
}

fn whose(query: &Query) -> Result<Whose<'_>, Failure> {
    match query.get("layer") {
        Some(_) if query.get("device_id").is_some() => {
            Err(Failure::invalid("layer", "goes without device_id"))
        }
        Some(text) => Ok(Whose::Layer(layer(text)?)),
        None => Ok(Whose::Device(query.need("device_id")?)),
    }
}

fn layer(text: &str) -> Result<ConfigLayer, Failure> {
    text.parse().map_err(|error: LayerError| Failure::invalid("layer", &error.to_string()))
}

fn reply(version: u64, view: &impl Serialize) -> Reply {
    let mut reply = json(StatusCode::OK, view);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
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
