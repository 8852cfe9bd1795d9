//! One request: where to, who from, what came of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fleet_core::api::{
    BatchRetry, DeviceDeleted, Done, Health, Identity, KeyCreate, Nonce, NonceError, Route,
    RouteError, Verdict,
};
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::Binding;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, StatusCode};

use super::influx::{self, Dialect};
use super::posts::posts;
use super::query::Query;
use super::reply::{Failure, Reply, bytes_reply, json, whole};
use super::{
    Http, auth, backup, batches, body, commands, configs, devices, discovery, events, export,
    fleetwide, logs, metrics, openapi, stream, telemetry,
};
use crate::door::{Visit, Way};
use crate::ops::grants::Grantor;
use crate::ops::keys::Principal;
use crate::ops::{Actor, OpsError};
use crate::page::{self, Browser};
use crate::store::StoreHealth;

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
    let path = Untrusted::from(request.uri().path());
    let dialect = Dialect::of(path.raw());
    let route = route(&method, path.raw());
    let subject = metrics::subject(route.as_ref().ok());
    let browser = Browser::of(request.headers());
    // Once a request is here it is answered to its end, though its sender may leave meanwhile: what
    // it changes is recorded, and told to those who must know.
    let task = {
        let (http, visit) = (http.clone(), visit.clone());
        async move {
            if is_crowd {
                return Err(crowd());
            }
            answer(&http, &visit, way, route, request).await
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
    request: Request<Incoming>,
) -> Result<Reply, Failure> {
    let route = route.map_err(no_route)?;
    let class = route.spec().auth;
    let is_tls = way.is_tls();
    if !is_tls && http.certificate.is_some() {
        return sent_on(http, &request);
    }
    let (method, headers) = (request.method(), request.headers());
    let caller = auth::Caller { method, headers, is_tls, is_foreign: influx::is_foreign(&route) };
    let principal = auth::authorize(http, class, caller, visit).await?;
    match route {
        Route::InfluxWrite | Route::InfluxWriteV2 => {
            influx::write(http, known(principal)?, request).await
        }
        // All else is kept apart, so that what comes thousands of times a second stays small.
        route => Box::pin(answer_rest(http, visit, way, principal, route, request)).await,
    }
}

/// Somebody behind a proxy has more under way than a stranger may.
fn crowd() -> Failure {
    let detail = "too many requests of this address are under way";
    Failure::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(1)
}

/// Who came without TLS is sent on to where it is spoken.
fn sent_on(http: &Http, request: &Request<Incoming>) -> Result<Reply, Failure> {
    let authority = http.page.own_name(request.headers())?;
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let place = format!("https://{authority}{path}");
    let location = HeaderValue::from_str(&place).map_err(|_| Failure::internal())?;
    let mut reply = Reply::new(whole(Bytes::new()));
    *reply.status_mut() = StatusCode::PERMANENT_REDIRECT;
    reply.headers_mut().insert(header::LOCATION, location);
    Ok(reply)
}

async fn answer_rest(
    http: &Arc<Http>,
    visit: &Arc<Visit>,
    way: Way,
    principal: Option<Principal>,
    route: Route,
    request: Request<Incoming>,
) -> Result<Reply, Failure> {
    let is_tls = way.is_tls();
    let ops = &http.ops;
    let patience = http.patience.body;
    let text = request.uri().query().map(str::to_owned);
    let query = |known: &[&str]| Query::parse(text.as_deref(), known);
    match route {
        Route::Health => Ok(ok(&Health { status: "ok".to_owned(), reason: None })),
        Route::HealthReady => Ok(ready(&ops.world.health())),
        Route::Identity => Ok(ok(&identity(http, way, request.headers(), &query(&["nonce"])?)?)),
        Route::OpenApi => Ok(bytes_reply(StatusCode::OK, openapi::document())),
        Route::Link => {
            let binding = binding(http, way, request.headers())?;
            Ok(http.links.upgrade(visit, binding, request)?)
        }

        Route::DeviceList => {
            devices::list(ops, &query(&["limit", "cursor", "filter", "sort"])?).await
        }
        Route::DeviceGet(name) => Ok(ok(&ops.devices.get(&name).await?)),
        Route::DevicePut(name) => {
            let update = body::json(request, patience).await?;
            ops.devices.update(&name, update, &actor(principal.as_ref())?).await?;
            Ok(done("updated"))
        }
        Route::DeviceDelete(name) => {
            let actor = actor(principal.as_ref())?;
            let (uid, kept_until) = ops.devices.delete(&name, &actor).await?;
            ops.commands.call_off(uid, &actor).await?;
            http.live.logs.forget(uid);
            let status = "deleted".to_owned();
            let (uid, kept_until) = (Some(uid), Some(kept_until));
            Ok(ok(&DeviceDeleted { status, uid, kept_until }))
        }
        Route::DeviceAccept(name) => {
            let verdict: Verdict = body::json_or_default(request, patience).await?;
            ops.devices.accept(&name, &verdict.reason, &actor(principal.as_ref())?).await?;
            Ok(done("accepted"))
        }
        Route::DeviceReject(name) => {
            let verdict: Verdict = body::json_or_default(request, patience).await?;
            ops.devices.reject(&name, &verdict.reason, &actor(principal.as_ref())?).await?;
            Ok(done("rejected"))
        }
        Route::DeviceRevoke(name) => {
            let verdict: Verdict = body::json_or_default(request, patience).await?;
            let actor = actor(principal.as_ref())?;
            let uid = ops.devices.revoke(&name, &verdict.reason, &actor).await?;
            ops.commands.call_off(uid, &actor).await?;
            http.live.logs.forget(uid);
            Ok(done("revoked"))
        }

        Route::DeviceRestore(name) => {
            Ok(ok(&ops.devices.restore(&name, &actor(principal.as_ref())?).await?))
        }
        Route::DeletedList => Ok(ok(&ops.devices.deleted().await?)),

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
            telemetry::metrics(ops, &query(&known)?).await
        }

        Route::TelemetryLatest => fleetwide::latest(ops, &query(&["metrics"])?).await,

        Route::TelemetryTop => {
            let query = query(&["metric", "window", "to", "agg", "order", "limit"])?;
            fleetwide::top(ops, &query).await
        }

        Route::TelemetrySeries => {
            let query = query(&["device_id", "metrics", "from", "to", "step"])?;
            telemetry::series(ops, &query).await
        }

        Route::EventList => {
            let query = query(&["device_id", "kind", "since", "until", "before", "limit"])?;
            events::list(ops, &query).await
        }

        Route::DbGet => Ok(ok(&http.database.view().await?)),
        Route::DbPrune => {
            let wish = body::json_or_default(request, patience).await?;
            Ok(ok(&http.database.prune(wish, &actor(principal.as_ref())?).await?))
        }
        Route::DbCompact => Ok(ok(&http.database.compact().await?)),
        Route::ExportGet => {
            let query = query(&["tables", "from", "to"])?;
            let session = page::secret(http, request.headers(), is_tls);
            export::open(http, &query, principal, session)
        }

        Route::BackupGet => {
            query(&[])?;
            backup::open(http, principal, page::secret(http, request.headers(), is_tls))
        }

        Route::ConfigGet => configs::get(ops, &query(&["device_id", "layer"])?).await,
        Route::ConfigPost => {
            let query = query(&["device_id", "layer"])?;
            configs::post(ops, &query, &actor(principal.as_ref())?, request, patience).await
        }
        Route::ConfigHistory => {
            configs::history(ops, &query(&["device_id", "layer", "before", "limit"])?).await
        }
        Route::ConfigLayers => Ok(ok(&ops.configs.layer_list().await?)),
        Route::ConfigPreview => {
            let query = query(&["layer"])?;
            configs::preview(ops, &query, &actor(principal.as_ref())?, request, patience).await
        }

        Route::CommandList => {
            let query = query(&["device_id", "state", "ending", "before", "limit"])?;
            commands::list(ops, &query).await
        }
        Route::CommandCreate => {
            let wish = body::json(request, patience).await?;
            let (view, is_new) = ops.commands.create(wish, &actor(principal.as_ref())?).await?;
            Ok(json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &view))
        }
        Route::CommandGet(id) => commands::get(http, id, &query(&["wait", "after"])?).await,
        Route::CommandCancel(id) => {
            Ok(ok(&ops.commands.cancel(id, &actor(principal.as_ref())?).await?))
        }

        Route::BatchList => batches::list(ops, &query(&["before", "limit"])?).await,
        Route::BatchPreview => {
            let wish = body::json(request, patience).await?;
            Ok(ok(&ops.batches.preview(wish).await?))
        }
        Route::BatchCreate => {
            let wish = body::json(request, patience).await?;
            let (view, is_new) = ops.batches.create(wish, &actor(principal.as_ref())?).await?;
            Ok(json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &view))
        }
        Route::BatchGet(id) => Ok(ok(&ops.batches.get(id).await?)),
        Route::BatchMembers(id) => {
            batches::members(ops, id, &query(&["state", "after", "limit"])?).await
        }
        Route::BatchPause(id) => {
            Ok(ok(&ops.batches.pause(id, &actor(principal.as_ref())?).await?))
        }
        Route::BatchContinue(id) => {
            Ok(ok(&ops.batches.go_on(id, &actor(principal.as_ref())?).await?))
        }
        Route::BatchCancel(id) => {
            Ok(ok(&ops.batches.cancel(id, &actor(principal.as_ref())?).await?))
        }
        Route::BatchRetry(id) => {
            let wish: BatchRetry = body::json_or_default(request, patience).await?;
            let actor = actor(principal.as_ref())?;
            let view = ops.batches.retry(id, wish.expect, &actor).await?;
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

        Route::KeyList => Ok(ok(&ops.keys.list().await?)),
        Route::KeyCreate => {
            let wish: KeyCreate = body::json(request, patience).await?;
            let made = ops.keys.create(wish, &actor(principal.as_ref())?).await?;
            Ok(json(StatusCode::CREATED, &made))
        }
        Route::KeyRevoke(id) => {
            ops.keys.revoke(&id, &actor(principal.as_ref())?).await?;
            Ok(done("revoked"))
        }

        Route::PageOverview
        | Route::PageDevice(_)
        | Route::PageConfig(_)
        | Route::PageConfigPost(_)
        | Route::PageMetadata(_)
        | Route::PageMetadataPost(_)
        | Route::PageSignIn
        | Route::PageSignInPost
        | Route::PageSignOut
        | Route::PageAsset(_) => page::answer(http, visit, is_tls, route, request).await,

        Route::StreamOpen => {
            let query = query(&["since", "only", "events"])?;
            let session = page::secret(http, request.headers(), is_tls);
            stream::open(&http.live, &query, request.headers(), principal, session)
        }
        Route::StreamView(uid) => {
            stream::look(&http.live, uid, principal, body::json(request, patience).await?)
        }

        Route::InfluxWrite | Route::InfluxWriteV2 => {
            influx::write(http, known(principal)?, request).await
        }
        Route::InfluxQuery | Route::InfluxQueryPost => {
            influx::query(text.as_deref(), request, patience).await
        }
        Route::InfluxPing => Ok(influx::pong()),
        Route::Metrics => metrics::answer(http, &query(&["fleet"])?).await,
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
    match health {
        StoreHealth::Healthy => ok(&Health { status: "ok".to_owned(), reason: None }),
        StoreHealth::Degraded(reason) => {
            let health = Health { status: "degraded".to_owned(), reason: Some(reason.clone()) };
            json(StatusCode::SERVICE_UNAVAILABLE, &health)
        }
    }
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

/// Who calls a route that nobody may call without a key.
fn known(principal: Option<Principal>) -> Result<Principal, OpsError> {
    principal.ok_or_else(|| OpsError::Forbidden("this needs a key".to_owned()))
}

fn grantor(principal: Option<Principal>) -> Result<Grantor, OpsError> {
    match principal {
        Some(Principal::Operator { key }) => Ok(Grantor::Operator(key)),
        Some(Principal::Enrol { key }) => Ok(Grantor::Enrol(key)),
        Some(Principal::Device { .. }) | None => {
            Err(OpsError::Forbidden("this key lets no devices in".to_owned()))
        }
    }
}
