//! One request: where to, who from, what came of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fleet_core::api::{
    AuditAction, AuthClass, BatchRetry, DeviceDeleted, Done, Health, Identity, KeyCreate,
    KeyRotate, Nonce, NonceError, Route, RouteError, Verdict,
};
use fleet_core::limits::JSON_BYTES_MAX;
use fleet_core::wire::Binding;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, StatusCode};

use super::body::Payload;
use super::influx::{self, Dialect};
use super::posts::posts;
use super::query::Query;
use super::reply::{Failure, Reply, bytes_reply, json, whole};
use super::{
    Http, audit, audit_chain, auth, backup, batches, body, commands, configs, devices, discovery,
    events, export, fleetwide, install, logs, metrics, openapi, stream, telemetry,
};
use crate::door::{Visit, Way};
use crate::ops::grants::Grantor;
use crate::ops::keys::Principal;
use crate::ops::{Access, Actor, OpsError};
use crate::page::{self, Browser};
use crate::store::{Pace, StoreHealth};

const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers a request, whatever it is and whatever goes wrong.
pub(super) async fn serve(
    http: Arc<Http>,
    visit: Arc<Visit>,
    exporter: Option<[u8; 32]>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let started = Instant::now();
    let request_id = visit.next_request();
    let (own, way) = visit.of_request(request.headers(), exporter);
    // Whoever has too much under way is told so under the connection's name.
    let is_crowd = own.is_none();
    let visit = own.unwrap_or(visit);
    let method = request.method().clone();
    let path = request.uri().path();
    let (dialect, route) = (Dialect::of(path), route(&method, path));
    let path = install::shown(path, route.as_ref().ok());
    let subject = metrics::subject(route.as_ref().ok());
    let browser = Browser::of(request.headers());
    // Once a request is here it is answered to its end, though its sender may leave meanwhile: what
    // it changes is recorded, and told to those who must know.
    let task = {
        let (http, visit) = (http.clone(), visit.clone());
        let (request, request_id) = (request.map(Either::Left), request_id.clone());
        async move {
            if is_crowd {
                return Err(Failure::crowd());
            }
            answer(&http, &visit, way, route, request, &request_id).await
        }
    };
    let answer = http.tasks.see_through("request", task).await;
    let mut reply = match answer {
        Ok(Ok(reply)) => reply,
        Ok(Err(failure)) => page::problem(browser, &failure, &request_id)
            .unwrap_or_else(|| dialect.reply(failure, &request_id)),
        Err(_) => {
            tracing::error!(%method, %path, request_id, "a request's handler panicked");
            dialect.reply(Failure::internal(), &request_id)
        }
    };
    let status = reply.status();
    http.meters.request(subject, status.as_u16());
    let headers = reply.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    // Pages have their own; whatever else a browser takes for one can do nothing.
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
    let (remote, millis) = (visit.remote(), started.elapsed().as_millis());
    tracing::debug!(%remote, %method, %path, status = status.as_u16(), millis, request_id, "request");
    Ok(reply)
}

async fn answer(
    http: &Arc<Http>,
    visit: &Arc<Visit>,
    way: Way,
    route: Result<Route, RouteError>,
    request: Request<Payload>,
    request_id: &str,
) -> Result<Reply, Failure> {
    let route = route.map_err(no_route)?;
    let class = route.spec().auth;
    let is_tls = way.is_tls();
    if !is_tls && http.certificate.is_some() {
        return sent_on(http, &request);
    }
    let (method, headers) = (request.method(), request.headers());
    let caller = auth::Caller { method, headers, is_tls, is_foreign: influx::is_foreign(&route) };
    let authorized = auth::authorize(http, class, caller, visit).await.and_then(|principal| {
        auth::require_reach(&route, principal.as_ref())?;
        Ok(principal)
    });
    let principal = match authorized {
        Ok(principal) => principal,
        Err(failure) => {
            let refused = audit::refused_at_door(http, visit, request_id, &route, caller, &failure);
            Box::pin(refused).await;
            return Err(failure);
        }
    };
    match route {
        Route::InfluxWrite | Route::InfluxWriteV2 => {
            influx::write(http, known(principal)?, request).await
        }
        // All else is kept apart, so that what comes thousands of times a second stays small. Pages
        // are for whoever has no key yet: who stalls there takes no room for what other routes do.
        route if class == AuthClass::Page => {
            Box::pin(page::answer(http, visit, is_tls, request_id, route, request)).await
        }
        route => {
            let asked = Asked { visit, way, principal, route, request, request_id };
            Box::pin(answer_recorded(http, asked)).await
        }
    }
}

