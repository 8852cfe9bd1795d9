//! Request bodies: bounded in bytes, time and depth before anything is made of them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fleet_core::limits::{JSON_BYTES_MAX, JSON_DEPTH_MAX};
use fleet_core::untrusted::escaped;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::{Instant, timeout};

use super::encoding::Encoding;
use super::query::Query;
use super::reply::Failure;

/// How long a body's sender may take before its pace counts, and how fast it must be then: 1 KB in
/// a second.
const GRACE: Duration = Duration::from_secs(5);
const BYTES_PER_MILLI_MIN: usize = 1;
/// Bytes of a small form.
pub(crate) const FORM_BYTES_MAX: usize = 8 * 1024;

/// A request's body: as it comes, or as it was read for the audit record.
pub(crate) type Payload = Either<Incoming, Full<Bytes>>;

/// Reads a body, so many bytes at most, and gives it back beside the request that it is still in.
pub(crate) async fn gather(
    request: Request<Payload>,
    bytes_max: usize,
    patience: Duration,
) -> Result<(Request<Payload>, Bytes), Failure> {
    let (head, body) = request.into_parts();
    let bytes = read(&head.headers, body, bytes_max, patience).await?;
    Ok((Request::from_parts(head, Either::Right(Full::new(bytes.clone()))), bytes))
}

/// A body that must be JSON.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request<Payload>,
    patience: Duration,
) -> Result<T, Failure> {
    let (head, body) = request.into_parts();
    check_type(&head.headers, &["application/json"])?;
    check_not_encoded(&head.headers)?;
    let bytes = read(&head.headers, body, JSON_BYTES_MAX, patience).await?;
    let value = parse(&bytes)?;
    // A list's entries were taken for an object's fields, in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let detail = "the body must be a JSON object, and is a list";
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    Ok(value)
}

/// A JSON body that may be left out.
pub(super) async fn json_or_default<T: DeserializeOwned + Default>(
    request: Request<Payload>,
    patience: Duration,
) -> Result<T, Failure> {
    use hyper::body::Body as _;
    if request.body().is_end_stream() { Ok(T::default()) } else { json(request, patience).await }
}

/// What a form on a page sent: these fields, and no others.
pub(crate) async fn form(
    request: Request<Payload>,
    patience: Duration,
    known: &[&str],
    bytes_max: usize,
) -> Result<Query, Failure> {
    let (head, body) = request.into_parts();
    check_type(&head.headers, &["application/x-www-form-urlencoded"])?;
    check_not_encoded(&head.headers)?;
    let bytes = read(&head.headers, body, bytes_max, patience).await?;
    Query::parse(std::str::from_utf8(&bytes).ok(), known)
}

/// A body's bytes, so many at most.
async fn read(
    headers: &HeaderMap,
    body: Payload,
    bytes_max: usize,
    patience: Duration,
) -> Result<Bytes, Failure> {
    check_announced(headers, bytes_max)?;
    let collected = timeout(patience, collect(body, bytes_max)).await;
    collected.unwrap_or_else(|_| Err(too_slow()))
}

async fn collect(mut body: Payload, bytes_max: usize) -> Result<Bytes, Failure> {
    let (mut pace, mut all) = (Pace::default(), BytesMut::new());
    while let Some(piece) = pace.next(&mut body).await? {
        if all.len() + piece.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// How fast a body comes, at least: whoever stalls costs a connection for a moment only, however
/// long a large body may take.
#[derive(Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    /// The next bytes of the body; nothing at its end.
    pub(super) async fn next(&mut self, body: &mut Payload) -> Result<Option<Bytes>, Failure> {
        loop {
            let began = Instant::now();
            let frame = timeout(self.left(), body.frame()).await.map_err(|_| too_slow())?;
            self.waited += began.elapsed();
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(piece) = frame.map_err(|_| breaks_off())?.into_data() {
                self.bytes += piece.len();
                return Ok(Some(piece));
            }
        }
    }

    /// How long the sender may let us wait until it is too slow.
    fn left(&self) -> Duration {
        let allowed = GRACE + Duration::from_millis((self.bytes / BYTES_PER_MILLI_MIN) as u64);
        allowed.saturating_sub(self.waited)
    }
}

/// Refuses a body before it comes, if it is known to be too large.
pub(super) fn check_announced(headers: &HeaderMap, bytes_max: usize) -> Result<(), Failure> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_too_large = announced.is_some_and(|length| length > bytes_max as u64);
    if is_too_large { Err(too_large(bytes_max)) } else { Ok(()) }
}

