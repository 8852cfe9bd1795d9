//! Batches over HTTP: lists of them, and of their devices.

use fleet_core::api::MemberState;
use fleet_core::id::Uid;
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::untrusted::Untrusted;
use hyper::StatusCode;

use super::query::Query;
use super::reply::{Failure, Reply, json};
use crate::ops::batches::MembersAsked;
use crate::ops::{Access, Ops};

/// Rows of a reply unless told otherwise.
const ROWS_DEFAULT: usize = 100;

/// `GET /batches`: batches, newest first.
pub(super) async fn list(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let limit = query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(ROWS_DEFAULT);
    Ok(json(StatusCode::OK, &ops.batches.list(access, query.parsed("before")?, limit).await?))
}

/// `GET /batches/{id}/devices`: devices of a batch, by id.
pub(super) async fn members(
    ops: &Ops,
    access: &Access,
    id: Uid,
    query: &Query,
) -> Result<Reply, Failure> {
    let asked = MembersAsked {
        states: query.get("state").map(states).transpose()?.unwrap_or_default(),
        after: query.parsed("after")?,
        limit: query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(ROWS_DEFAULT),
    };
    Ok(json(StatusCode::OK, &ops.batches.members(access, id, asked).await?))
}

/// The states that a list of words names.
fn states(text: &str) -> Result<Vec<MemberState>, Failure> {
    let state = |word: &str| {
        MemberState::from_word(word).ok_or_else(|| {
            let known: Vec<_> = MemberState::ALL.iter().map(MemberState::word).collect();
            let word = Untrusted::from(word);
            let problem = format!("there is no state {word}; known are {}", known.join(", "));
            Failure::invalid("state", &problem)
        })
    };
    text.split(',').map(state).collect()
}
