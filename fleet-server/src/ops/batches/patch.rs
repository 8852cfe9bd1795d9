//! What a batch changes in configurations: a JSON merge patch (RFC 7396), checked before anything is
//! done.

use fleet_core::api::ConfigDocument;
use fleet_core::limits::BATCH_CONFIG_BYTES_MAX;
use serde_json::{Map, Value, json};

use crate::ops::OpsError;

/// The reference's short form of `telemetry.interval`.
const SHORT_INTERVAL: &str = "telemetry_interval";
/// Keys that can be taken away.
const KEYS: [&str; 4] = [
    "config.telemetry",
    "config.telemetry_interval",
    "config.telemetry.interval",
    "config.telemetry.metrics",
];

/// A patch, once each of its keys is known and each of its values does.
pub(super) fn read(value: &Value) -> Result<String, OpsError> {
    let invalid = |path: &str, problem: &str| OpsError::invalid(path, problem);
    let Value::Object(patch) = value else {
        return Err(invalid("config", "must be an object"));
    };
    if patch.is_empty() {
        return Err(invalid("config", "changes nothing"));
    }
    check_removals("config", patch)?;
    document(&merged(json!({}), value.clone()))?;
    let text = long_form(patch.clone()).to_string();
    if text.len() > BATCH_CONFIG_BYTES_MAX {
        let problem = format!("must not be longer than {BATCH_CONFIG_BYTES_MAX} bytes");
        return Err(invalid("config", &problem));
    }
    Ok(text)
}

/// A device's document with a patch that was read.
pub(super) fn apply(document_text: &str, patch: &str) -> Result<String, OpsError> {
    let read = |text: &str| serde_json::from_str::<Value>(text).map_err(|_| OpsError::Defect);
    document(&merged(read(document_text)?, read(patch)?))
}

/// A document in the form in which it is stored.
fn document(value: &Value) -> Result<String, OpsError> {
    let document = ConfigDocument::from_json(value)
        .map_err(|error| OpsError::invalid(error.path.to_string(), error.problem))?;
    Ok(document.to_json().to_string())
}

/// The same patch without the short form, which is in no stored document.
fn long_form(mut patch: Map<String, Value>) -> Value {
    if let Some(interval) = patch.remove(SHORT_INTERVAL) {
        let telemetry = patch.entry("telemetry").or_insert_with(|| json!({}));
        if telemetry.is_null() {
            *telemetry = json!({"metrics": null});
        }
        if let Value::Object(telemetry) = telemetry {
            telemetry.insert("interval".to_owned(), interval);
        }
    }
    Value::Object(patch)
}

/// Refuses to take away what nobody knows: most likely it is misspelt.
fn check_removals(path: &str, patch: &Map<String, Value>) -> Result<(), OpsError> {
    for (key, value) in patch {
        let path = format!("{path}.{key}");
        match value {
            Value::Null if !KEYS.contains(&path.as_str()) => {
                return Err(OpsError::invalid(path, "is not a key that devices know"));
            }
            Value::Object(inner) => check_removals(&path, inner)?,
            _ => {}
        }
    }
    Ok(())
}

/// A value with a patch, as RFC 7396 has it. Bodies are not nested deep.
fn merged(value: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut object = match value {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    for (key, change) in patch {
        if change.is_null() {
            object.remove(&key);
        } else {
            let before = object.remove(&key).unwrap_or(Value::Null);
            object.insert(key, merged(before, change));
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(document: &Value, patch: &Value) -> Value {
        let patch = read(patch).unwrap();
        apply(&document.to_string(), &patch).unwrap().parse().unwrap()
    }

    #[test]
    fn a_patch_leaves_what_it_does_not_name() {
        let both = json!({"telemetry": {"interval": 60, "metrics": ["a"]}});
        for (document, patch, result) in [
            (json!({}), json!({"telemetry_interval": 30}), json!({"telemetry": {"interval": 30}})),
            (
                both.clone(),
                json!({"telemetry_interval": 30}),
                json!({"telemetry": {"interval": 30, "metrics": ["a"]}}),
            ),
            (
                both.clone(),
                json!({"telemetry": {"metrics": null}}),
                json!({"telemetry": {"interval": 60}}),
            ),
            (
                both.clone(),
                json!({"telemetry_interval": null}),
                json!({"telemetry": {"metrics": ["a"]}}),
            ),
            (both.clone(), json!({"telemetry": null}), json!({})),
            (
                both.clone(),
                json!({"telemetry": null, "telemetry_interval": 5}),
                json!({"telemetry": {"interval": 5}}),
            ),
            (
                both,
                json!({"telemetry": {"interval": "10s"}}),
                json!({"telemetry": {"interval": 10, "metrics": ["a"]}}),
            ),
        ] {
            assert_eq!(after(&document, &patch), result, "{patch}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (patch, told) in [
            (json!([]), "config: must be an object"),
            (json!({}), "config: changes nothing"),
            (json!({"telemetry": {"intervall": 5}}), "config.telemetry.intervall: is not a key"),
            (json!({"telemetry": {"intervall": null}}), "config.telemetry.intervall: is not a key"),
            (json!({"other": null}), "config.other: is not a key that devices know"),
            (json!({"telemetry": {"interval": 0}}), "config.telemetry.interval: must be whole"),
            (json!({"telemetry": 5}), "config.telemetry: must be an object"),
        ] {
            let refused = read(&patch).unwrap_err().to_string();
            assert!(refused.starts_with(told), "{patch}: {refused}");
        }
    }

    #[test]
    fn the_rules_are_those_of_the_rfc() {
        for (value, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(value, patch), result);
        }
    }
}
