//! Who calls, and whether they may: every route's class is in the route table, and a route
//! without a class cannot be written down.

use std::time::Instant;

use data_encoding::BASE64;
use fleet_core::api::{AuthClass, Route};
use fleet_core::secret::ApiKey;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use zeroize::Zeroizing;

use super::Http;
use super::reply::Failure;
use crate::door::Visit;
use crate::ops::Keys;
use crate::ops::keys::{Denied, Principal};
use crate::page;

const HINT: &str =
    "send Authorization: Bearer with a key; the server made one in admin.key beside its database";

/// A request, as far as it tells who sent it.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) is_tls: bool,
    /// Whether other people's programs call it, which know other ways to send a key.
    pub(crate) is_foreign: bool,
}

/// Who calls a route of a class. Nobody on a public one, or on a page, which asks for itself.
pub(crate) async fn authorize(
    http: &Http,
    class: AuthClass,
    caller: Caller<'_>,
    visit: &Visit,
) -> Result<Option<Principal>, Failure> {
    if matches!(class, AuthClass::Public | AuthClass::Page) {
        return Ok(None);
    }
    let principal = match key_text(caller)? {
        Some(text) => by_key(&text, &http.ops.keys, visit).await?,
        None => Box::pin(by_session(http, caller)).await?,
    };
    visit.welcome();
    check(class, &principal)?;
    Ok(Some(principal))
}

/// Who holds a key, or why it lets nobody in, which counts against its sender.
pub(crate) async fn authenticate(
    text: &str,
    keys: &Keys,
    visit: &Visit,
) -> Result<Result<Principal, Denied>, Failure> {
    let found = match text.parse::<ApiKey>() {
        Ok(key) => keys.authenticate(&key, visit.remote().ip()).await,
        Err(_) => Err(Denied::Unknown),
    };
    match found {
        Err(Denied::Store(error)) => Err(error.into()),
        Err(denied) => {
            visit.key_failed(Instant::now());
            Ok(Err(denied))
        }
        Ok(principal) => Ok(Ok(principal)),
    }
}

/// Tells that a request came with nothing.
pub(crate) fn no_key() -> Failure {
    unauthorized(format!("this needs a key: {HINT}"))
}

async fn by_key(text: &str, keys: &Keys, visit: &Visit) -> Result<Principal, Failure> {
    if let Some(wait) = visit.wait_before_key(Instant::now()) {
        let detail = "too many wrong keys came from this address";
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(failure.retry_after(wait.as_secs().max(1)));
    }
    let found = authenticate(text, keys, visit).await?;
    found.map_err(|denied| unauthorized(format!("{denied}: {HINT}")))
}

/// The key that a request shows, whether it is good or not.
pub(crate) fn key_shown(caller: Caller<'_>) -> Option<ApiKey> {
    key_text(caller).ok()??.parse().ok()
}

/// A browser's session may look, so that the page can keep itself up to date. To change something
/// a request needs a key, which no other page can make a browser send.
async fn by_session(http: &Http, caller: Caller<'_>) -> Result<Principal, Failure> {
    let session = page::session(http, caller.headers, caller.is_tls).await?;
    let (principal, _) = session.ok_or_else(no_key)?;
    if !matches!(*caller.method, Method::GET | Method::HEAD) {
        let detail = format!("a browser's session only looks: {HINT}");
        return Err(Failure::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(principal)
}

/// The key that a request came with.
fn key_text(caller: Caller<'_>) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(value) = caller.headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let (scheme, text) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).unwrap_or_default();
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    if is("bearer") || (caller.is_foreign && is("token")) {
        return Ok(Some(Zeroizing::new(text.trim().to_owned())));
    }
    if !caller.is_foreign {
        return Err(unauthorized(format!("Authorization is not of the kind Bearer: {HINT}")));
    }
    if !is("basic") {
        let detail = "Authorization is not of the kind Bearer, Token or Basic";
        return Err(unauthorized(format!("{detail}: {HINT}")));
    }
    // A browser sends by itself what it was once told for Basic, whosever page asks it to.
    if caller.headers.contains_key(header::ORIGIN) {
        return Err(unauthorized(format!("Basic is for programs, not for pages: {HINT}")));
    }
    password(text).map(Some).ok_or_else(|| unauthorized(format!("Basic has no password: {HINT}")))
}

/// The password of Basic authentication. Whoever the user is, the key is the password.
fn password(text: &str) -> Option<Zeroizing<String>> {
    let bytes = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).ok()?);
    let (_, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some(Zeroizing::new(password.to_owned()))
}

fn unauthorized(detail: String) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fleetd\""))
}

fn check(class: AuthClass, principal: &Principal) -> Result<(), Failure> {
    let detail = match (class, principal) {
        (AuthClass::Public | AuthClass::AnyKey | AuthClass::Page, _)
        | (AuthClass::OperatorOrEnrol, Principal::Enrol { .. })
        | (AuthClass::OperatorOrDevice, Principal::Device { .. }) => return Ok(()),
        (class, Principal::Operator { access, .. }) => {
            if let Some(role) = class.role() {
                access.require_role(role)?;
            }
            return match class.right() {
                Some(right) => Ok(access.require_right(right)?),
                None => Ok(()),
            };
        }
        (_, Principal::Enrol { .. }) => {
            "an enrolment key only lets devices in: this needs an operator key"
        }
        (_, Principal::Device { .. }) => {
            "a device key only posts telemetry: this needs an operator key"
        }
    };
    Err(Failure::new(StatusCode::FORBIDDEN, detail))
}

/// Refuses whoever has a scope where a route is about more than devices of it.
pub(super) fn require_reach(route: &Route, principal: Option<&Principal>) -> Result<(), Failure> {
    match (route.beyond_scopes(), principal) {
        (Some(what), Some(Principal::Operator { access, .. })) => {
            Ok(access.require_whole_fleet(what)?)
        }
        _ => Ok(()),
    }
}
