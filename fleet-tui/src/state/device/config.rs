//! A device's configuration, key by key: what it shall have beside what it is known to have.

use std::collections::BTreeSet;

use fleet_core::api::{ConfigView, config_paths};
use fleet_core::filter::ConfigState;
use fleet_core::glyph::Tone;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;
use serde_json::Value;

use super::versions::{Version, Versions};
use crate::cells;

/// Keys that are shown.
const KEYS_MAX: usize = 500;
/// The layer of what is set for the device alone.
const OWN: &str = "device";
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
    /// Nothing.
    Gap,
    /// A version.
    Version(Mark, Version),
}

/// What a version is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// How the device shall be.
    Desired,
    /// How it last said it is.
    Reported,
    /// How it once had to be.
    Past,
}

/// One key of a configuration, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its path.
    pub path: String,
    /// What the device shall have, if anything.
    pub desired: Option<String>,
    /// What it has, as far as that is known.
    pub reported: Option<String>,
    /// The layer that it is from, if it is not the device's own.
    pub layer: Option<String>,
    /// Whether nothing reported means that it has nothing.
    is_known: bool,
}

impl ConfigKey {
    /// Whether the device is known to have what it shall.
    pub fn is_same(&self) -> bool {
        self.reported == self.desired && (self.is_known || self.reported.is_some())
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

/// Everything there is to say: how it stands, who wanted it so, key by key, and what it was before.
pub fn lines(
    view: &ConfigView,
    keys: &[ConfigKey],
    versions: &Versions,
    now: Timestamp,
) -> Vec<ConfigLine> {
    let mut lines = Vec::new();
    let mut word = |tone, text: String| lines.push(ConfigLine::Word(tone, text));
    match (state(view), &view.reported) {
        (ConfigState::None, _) => {
            word(Tone::Plain, "none: the device goes by its own settings".to_owned());
            word(Tone::Muted, "x sets one".to_owned());
        }
        (ConfigState::Applied, Some(reported)) => {
            word(Tone::Good, format!("applied {}", cells::ago(reported.applied_at, now)));
        }
        (ConfigState::Trying, Some(_)) => {
            word(Tone::Warn, "being tried: it has to show that it works".to_owned());
        }
        (ConfigState::Reverted, Some(reported)) => {
            let why = reported.error.as_ref().map(ToString::to_string).unwrap_or_default();
            word(Tone::Bad, format!("reverted {}: {why}", cells::ago(reported.applied_at, now)));
        }
        (ConfigState::Refused, Some(reported)) => {
            let why = reported.error.as_ref().map(ToString::to_string).unwrap_or_default();
            word(Tone::Bad, format!("refused {}: {why}", cells::ago(reported.applied_at, now)));
        }
        (_, Some(reported)) => {
            let text = format!("waiting: the device still goes by r{}", reported.version);
            word(Tone::Warn, text);
        }
        (_, None) => word(Tone::Warn, "waiting: the device has said nothing of it".to_owned()),
    }
    if let Some(at) = view.at {
        let author = view.author.as_deref().map(|author| format!("by {} ", escaped(author)));
        word(Tone::Muted, format!("set {}{}", author.unwrap_or_default(), cells::ago(at, now)));
    }
    if let Some(comment) = &view.comment {
        word(Tone::Muted, comment.to_string());
    }
    if let Some(not_applied) = &view.not_applied {
        word(Tone::Warn, escaped(not_applied));
    }
    if !keys.is_empty() {
        lines.push(ConfigLine::Titles);
    }
    lines.extend(keys.iter().cloned().map(ConfigLine::Key));
    if view.version == 0 {
        return lines;
    }
    lines.push(ConfigLine::Gap);
    let said = view.reported.as_ref().map(|reported| reported.version);
    lines.extend(versions.rows().iter().map(|version| {
        let mark = if version.number == view.version {
            Mark::Desired
        } else if said == Some(version.number) {
            Mark::Reported
        } else {
            Mark::Past
        };
        ConfigLine::Version(mark, version.clone())
    }));
    if let Some(error) = versions.error() {
        lines.push(ConfigLine::Word(Tone::Warn, format!("versions: {error}")));
    } else if versions.rows().is_empty() {
        lines.push(ConfigLine::Word(Tone::Muted, "loading its versions …".to_owned()));
    } else if versions.has_more() {
        let older = format!("older ones: fleets config history {}", view.device_id);
        lines.push(ConfigLine::Word(Tone::Muted, older));
    }
    lines
}

/// Its keys. A device that applied a version whose document is known has every value of it; if it
/// did not, only the interval is known, which the device tells by itself.
pub fn keys(view: &ConfigView, versions: &Versions, interval_secs: Option<u32>) -> Vec<ConfigKey> {
    let desired: Value = serde_json::from_str(&view.config).unwrap_or_default();
    let nothing = Value::Null;
    let reported = view.reported.as_ref().and_then(|reported| {
        // What it goes by; one that does not say goes by what it took.
        let taken = || reported.error.is_none().then_some(reported.version);
        match reported.holds.or_else(taken)? {
            0 => Some(&nothing),
            version if version == view.version => Some(&desired),
            version => versions.document(version),
        }
    });
    let paths = |document: &Value| {
        let mut paths = config_paths(document);
        // What is no object has no keys.
        paths.remove("");
        paths
    };
    let (wanted, had) = (paths(&desired), reported.map(paths));
    let names: BTreeSet<&String> =
        wanted.keys().chain(had.iter().flat_map(|had| had.keys())).collect();
    let key = |path: &String| {
        let told = interval_secs.filter(|_| path == INTERVAL).map(|secs| secs.to_string());
        ConfigKey {
            path: escaped(path),
            desired: wanted.get(path).map(text),
            reported: told.or_else(|| had.as_ref()?.get(path).map(text)),
            layer: view.provenance.get(path).filter(|layer| *layer != OWN).map(|it| escaped(it)),
            is_known: had.is_some(),
        }
    };
    names.into_iter().take(KEYS_MAX).map(key).collect()
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
            let found = keys(&view, &Versions::default(), Some(30));
            assert_eq!(state(&view), state_is);
            let paths: Vec<_> = found.iter().map(|key| key.path.as_str()).collect();
            assert_eq!(paths, ["telemetry.interval", "telemetry.metrics"]);
            assert_eq!(found[1].desired.as_deref(), Some("cpu_usage, disk"));
            assert_eq!([found[0].is_same(), found[1].is_same()], same);
        }
        let view = view(document, Some(reported(2, None)));
        let late = keys(&view, &Versions::default(), Some(60));
        assert_eq!(late[0].reported.as_deref(), Some("60"));
        assert!(!late[0].is_same());
    }

