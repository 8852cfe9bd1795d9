//! Replies: JSON that went well, and problems (RFC 9457) that did not.
//!
//! A [`Failure`] has two audiences. Its detail goes to the caller; what only an operator may know
//! goes to the log, with the request's number to bring the two together.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::Problem;
use fleet_core::untrusted::Untrusted;
use http_body_util::Either;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::ops::OpsError;
use crate::store::StoreError;

/// A reply.
pub(crate) type Reply = Response<Content>;

/// A reply's body: whole, or in pieces that come with time.
pub(crate) type Content = Either<Whole, Pieces>;

/// A body that is there at once, in one piece or in some.
pub(crate) struct Whole(VecDeque<Bytes>);

impl Whole {
    /// Its first piece, which is all of it where it was not made in several.
    pub(crate) fn first(&self) -> Option<&Bytes> {
        self.0.front()
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// Pieces, until their sender has no more.
pub(crate) struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A body that is there at once.
pub(crate) fn whole(bytes: Bytes) -> Content {
    Either::Left(Whole((!bytes.is_empty()).then_some(bytes).into_iter().collect()))
}

/// A body that comes in pieces.
pub(crate) fn pieces(receiver: mpsc::Receiver<Bytes>) -> Content {
    Either::Right(Pieces(receiver))
}

/// Why a request is not answered as its sender hoped.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    detail: String,
    current_version: Option<u64>,
    expected_version: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let (current_version, expected_version) = (None, None);
        let (detail, headers) = (detail.into(), Vec::new());
        Self { status, detail, current_version, expected_version, headers }
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub(crate) fn retry_after(self, secs: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(secs))
    }

    /// A value that does not do, and where it stands.
    pub(crate) fn invalid(field: &str, problem: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: {problem}"))
    }

    /// Somebody behind a proxy has more under way than a stranger may.
    pub(crate) fn crowd() -> Self {
        let detail = "too many requests of this address are under way";
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(1)
    }

    /// Something that is our fault.
    pub(crate) fn internal() -> Self {
        let detail = "the server made a mistake; its log names this request";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What its caller is told.
    pub(crate) fn detail(&self) -> Untrusted {
        Untrusted::from(self.detail.as_str())
    }

    /// Adds its headers to a reply.
    pub(crate) fn copy_headers(&self, reply: &mut Reply) {
        for (name, value) in &self.headers {
            reply.headers_mut().insert(name.clone(), value.clone());
        }
    }

    pub(crate) fn into_reply(self, request_id: &str) -> Reply {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: Untrusted::new(self.detail),
            request_id: request_id.to_owned(),
            current_version: self.current_version,
            expected_version: self.expected_version,
        };
        let mut reply = json(self.status, &problem);
        let headers = reply.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        reply
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        let detail = error.to_string();
        match error {
            OpsError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, detail),
            OpsError::Invalid { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            OpsError::Conflict(_) => Self::new(StatusCode::CONFLICT, detail),
            OpsError::Stale { expected, current } => Self {
                current_version: Some(current),
                expected_version: Some(expected),
                ..Self::new(StatusCode::CONFLICT, detail)
            },
            OpsError::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, detail),
            OpsError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail),
            OpsError::Defect => Self::internal(),
            OpsError::Store(error) => Self::from(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            StoreError::Busy => {
                let detail = format!("{error}: nothing was stored or changed");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
            }
            StoreError::NoRoom(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(5)
            }
            StoreError::Unavailable(_) => {
                tracing::warn!(error = %Chain(&error), "a request could not use the database");
                let detail = "the database is not available at present";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5)
            }
            _ => {
                tracing::error!(error = %Chain(&error), "a request failed");
                Self::internal()
            }
        }
    }
}

/// A JSON reply.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(bytes) => bytes_reply(status, bytes.into()),
        Err(error) => {
            tracing::error!(%error, "a reply could not be written as JSON");
            bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new())
        }
    }
}

/// A reply of JSON that is written already.
pub(crate) fn bytes_reply(status: StatusCode, body: Bytes) -> Reply {
    json_reply(status, whole(body))
}

/// The same in pieces.
pub(crate) fn parts_reply(status: StatusCode, parts: Vec<Bytes>) -> Reply {
    json_reply(status, Either::Left(Whole(parts.into())))
}

fn json_reply(status: StatusCode, body: Content) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_at_a_busy_moment_is_told_to_come_again() {
        let reply = Failure::from(StoreError::Busy);
        assert!(reply.detail().raw().ends_with("nothing was stored or changed"));
        let reply = reply.into_reply("r");
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers()[header::RETRY_AFTER], "1");
    }
}
