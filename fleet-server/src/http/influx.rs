//! What programs that speak to InfluxDB find here: the write interfaces of its versions 1 and 2,
//! and as much of the rest as they need before they write.
//!
//! Errors come in the words of the interface that was called, so that a sender knows whether to try
//! again: 400 with `partial write` or `unable to parse` is about what will never be stored, 403, 429
//! and 503 about what may be later.

use std::time::Duration;

use bytes::Bytes;
use fleet_core::api::Route;
use fleet_core::untrusted::Untrusted;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::json;

use super::body::Payload;
use super::query::Query;
use super::reply::{Failure, Reply, json as json_reply, whole};
use super::{Http, body};
use crate::influx::Precision;
use crate::ops::keys::Principal;
use crate::ops::lines::Written;

/// Parameters that mean something elsewhere: there is one place to write to.
const IGNORED: [&str; 6] = ["db", "rp", "org", "orgID", "bucket", "consistency"];
/// Parameters in which version 1 would carry a user's name and password.
const SECRET: [&str; 2] = ["u", "p"];
const VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const BUILD: HeaderName = HeaderName::from_static("x-influxdb-build");
/// How many fields were left out because they are text.
const SKIPPED: HeaderName = HeaderName::from_static("fleetd-skipped-strings");

/// How a path's errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// As RFC 9457 says.
    Problem,
    /// As InfluxDB 1 does.
    InfluxV1,
    /// As InfluxDB 2 does.
    InfluxV2,
}

impl Dialect {
    /// The dialect of a path, whether or not anything is there.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/write" | "/query" | "/ping" => Self::InfluxV1,
            path if path.starts_with("/api/v2/") => Self::InfluxV2,
            _ => Self::Problem,
        }
    }

    /// Says what went wrong.
    pub(super) fn reply(self, failure: Failure, request_id: &str) -> Reply {
        let (status, detail) = (failure.status(), failure.detail());
        let mut reply = match self {
            Self::Problem => return failure.into_reply(request_id),
            Self::InfluxV1 => json_reply(status, &json!({"error": detail})),
            Self::InfluxV2 => json_reply(status, &json!({"code": code(status), "message": detail})),
        };
        failure.copy_headers(&mut reply);
        reply
    }
}

/// Whether a route is for programs that are not made for this server, and know other ways to send
/// a key than ours.
pub(super) fn is_foreign(route: &Route) -> bool {
    matches!(
        route,
        Route::InfluxWrite
            | Route::InfluxWriteV2
            | Route::InfluxQuery
            | Route::InfluxQueryPost
            | Route::Metrics
    )
}

/// `POST /write` and `POST /api/v2/write`: lines of measurements.
pub(super) async fn write(
    http: &Http,
    poster: Principal,
    request: Request<Payload>,
) -> Result<Reply, Failure> {
    let dialect = Dialect::of(request.uri().path());
    let precision = precision(request.uri().query())?;
    let body = http.intake.receive(request, http.patience.body).await?;
    // What is made of a body is in memory too until it is stored, so the body keeps its turn.
    let written = http.ops.telemetry.write(body.clone(), precision, &poster).await?;
    drop(body);
    Ok(answer(&written, dialect))
}

fn precision(query: Option<&str>) -> Result<Precision, Failure> {
    let known = [&IGNORED[..], &SECRET[..], &["precision"]].concat();
    let query = Query::parse(query, &known)?;
    refuse_secrets(&query)?;
    Ok(query.parsed("precision")?.unwrap_or_default())
}

fn refuse_secrets(query: &Query) -> Result<(), Failure> {
    if SECRET.iter().all(|name| query.get(name).is_none()) {
        return Ok(());
    }
    let detail = "a key is not taken from the URL, which logs and proxies keep: \
                  send it as the password of Authorization: Basic, or with Bearer or Token";
    Err(Failure::new(StatusCode::BAD_REQUEST, detail))
}

/// 204 if all is stored. Else what is wrong first, and what became of the rest.
fn answer(written: &Written, dialect: Dialect) -> Reply {
    let mut reply = match &written.refused.first {
        None => no_content(),
        Some((line, reason)) => {
            let (status, message) = refusal(written, *line, reason);
            let message = Untrusted::new(message);
            match dialect {
                Dialect::InfluxV2 => {
                    let code = code(status);
                    json_reply(status, &json!({"code": code, "message": message, "line": line}))
                }
                Dialect::InfluxV1 | Dialect::Problem => {
                    json_reply(status, &json!({"error": message}))
                }
            }
        }
    };
    if written.strings > 0 {
        reply.headers_mut().insert(SKIPPED, HeaderValue::from(written.strings));
    }
    reply
}

/// The status and the sentence. What nobody could ever store begins with words by which senders
/// know that; what somebody else might be allowed to, or later, does not.
fn refusal(written: &Written, line: usize, reason: &str) -> (StatusCode, String) {
    let (stored, refused) = (written.stored, written.refused.lines);
    let counts = format!("lines stored: {stored}, not stored: {refused}");
    if stored > 0 {
        let message = format!("partial write: line {line}: {reason} ({counts})");
        (StatusCode::BAD_REQUEST, message)
    } else if written.is_forbidden {
        (StatusCode::FORBIDDEN, format!("line {line}: {reason} ({counts})"))
    } else {
        (StatusCode::BAD_REQUEST, format!("unable to parse line {line}: {reason} ({counts})"))
    }
}

/// `GET` and `POST /query`: there is nothing to ask here, but senders of version 1 make sure first
/// that there is a database to write to.
pub(super) async fn query(
    query: Option<&str>,
    request: Request<Payload>,
    patience: Duration,
) -> Result<Reply, Failure> {
    const KNOWN: [&str; 6] = ["q", "epoch", "precision", "chunked", "chunk_size", "pretty"];
    let known = [&IGNORED[..], &SECRET[..], &KNOWN[..]].concat();
    let asked = Query::parse(query, &known)?;
    refuse_secrets(&asked)?;
    let form = match request.headers().get(header::CONTENT_TYPE) {
        Some(_) if asked.get("q").is_none() => {
            body::form(request, patience, &known, body::FORM_BYTES_MAX).await?
        }
        _ => asked,
    };
    refuse_secrets(&form)?;
    let words = form.need("q")?.split_whitespace().take(2).map(str::to_ascii_uppercase);
    if words.eq(["CREATE", "DATABASE"]) {
        return Ok(json_reply(StatusCode::OK, &json!({"results": [{"statement_id": 0}]})));
    }
    let detail = "this server answers no InfluxQL but CREATE DATABASE, which is nothing to it: \
                  ask GET /api/v1/telemetry/metrics";
    Err(Failure::new(StatusCode::BAD_REQUEST, detail))
}

/// `GET` and `HEAD /ping`.
pub(super) fn pong() -> Reply {
    let mut reply = no_content();
    let version = HeaderValue::from_static(concat!("FleetD-", env!("CARGO_PKG_VERSION")));
    reply.headers_mut().insert(VERSION, version);
    reply.headers_mut().insert(BUILD, HeaderValue::from_static("FleetD"));
    reply
}

fn no_content() -> Reply {
    let mut reply = Response::new(whole(Bytes::new()));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// A status in version 2's words.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not found",
        405 => "method not allowed",
        413 => "request too large",
        415 => "unsupported media type",
        422 => "unprocessable entity",
        429 => "too many requests",
        400..=499 => "invalid",
        503 => "unavailable",
        _ => "internal error",
    }
}