    #[test]
    fn what_an_older_version_said_is_what_the_device_has() {
        let mut versions = Versions::default();
        let old = json!({"version": 1, "hash": "h", "author": "a", "at": "2026-01-01T00:00:00Z",
            "document": {"telemetry": {"interval": 60, "metrics": ["cpu_usage"]}}});
        versions.take(Ok(vec![serde_json::from_value(old).unwrap()]));
        let view = view(json!({"telemetry": {"interval": 30}}), Some(reported(1, None)));
        let found = keys(&view, &versions, Some(60));
        let sides: Vec<_> = found
            .iter()
            .map(|key| (key.desired.as_deref(), key.reported.as_deref(), key.is_same()))
            .collect();
        assert_eq!(sides, [(Some("30"), Some("60"), false), (None, Some("cpu_usage"), false)]);
    }

    #[test]
    fn odd_documents_are_shown_as_they_are() {
        for (document, shown) in [
            (json!({}), &[][..]),
            (json!({"a": {}}), &[][..]),
            (json!(3), &[][..]),
            (json!({"a": [], "b": null}), &[("a", "[]"), ("b", "null")]),
            (json!({"\u{1b}": "\u{9b}31m"}), &[("\\u{1b}", "\\u{9b}31m")]),
        ] {
            let keys = keys(&view(document, None), &Versions::default(), None);
            let found: Vec<_> = keys
                .iter()
                .map(|key| (key.path.as_str(), key.desired.as_deref().unwrap_or_default()))
                .collect();
            assert_eq!(found, shown);
        }
    }
}
