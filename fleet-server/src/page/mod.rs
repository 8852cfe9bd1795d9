//! The status page: how the fleet is doing, for anybody with a browser and an operator's key.
//!
//! Pages are whole without scripts, and reload by themselves then; the script only keeps them up
//! to date in place. What a session lets in elsewhere are requests that read; only the forms of
//! [`form`] change something. Nothing of a page comes from another server, and no outside text
//! becomes markup ([`html::Html`]).

mod assets;
mod config_form;
mod cookie;
mod counts;
mod curves;
mod device;
mod events;
mod form;
mod gate;
mod html;
mod layout;
mod log;
mod mistake;
mod notes_form;
mod overview;
mod reply;
mod sign_in;
mod table;
mod words;

use std::sync::Arc;

use fleet_core::api::{AuthClass, Role, Route};
use fleet_core::identity::ServerIdentity;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};

use self::cookie::{Cookie, Jar};
use self::gate::Hosts;
use crate::config::ServerConfig;
use crate::door::Visit;
use crate::http::body::Payload;
use crate::http::query::encoded;
use crate::http::reply::{Failure, Reply, json};
use crate::http::{Http, auth};
use crate::ops::Access;
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;

pub(crate) use self::layout::problem;
pub(crate) use self::reply::Browser;

/// What pages need to know of their server.
pub(crate) struct Page {
    jar: Jar,
    hosts: Hosts,
    identity: ServerIdentity,
    is_public: bool,
}

/// Who reads a page.
pub(super) struct Reader {
    /// Their browser's secret; none if they came with a key.
    secret: Option<SessionSecret>,
    /// What they may see and do.
    access: Access,
}

impl Page {
    /// The name and port by which a request calls this server, if they are its own.
    pub(crate) fn own_name<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Failure> {
        self.hosts.check(headers)?;
        Ok(gate::authority(headers).unwrap_or_default())
    }

    /// The same name alone, as a URL has it.
    pub(crate) fn own_host(&self, headers: &HeaderMap) -> Result<String, Failure> {
        self.own_name(headers).map(gate::host_name)
    }
}

impl Reader {
    /// What their forms carry.
    fn form_token(&self) -> Option<String> {
        self.secret.as_ref().map(SessionSecret::form_token)
    }

    /// Whether there are forms for them.
    fn may_edit(&self) -> bool {
        self.secret.is_some() && self.access.might().role >= Role::Operator
    }
}

impl Page {
    pub(crate) fn new(config: &ServerConfig, identity: ServerIdentity) -> Self {
        let machine = nix::unistd::gethostname().unwrap_or_default();
        Self {
            jar: Jar::new(identity),
            hosts: Hosts::new(
                &machine.to_string_lossy(),
                config.public_url.as_ref(),
                &config.allowed_hosts,
            ),
            identity,
            is_public: config.public_status,
        }
    }
}

/// A request for a page, and what is known of it from the start.
#[derive(Clone, Copy)]
struct Ask<'a> {
    http: &'a Arc<Http>,
    visit: &'a Arc<Visit>,
    is_tls: bool,
    request_id: &'a str,
    browser: Browser,
}

/// Answers a request for a page.
pub(crate) async fn answer(
    http: &Arc<Http>,
    visit: &Arc<Visit>,
    is_tls: bool,
    request_id: &str,
    route: Route,
    request: Request<Payload>,
) -> Result<Reply, Failure> {
    let browser = Browser::of(request.headers());
    let ask = Ask { http, visit, is_tls, request_id, browser };
    match route {
        Route::PageAsset(name) => assets::answer(&name, browser),
        Route::PageSignIn => sign_in::show(ask, &request).await,
        Route::PageSignInPost => sign_in::begin(ask, request).await,
        Route::PageSignOut => sign_in::end(ask, request).await,
        Route::PageOverview => match reader(ask, request.headers()).await? {
            Some(reader) => Box::pin(overview::show(ask, &reader, request.uri().query())).await,
            None if http.page.is_public => Ok(overview::show_to_anybody(ask)),
            None => stranger(ask, &request),
        },
        Route::PageDevice(name) => match reader(ask, request.headers()).await? {
            Some(reader) => {
                Box::pin(device::show(ask, &reader, &name, request.uri().query())).await
            }
            None => stranger(ask, &request),
        },
        Route::PageConfig(name) => match reader(ask, request.headers()).await? {
            Some(reader) => config_form::show(ask, &reader, &name).await,
            None => stranger(ask, &request),
        },
        Route::PageConfigPost(name) => Box::pin(config_form::send(ask, &name, request)).await,
        Route::PageMetadata(name) => match reader(ask, request.headers()).await? {
            Some(reader) => notes_form::show(ask, &reader, &name).await,
            None => stranger(ask, &request),
        },
        Route::PageMetadataPost(name) => Box::pin(notes_form::send(ask, &name, request)).await,
        other => {
            tracing::error!(route = %other, "this is no route of a page");
            Err(Failure::internal())
        }
    }
}

/// The secret of the session that a request stands on; none if it stands on a key.
pub(crate) fn secret(http: &Http, headers: &HeaderMap, is_tls: bool) -> Option<SessionSecret> {
    let has_key = headers.contains_key(header::AUTHORIZATION);
    if has_key { None } else { http.page.jar.read(Cookie::Session, headers, is_tls) }
}

/// Who a browser's session stands for, if it has one that is good. Such a request must call this
/// server by its own name.
pub(crate) async fn session(
    http: &Http,
    headers: &HeaderMap,
    is_tls: bool,
) -> Result<Option<(Principal, SessionSecret)>, Failure> {
    let Some(secret) = http.page.jar.read(Cookie::Session, headers, is_tls) else {
        return Ok(None);
    };
    http.page.hosts.check(headers)?;
    let principal = http.ops.sessions.find(&secret).await?;
    Ok(principal.map(|principal| (principal, secret)))
}

/// Who asks for a page: somebody with a session, or a program with an operator's key.
async fn reader(ask: Ask<'_>, headers: &HeaderMap) -> Result<Option<Reader>, Failure> {
    if headers.contains_key(header::AUTHORIZATION) {
        let is_foreign = false;
        let caller = auth::Caller { method: &Method::GET, headers, is_tls: ask.is_tls, is_foreign };
        let who = auth::authorize(ask.http, AuthClass::Viewer, caller, ask.visit).await?;
        let Some(who) = who else { return Ok(None) };
        return Ok(Some(Reader { secret: None, access: who.access()?.clone() }));
    }
    ask.http.page.hosts.check(headers)?;
    let session = session(ask.http, headers, ask.is_tls).await?;
    let Some((who, secret)) = session else { return Ok(None) };
    ask.visit.welcome();
    Ok(Some(Reader { secret: Some(secret), access: who.access()?.clone() }))
}

/// Sends a browser to where it can sign in; tells a program what it lacks.
fn stranger(ask: Ask<'_>, request: &Request<Payload>) -> Result<Reply, Failure> {
    if ask.browser.wants_json {
        return Err(auth::no_key());
    }
    let wanted = request.uri().path_and_query().map_or("/", |wanted| wanted.as_str());
    if wanted == "/" {
        return reply::see_other("/sign-in");
    }
    reply::see_other(&format!("/sign-in?next={}", encoded(wanted)))
}

fn ok(body: &impl serde::Serialize) -> Reply {
    json(StatusCode::OK, body)
}
