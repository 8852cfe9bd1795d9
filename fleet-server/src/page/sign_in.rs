//! Signing in with an operator's key, and out again.
//!
//! The form is bound to the browser that it was written for: it carries a token that only the
//! browser's own cookie explains. A wrong key here counts as a wrong key anywhere.

use std::time::Instant;

use fleet_core::api::{AuditAction, AuditActor, Route};
use fleet_core::secret::ApiKey;
use fleet_core::untrusted::Untrusted;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::cookie::Cookie;
use super::html::Html;
use super::layout::Sheet;
use super::{Ask, gate, ok, reply};
use crate::http::audit::{self, Sender};
use crate::http::body::FORM_BYTES_MAX;
use crate::http::body::Payload;
use crate::http::query::Query;
use crate::http::reply::{Failure, Reply};
use crate::http::{auth, body};
use crate::ops::audit::{Begun, NOBODY};
use crate::ops::keys::Principal;
use crate::ops::sessions::SessionSecret;

/// Where somebody goes who wanted nothing in particular.
const HOME: &str = "/";
/// Bytes of the path that somebody goes on to.
const NEXT_BYTES_MAX: usize = 2 * 1024;

/// `GET /sign-in`.
pub(super) async fn show(ask: Ask<'_>, request: &Request<Payload>) -> Result<Reply, Failure> {
    ask.http.page.hosts.check(request.headers())?;
    let query = Query::parse(request.uri().query(), &["next"])?;
    let next = next(query.get("next"));
    let session = super::session(ask.http, request.headers(), ask.is_tls).await?;
    if ask.browser.wants_json {
        return Ok(ok(&json!({"signed_in": session.is_some()})));
    }
    match session {
        Some(_) => reply::see_other(next),
        None => form(ask, request.headers(), StatusCode::OK, next, None),
    }
}

/// `POST /sign-in`.
pub(super) async fn begin(ask: Ask<'_>, request: Request<Payload>) -> Result<Reply, Failure> {
    let (page, patience) = (&ask.http.page, ask.http.patience.body);
    page.hosts.check(request.headers())?;
    gate::check_origin(request.headers())?;
    let headers = request.headers().clone();
    let fields = ["username", "key", "token", "next"];
    let sent = body::form(request, patience, &fields, FORM_BYTES_MAX).await?;
    let next = next(sent.get("next"));
    let refuse = |status, problem: &str| form(ask, &headers, status, next, Some(problem));

    let binding = page.jar.read(Cookie::Form, &headers, ask.is_tls);
    if !binding.is_some_and(|binding| is_for(&binding, &sent)) {
        return refuse(
            StatusCode::FORBIDDEN,
            "This form was too old, or cookies are off. Try again.",
        );
    }
    if let Some(wait) = ask.visit.wait_before_key(Instant::now()) {
        let secs = wait.as_secs().max(1);
        let problem = format!("Too many wrong keys. Try again in {secs} s.");
        let mut reply = refuse(StatusCode::TOO_MANY_REQUESTS, &problem)?;
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        return Ok(reply);
    }
    let text = sent.get("key").unwrap_or_default();
    let principal = match auth::authenticate(text, &ask.http.ops.keys, ask.visit).await? {
        Ok(principal @ Principal::Operator { .. }) => principal,
        Ok(principal @ (Principal::Enrol { .. } | Principal::Device { .. })) => {
            let problem = "This needs an operator's key.";
            refused(ask, Some(&principal), text, StatusCode::FORBIDDEN, problem).await?;
            return refuse(StatusCode::FORBIDDEN, problem);
        }
        Err(denied) => {
            let problem = format!("Not signed in: {denied}.");
            refused(ask, None, text, StatusCode::UNAUTHORIZED, &problem).await?;
            return refuse(StatusCode::UNAUTHORIZED, &problem);
        }
    };
    ask.visit.welcome();
    let begun = begun(ask, &principal, AuditAction::SessionBegin, "key").await?;
    if let Some(old) = page.jar.read(Cookie::Session, &headers, ask.is_tls) {
        ask.http.ops.sessions.end(&old).await?;
    }
    let secret = ask.http.ops.sessions.begin(principal.key()).await?;
    begun.end(audit::said(StatusCode::SEE_OTHER, "signed in")).await;
    let mut reply = reply::see_other(next)?;
    give(ask, &mut reply, Cookie::Session, Some(&secret))?;
    give(ask, &mut reply, Cookie::Form, None)?;
    Ok(reply)
}

/// `POST /sign-out`.
pub(super) async fn end(ask: Ask<'_>, request: Request<Payload>) -> Result<Reply, Failure> {
    let (page, patience) = (&ask.http.page, ask.http.patience.body);
    page.hosts.check(request.headers())?;
    gate::check_origin(request.headers())?;
    let secret = page.jar.read(Cookie::Session, request.headers(), ask.is_tls);
    let sent = body::form(request, patience, &["token"], FORM_BYTES_MAX).await?;
    let mut reply = reply::see_other("/sign-in")?;
    if let Some(secret) = secret {
        if !is_for(&secret, &sent) {
            let detail = "this form was not written for you: load the page anew";
            return Err(Failure::new(StatusCode::FORBIDDEN, detail));
        }
        // Only a session that is still good ends by this.
        let begun = match ask.http.ops.sessions.find(&secret).await? {
            Some(principal @ Principal::Operator { .. }) => {
                Some(begun(ask, &principal, AuditAction::SessionEnd, "session").await?)
            }
            _ => None,
        };
        ask.http.ops.sessions.end(&secret).await?;
        if let Some(begun) = begun {
            begun.end(audit::said(StatusCode::SEE_OTHER, "signed out")).await;
        }
        give(ask, &mut reply, Cookie::Session, None)?;
    }
    Ok(reply)
}

