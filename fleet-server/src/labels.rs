//! Labels: text in the store, values of any kind in JSON.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A value as a label's text, so that [`value`] gives it back: text as it is, unless it would be
/// read as JSON; all else as JSON.
pub(crate) fn text(value: Value) -> String {
    match value {
        Value::String(text) if serde_json::from_str::<Value>(&text).is_err() => text,
        other => other.to_string(),
    }
}

/// The value that a label's text stands for.
pub(crate) fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// The text alone, where a label's text stands for a text: for those who know only texts.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    match text.starts_with('"').then(|| serde_json::from_str(text)) {
        Some(Ok(plain)) => Cow::Owned(plain),
        _ => Cow::Borrowed(text),
    }
}

/// All labels of a series as the JSON object that replies hold.
pub(crate) fn object(labels: &[(String, String)]) -> String {
    let members = labels.iter().map(|(name, text)| (name.clone(), value(text)));
    Value::Object(members.collect::<Map<_, _>>()).to_string()
}
