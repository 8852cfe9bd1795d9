//! What goes back to a browser: pages with the headers that keep them harmless, and redirects.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::html::Html;
use crate::http::reply::{Failure, Reply, bytes_reply};

/// Nothing but our own files, no inline script or style, no frames. See CSP level 3.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
/// Nobody else learns where a reader came from. Not `no-referrer`: that makes browsers send our
/// own forms with `Origin: null`, and outside TLS the origin is all that tells them from others'.
const REFERRER: HeaderValue = HeaderValue::from_static("same-origin");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// What a browser takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Browser {
    /// Compressed replies.
    pub(super) takes_gzip: bool,
    /// Pages, when there is nothing better.
    pub(super) takes_html: bool,
    /// JSON rather than pages.
    pub(super) wants_json: bool,
}

impl Browser {
    /// Reads what a request says that it accepts.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let html = weight(headers, &header::ACCEPT, "text/html");
        let json = weight(headers, &header::ACCEPT, "application/json");
        Self {
            takes_gzip: weight(headers, &header::ACCEPT_ENCODING, "gzip") > 0.0,
            takes_html: html > 0.0,
            wants_json: json > html,
        }
    }

    /// A page.
    pub(super) fn page(self, status: StatusCode, html: Html) -> Reply {
        let text = html.into_string();
        // A page holds a form's token beside what its URL says, which compressing could give away
        // to whoever makes a browser ask often: but what others make it ask comes without cookies.
        let body = if self.takes_gzip { zipped(text.as_bytes()) } else { text.into_bytes() };
        let mut reply = bytes_reply(status, Bytes::from(body));
        let headers = reply.headers_mut();
        headers.insert(header::CONTENT_TYPE, HTML);
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(header::REFERRER_POLICY, REFERRER);
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding, Cookie"));
        if self.takes_gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        reply
    }
}

/// Sends a browser to one of our own pages.
pub(super) fn see_other(path: &str) -> Result<Reply, Failure> {
    let mut reply = bytes_reply(StatusCode::SEE_OTHER, Bytes::new());
    let location = HeaderValue::from_str(path).map_err(|_| Failure::internal())?;
    reply.headers_mut().remove(header::CONTENT_TYPE);
    reply.headers_mut().insert(header::LOCATION, location);
    Ok(reply)
}

/// Compressed bytes.
pub(super) fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let zipped = encoder.write_all(bytes).and_then(|()| encoder.finish());
    zipped.expect("writing to a Vec cannot fail")
}

/// How much a header wants something that it names, from 0 to 1; 0 if it does not.
fn weight(headers: &HeaderMap, header: &HeaderName, wanted: &str) -> f32 {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    let mut options = values.flat_map(|value| value.split(','));
    let found = options.find_map(|option| {
        let mut parts = option.split(';').map(str::trim);
        let is_wanted = parts.next()?.eq_ignore_ascii_case(wanted);
        is_wanted
            .then(|| parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0))
    });
    found.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn browser(accept: &'static str, encoding: &'static str) -> Browser {
        let pairs = [(header::ACCEPT, accept), (header::ACCEPT_ENCODING, encoding)];
        let headers = pairs.into_iter().map(|(name, text)| (name, HeaderValue::from_static(text)));
        Browser::of(&headers.collect())
    }

    #[test]
    fn what_a_browser_takes_is_weighed() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert!(!browser(chrome, "").wants_json && browser(chrome, "").takes_html);
        assert!(browser("application/json", "").wants_json);
        assert!(browser("text/html;q=0.5, application/json", "").wants_json);
        assert!(!browser("application/json;q=0.5,text/html", "").wants_json);
        assert!(!browser("*/*", "").wants_json && !browser("*/*", "").takes_html);
        assert!(browser("", "deflate, gzip, br").takes_gzip);
        assert!(!browser("", "gzip;q=0, br").takes_gzip && !browser("", "br").takes_gzip);
    }
}
