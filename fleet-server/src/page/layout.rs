//! What surrounds every page.

use fleet_core::identity::ServerIdentity;
use hyper::StatusCode;

use super::Reader;
use super::assets::{ICON, SCRIPT, STYLE};
use super::html::Html;
use super::reply::Browser;
use crate::http::reply::{Failure, Reply};

/// Between two loads of a page by itself, where there are no scripts.
const RELOAD: &str = "<noscript><meta http-equiv=\"refresh\" content=\"15\"></noscript>";

/// A whole page.
pub(super) struct Sheet<'a> {
    /// What a browser's tab says.
    pub(super) title: String,
    /// Who reads it, if that is known.
    pub(super) reader: Option<&'a Reader>,
    /// Whether it shows what changes.
    pub(super) is_live: bool,
    /// The server.
    pub(super) identity: Option<ServerIdentity>,
    /// What it says.
    pub(super) content: Html,
}

impl Sheet<'_> {
    /// The page's markup.
    pub(super) fn markup(&self) -> Html {
        let mut html = Html::default();
        html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
        html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        html.raw("<meta name=\"color-scheme\" content=\"light dark\">");
        html.raw("<title>").text(&self.title).raw("</title>");
        html.raw("<link rel=\"stylesheet\" href=\"/assets/").text(&STYLE.name).raw("\">");
        html.raw("<link rel=\"icon\" href=\"/assets/").text(&ICON.name).raw("\">");
        html.raw("<script src=\"/assets/").text(&SCRIPT.name).raw("\" defer></script>");
        if self.is_live {
            html.raw(RELOAD);
        }
        html.raw("</head><body><header><a class=\"home\" href=\"/\">FleetD</a>");
        if let Some(token) = self.reader.and_then(Reader::form_token) {
            html.raw("<form method=\"post\" action=\"/sign-out\">");
            html.raw("<input type=\"hidden\" name=\"token\" value=\"").text(token).raw("\">");
            html.raw("<button>Sign out</button></form>");
        }
        html.raw("</header><p id=\"banner\" role=\"status\"></p><main>").piece(&self.content);
        html.raw("</main><footer>FleetD ").text(fleet_core::VERSION);
        if let Some(identity) = self.identity {
            html.raw(" · server <code>").text(identity).raw("</code>");
        }
        html.raw("</footer></body></html>\n");
        html
    }
}

/// A failure, for somebody who looks at pages; nothing for a program.
pub(crate) fn problem(browser: Browser, failure: &Failure, request_id: &str) -> Option<Reply> {
    if !browser.takes_html || browser.wants_json {
        return None;
    }
    let status = failure.status();
    let reason = status.canonical_reason().unwrap_or("Error");
    let mut content = Html::default();
    content.raw("<h1>").text(reason).raw("</h1><p>").text(failure.detail()).raw("</p>");
    content.raw("<p><a href=\"/\">To the overview</a></p>");
    if status.is_server_error() {
        content.raw("<p class=\"muted\">Request ").text(request_id).raw("</p>");
    }
    let title = format!("{reason} · FleetD");
    let sheet = Sheet { title, reader: None, is_live: false, identity: None, content };
    let mut reply = browser.page(status, sheet.markup());
    failure.copy_headers(&mut reply);
    Some(reply)
}

/// A page that is there.
pub(super) fn found(browser: Browser, sheet: &Sheet<'_>) -> Reply {
    browser.page(StatusCode::OK, sheet.markup())
}
