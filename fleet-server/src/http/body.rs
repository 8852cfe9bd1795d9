//! Request bodies: bounded in bytes, time and depth before anything is made of them.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use fleet_core::api::TelemetryPost;
use fleet_core::limits::{
    JSON_BYTES_MAX, JSON_DEPTH_MAX, TELEMETRY_BYTES_MAX, TELEMETRY_SAMPLES_MAX,
};
use fleet_core::untrusted::escaped;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use super::query::Query;
use super::reply::Failure;

/// Bytes of a form.
const FORM_BYTES_MAX: usize = 8 * 1024;

/// A body that must be JSON.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request<Incoming>,
    patience: Duration,
) -> Result<T, Failure> {
    let (head, body) = request.into_parts();
    check_type(&head.headers, &["application/json"])?;
    check_not_encoded(&head.headers)?;
    let bytes = read(&head.headers, body, JSON_BYTES_MAX, patience).await?;
    parse(&bytes)
}

/// A JSON body that may be left out.
pub(super) async fn json_or_default<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
    patience: Duration,
) -> Result<T, Failure> {
    use hyper::body::Body as _;
    if request.body().is_end_stream() { Ok(T::default()) } else { json(request, patience).await }
}

/// Samples: one object, an array of them, or one a line; plain or gzip.
pub(super) async fn telemetry(
    request: Request<Incoming>,
    patience: Duration,
) -> Result<Vec<TelemetryPost>, Failure> {
    let (head, body) = request.into_parts();
    check_type(&head.headers, &["application/json", "application/x-ndjson", "application/ndjson"])?;
    let gzip = match encoding(&head.headers)? {
        "" | "identity" => false,
        "gzip" => true,
        other => {
            let detail = format!(
                "Content-Encoding {} is not read here: send gzip or identity",
                escaped(other)
            );
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
                .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity")));
        }
    };
    let bytes = read(&head.headers, body, TELEMETRY_BYTES_MAX, patience).await?;
    // Ten megabytes take long enough to hold up other requests on this thread.
    let parsed = tokio::task::spawn_blocking(move || {
        let bytes = if gzip { unzipped(&bytes)? } else { bytes };
        samples(&bytes)
    });
    parsed.await.unwrap_or_else(|_| Err(Failure::internal()))
}

/// What a form on a page sent: these fields, and no others.
pub(crate) async fn form(
    request: Request<Incoming>,
    patience: Duration,
    known: &[&str],
) -> Result<Query, Failure> {
    let (head, body) = request.into_parts();
    check_type(&head.headers, &["application/x-www-form-urlencoded"])?;
    check_not_encoded(&head.headers)?;
    let bytes = read(&head.headers, body, FORM_BYTES_MAX, patience).await?;
    Query::parse(std::str::from_utf8(&bytes).ok(), known)
}

async fn read(
    headers: &HeaderMap,
    body: Incoming,
    bytes_max: usize,
    patience: Duration,
) -> Result<Bytes, Failure> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    match timeout(patience, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Ok(Err(_)) => Err(Failure::new(StatusCode::BAD_REQUEST, "the body breaks off")),
        Err(_) => Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

fn too_large(bytes_max: usize) -> Failure {
    let detail = format!("the body is larger than {bytes_max} bytes");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn check_type(headers: &HeaderMap, known: &[&str]) -> Result<(), Failure> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let sent = sent.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if known.iter().any(|known| known.eq_ignore_ascii_case(sent)) {
        return Ok(());
    }
    let detail = format!("send the body with Content-Type: {}", known.join(" or "));
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

fn check_not_encoded(headers: &HeaderMap) -> Result<(), Failure> {
    match encoding(headers)? {
        "" | "identity" => Ok(()),
        _ => Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send this body without Content-Encoding",
        )),
    }
}

fn encoding(headers: &HeaderMap) -> Result<&str, Failure> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok("") };
    value.to_str().map(str::trim).map_err(|_| {
        Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is no text")
    })
}

fn unzipped(bytes: &[u8]) -> Result<Bytes, Failure> {
    let mut plain = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes).take(TELEMETRY_BYTES_MAX as u64 + 1);
    if decoder.read_to_end(&mut plain).is_err() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "the body is not gzip"));
    }
    if plain.len() > TELEMETRY_BYTES_MAX {
        return Err(too_large(TELEMETRY_BYTES_MAX));
    }
    Ok(plain.into())
}

fn samples(bytes: &[u8]) -> Result<Vec<TelemetryPost>, Failure> {
    let too_many = || {
        let detail = format!("more than {TELEMETRY_SAMPLES_MAX} samples in one request");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let posts: Vec<TelemetryPost> = parse(bytes)?;
        return if posts.len() > TELEMETRY_SAMPLES_MAX { Err(too_many()) } else { Ok(posts) };
    }
    check_depth(bytes)?;
    let mut posts = Vec::new();
    for post in serde_json::Deserializer::from_slice(bytes).into_iter() {
        if posts.len() == TELEMETRY_SAMPLES_MAX {
            return Err(too_many());
        }
        posts.push(post.map_err(|error| wrong(bytes, &error))?);
    }
    if posts.is_empty() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "the body is empty"));
    }
    Ok(posts)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
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
fn last_key(bytes: &[u8], line: usize, column: usize) -> Option<String> {
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

fn check_depth(bytes: &[u8]) -> Result<(), Failure> {
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

    const POST: &str = r#"{"device_id":"a","metric_name":"m","value":1}"#;

    fn status(body: &str) -> (u16, String) {
        let failure = samples(body.as_bytes()).unwrap_err();
        let text = format!("{failure:?}");
        let status = failure.into_reply("r").status().as_u16();
        (status, text)
    }

    #[test]
    fn samples_come_alone_in_an_array_or_by_line() {
        for (body, count) in [
            (POST.to_owned(), 1),
            (format!("[{POST},{POST}]"), 2),
            (format!("{POST}\n{POST}\n\n{POST}\n"), 3),
            ("[]".to_owned(), 0),
        ] {
            assert_eq!(samples(body.as_bytes()).unwrap().len(), count, "{body}");
        }
        assert_eq!(status("").0, 400);
        assert_eq!(status("{").0, 400);
        assert_eq!(status(&format!("{POST} x")).0, 400);
    }

    #[test]
    fn a_wrong_value_is_named() {
        let (code, text) = status(r#"{"device_id":"a","metric_name":"m","value":"high"}"#);
        assert!(code == 422 && text.contains("value: "), "{text}");
        let (code, text) = status(&format!("{POST}\n{}", r#"{"device_id": [1]}"#));
        assert!(code == 422 && text.contains("device_id: "), "{text}");
        let (code, text) = status(r#"{"device_id":"a","metric":"m"}"#);
        assert!(code == 422 && text.contains("metric"), "{text}");
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_depth(deep(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(check_depth(deep(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(check_depth(format!("\"\\\"{}\"", "[".repeat(100)).as_bytes()).is_ok());

        use std::io::Write as _;
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b' '; TELEMETRY_BYTES_MAX + 1]).unwrap();
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < 20_000);
        assert!(unzipped(&bomb).is_err());
        assert!(unzipped(b"plain").is_err());
    }
}
