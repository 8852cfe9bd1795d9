//! What happened, newest first.

use fleet_core::api::EventKind;
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::untrusted::Untrusted;
use hyper::StatusCode;

use super::query::Query;
use super::reply::{Failure, Reply, json};
use crate::ops::events::EventsAsked;
use crate::ops::{Access, Ops};

/// Events of a reply unless told otherwise.
const ROWS_DEFAULT: usize = 100;

/// `GET /events`: what happened, newest first.
pub(super) async fn list(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let asked = EventsAsked {
        device: query.get("device_id").map(str::to_owned),
        kinds: query.get("kind").map(kinds).transpose()?.unwrap_or_default(),
        since: query.parsed("since")?,
        until: query.parsed("until")?,
        before: query.parsed("before")?,
        limit: query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(ROWS_DEFAULT),
    };
    Ok(json(StatusCode::OK, &ops.events.list(access, asked).await?))
}

/// The kinds that a list of words and first parts of words names.
fn kinds(text: &str) -> Result<Vec<EventKind>, Failure> {
    let mut kinds = Vec::new();
    for word in text.split(',') {
        let named = EventKind::named(word);
        if named.is_empty() {
            let known: Vec<&str> = EventKind::ALL.iter().map(EventKind::word).collect();
            let word = Untrusted::from(word);
            let problem = format!("there is no kind {word}; known are {}", known.join(", "));
            return Err(Failure::invalid("kind", &problem));
        }
        kinds.extend(named);
        kinds.sort_unstable();
        kinds.dedup();
    }
    Ok(kinds)
}
