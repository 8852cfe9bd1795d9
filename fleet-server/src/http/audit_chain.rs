//! The chain of audit records over HTTP: a line each, as long as it takes.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::Http;
use super::query::Query;
use super::reply::{Failure, Reply, pieces};
use crate::ops::audit_chain::AuditReading;
use crate::ops::export::Reader;
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;

/// When to come back where there is no room.
const RETRY_SECS: u64 = 10;

/// `GET /audit/chain`.
pub(super) async fn open(
    http: &Arc<Http>,
    query: &Query,
    principal: Option<Principal>,
    session: Option<SessionSecret>,
) -> Result<Reply, Failure> {
    let Some(Principal::Operator { key, .. }) = principal else {
        return Err(Failure::new(StatusCode::FORBIDDEN, "this needs an operator key"));
    };
    let after = query.parsed("after")?.unwrap_or(0);
    let reader = Reader { key, session, patience: http.patience.reply };
    let Some(reading) = AuditReading::begin(http.ops.clone(), reader, after).await? else {
        let detail = "the audit record is being read by others, and there may be no more";
        let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        return Err(failure.retry_after(RETRY_SECS));
    };
    // One piece waits while the one before is being sent.
    let (sender, receiver) = mpsc::channel(1);
    http.tasks.spawn("audit", reading.run(sender, http.tasks.clone()));
    let mut reply = Response::new(pieces(receiver));
    let kind = HeaderValue::from_static("application/x-ndjson");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(reply)
}
