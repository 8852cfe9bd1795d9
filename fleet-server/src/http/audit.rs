//! What is recorded of requests: who asks for what of whom, and what came of it. And reading it.
//!
//! A request that changes something is read to its end before it is recorded, and recorded before
//! anything is done. Nothing of its body is recorded but its hash and what is named here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fleet_core::api::{AuditAction, AuditActor, Route};
use fleet_core::audit::digest;
use fleet_core::command::COMMANDS;
use fleet_core::limits::{PAGE_ROWS_MAX, REASON_CHARS_MAX};
use fleet_core::untrusted::{Untrusted, cut};
use http_body_util::Either;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::query::Query;
use super::reply::{Failure, Reply, json};
use super::{Http, auth};
use crate::door::Visit;
use crate::ops::audit::{Audit, AuditAsked, Begun, Deed, NOBODY, Upshot};
use crate::ops::keys::Principal;

/// The header that says why.
const REASON: &str = "fleetd-reason";
/// Records of a reply unless told otherwise.
const ROWS_DEFAULT: usize = 100;
/// Fields by which it is told what is wrong with a configuration or a command.
const FIELDS: [&str; 8] =
    ["command", "args", "config", "device_id", "filter", "layer", "timeout", "If-Match"];
/// Rights of a key that are recorded; there are not as many.
const RIGHTS_MAX: usize = 8;
/// Characters of a filter that are recorded.
const FILTER_CHARS_MAX: usize = 300;

/// Who sent a request, and by what name it goes.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) actor: AuditActor,
    pub(crate) via: &'static str,
    pub(crate) visit: Arc<Visit>,
    pub(crate) request_id: String,
}

/// What of a request's body is looked at. Whether it is right is for others to say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    device_id: Option<Value>,
    device_key: Option<Value>,
    id: Option<Value>,
    command: Option<Value>,
    filter: Option<Value>,
    devices: Option<Vec<Value>>,
    kind: Option<Value>,
    label: Option<Value>,
    role: Option<Value>,
    rights: Option<Vec<Value>>,
    scope: Option<Value>,
    expires_in_secs: Option<Value>,
    reason: Option<Value>,
    comment: Option<Value>,
}

/// What of an answer is looked at: what was made, and how it stands.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Made {
    id: Option<Value>,
    uid: Option<Value>,
    device_id: Option<Value>,
    version: Option<Value>,
    status: Option<Value>,
    state: Option<Value>,
    reason: Option<Value>,
    total: Option<Value>,
}

