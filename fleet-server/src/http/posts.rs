//! Samples in JSON: one object, an array of them, or one object a line (NDJSON), as the content
//! type says.

use std::time::Duration;

use fleet_core::api::TelemetryPost;
use fleet_core::limits::TELEMETRY_SAMPLES_MAX;
use fleet_core::untrusted::escaped;
use hyper::{Request, StatusCode};
use serde_json::error::Category;

use super::body::Payload;
use super::body::{self, last_key};
use super::intake::{Intake, apart, is_large};
use super::reply::Failure;
use crate::ops::telemetry::Layout;

const JSON: &str = "application/json";
const LINES: [&str; 2] = ["application/x-ndjson", "application/ndjson"];

/// What a request posts, and where in it each sample stands.
pub(super) async fn posts(
    request: Request<Payload>,
    intake: &Intake,
    patience: Duration,
) -> Result<(Vec<TelemetryPost>, Layout), Failure> {
    let sent = body::check_type(request.headers(), &[JSON, LINES[0], LINES[1]])?;
    let body = intake.receive(request, patience).await?;
    let read = if sent == JSON { whole } else { by_line };
    if is_large(&body) { apart(move || read(&body)).await } else { read(&body) }
}

fn whole(bytes: &[u8]) -> Result<(Vec<TelemetryPost>, Layout), Failure> {
    match bytes.trim_ascii_start().first() {
        None => Err(empty()),
        Some(b'[') => {
            let posts: Vec<TelemetryPost> = body::parse(bytes)?;
            if posts.len() > TELEMETRY_SAMPLES_MAX {
                Err(too_many())
            } else {
                Ok((posts, Layout::Array))
            }
        }
        Some(_) => Ok((vec![body::parse(bytes)?], Layout::One)),
    }
}

fn by_line(bytes: &[u8]) -> Result<(Vec<TelemetryPost>, Layout), Failure> {
    let (mut posts, mut numbers) = (Vec::new(), Vec::new());
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if posts.len() == TELEMETRY_SAMPLES_MAX {
            return Err(too_many());
        }
        body::check_depth(line)?;
        posts.push(serde_json::from_slice(line).map_err(|error| wrong(line, number, &error))?);
        numbers.push(number);
    }
    if posts.is_empty() { Err(empty()) } else { Ok((posts, Layout::Lines(numbers))) }
}

/// What is wrong with one line: 400 for what is no JSON, 422 for what says the wrong thing.
fn wrong(line: &[u8], number: usize, error: &serde_json::Error) -> Failure {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let text = format!("{} at column {}", escaped(text), error.column());
    let place = format!("line {number}");
    match (error.classify(), last_key(line, error.line(), error.column())) {
        (Category::Data, Some(key)) => {
            Failure::invalid(&format!("{place}: {}", escaped(&key)), &text)
        }
        (Category::Data, None) => Failure::invalid(&place, &text),
        (Category::Io | Category::Syntax | Category::Eof, _) => {
            Failure::new(StatusCode::BAD_REQUEST, format!("{place} is not JSON: {text}"))
        }
    }
}

fn empty() -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "the body is empty")
}