/// A request that may be carried out.
struct Asked<'a> {
    visit: &'a Arc<Visit>,
    way: Way,
    principal: Option<Principal>,
    route: Route,
    request: Request<Payload>,
    request_id: &'a str,
}

/// Answers a request, and records it if it changes something: pages do so themselves, where they
/// know who asks.
async fn answer_recorded(http: &Arc<Http>, mut asked: Asked<'_>) -> Result<Reply, Failure> {
    let Some(principal) = asked.principal.clone() else {
        return Box::pin(answer_rest(http, asked)).await;
    };
    let (route, visit, request_id) = (asked.route.clone(), asked.visit, asked.request_id);
    let has_key = asked.request.headers().contains_key(header::AUTHORIZATION);
    let via = if has_key { "key" } else { "session" };
    let sender =
        async || audit::Sender::of(&http.ops.audit, &principal, via, visit, request_id).await;
    let Some(action) = AuditAction::of(&route) else {
        let answer = Box::pin(answer_rest(http, asked)).await;
        if let Err(failure) = &answer
            && failure.status() == StatusCode::FORBIDDEN
        {
            audit::refused(&http.ops.audit, &sender().await?, &route, failure).await;
        }
        return answer;
    };
    if let Some(wait) = http.ops.audit.hold_up(principal.key()) {
        let detail = "this key asks for more changes than are taken so quickly";
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(failure.retry_after(wait.as_secs() + 1));
    }
    let (request, body) = body::gather(asked.request, JSON_BYTES_MAX, http.patience.body).await?;
    let (query, headers) = (request.uri().query(), request.headers());
    let sender = sender().await?;
    let begun = audit::begin(http, &sender, action, &route, query, headers, &body).await?;
    asked.request = request;
    let mut answer = Box::pin(answer_rest(http, asked)).await;
    audit::end(begun, action, &mut answer).await;
    answer
}

/// Who came without TLS is sent on to where it is spoken.
fn sent_on(http: &Http, request: &Request<Payload>) -> Result<Reply, Failure> {
    let authority = http.page.own_name(request.headers())?;
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let place = format!("https://{authority}{path}");
    let location = HeaderValue::from_str(&place).map_err(|_| Failure::internal())?;
    let mut reply = Reply::new(whole(Bytes::new()));
    *reply.status_mut() = StatusCode::PERMANENT_REDIRECT;
    reply.headers_mut().insert(header::LOCATION, location);
    Ok(reply)
}

