//! Style, script and icon, as they lie in `assets/`. Their URLs change with their contents, so a
//! browser may keep them for ever.

use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use ring::digest;

use super::reply::{self, Browser};
use crate::http::reply::{Failure, Reply, bytes_reply};

/// Characters of a content's hash in its URL.
const HASH_CHARS: usize = 12;
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The page's style.
pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("css", "text/css; charset=utf-8", include_bytes!("../../assets/page.css"))
});
/// The page's script.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("js", "text/javascript; charset=utf-8", include_bytes!("../../assets/page.js"))
});
/// The page's icon.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_bytes!("../../assets/page.svg")));

/// A file that pages need.
pub(super) struct Asset {
    /// Its name below `/assets/`.
    pub(super) name: String,
    media: &'static str,
    plain: Bytes,
    zipped: Bytes,
}

impl Asset {
    fn new(kind: &str, media: &'static str, content: &'static [u8]) -> Self {
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, content).as_ref());
        Self {
            name: format!("page-{}.{kind}", &hash[..HASH_CHARS]),
            media,
            plain: Bytes::from_static(content),
            zipped: reply::zipped(content).into(),
        }
    }
}

/// A request for an asset.
pub(super) fn answer(name: &str, browser: Browser) -> Result<Reply, Failure> {
    let assets = [&STYLE, &SCRIPT, &ICON];
    let Some(asset) = assets.iter().find(|asset| asset.name == name) else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "nothing has this path"));
    };
    let body = if browser.takes_gzip { asset.zipped.clone() } else { asset.plain.clone() };
    let mut reply = bytes_reply(StatusCode::OK, body);
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media));
    headers.insert(header::CACHE_CONTROL, FOR_EVER);
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if browser.takes_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(reply)
}
