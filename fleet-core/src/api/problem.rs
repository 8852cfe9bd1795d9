//! Errors as RFC 9457 problems, and the small replies that several routes share.

use serde::{Deserialize, Serialize};

use crate::untrusted::Untrusted;

/// `application/problem+json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong here, and what would help.
    pub detail: Untrusted,
    /// The request, as the server's log names it.
    pub request_id: String,
    /// The current version, where a 409 is about versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// The version that the request was made for, there too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `{"status":"updated"}` and its sisters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// One word.
    pub status: String,
}

impl Done {
    /// A reply of one word.
    pub fn new(status: &str) -> Self {
        Self { status: status.to_owned() }
    }
}

/// `GET /health` and `GET /health/ready`, on server and agent; and a word of the live stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `degraded`.
    pub status: String,
    /// Why it is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