/// Records that an operator's session is about to begin or end.
async fn begun(
    ask: Ask<'_>,
    principal: &Principal,
    action: AuditAction,
    via: &'static str,
) -> Result<Begun, Failure> {
    let audit = &ask.http.ops.audit;
    let sender = Sender::of(audit, principal, via, ask.visit, ask.request_id).await?;
    Ok(audit.begin(sender.deed(action)).await?)
}

/// Records that somebody was not let in.
async fn refused(
    ask: Ask<'_>,
    principal: Option<&Principal>,
    shown: &str,
    status: StatusCode,
    problem: &str,
) -> Result<(), Failure> {
    let audit = &ask.http.ops.audit;
    let actor = match principal {
        Some(principal) => audit.actor(principal).await?,
        None => {
            let key_id = shown.parse::<ApiKey>().ok().map(|key| Untrusted::from(key.id()));
            AuditActor { key_id, ..AuditActor::bare(NOBODY) }
        }
    };
    let via = if principal.is_some() { "key" } else { "none" };
    let (visit, request_id) = (ask.visit.clone(), ask.request_id.to_owned());
    let sender = Sender { actor, via, visit, request_id };
    let mut deed = sender.deed(AuditAction::SessionBegin);
    deed.text = problem.to_owned();
    audit.refused(deed, Some(status.as_u16())).await;
    Ok(())
}

/// The form, bound to its browser, with what went wrong before.
fn form(
    ask: Ask<'_>,
    headers: &HeaderMap,
    status: StatusCode,
    next: &str,
    problem: Option<&str>,
) -> Result<Reply, Failure> {
    let known = ask.http.page.jar.read(Cookie::Form, headers, ask.is_tls);
    let binding = known.map_or_else(SessionSecret::generate, Ok)?;
    let mut content = Html::default();
    content.raw("<form class=\"sign-in\" id=\"sign-in\" method=\"post\" action=\"/sign-in\">");
    content.raw("<h1>Sign in</h1>");
    if let Some(problem) = problem {
        content.raw("<p class=\"problem\" role=\"alert\">").text(problem).raw("</p>");
    }
    if gate::is_overheard(headers, ask.is_tls, ask.visit.remote().ip()) {
        let host = gate::authority(headers).unwrap_or_default();
        content.raw("<p class=\"problem\">Others on the network could read the key: this ");
        content.raw("connection is not encrypted. <a href=\"https://").text(host);
        content.raw("/sign-in?next=").parameter(next).raw("\">Use one that is</a></p>");
    }
    // For password managers, which keep a key under some name.
    content.raw("<input name=\"username\" autocomplete=\"username\" value=\"operator\" hidden>");
    content.raw("<label for=\"key\">Operator key</label>");
    content.raw("<input id=\"key\" name=\"key\" type=\"password\" required autofocus ");
    content.raw("autocomplete=\"current-password\" spellcheck=\"false\" placeholder=\"flt_op_…\" ");
    content.raw("aria-describedby=\"hint\">");
    content.raw("<input type=\"hidden\" name=\"token\" value=\"").text(binding.form_token());
    content.raw("\"><input type=\"hidden\" name=\"next\" id=\"next\" value=\"").text(next);
    content
        .raw("\"><button>Sign in</button><p id=\"hint\" class=\"muted\">The server keeps one in ");
    content.raw("<code>admin.key</code> beside its database. Another one: ");
    content.raw("<code>fleets keys create</code>.</p></form>");
    let sheet = Sheet {
        title: "Sign in · FleetD".to_owned(),
        reader: None,
        is_live: false,
        identity: Some(ask.http.page.identity),
        content,
    };
    let mut reply = ask.browser.page(status, sheet.markup());
    give(ask, &mut reply, Cookie::Form, Some(&binding))?;
    Ok(reply)
}

/// Whether a form was written for the browser that holds this secret.
pub(super) fn is_for(secret: &SessionSecret, sent: &Query) -> bool {
    let token = sent.get("token").unwrap_or_default();
    token.as_bytes().ct_eq(secret.form_token().as_bytes()).into()
}

fn give(
    ask: Ask<'_>,
    reply: &mut Reply,
    cookie: Cookie,
    secret: Option<&SessionSecret>,
) -> Result<(), Failure> {
    let value = ask.http.page.jar.write(cookie, secret, ask.is_tls);
    reply.headers_mut().append(header::SET_COOKIE, value.ok_or_else(Failure::internal)?);
    Ok(())
}

/// Where to go on: one of our own pages, whatever the URL says.
fn next(wanted: Option<&str>) -> &str {
    let is_own = |wanted: &&str| {
        let (path, query) = wanted.split_once('?').unwrap_or((wanted, ""));
        let route = Route::parse("GET", path);
        wanted.len() <= NEXT_BYTES_MAX
            && query.bytes().all(|byte| byte.is_ascii_graphic())
            && matches!(
                route,
                Ok(Route::PageOverview
                    | Route::PageDevice(_)
                    | Route::PageConfig(_)
                    | Route::PageMetadata(_))
            )
    };
    wanted.filter(is_own).unwrap_or(HOME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_our_own_pages_only() {
        for own in ["/", "/?filter=a%3Db&page=2", "/devices/rpi4-001?range=1h"] {
            assert_eq!(next(Some(own)), own);
        }
        let long = format!("/?filter={}", "a".repeat(NEXT_BYTES_MAX));
        for other in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/",
            "/api/v1/devices",
            "/sign-in",
            "/devices/a/../../x",
            "/?a\r\nSet-Cookie: x",
            "/? ",
            "/?é",
            "javascript:alert(1)",
            &long,
        ] {
            assert_eq!(next(Some(other)), HOME, "{other}");
        }
        assert_eq!(next(None), HOME);
    }
}
