//! Forms that change something: who may send them, and what they have in common.
//!
//! A form is taken from a browser with a session, from one of our own pages, and with the token
//! that was written for that browser. A key alone sends none: programs have the API.

use fleet_core::api::{AuditAction, AuditHash, Role};
use fleet_core::audit::digest;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::untrusted::Untrusted;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};

use super::html::Html;
use super::layout::Sheet;
use super::sign_in::is_for;
use super::{Ask, Reader, gate};
use crate::http::audit::{self, Sender};
use crate::http::body;
use crate::http::body::Payload;
use crate::http::query::Query;
use crate::http::reply::{Failure, Reply};
use crate::ops::{Actor, OpsError};

/// What somebody sent with a form.
pub(super) struct Sent {
    /// Whose browser it was.
    pub(super) reader: Reader,
    /// As whom they change something.
    pub(super) actor: Actor,
    /// What they filled in.
    pub(super) fields: Query,
    /// Who that is to the audit record.
    sender: Sender,
    body: AuditHash,
}

impl Sent {
    /// A field's text; a field that was left out is empty.
    pub(super) fn text(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_default()
    }

    /// Does what the form asks for, recorded before and after.
    pub(super) async fn recorded<T>(
        &self,
        ask: Ask<'_>,
        action: AuditAction,
        device: (&DeviceId, Uid),
        why: Option<String>,
        work: impl Future<Output = Result<T, OpsError>>,
    ) -> Result<Result<T, OpsError>, Failure> {
        let mut deed = self.sender.deed(action);
        deed.targets = vec![device.0.to_string(), device.1.to_string()];
        deed.reason = why;
        deed.body = Some(self.body);
        let begun = ask.http.ops.audit.begin(deed).await?;
        let done = work.await;
        let upshot = match &done {
            Ok(_) => audit::said(StatusCode::SEE_OTHER, "done"),
            Err(error) => {
                let status = status(error);
                audit::said(status, &audit::guarded(action, status, &error.to_string()))
            }
        };
        begun.end(upshot).await;
        Ok(done)
    }
}

/// Takes a form with these fields, besides its token.
pub(super) async fn receive(
    ask: Ask<'_>,
    request: Request<Payload>,
    fields: &[&str],
    bytes_max: usize,
) -> Result<Sent, Failure> {
    let headers: &HeaderMap = request.headers();
    ask.http.page.hosts.check(headers)?;
    gate::check_origin(headers)?;
    let Some((principal, secret)) = super::session(ask.http, headers, ask.is_tls).await? else {
        let detail = "nobody is signed in any more: sign in, and fill in the form anew";
        return Err(Failure::new(StatusCode::UNAUTHORIZED, detail));
    };
    ask.visit.welcome();
    let known = [fields, &["token"]].concat();
    let patience = ask.http.patience.body;
    let (request, bytes) = body::gather(request, bytes_max, patience).await?;
    let fields = body::form(request, patience, &known, bytes_max).await?;
    if !is_for(&secret, &fields) {
        let detail = "this form was not written for you: load the page anew";
        return Err(Failure::new(StatusCode::FORBIDDEN, detail));
    }
    let access = principal.access()?.clone();
    access.require_role(Role::Operator)?;
    let audit = &ask.http.ops.audit;
    let sender = Sender::of(audit, &principal, "session", ask.visit, ask.request_id).await?;
    let reader = Reader { secret: Some(secret), access };
    Ok(Sent { reader, actor: principal.actor(), fields, sender, body: digest(&bytes) })
}

/// How what was not done is answered.
fn status(error: &OpsError) -> StatusCode {
    match error {
        OpsError::NotFound(_) => StatusCode::NOT_FOUND,
        OpsError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        OpsError::Conflict(_) | OpsError::Stale { .. } => StatusCode::CONFLICT,
        OpsError::Forbidden(_) => StatusCode::FORBIDDEN,
        OpsError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        OpsError::Defect => StatusCode::INTERNAL_SERVER_ERROR,
        OpsError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Begins a form about a device, if its reader may send one.
pub(super) fn begin(html: &mut Html, reader: &Reader, path: &str) -> Result<(), Failure> {
    reader.access.require_role(Role::Operator)?;
    let Some(token) = reader.form_token() else {
        let detail = "forms are for browsers that are signed in: programs use /api/v1";
        return Err(Failure::new(StatusCode::FORBIDDEN, detail));
    };
    html.raw("<form class=\"edit\" method=\"post\" action=\"").text(path).raw("\">");
    html.raw("<input type=\"hidden\" name=\"token\" value=\"").text(token).raw("\">");
    Ok(())
}

/// A hidden field.
pub(super) fn hidden(html: &mut Html, name: &str, value: impl std::fmt::Display) {
    html.raw("<input type=\"hidden\" name=\"").text(name).raw("\" value=\"").text(value);
    html.raw("\">");
}

/// What is wrong with what was sent, for the one who can put it right; else the failure itself.
pub(super) fn correctable(error: OpsError) -> Result<(StatusCode, Untrusted), Failure> {
    match &error {
        OpsError::Invalid { .. } => {
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Untrusted::new(error.to_string())))
        }
        OpsError::Conflict(_) => Ok((StatusCode::CONFLICT, Untrusted::new(error.to_string()))),
        OpsError::Forbidden(_) => Ok((StatusCode::FORBIDDEN, Untrusted::new(error.to_string()))),
        _ => Err(error.into()),
    }
}

/// A page with a form. It does not load itself again, which would empty the form.
pub(super) fn page(
    ask: Ask<'_>,
    reader: &Reader,
    status: StatusCode,
    title: String,
    content: Html,
) -> Reply {
    let identity = Some(ask.http.page.identity);
    let sheet = Sheet { title, reader: Some(reader), is_live: false, identity, content };
    ask.browser.page(status, sheet.markup())
}

/// The heading of a form about a device, with the way back.
pub(super) fn heading(html: &mut Html, what: &'static str, device: &str) {
    html.raw("<nav><a href=\"/devices/").text(device).raw("\">← ").text(device);
    html.raw("</a></nav><h1>").raw(what).raw(" <small>").text(device).raw("</small></h1>");
}
