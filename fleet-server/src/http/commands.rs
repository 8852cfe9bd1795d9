//! Commands over HTTP: lists, and waiting for what becomes of one.

use std::time::Duration;

use fleet_core::api::CommandState;
use fleet_core::id::Uid;
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::untrusted::Untrusted;
use hyper::StatusCode;

use super::Http;
use super::query::Query;
use super::reply::{Failure, Reply, json};
use super::service::asker;
use crate::ops::commands::CommandsAsked;
use crate::ops::holder::Holder;
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;
use crate::ops::{Access, Ops};

/// Commands of a reply unless told otherwise.
const ROWS_DEFAULT: usize = 100;
/// Seconds that one request may wait.
const WAIT_SECS_MAX: usize = 60;
/// The word for all states that are not over.
const OPEN: &str = "open";

/// `GET /commands`: commands, newest first.
pub(super) async fn list(ops: &Ops, access: &Access, query: &Query) -> Result<Reply, Failure> {
    let asked = CommandsAsked {
        device: query.get("device_id").map(str::to_owned),
        states: query.get("state").map(states).transpose()?.unwrap_or_default(),
        ending: query.parsed("ending")?,
        before: query.parsed("before")?,
        limit: query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(ROWS_DEFAULT),
    };
    Ok(json(StatusCode::OK, &ops.commands.list(access, asked).await?))
}

/// `GET /commands/{id}`: one command, with `wait` as soon as its state is another one.
pub(super) async fn get(
    http: &Http,
    principal: Option<&Principal>,
    session: Option<SessionSecret>,
    id: Uid,
    query: &Query,
) -> Result<Reply, Failure> {
    let (key, access) = asker(principal)?;
    let (ops, commands) = (&http.ops, &http.ops.commands);
    let after = query.get("after").map(|word| state("after", word)).transpose()?;
    let view = match query.count("wait", WAIT_SECS_MAX)? {
        None if after.is_some() => return Err(Failure::invalid("after", "goes with wait")),
        None => commands.get(access, id).await?,
        Some(secs) => {
            let place = commands.waiting.take(id).ok_or_else(busy)?;
            let patience = Duration::from_secs(secs as u64);
            let (keys, sessions) = (&ops.keys, &ops.sessions);
            let holder = Holder { keys, sessions, key, session };
            commands.wait(access, &place, after, patience, &holder, &http.tasks).await?
        }
    };
    Ok(json(StatusCode::OK, &view))
}

fn busy() -> Failure {
    let detail = "too many wait for commands at this moment";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

/// The states that a list of words names.
fn states(text: &str) -> Result<Vec<CommandState>, Failure> {
    let mut states = Vec::new();
    for word in text.split(',') {
        if word == OPEN {
            states.extend(CommandState::ALL.into_iter().filter(|state| !state.is_over()));
        } else {
            states.push(state("state", word)?);
        }
    }
    states.sort_unstable();
    states.dedup();
    Ok(states)
}

fn state(field: &str, word: &str) -> Result<CommandState, Failure> {
    CommandState::from_word(word).ok_or_else(|| {
        let known: Vec<_> = CommandState::ALL.iter().map(CommandState::word).collect();
        let word = Untrusted::from(word);
        let problem = format!("there is no state {word}; known are {}", known.join(", "));
        Failure::invalid(field, &problem)
    })
}
