//! Why a call to the server failed, and the exit code that this gives a program.

use hyper::{HeaderMap, StatusCode, header};

use super::exit::Exit;
use crate::api::{Problem, Route};
use crate::identity::ServerIdentity;
use crate::net::http::{Answer, HttpError};
use crate::net::tls::Shown;
use crate::net::url::ServerUrl;
use crate::untrusted::Untrusted;

/// Why a call was not answered, or answered with no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The key does not say which server it is for.
    #[error("the key does not end in @FD1-…, so it does not say which server it is for")]
    KeyWithoutServer,
    /// A device, key or other name that no path can hold.
    #[error("not a name that a server knows: letters, digits, - . _ ~ only")]
    Name,
    /// It would change something, and this client does not.
    #[error("this would change something, and the context is read only")]
    ReadOnly,
    /// What was to be sent is no JSON.
    #[error("cannot write the request")]
    Encode(#[source] serde_json::Error),
    /// The server was not reached.
    #[error("no connection to the server {url}")]
    Connect {
        /// Where.
        url: ServerUrl,
        /// Why.
        source: HttpError,
    },
    /// Somebody else answers there.
    #[error("the key is for the server {expected}, but {found} answers at {url}")]
    OtherServer {
        /// Where.
        url: ServerUrl,
        /// Whom the key is for.
        expected: ServerIdentity,
        /// Who is there.
        found: Box<Shown>,
    },
    /// A proxy answers there, and there is no knowing what is behind it.
    #[error(
        "a proxy answers at {url}, and the server behind it did not prove that it is {expected}: \
         {reason}"
    )]
    Unproved {
        /// Where.
        url: ServerUrl,
        /// Whom the key is for.
        expected: ServerIdentity,
        /// Why not.
        reason: Untrusted,
    },
    /// The server was reached and did not answer.
    #[error("the server {url} did not answer")]
    Exchange {
        /// Where.
        url: ServerUrl,
        /// Why.
        source: HttpError,
    },
    /// A stream on which not even a sign of life comes any more.
    #[error("the server {url} has said nothing for {secs} s")]
    Silent {
        /// Where.
        url: ServerUrl,
        /// For how long.
        secs: u64,
    },
    /// The server does not know the key, or does not take it any more.
    #[error("the key {id} is not, or no longer, good at the server {url}")]
    Key {
        /// The key's id, as lists show it.
        id: Untrusted,
        /// Where.
        url: ServerUrl,
    },
    /// The server said no.
    #[error("the server refused: {detail}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The server's words.
        detail: Untrusted,
        /// The request, as the server's log names it.
        request_id: Option<Untrusted>,
        /// The current version, where a conflict is about versions.
        current_version: Option<u64>,
        /// When to come back.
        retry_after_secs: Option<u64>,
    },
    /// The server's answer is not what this release reads.
    #[error("the answer to {route} is not what this release reads")]
    Answer {
        /// The request.
        route: Box<Route>,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The exit code that this error ends a program with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::KeyWithoutServer | Self::Key { .. } | Self::ReadOnly => Exit::NotAllowed,
            Self::Name => Exit::Usage,
            Self::Encode(_) | Self::Answer { .. } => Exit::Failed,
            Self::Connect { .. } | Self::OtherServer { .. } | Self::Unproved { .. } => {
                Exit::Unreachable
            }
            Self::Silent { .. } | Self::Exchange { source: HttpError::Timeout { .. }, .. } => {
                Exit::TimedOut
            }
            Self::Exchange { .. } => Exit::Unreachable,
            _ if self.is_of_proxy() => Exit::Unreachable,
            Self::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NotAllowed,
                StatusCode::NOT_FOUND => Exit::NothingFound,
                StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Exit::Conflict,
                StatusCode::UNPROCESSABLE_ENTITY => Exit::Usage,
                StatusCode::GATEWAY_TIMEOUT => Exit::TimedOut,
                _ => Exit::Failed,
            },
        }
    }

    /// Whether a proxy says that it does not reach the server. What the server itself cannot get from
    /// a device has a number, as all its answers have.
    pub fn is_of_proxy(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::BAD_GATEWAY, request_id: None, .. })
    }

    /// Whether the server may answer when it is asked again later: it is away, or starts again.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Exchange { source: HttpError::Tls(_), .. } => false,
            Self::Connect { .. } | Self::Exchange { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => matches!(
                *status,
                StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::KeyWithoutServer
            | Self::Name
            | Self::ReadOnly
            | Self::Encode(_)
            | Self::OtherServer { .. }
            | Self::Unproved { .. }
            | Self::Key { .. }
            | Self::Answer { .. } => false,
        }
    }

    /// The request, as the server's log names it.
    pub fn request_id(&self) -> Option<&Untrusted> {
        match self {
            Self::Refused { request_id, .. } => request_id.as_ref(),
            _ => None,
        }
    }
}

/// What an answer that is no success means.
pub(super) fn refused(answer: &Answer) -> ClientError {
    let status = answer.status;
    let retry_after_secs = retry_after_secs(&answer.headers);
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) => ClientError::Refused {
            status,
            detail: problem.detail,
            request_id: Some(Untrusted::from(problem.request_id)),
            current_version: problem.current_version,
            retry_after_secs,
        },
        // A proxy's page, say: the status has to do.
        Err(_) => ClientError::Refused {
            status,
            detail: Untrusted::from(status.canonical_reason().unwrap_or("no reason given")),
            request_id: None,
            current_version: None,
            retry_after_secs,
        },
    }
}

fn retry_after_secs(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}
