//! Exports over HTTP: lines of JSON, as long as it takes.

use std::sync::Arc;

use fleet_core::api::ExportTable;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::Http;
use super::audit::{Handover, to_its_end};
use super::query::Query;
use super::reply::{Failure, Reply, pieces};
use super::stream::operator;
use crate::export::Wish;
use crate::ops::export::Reader;
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;

/// When to come back where there is no room.
const RETRY_SECS: u64 = 10;

/// `GET /export`.
pub(super) fn open(
    http: &Arc<Http>,
    query: &Query,
    principal: Option<Principal>,
    session: Option<SessionSecret>,
) -> Result<Reply, Failure> {
    let (key, access) = operator(principal)?;
    let tables = |text| {
        ExportTable::list(text).map_err(|error| Failure::invalid("tables", &error.to_string()))
    };
    let wish = Wish {
        tables: query.get("tables").map_or(Ok(ExportTable::ALL.to_vec()), tables)?,
        from: query.parsed("from")?,
        to: query.parsed("to")?,
        within: None,
    };
    if !wish.has_time() {
        return Err(Failure::invalid("from", "is after the end"));
    }
    let reader = Reader { key, session, patience: http.patience.reply };
    let export = http.exports.begin(&access, http.ops.clone(), wish, reader).map_err(|full| {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string()).retry_after(RETRY_SECS)
    })?;
    // One piece waits while the one before is being sent.
    let (sender, receiver) = mpsc::channel(1);
    let (handover, begun) = Handover::new();
    let sending = export.run(sender, http.tasks.clone());
    http.tasks.spawn("export", to_its_end(sending, begun));
    let mut reply = Response::new(pieces(receiver));
    let kind = HeaderValue::from_static("application/x-ndjson");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply.extensions_mut().insert(handover);
    Ok(reply)
}