async fn answer_rest(http: &Arc<Http>, asked: Asked<'_>) -> Result<Reply, Failure> {
    let Asked { visit, way, principal, route, request, .. } = asked;
    let is_tls = way.is_tls();
    let ops = &http.ops;
    let patience = http.patience.body;
    let text = request.uri().query().map(str::to_owned);
    let query = |known: &[&str]| Query::parse(text.as_deref(), known);
    let who = principal.clone();
    let access = || asker(who.as_ref()).map(|(_, access)| access);
    match route {
        Route::Health => Ok(ok(&Health { status: "ok".to_owned(), reason: None })),
        Route::HealthReady => Ok(ready(&ops.world.health())),
        Route::Identity => Ok(ok(&identity(http, way, request.headers(), &query(&["nonce"])?)?)),
        Route::OpenApi => Ok(bytes_reply(StatusCode::OK, openapi::document())),
        Route::Link => {
            let binding = binding(http, way, request.headers())?;
            Ok(http.links.upgrade(visit, binding, request)?)
        }

        Route::Install(token) => {
            let query = query(&["architecture"]);
            Ok(install::answer(http, visit, request.headers(), &token, query).await)
        }

        Route::DeviceList => {
            devices::list(ops, access()?, &query(&["limit", "cursor", "filter", "sort"])?).await
        }
        Route::DeviceGet(name) => Ok(ok(&ops.devices.get(access()?, &name).await?)),
        Route::DevicePut(name) => {
            let update = body::json(request, patience).await?;
            ops.devices.update(access()?, &name, update, &actor(principal.as_ref())?).await?;
            Ok(done("updated"))
        }
        Route::DeviceDelete(name) => {
            let actor = actor(principal.as_ref())?;
            let (uid, kept_until) = ops.devices.delete(access()?, &name, &actor).await?;
            ops.commands.call_off(uid, &actor).await?;
            http.live.logs.forget(uid);
            let status = "deleted".to_owned();
            let (uid, kept_until) = (Some(uid), Some(kept_until));
            Ok(ok(&DeviceDeleted { status, uid, kept_until }))
        }
        Route::DeviceAccept(name) => {
            let verdict: Verdict = body::json_or_default(request, patience).await?;
            ops.devices
                .accept(access()?, &name, &verdict.reason, &actor(principal.as_ref())?)
                .await?;
            Ok(done("accepted"))
        }
        Route::DeviceReject(name) => {
            let verdict: Verdict = body::json_or_default(request, patience).await?;
            ops.devices
                .reject(access()?, &name, &verdict.reason, &actor(principal.as_ref())?)
                .await?;
            Ok(done("rejected"))
        }
        Route::DeviceRevoke(name) => {
            let verdict: Verdict = body::json_or_default(request, patience).await?;
            let actor = actor(principal.as_ref())?;
            let uid = ops.devices.revoke(access()?, &name, &verdict.reason, &actor).await?;
            ops.commands.call_off(uid, &actor).await?;
            http.live.logs.forget(uid);
            Ok(done("revoked"))
        }

        Route::DeviceRestore(name) => {
            Ok(ok(&ops.devices.restore(access()?, &name, &actor(principal.as_ref())?).await?))
        }
        Route::DeletedList => Ok(ok(&ops.devices.deleted(access()?).await?)),

        Route::DeviceLogs(name) => {
            let query = query(&logs::KNOWN)?;
            let session = page::secret(http, request.headers(), is_tls);
            logs::answer(http, &name, &query, principal, session).await
        }

        Route::TelemetryPost => {
            let poster = known(principal)?;
            let (posts, layout) = posts(request, &http.intake, patience).await?;
            ops.telemetry.post(posts, layout, &poster).await?;
            Ok(json(StatusCode::CREATED, &Done::new("stored")))
        }
        Route::TelemetryMetrics => {
            let known =
                ["device_id", "metric", "limit", "from", "to", "step", "agg", "filter", "group_by"];
            telemetry::metrics(ops, access()?, &query(&known)?).await
        }

        Route::TelemetryLatest => fleetwide::latest(ops, access()?, &query(&["metrics"])?).await,

        Route::TelemetryTop => {
            let query = query(&["metric", "window", "to", "agg", "order", "limit"])?;
            fleetwide::top(ops, access()?, &query).await
        }

        Route::TelemetrySeries => {
            let query = query(&["device_id", "metrics", "from", "to", "step"])?;
            telemetry::series(ops, access()?, &query).await
        }

        Route::EventList => {
            let query = query(&["device_id", "kind", "since", "until", "before", "limit"])?;
            events::list(ops, access()?, &query).await
        }

        Route::AuditList => {
            let known = ["actor", "action", "device_id", "since", "until", "before", "limit"];
            audit::list(&ops.audit, &query(&known)?).await
        }
        Route::AuditChain => {
            let session = page::secret(http, request.headers(), is_tls);
            audit_chain::open(http, &query(&["after"])?, principal, session).await
        }

        Route::DbGet => Ok(ok(&http.database.view().await?)),
        Route::DbPrune => {
            let wish = body::json_or_default(request, patience).await?;
            Ok(ok(&http.database.prune(wish, &actor(principal.as_ref())?).await?))
        }
        Route::DbCompact => Ok(ok(&http.database.compact().await?)),
        Route::DbCheck => Ok(ok(&http.database.check(Pace::Fast).await?)),
        Route::ExportGet => {
            let query = query(&["tables", "from", "to"])?;
            let session = page::secret(http, request.headers(), is_tls);
            export::open(http, &query, principal, session)
        }

        Route::BackupGet => {
            query(&[])?;
            backup::open(http, principal, page::secret(http, request.headers(), is_tls))
        }

        Route::ConfigGet => configs::get(ops, access()?, &query(&["device_id", "layer"])?).await,
        Route::ConfigPost => {
            let query = query(&["device_id", "layer"])?;
            configs::post(ops, access()?, &query, &actor(principal.as_ref())?, request, patience)
                .await
        }
        Route::ConfigHistory => {
            configs::history(ops, access()?, &query(&["device_id", "layer", "before", "limit"])?)
                .await
        }
        Route::ConfigLayers => Ok(ok(&ops.configs.layer_list(access()?).await?)),
        Route::ConfigPreview => {
            let query = query(&["layer"])?;
            configs::preview(ops, access()?, &query, &actor(principal.as_ref())?, request, patience)
                .await
        }

        Route::CommandList => {
            let query = query(&["device_id", "state", "ending", "before", "limit"])?;
            commands::list(ops, access()?, &query).await
        }
        Route::CommandCreate => {
            let wish = body::json(request, patience).await?;
            let (view, is_new) =
                ops.commands.create(access()?, wish, &actor(principal.as_ref())?).await?;
            Ok(json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &view))
        }
        Route::CommandGet(id) => {
            let query = query(&["wait", "after"])?;
            let session = page::secret(http, request.headers(), is_tls);
            commands::get(http, principal.as_ref(), session, id, &query).await
        }
        Route::CommandCancel(id) => {
            Ok(ok(&ops.commands.cancel(access()?, id, &actor(principal.as_ref())?).await?))
        }

        Route::BatchList => batches::list(ops, access()?, &query(&["before", "limit"])?).await,
        Route::BatchPreview => {
            let wish = body::json(request, patience).await?;
            Ok(ok(&ops.batches.preview(access()?, wish).await?))
        }
        Route::BatchCreate => {
            let wish = body::json(request, patience).await?;
            let (view, is_new) =
                ops.batches.create(access()?, wish, &actor(principal.as_ref())?).await?;
            Ok(json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &view))
        }
        Route::BatchGet(id) => Ok(ok(&ops.batches.get(access()?, id).await?)),
        Route::BatchMembers(id) => {
            batches::members(ops, access()?, id, &query(&["state", "after", "limit"])?).await
        }
        Route::BatchPause(id) => {
            Ok(ok(&ops.batches.pause(access()?, id, &actor(principal.as_ref())?).await?))
        }
        Route::BatchContinue(id) => {
            Ok(ok(&ops.batches.go_on(access()?, id, &actor(principal.as_ref())?).await?))
        }
        Route::BatchCancel(id) => {
            Ok(ok(&ops.batches.cancel(access()?, id, &actor(principal.as_ref())?).await?))
        }
        Route::BatchRetry(id) => {
            let wish: BatchRetry = body::json_or_default(request, patience).await?;
            let actor = actor(principal.as_ref())?;
            let view = ops.batches.retry(access()?, id, wish.expect, &actor).await?;
            Ok(json(StatusCode::CREATED, &view))
        }

        Route::DiscoverGet => discovery::get(http).await,
        Route::DiscoverPost => {
            let wish = body::json(request, patience).await?;
            discovery::post(http, grantor(principal)?, wish).await
        }

        Route::GrantCreate => {
            let grantor = grantor(principal)?;
            let wish = body::json(request, patience).await?;
            Ok(json(StatusCode::CREATED, &ops.grants.create(&grantor, wish).await?))
        }
        Route::GrantGet(uid) => Ok(ok(&ops.grants.get(&grantor(principal)?, uid).await?)),

        Route::PreauthList => Ok(ok(&ops.preauths.list().await?)),
        Route::PreauthCreate => {
            let wish = body::json(request, patience).await?;
            let made = ops.preauths.create(wish, &actor(principal.as_ref())?).await?;
            Ok(json(StatusCode::CREATED, &made))
        }
        Route::PreauthDelete(fingerprint) => {
            ops.preauths.delete(&fingerprint).await?;
            Ok(done("removed"))
        }

        Route::KeyList => Ok(ok(&ops.keys.list(access()?).await?)),
        Route::KeyCreate => {
            let headers = request.headers().clone();
            let wish: KeyCreate = body::json(request, patience).await?;
            let by = actor(principal.as_ref())?;
            let made = install::key_create(http, &headers, wish, access()?, &by).await?;
            Ok(json(StatusCode::CREATED, &made))
        }
        Route::KeyRevoke(id) => {
            ops.keys.revoke(&id, access()?, &actor(principal.as_ref())?).await?;
            Ok(done("revoked"))
        }
        Route::KeyRotate(id) => {
            let wish: KeyRotate = body::json_or_default(request, patience).await?;
            let made = ops.keys.rotate(&id, &wish, access()?, &actor(principal.as_ref())?).await?;
            Ok(json(StatusCode::CREATED, &made))
        }
        Route::Me => Ok(ok(&ops.keys.me(&known(principal)?).await?)),

        Route::StreamOpen => {
            let query = query(&["since", "only", "events"])?;
            let session = page::secret(http, request.headers(), is_tls);
            stream::open(&http.live, &query, request.headers(), principal, session)
        }
        Route::StreamView(uid) => {
            stream::look(&http.live, uid, principal, body::json(request, patience).await?)
        }

        Route::InfluxQuery | Route::InfluxQueryPost => {
            influx::query(text.as_deref(), request, patience).await
        }
        Route::InfluxPing => Ok(influx::pong()),
        Route::Metrics => metrics::answer(http, access()?, &query(&["fleet"])?).await,

        // `answer` has those for itself.
        Route::InfluxWrite
        | Route::InfluxWriteV2
        | Route::PageOverview
        | Route::PageDevice(_)
        | Route::PageConfig(_)
        | Route::PageConfigPost(_)
        | Route::PageMetadata(_)
        | Route::PageMetadataPost(_)
        | Route::PageSignIn
        | Route::PageSignInPost
        | Route::PageSignOut
        | Route::PageAsset(_) => {
            tracing::error!(%route, "this route is answered elsewhere");
            Err(Failure::internal())
        }
    }
}

