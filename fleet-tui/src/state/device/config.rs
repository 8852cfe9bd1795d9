//! A device's configuration, key by key: what it shall have beside what it is known to have.

use fleet_core::api::ConfigView;
use fleet_core::filter::ConfigState;
use fleet_core::glyph::Tone;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;
use serde_json::Value;

use crate::cells;

/// Keys that are shown.
const KEYS_MAX: usize = 500;
/// The key whose value devices tell with their facts.
const INTERVAL: &str = "telemetry.interval";

/// A line about a configuration, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigLine {
    /// How it stands with the whole.
    Word(Tone, String),
    /// What stands above the keys.
    Titles,
    /// One key.
    Key(ConfigKey),
}

/// One key of a configuration, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its path.
    pub path: String,
    /// What the device shall have.
    pub desired: String,
    /// What it has, as far as that is known.
    pub reported: Option<String>,
}

impl ConfigKey {
    /// Whether the device is known to have what it shall.
    pub fn is_same(&self) -> bool {
        self.reported.as_ref() == Some(&self.desired)
    }
}

/// How far the device is with it.
pub fn state(view: &ConfigView) -> ConfigState {
    let reported = view.reported.as_ref();
    let error = reported.filter(|reported| reported.version == view.version);
    let error = error.and_then(|reported| reported.error.as_ref());
    let said = reported.map(|reported| reported.version);
    view.state.unwrap_or_else(|| ConfigState::of(view.version, said, error))
}

/// Everything there is to say: how it stands, who wanted it so, then key by key.
pub fn lines(view: &ConfigView, interval_secs: Option<u32>, now: Timestamp) -> Vec<ConfigLine> {
    let mut lines = Vec::new();
    let mut word = |tone, text: String| lines.push(ConfigLine::Word(tone, text));
    match (state(view), &view.reported) {
        (ConfigState::None, _) => {
            word(Tone::Plain, "none: the device goes by its own settings".to_owned());
            word(Tone::Muted, "x sets one".to_owned());
        }
        (ConfigState::Applied, Some(reported)) => {
            word(Tone::Good, format!("applied {}", ago(reported.applied_at, now)));
        }
        (ConfigState::Trying, Some(_)) => {
            word(Tone::Warn, "being tried: it has to show that it works".to_owned());
        }
        (ConfigState::Reverted, Some(reported)) => {
            let why = reported.error.as_ref().map(ToString::to_string).unwrap_or_default();
            word(Tone::Bad, format!("reverted {}: {why}", ago(reported.applied_at, now)));
        }
        (ConfigState::Refused, Some(reported)) => {
            let why = reported.error.as_ref().map(ToString::to_string).unwrap_or_default();
            word(Tone::Bad, format!("refused {}: {why}", ago(reported.applied_at, now)));
        }
        (_, Some(reported)) => {
            let text = format!("waiting: the device still goes by r{}", reported.version);
            word(Tone::Warn, text);
        }
        (_, None) => word(Tone::Warn, "waiting: the device has said nothing of it".to_owned()),
    }
    if let Some(at) = view.at {
        let author = view.author.as_deref().map(|author| format!("by {} ", escaped(author)));
        word(Tone::Muted, format!("set {}{}", author.unwrap_or_default(), ago(at, now)));
    }
    if let Some(comment) = &view.comment {
        word(Tone::Muted, comment.to_string());
    }
    if let Some(not_applied) = &view.not_applied {
        word(Tone::Warn, escaped(not_applied));
    }
    let keys = keys(view, interval_secs);
    if !keys.is_empty() {
        lines.push(ConfigLine::Titles);
    }
    lines.extend(keys.into_iter().map(ConfigLine::Key));
    lines
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match cells::age(now.since(at)).as_str() {
        "now" => "just now".to_owned(),
        age => format!("{age} ago"),
    }
}

/// Its keys. A device that applied the document has every value of it; of another document than
/// this only the interval is known, which the device tells by itself.
fn keys(view: &ConfigView, interval_secs: Option<u32>) -> Vec<ConfigKey> {
    let is_applied = state(view) == ConfigState::Applied;
    let document: Value = serde_json::from_str(&view.config).unwrap_or_default();
    let mut keys = Vec::new();
    flatten(&document, &mut String::new(), &mut keys);
    let key = |(path, desired): (String, String)| {
        let told = interval_secs.filter(|_| path == INTERVAL).map(|secs| secs.to_string());
        let reported = told.or_else(|| is_applied.then(|| desired.clone()));
        ConfigKey { path, desired, reported }
    };
    keys.into_iter().map(key).collect()
}

/// Every value with its path. The depth is that of a JSON document, which has a bound.
fn flatten(value: &Value, path: &mut String, keys: &mut Vec<(String, String)>) {
    if keys.len() >= KEYS_MAX {
        return;
    }
    match value {
        Value::Object(object) if !object.is_empty() => {
            let len = path.len();
            for (name, value) in object {
                let dot = if len > 0 { "." } else { "" };
                path.push_str(dot);
                path.push_str(name);
                flatten(value, path, keys);
                path.truncate(len);
            }
        }
        Value::Object(_) | Value::Null if path.is_empty() => {}
        _ => keys.push((escaped(path), text(value))),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        Value::Array(list) if !list.is_empty() => {
            list.iter().take(KEYS_MAX).map(text).collect::<Vec<_>>().join(", ")
        }
        other => escaped(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(config: Value, reported: Option<Value>) -> ConfigView {
        let view = json!({
            "device_id": "a", "server_url": null, "api_key": "(masked)", "config": config.to_string(),
            "version": 2, "hash": "h", "reported": reported,
        });
        serde_json::from_value(view).unwrap()
    }

    fn reported(version: u64, error: Option<&str>) -> Value {
        let at = "2026-01-01T00:00:00Z";
        json!({"version": version, "hash": "h", "applied_at": at, "error": error})
    }

    #[test]
    fn keys_are_paths_and_only_what_is_known_is_the_same() {
        let document = json!({"telemetry": {"interval": 30, "metrics": ["cpu_usage", "disk"]}});
        for (reported, state_is, same) in [
            (Some(reported(2, None)), ConfigState::Applied, [true, true]),
            (Some(reported(1, None)), ConfigState::Waiting, [true, false]),
            (Some(reported(2, Some("no"))), ConfigState::Refused, [true, false]),
            (None, ConfigState::Waiting, [true, false]),
        ] {
            let view = view(document.clone(), reported);
            let found = keys(&view, Some(30));
            assert_eq!(state(&view), state_is);
            let paths: Vec<_> = found.iter().map(|key| key.path.as_str()).collect();
            assert_eq!(paths, ["telemetry.interval", "telemetry.metrics"]);
            assert_eq!(found[1].desired, "cpu_usage, disk");
            assert_eq!([found[0].is_same(), found[1].is_same()], same);
        }
        let late = keys(&view(document, Some(reported(2, None))), Some(60));
        assert_eq!(late[0].reported.as_deref(), Some("60"));
        assert!(!late[0].is_same());
    }

    #[test]
    fn odd_documents_are_shown_as_they_are() {
        for (document, shown) in [
            (json!({}), &[][..]),
            (json!({"a": {}}), &[("a", "{}")]),
            (json!({"a": [], "b": null}), &[("a", "[]"), ("b", "null")]),
            (json!({"\u{1b}": "\u{9b}31m"}), &[("\\u{1b}", "\\u{9b}31m")]),
        ] {
            let keys = keys(&view(document, None), None);
            let found: Vec<_> =
                keys.iter().map(|key| (key.path.as_str(), key.desired.as_str())).collect();
            assert_eq!(found, shown);
        }
    }
}
