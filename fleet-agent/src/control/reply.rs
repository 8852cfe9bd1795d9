//! The few answers that the port gives.

use bytes::Bytes;
use fleet_core::api::{AgentInfo, ClaimRefusal, Health, Problem};
use fleet_core::grant::ClaimAccepted;
use fleet_core::limits::CLAIM_BYTES_MAX;
use fleet_core::net::backoff;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::claim::Refused;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An answer.
pub(super) struct Reply {
    status: StatusCode,
    content_type: HeaderValue,
    body: Bytes,
}

impl Reply {
    pub(super) fn health() -> Self {
        Self::ok(&Health { status: "ok".to_owned(), reason: None })
    }

    pub(super) fn info(info: &AgentInfo) -> Self {
        Self::ok(info)
    }

    pub(super) fn accepted(accepted: &ClaimAccepted) -> Self {
        Self::ok(accepted)
    }

    pub(super) fn refused(refused: &Refused) -> Self {
        let mut body = problem(refused.status(), &refused.to_string());
        (body.server, body.claim) = (refused.server(), refused.asks_for());
        Self::problem(refused.status(), &body)
    }

    pub(super) fn too_large() -> Self {
        let detail = format!("a claim has at most {CLAIM_BYTES_MAX} bytes");
        Self::plain_problem(StatusCode::PAYLOAD_TOO_LARGE, &detail)
    }

    pub(super) fn broken_off() -> Self {
        Self::plain_problem(StatusCode::BAD_REQUEST, "the body could not be read")
    }

    pub(super) fn not_found() -> Self {
        let detail = "a device's port has /health, /info and, inside TLS, /v1/claim";
        Self::plain_problem(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, self.content_type);
        response
    }

    fn plain_problem(status: StatusCode, detail: &str) -> Self {
        Self::problem(status, &problem(status, detail))
    }

    fn problem(status: StatusCode, refusal: &ClaimRefusal) -> Self {
        Self { status, content_type: PROBLEM, body: json(refusal) }
    }

    fn ok(value: &impl Serialize) -> Self {
        Self { status: StatusCode::OK, content_type: JSON, body: json(value) }
    }
}

fn problem(status: StatusCode, detail: &str) -> ClaimRefusal {
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or_default().to_owned(),
        status: status.as_u16(),
        detail: detail.into(),
        request_id: format!("{:08x}", backoff::random()),
        current_version: None,
        expected_version: None,
    };
    ClaimRefusal { problem, server: None, claim: None }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("these types have no part that JSON lacks").into()
}