/// Writes down that a request is about to be carried out, with its whole body at hand.
pub(super) async fn begin(
    http: &Http,
    sender: &Sender,
    action: AuditAction,
    route: &Route,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Begun, Failure> {
    let named = serde_json::from_slice::<Option<Named>>(body).map(Option::unwrap_or_default);
    let is_read = body.is_empty() || named.is_ok();
    let named = named.unwrap_or_default();
    let mut deed = sender.deed(action);
    deed.targets = targets(http, route, query, &named);
    deed.text =
        if is_read { more_exactly(action, &named) } else { "(what cannot be read)".to_owned() };
    deed.reason = reason(headers)?.or_else(|| named.why());
    deed.body = (!body.is_empty()).then(|| digest(body));
    Ok(http.ops.audit.begin(deed).await?)
}

/// Writes down what came of a request, before it is answered; of what is sent piece by piece, those
/// who send it do so at its end.
pub(super) async fn end(begun: Begun, action: AuditAction, answer: &mut Result<Reply, Failure>) {
    let handover =
        answer.as_mut().ok().and_then(|reply| reply.extensions_mut().remove::<Handover>());
    match handover {
        Some(handover) => handover.give(begun),
        None => begun.end(upshot(action, answer)).await,
    }
}

/// The way of an open intent to those who know later what came of it.
#[derive(Clone)]
pub(super) struct Handover(Arc<Mutex<Option<oneshot::Sender<Begun>>>>);

impl Handover {
    pub(super) fn new() -> (Self, oneshot::Receiver<Begun>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    fn give(&self, begun: Begun) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Who is gone leaves an intent that closes itself.
        drop(sender.map(|sender| sender.send(begun)));
    }
}

/// Does what is sent piece by piece, and then writes down what came of it.
pub(super) async fn to_its_end(
    sending: impl Future<Output = String>,
    begun: oneshot::Receiver<Begun>,
) {
    let text = sending.await;
    if let Ok(begun) = begun.await {
        begun.end(said(StatusCode::OK, &text)).await;
    }
}

fn upshot(action: AuditAction, answer: &Result<Reply, Failure>) -> Upshot {
    match answer {
        Err(failure) => {
            let status = failure.status();
            said(status, &guarded(action, status, failure.detail().raw()))
        }
        Ok(reply) => {
            let status = Some(reply.status().as_u16());
            let Either::Left(body) = reply.body() else {
                return Upshot { status, ..Upshot::default() };
            };
            let bytes = body.first().map(Bytes::as_ref).unwrap_or_default();
            let made: Made = serde_json::from_slice(bytes).unwrap_or_default();
            Upshot { status, ..made.upshot() }
        }
    }
}

/// Why a request failed, without what it may repeat of what was sent: configurations and commands
/// may hold secrets, also where there is something wrong with them.
pub(crate) fn guarded(action: AuditAction, status: StatusCode, detail: &str) -> String {
    let may_repeat = match action {
        AuditAction::ConfigSet | AuditAction::CommandCreate | AuditAction::BatchCreate => {
            matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
        }
        _ => false,
    };
    if !may_repeat {
        return detail.to_owned();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._[]-".contains(c);
    match detail.split_once(": ") {
        Some((field, _))
            if FIELDS.contains(&field) || (field.contains('.') && field.chars().all(plain)) =>
        {
            format!("{field} is not right")
        }
        _ => "it is not right".to_owned(),
    }
}

/// What came of a request in so many words.
pub(crate) fn said(status: StatusCode, detail: &str) -> Upshot {
    Upshot { status: Some(status.as_u16()), text: detail.to_owned(), ..Upshot::default() }
}

/// Records a request that was refused at the door, if its sender showed a key or has none that
/// lets them do this.
pub(super) async fn refused_at_door(
    http: &Arc<Http>,
    visit: &Arc<Visit>,
    request_id: &str,
    route: &Route,
    caller: auth::Caller<'_>,
    failure: &Failure,
) {
    let key = auth::key_shown(caller);
    let has_key = caller.headers.contains_key(header::AUTHORIZATION);
    let (actor, via) = match failure.status() {
        StatusCode::UNAUTHORIZED if has_key => {
            let key_id = key.map(|key| Untrusted::from(key.id()));
            (AuditActor { key_id, ..AuditActor::bare(NOBODY) }, "none")
        }
        StatusCode::FORBIDDEN => {
            let (found, via) = match &key {
                Some(key) => {
                    let from = visit.remote().ip();
                    (http.ops.keys.authenticate(key, from).await.ok(), "key")
                }
                None => (session(http, caller).await, "session"),
            };
            let actor = match &found {
                Some(principal) => http.ops.audit.actor(principal).await.ok(),
                None => None,
            };
            (actor.unwrap_or_else(|| AuditActor::bare(NOBODY)), via)
        }
        _ => return,
    };
    let (visit, request_id) = (visit.clone(), request_id.to_owned());
    refused(&http.ops.audit, &Sender { actor, via, visit, request_id }, route, failure).await;
}

/// Records a request that was refused.
pub(super) async fn refused(audit: &Audit, sender: &Sender, route: &Route, failure: &Failure) {
    let action = AuditAction::of(route).unwrap_or(AuditAction::AccessRefused);
    let mut deed = sender.deed(action);
    deed.text = format!("{} {}: {}", route.spec().method, route.path(), failure.detail().raw());
    audit.refused(deed, Some(failure.status().as_u16())).await;
}

async fn session(http: &Http, caller: auth::Caller<'_>) -> Option<Principal> {
    let found = crate::page::session(http, caller.headers, caller.is_tls).await;
    found.ok().flatten().map(|(principal, _)| principal)
}

/// Why, as a request's header says it.
pub(crate) fn reason(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(REASON) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Failure::invalid("FleetD-Reason", "is not text in UTF-8"))?
        .trim();
    if text.chars().count() > REASON_CHARS_MAX {
        let problem = format!("is longer than {REASON_CHARS_MAX} characters");
        return Err(Failure::invalid("FleetD-Reason", &problem));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

impl Sender {
    /// Who holds a key that is good.
    pub(crate) async fn of(
        audit: &Audit,
        principal: &Principal,
        via: &'static str,
        visit: &Arc<Visit>,
        request_id: &str,
    ) -> Result<Self, Failure> {
        let actor = audit.actor(principal).await?;
        Ok(Self { actor, via, visit: visit.clone(), request_id: request_id.to_owned() })
    }

    /// Something that they ask for.
    pub(crate) fn deed(&self, action: AuditAction) -> Deed {
        Deed {
            request_id: self.request_id.clone(),
            actor: self.actor.clone(),
            via: self.via,
            peer: Some(self.visit.remote().ip()),
            action,
            targets: Vec::new(),
            body: None,
            reason: None,
            text: String::new(),
        }
    }
}

impl Named {
    /// Why, where the body says it.
    fn why(&self) -> Option<String> {
        let said = text(self.reason.as_ref()).or_else(|| text(self.comment.as_ref()))?;
        Some(fleet_core::untrusted::cut(said.to_owned(), REASON_CHARS_MAX))
    }
}

impl Made {
    fn upshot(self) -> Upshot {
        let words = [("", &self.status), ("", &self.state), ("version ", &self.version)];
        let words = words.into_iter().filter_map(|(before, value)| match value {
            Some(Value::String(word)) => Some(format!("{before}{word}")),
            Some(Value::Number(number)) => Some(format!("{before}{number}")),
            _ => None,
        });
        let mut said = words.collect::<Vec<_>>().join(", ");
        if let Some(reason) = text(self.reason.as_ref()) {
            said = format!("{said}: {reason}");
        }
        let made = [&self.id, &self.device_id, &self.uid].into_iter();
        let targets = made.filter_map(|value| text(value.as_ref()).map(str::to_owned)).collect();
        let count = self.total.as_ref().and_then(Value::as_u64);
        Upshot { status: None, text: said, targets, count }
    }
}

/// What a request is about.
fn targets(http: &Http, route: &Route, query: Option<&str>, named: &Named) -> Vec<String> {
    let device = |name: &str| match http.ops.world.store.directory().find(name) {
        Some((uid, listed)) => vec![listed.id.to_string(), uid.to_string()],
        None => vec![name.to_owned()],
    };
    match route {
        Route::DevicePut(name)
        | Route::DeviceDelete(name)
        | Route::DeviceAccept(name)
        | Route::DeviceReject(name)
        | Route::DeviceRevoke(name)
        | Route::DeviceRestore(name)
        | Route::PageConfigPost(name)
        | Route::PageMetadataPost(name) => device(name),
        Route::KeyRevoke(id) | Route::KeyRotate(id) | Route::PreauthDelete(id) => vec![id.clone()],
        Route::BatchPause(uid)
        | Route::BatchContinue(uid)
        | Route::BatchCancel(uid)
        | Route::BatchRetry(uid)
        | Route::CommandCancel(uid) => vec![uid.to_string()],
        Route::ConfigPost => {
            let Ok(query) = Query::parse(query, &["device_id", "layer"]) else { return Vec::new() };
            match (query.get("device_id"), query.get("layer")) {
                (_, Some(layer)) => vec![layer.to_owned()],
                (Some(name), None) => device(name),
                (None, None) => Vec::new(),
            }
        }
        _ => {
            let mut targets = text(named.device_id.as_ref()).map(device).unwrap_or_default();
            targets.extend(text(named.device_key.as_ref()).map(str::to_owned));
            targets.extend(text(named.id.as_ref()).map(str::to_owned));
            let device =
                |it: &Value| text(Some(it)).or(text(it.get("fingerprint"))).map(str::to_owned);
            targets.extend(named.devices.iter().flatten().filter_map(device));
            targets
        }
    }
}

/// What is asked for more exactly, without what may be secret: of a command its word alone.
fn more_exactly(action: AuditAction, named: &Named) -> String {
    let command = || text(named.command.as_ref()).map(|text| word(text).to_owned());
    match action {
        AuditAction::CommandCreate => command().unwrap_or_default(),
        AuditAction::BatchCreate => {
            let what = command().unwrap_or_else(|| "config".to_owned());
            match text(named.filter.as_ref()) {
                Some(filter) => {
                    let filter = cut(filter.to_owned(), FILTER_CHARS_MAX);
                    format!("{what}, for devices with: {filter}")
                }
                None => what,
            }
        }
        AuditAction::KeyCreate => {
            let part = |before: &str, value: Option<&Value>| {
                let text = text(value).filter(|text| !text.is_empty())?;
                Some(format!("{before}{}", cut(text.to_owned(), FILTER_CHARS_MAX)))
            };
            let rights = named.rights.iter().flatten().take(RIGHTS_MAX);
            let rights: Vec<_> = rights.filter_map(|right| part("with ", Some(right))).collect();
            let life = named.expires_in_secs.as_ref().and_then(Value::as_u64);
            [part("", named.kind.as_ref()), part("", named.label.as_ref())]
                .into_iter()
                .chain([part("as ", named.role.as_ref())])
                .chain(rights.into_iter().map(Some))
                .chain([part("for ", named.scope.as_ref())])
                .chain([life.map(|secs| format!("ends after {secs} s"))])
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
        }
        _ => String::new(),
    }
}

/// The word of a command, if it is one that there is. What else is written there may be anything.
fn word(command: &str) -> &str {
    let first = command.split_whitespace().next().unwrap_or_default();
    if COMMANDS.iter().any(|(word, _)| *word == first) { first } else { "(no command)" }
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

/// `GET /audit`: records, newest first.
pub(super) async fn list(audit: &Audit, query: &Query) -> Result<Reply, Failure> {
    let action = query.get("action").map(str::to_owned);
    if let Some(text) = &action
        && AuditAction::named(text).is_empty()
    {
        let known: Vec<&str> = AuditAction::ALL.iter().map(|action| action.word()).collect();
        let word = Untrusted::from(text.as_str());
        let problem = format!("there is no action {word}; known are {}", known.join(", "));
        return Err(Failure::invalid("action", &problem));
    }
    let asked = AuditAsked {
        actor: query.get("actor").map(str::to_owned),
        action,
        device: query.get("device_id").map(str::to_owned),
        since: query.parsed("since")?,
        until: query.parsed("until")?,
        before: query.parsed("before")?,
        limit: query.count("limit", PAGE_ROWS_MAX)?.unwrap_or(ROWS_DEFAULT),
    };
    Ok(json(StatusCode::OK, &audit.list(asked).await?))
}
