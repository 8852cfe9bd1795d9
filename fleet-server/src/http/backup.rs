//! Backups over HTTP: a file in pieces, as long as it takes.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::Http;
use super::audit::{Handover, to_its_end};
use super::reply::{Failure, Reply, pieces};
use super::stream::operator;
use crate::ops::export::Reader;
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;

/// When to come back where there is no room.
const RETRY_SECS: u64 = 10;

/// `GET /backup`.
pub(super) fn open(
    http: &Arc<Http>,
    principal: Option<Principal>,
    session: Option<SessionSecret>,
) -> Result<Reply, Failure> {
    let (key, _) = operator(principal)?;
    let reader = Reader { key, session, patience: http.patience.reply };
    let backup = http.backups.begin(http.ops.clone(), reader).map_err(|full| {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string()).retry_after(RETRY_SECS)
    })?;
    // One piece waits while the one before is being sent.
    let (sender, receiver) = mpsc::channel(1);
    let (handover, begun) = Handover::new();
    let sending = backup.run(sender, http.tasks.clone());
    http.tasks.spawn("backup", to_its_end(sending, begun));
    let mut reply = Response::new(pieces(receiver));
    let kind = HeaderValue::from_static("application/octet-stream");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply.extensions_mut().insert(handover);
    Ok(reply)
}