fn too_many() -> Failure {
    let detail = format!("more than {TELEMETRY_SAMPLES_MAX} samples in one request");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// What must hold of any bytes, for tests and for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) mod check {
    use super::*;
    use crate::labels;

    /// The door of the fuzz target `posts`: any bytes are samples, or a refusal that names a place
    /// in them; and labels keep what their values are.
    pub(crate) fn posts_of_any_bytes(bytes: &[u8]) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        for (read, is_by_line) in [(whole as Read, false), (by_line, true)] {
            match read(bytes) {
                Ok((posts, layout)) => {
                    assert!(posts.len() <= TELEMETRY_SAMPLES_MAX);
                    if let Layout::Lines(numbers) = layout {
                        assert_eq!(numbers.len(), posts.len());
                        assert!(numbers.is_sorted_by(|one, next| one < next));
                        assert!(numbers.last().is_some_and(|last| *last <= lines));
                    }
                    posts.into_iter().for_each(check_post);
                }
                Err(failure) => {
                    let status = failure.status().as_u16();
                    assert!([400, 413, 422].contains(&status), "{status}");
                    let detail = failure.detail();
                    let line = if is_by_line {
                        // The line stands first, before anything that the body says.
                        detail.raw().strip_prefix("line ").and_then(number)
                    } else {
                        last_number(detail.raw(), " at line ")
                    };
                    assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{detail}");
                    let column = last_number(detail.raw(), " column ");
                    assert!(column.is_none_or(|column| column <= bytes.len()), "{detail}");
                }
            }
        }
    }

    type Read = fn(&[u8]) -> Result<(Vec<TelemetryPost>, Layout), Failure>;

    fn check_post(post: TelemetryPost) {
        if let Some(serde_json::Value::Object(metadata)) = post.metadata {
            for value in metadata.into_values() {
                assert_eq!(labels::value(&labels::text(value.clone())), value);
            }
        }
    }

    /// The number behind the last of these words. Names in the body may have them, but come before.
    fn last_number(text: &str, words: &str) -> Option<usize> {
        number(text.rsplit_once(words)?.1)
    }

    fn number(text: &str) -> Option<usize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        text[..digits].parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = r#"{"device_id":"a","metric_name":"m","value":1}"#;

    type Read = fn(&[u8]) -> Result<(Vec<TelemetryPost>, Layout), Failure>;

    fn refusal(read: Read, body: &str) -> (u16, String) {
        let failure = read(body.as_bytes()).unwrap_err();
        (failure.status().as_u16(), failure.detail().raw().to_owned())
    }

    #[test]
    fn samples_come_alone_in_an_array_or_by_line() {
        for (read, body, count) in [
            (whole as Read, POST.to_owned(), 1),
            (whole, format!("[{POST},{POST}]"), 2),
            (whole, "[]".to_owned(), 0),
            (by_line, POST.to_owned(), 1),
            (by_line, format!("{POST}\r\n{POST}\n\n {POST}\n"), 3),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap().0.len(), count, "{body}");
        }
        for (read, body) in [
            (whole as Read, String::new()),
            (whole, " \n".to_owned()),
            (whole, "{".to_owned()),
            (whole, format!("{POST}\n{POST}")),
            (by_line, "\n\n".to_owned()),
            (by_line, format!("{POST}{POST}")),
            (by_line, POST.replace(',', ",\n")),
        ] {
            assert_eq!(refusal(read, &body).0, 400, "{body}");
        }
        assert_eq!(refusal(by_line, &format!("[{POST}]")).0, 422);
        let many = format!("{POST}\n").repeat(TELEMETRY_SAMPLES_MAX + 1);
        assert_eq!(refusal(by_line, &many).0, 413);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let (code, text) = refusal(whole, r#"{"device_id":"a","metric_name":"m","value":"high"}"#);
        assert!(code == 422 && text.starts_with("value: "), "{text}");
        let (code, text) = refusal(whole, r#"{"device_id":"a","metric":"m"}"#);
        assert!(code == 422 && text.contains("metric"), "{text}");
        let (code, text) = refusal(by_line, &format!("\n{POST}\n{}", r#"{"device_id": [1]}"#));
        assert_eq!(code, 422);
        assert!(
            text.starts_with("line 3: device_id: ") && text.ends_with("at column 14"),
            "{text}"
        );
        // What is wrong inside a text is not where it would be if the text were the body.
        let (code, text) = refusal(
            whole,
            r#"{"device_id":"a","metric_name":"m","value":1,"metadata":"{\"k\":01}"}"#,
        );
        assert_eq!(code, 422);
        assert_eq!(
            text,
            "metadata: a string that holds no JSON: invalid number (1:7 in it) at line 1 column 69"
        );
        let (code, text) = refusal(by_line, &format!("{POST}\nnonsense"));
        assert!(code == 400 && text.starts_with("line 2 is not JSON: "), "{text}");
    }
}