/// A body's sender left in the middle.
pub(super) fn breaks_off() -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "the body breaks off")
}

/// A body's sender takes too long.
pub(super) fn too_slow() -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
}

/// A body is larger than it may be.
pub(super) fn too_large(bytes_max: usize) -> Failure {
    let detail = format!("the body is larger than {bytes_max} bytes");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// The content type, which must be one of those known.
pub(super) fn check_type<'a>(headers: &HeaderMap, known: &[&'a str]) -> Result<&'a str, Failure> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let sent = sent.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if let Some(known) = known.iter().find(|known| known.eq_ignore_ascii_case(sent)) {
        return Ok(known);
    }
    let detail = format!("send the body with Content-Type: {}", known.join(" or "));
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

fn check_not_encoded(headers: &HeaderMap) -> Result<(), Failure> {
    if Encoding::of(headers).is_ok_and(|encoding| encoding == Encoding::Identity) {
        return Ok(());
    }
    let detail = "send this body without Content-Encoding";
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    check_depth(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| wrong(bytes, &error))
}

/// 400 for what is no JSON, 422 with its field for JSON that says the wrong thing.
fn wrong(bytes: &[u8], error: &serde_json::Error) -> Failure {
    let text = escaped(&error.to_string());
    match error.classify() {
        Category::Data => match last_key(bytes, error.line(), error.column()) {
            Some(key) => Failure::invalid(&escaped(&key), &text),
            None => Failure::new(StatusCode::UNPROCESSABLE_ENTITY, text),
        },
        Category::Io | Category::Syntax | Category::Eof => {
            Failure::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {text}"))
        }
    }
}

/// The name of the object member that stands at or last before a place.
pub(super) fn last_key(bytes: &[u8], line: usize, column: usize) -> Option<String> {
    let before: usize =
        bytes.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let head = bytes.get(..(before + column).min(bytes.len()))?;
    let (mut start, mut last, mut escape) = (None, None, false);
    for (position, byte) in head.iter().enumerate() {
        match (start, byte) {
            (Some(_), _) if escape => escape = false,
            (Some(_), b'\\') => escape = true,
            (Some(begin), b'"') => {
                start = None;
                let rest = bytes[position + 1..].trim_ascii_start();
                if rest.first() == Some(&b':') {
                    last = Some(begin + 1..position);
                }
            }
            (None, b'"') => start = Some(position),
            _ => {}
        }
    }
    Some(String::from_utf8_lossy(&bytes[last?]).into_owned())
}

pub(super) fn check_depth(bytes: &[u8]) -> Result<(), Failure> {
    let (mut depth, mut in_text, mut escape) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escape => escape = false,
            b'\\' if in_text => escape = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            let detail = format!("the body is nested deeper than {JSON_DEPTH_MAX} levels");
            return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t25_a_sender_has_a_moment_and_then_a_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(), GRACE);
        pace.waited = GRACE;
        assert_eq!(pace.left(), Duration::ZERO);
        pace.bytes = 2_000;
        assert_eq!(pace.left(), Duration::from_secs(2));
        pace.waited = GRACE + Duration::from_secs(9);
        assert_eq!(pace.left(), Duration::ZERO);
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_depth(deep(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(check_depth(deep(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(check_depth(format!("\"\\\"{}\"", "[".repeat(100)).as_bytes()).is_ok());
    }
}
