//! Configurations path by path: `telemetry.interval` is one, and what differs between two
//! configurations is told so, wherever it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::untrusted::Untrusted;

/// What two configurations say of one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The path, such as `telemetry.interval`.
    pub path: Untrusted,
    /// What the first one says, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What the second one says, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl Difference {
    /// A side of it, as it is shown.
    pub fn side(value: Option<&Value>) -> Untrusted {
        value.map_or_else(|| "unset".into(), |value| value.to_string().into())
    }

    /// The same where a device that says `own` itself is to be as it was. What a layer says stays
    /// said, and may be said below what goes.
    pub fn when_set_back(&self, own: &BTreeMap<String, Value>) -> String {
        match &self.after {
            Some(_) => self.to_string(),
            None if own.contains_key(self.path.raw()) => format!("{self}, or what its layers say"),
            None => format!("{} stays: a layer says it", self.path),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, before, after } = self;
        let (before, after) = (Self::side(before.as_ref()), Self::side(after.as_ref()));
        write!(f, "{path} {before} → {after}")
    }
}

/// What differs between two documents, by path.
pub fn diff(before: &Value, after: &Value) -> Vec<Difference> {
    let (before, after) = (config_paths(before), config_paths(after));
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differences = paths.into_iter().filter_map(|path| {
        let (before, after) = (before.get(path), after.get(path));
        (before != after).then(|| Difference {
            path: path.as_str().into(),
            before: before.cloned(),
            after: after.cloned(),
        })
    });
    differences.collect()
}

/// What a document says, by path. An object that is empty says nothing; lists are values.
pub fn config_paths(document: &Value) -> BTreeMap<String, Value> {
    let mut paths = BTreeMap::new();
    collect(String::new(), document, &mut paths);
    paths
}

/// Documents are read with a limit to how deep they are, so this is not deeper.
fn collect(path: String, value: &Value, paths: &mut BTreeMap<String, Value>) {
    let Value::Object(object) = value else {
        paths.insert(path, value.clone());
        return;
    };
    for (key, value) in object {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        collect(inner, value, paths);
    }
}

/// The document that says this by path.
pub fn config_of_paths(paths: &BTreeMap<String, Value>) -> Value {
    let mut document = Map::new();
    for (path, value) in paths {
        let mut place = &mut document;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            if keys.peek().is_none() {
                place.insert(key.to_owned(), value.clone());
                break;
            }
            let inner = place.entry(key).or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(object) => place = object,
                // A value stands where the path goes on; paths of one document do not do that.
                _ => break,
            }
        }
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(before: &Value, after: &Value) -> Vec<String> {
        diff(before, after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_layers_say_stays_when_a_device_is_set_back() {
        let now = json!({"telemetry": {"interval": 30, "metrics": ["a"]}, "b": 1});
        let own = config_paths(&json!({"telemetry": {"interval": 30}, "b": 1}));
        let differences = diff(&now, &json!({"b": 2}));
        let told: Vec<_> = differences.iter().map(|it| it.when_set_back(&own)).collect();
        assert_eq!(
            told,
            [
                "b 1 → 2",
                "telemetry.interval 30 → unset, or what its layers say",
                "telemetry.metrics stays: a layer says it",
            ]
        );
    }

    #[test]
    fn what_differs_is_told_by_path() {
        let before = json!({"telemetry": {"interval": 30, "metrics": ["a"]}});
        let after = json!({"telemetry": {"interval": 10}});
        assert_eq!(
            told(&before, &after),
            ["telemetry.interval 30 → 10", "telemetry.metrics [\"a\"] → unset"]
        );
        assert_eq!(told(&json!({}), &after), ["telemetry.interval unset → 10"]);
        assert_eq!(told(&json!({"telemetry": {}}), &json!({})), [""; 0]);
        let hostile = told(&json!({}), &json!({"\u{1b}[2J": "\u{202e}"}));
        assert!(!hostile[0].contains(['\u{1b}', '\u{202e}']), "{hostile:?}");
        let first = &diff(&before, &after)[0];
        assert_eq!(
            serde_json::to_value(first).unwrap(),
            json!({"path": "telemetry.interval", "before": 30, "after": 10})
        );
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<u8>().prop_map(Value::from), Just(json!(["a", "b"]))];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-d]", inner, 1..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        })
        .prop_map(|value| if value.is_object() { value } else { json!({"a": value}) })
    }

    proptest! {
        #[test]
        fn a_document_is_its_paths(one in document(), other in document()) {
            prop_assert_eq!(config_of_paths(&config_paths(&one)), one.clone());
            prop_assert!(diff(&one, &one).is_empty());
            // Who carries out the differences has the other document.
            let mut paths = config_paths(&one);
            for Difference { path, after, .. } in diff(&one, &other) {
                match after {
                    Some(value) => paths.insert(path.into_raw(), value),
                    None => paths.remove(path.raw()),
                };
            }
            prop_assert_eq!(config_of_paths(&paths), other);
        }
    }
}