/// The route of a request. Who wants the head alone is answered as one who wants it all, and hyper
/// keeps the body back.
fn route(method: &Method, path: &str) -> Result<Route, RouteError> {
    // What has no end, or costs much to find, has no head that says anything of it.
    let has_head = |route: &Route| {
        !matches!(
            route,
            Route::Link
                | Route::StreamOpen
                | Route::ExportGet
                | Route::BackupGet
                | Route::AuditChain
                | Route::DeviceLogs(_)
        )
    };
    let to_get = || Route::parse(Method::GET.as_str(), path);
    if method == Method::HEAD {
        return match to_get() {
            Ok(route) if !has_head(&route) => Err(RouteError::Method(vec!["GET"])),
            other => other,
        };
    }
    Route::parse(method.as_str(), path).map_err(|error| match error {
        RouteError::Method(mut allowed) if to_get().is_ok_and(|route| has_head(&route)) => {
            allowed.push("HEAD");
            RouteError::Method(allowed)
        }
        other => other,
    })
}

fn no_route(error: RouteError) -> Failure {
    match error {
        RouteError::NotFound => Failure::new(StatusCode::NOT_FOUND, "nothing has this path"),
        RouteError::Method(allowed) => {
            let allowed = allowed.join(", ");
            let detail = format!("this path takes {allowed}");
            let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, detail);
            match HeaderValue::from_str(&allowed) {
                Ok(value) => failure.with_header(header::ALLOW, value),
                Err(_) => failure,
            }
        }
    }
}

