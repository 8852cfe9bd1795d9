//! Lines of a device's log over HTTP: once, or as they come.

use std::sync::Arc;

use fleet_core::api::{LOGS_DROPPED, LOGS_SEEN, LogEntry};
use fleet_core::command::UnitName;
use fleet_core::limits::{LOG_GREP_BYTES_MAX, LOG_LINES_DEFAULT, LOG_LINES_MAX};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::{LogSource, Severity};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::Http;
use super::query::Query;
use super::reply::{Failure, Reply, json};
use super::stream::{self, operator};
use crate::live::Following;
use crate::logs::{Fetched, NoLines, Wish};
use crate::ops::commands::require_able;
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;

/// When to come back where there is no room.
const RETRY_SECS: u64 = 10;

/// The parameters.
pub(super) const KNOWN: [&str; 6] = ["unit", "since", "level", "grep", "limit", "follow"];

/// `GET /devices/{}/logs`.
pub(super) async fn answer(
    http: &Arc<Http>,
    name: &str,
    query: &Query,
    principal: Option<Principal>,
    session: Option<SessionSecret>,
) -> Result<Reply, Failure> {
    let wish = wish(query)?;
    let (key, access) = operator(principal)?;
    let device = http.ops.devices.find(&access, name).await?;
    require_able(&device)?;
    if wish.follow {
        let (device_id, uid) = (device.id, device.uid);
        let following = Following { device_id, uid, wish, key, access, session };
        let opened = http.live.follow(following);
        return opened.map(stream::reply).map_err(|full| busy(&full.to_string()));
    }
    let fetched = http.live.logs.fetch(device.uid, wish, http.patience.lines).await;
    fetched.map(|fetched| reply(&fetched)).map_err(|no| refusal(&device.id.to_string(), &no))
}

/// The lines that a query asks for, as far as one asks for lines anywhere.
pub(crate) fn chosen(query: &Query) -> Result<(LogSource, Severity, String), Failure> {
    let unit = query.parsed::<UnitName>("unit")?;
    let grep = query.get("grep").unwrap_or_default();
    if grep.len() > LOG_GREP_BYTES_MAX {
        let problem = format!("must not be longer than {LOG_GREP_BYTES_MAX} bytes");
        return Err(Failure::invalid("grep", &problem));
    }
    let source = unit.map_or(LogSource::Agent, |unit| LogSource::Unit(unit.to_string()));
    Ok((source, query.parsed("level")?.unwrap_or(Severity::Trace), grep.to_owned()))
}

fn wish(query: &Query) -> Result<Wish, Failure> {
    let (source, level, grep) = chosen(query)?;
    let follow = match query.get("follow") {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let problem = format!("is true or false, not {}", Untrusted::from(other));
            return Err(Failure::invalid("follow", &problem));
        }
    };
    Ok(Wish {
        source,
        level,
        grep,
        since_millis: query.parsed("since")?.map(Timestamp::millis),
        past: query.count("limit", LOG_LINES_MAX)?.unwrap_or(LOG_LINES_DEFAULT),
        follow,
    })
}

fn reply(fetched: &Fetched) -> Reply {
    let lines: Vec<LogEntry> = fetched.lines.iter().map(|line| LogEntry::from(&**line)).collect();
    let mut reply = json(StatusCode::OK, &lines);
    let headers = reply.headers_mut();
    if fetched.lost > 0 {
        headers.insert(HeaderName::from_static(LOGS_DROPPED), HeaderValue::from(fetched.lost));
    }
    if let Some(seen) = fetched.seen
        && let Ok(seen) = HeaderValue::from_str(&seen.to_string())
    {
        headers.insert(HeaderName::from_static(LOGS_SEEN), seen);
    }
    reply
}

fn refusal(device: &str, no: &NoLines) -> Failure {
    let detail = format!("{device}: {no}");
    match no {
        NoLines::NotConnected => Failure::new(StatusCode::CONFLICT, detail),
        NoLines::Silent => Failure::new(StatusCode::GATEWAY_TIMEOUT, detail),
        NoLines::Said(_) => Failure::new(StatusCode::BAD_GATEWAY, detail),
        NoLines::Full(_) => busy(&detail),
    }
}

fn busy(detail: &str) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_SECS)
}