fn ok(body: &impl serde::Serialize) -> Reply {
    json(StatusCode::OK, body)
}

fn done(word: &str) -> Reply {
    ok(&Done::new(word))
}

fn ready(health: &StoreHealth) -> Reply {
    let status = match health {
        StoreHealth::Healthy => StatusCode::OK,
        StoreHealth::Degraded(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &Health::from(health))
}

/// What a link is bound to. Where TLS ends here nothing but its secret will do.
fn binding(http: &Http, way: Way, headers: &HeaderMap) -> Result<Binding, Failure> {
    match way {
        Way::Tls { exporter } => Ok(Binding::Exporter(exporter)),
        Way::Proxy => Ok(Binding::Proxied { name: http.page.own_host(headers)? }),
        Way::Plain => {
            let detail = "a link needs TLS: connect to this same port with TLS 1.3, or to a proxy \
                          of which this server knows by --trusted-proxy";
            Err(Failure::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

/// Who this server is. A nonce has it prove that, to those between whom and the server a proxy ends
/// TLS: nobody else needs it, and so nobody else can pass the proof on.
fn identity(
    http: &Http,
    way: Way,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Identity, Failure> {
    let public_key = http.server.public();
    let version = fleet_core::VERSION.to_owned();
    let proof = match query.get("nonce") {
        None => None,
        Some(text) => {
            let nonce: Nonce = text
                .parse()
                .map_err(|error: NonceError| Failure::invalid("nonce", &error.to_string()))?;
            let Way::Proxy = way else {
                let detail = "this server proves itself by its TLS alone: nothing here came by a \
                              proxy of which it knows by --trusted-proxy";
                return Err(Failure::new(StatusCode::BAD_REQUEST, detail));
            };
            Some(nonce.prove(http.page.own_host(headers)?, &http.server))
        }
    };
    Ok(Identity { identity: public_key.identity(), public_key, version, proof })
}

/// Who changes something. A change by nobody is not made.
fn actor(principal: Option<&Principal>) -> Result<Actor, OpsError> {
    let nobody = || OpsError::Forbidden("a change needs a key".to_owned());
    principal.map(Principal::actor).ok_or_else(nobody)
}

/// The key of the operator who asks, and what its holder may see and do.
pub(super) fn asker(principal: Option<&Principal>) -> Result<(&str, &Access), OpsError> {
    let principal =
        principal.ok_or_else(|| OpsError::Forbidden("this needs an operator key".to_owned()))?;
    Ok((principal.key(), principal.access()?))
}

/// Who calls a route that nobody may call without a key.
fn known(principal: Option<Principal>) -> Result<Principal, OpsError> {
    principal.ok_or_else(|| OpsError::Forbidden("this needs a key".to_owned()))
}

fn grantor(principal: Option<Principal>) -> Result<Grantor, OpsError> {
    match principal {
        Some(Principal::Operator { key, .. }) => Ok(Grantor::Operator(key)),
        Some(Principal::Enrol { key }) => Ok(Grantor::Enrol(key)),
        Some(Principal::Device { .. }) | None => {
            Err(OpsError::Forbidden("this key lets no devices in".to_owned()))
        }
    }
}
