//! The layers that configurations are made of, and their JSON bodies: what holds for the fleet, for
//! devices with a tag, and for one device, each on top of the one before.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Difference, config_of_paths, config_paths};
use crate::id::DeviceId;
use crate::limits::TAG_BYTES_MAX;
use crate::time::Timestamp;
use crate::untrusted::{Untrusted, escaped};

/// The layer of the whole fleet, in words.
const FLEET: &str = "fleet";
/// What stands before a tag.
const TAG: &str = "tag:";
/// What a device's own layer is called where layers are named.
pub const DEVICE_LAYER: &str = "device";

/// A layer that several devices share. Fleet comes first, then tags in the order of the alphabet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigLayer {
    /// Of every device.
    Fleet,
    /// Of the devices that have this tag.
    Tag(String),
}

/// A text that names no layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no such layer: fleet, or tag:NAME with a tag of 1 to {TAG_BYTES_MAX} bytes")]
pub struct LayerError;

/// Whether a text may be a tag: one short word that looks like what it is.
pub fn is_tag(text: &str) -> bool {
    let is_separator = |c: char| c == ',' || c.is_whitespace();
    (1..=TAG_BYTES_MAX).contains(&text.len())
        && !text.contains(is_separator)
        && escaped(text) == text
}

impl FromStr for ConfigLayer {
    type Err = LayerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == FLEET {
            return Ok(Self::Fleet);
        }
        let tag = text.strip_prefix(TAG).filter(|tag| is_tag(tag));
        tag.map(|tag| Self::Tag(tag.to_owned())).ok_or(LayerError)
    }
}

/// Safe to show: a tag of a layer has nothing in it that is not.
impl fmt::Display for ConfigLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.pad(FLEET),
            Self::Tag(tag) => f.pad(&format!("{TAG}{tag}")),
        }
    }
}

impl Serialize for ConfigLayer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigLayer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What layers say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layered {
    /// What each path is.
    pub paths: BTreeMap<String, Value>,
    /// Which layer says so.
    pub provenance: BTreeMap<String, String>,
}

impl Layered {
    /// Puts a layer on top: of each path that it names it has the last word.
    pub fn add(&mut self, layer: &str, document: &Value) {
        for (path, value) in config_paths(document) {
            self.provenance.insert(path.clone(), layer.to_owned());
            self.paths.insert(path, value);
        }
    }

    /// All of it as one document.
    pub fn document(&self) -> Value {
        config_of_paths(&self.paths)
    }
}

/// A layer: `GET /config?layer=…`, and the answer to a POST; in `GET /config/layers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerView {
    /// `updated` in the answer to a POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Which.
    pub layer: ConfigLayer,
    /// The document, as a string that holds it.
    pub config: String,
    /// Its number; 0 before the first.
    pub version: u64,
    /// The first 16 characters of the document's SHA-256.
    pub hash: String,
    /// Who set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Untrusted>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Untrusted>,
    /// How many devices it is of.
    pub devices: usize,
}

/// What a change of a layer would be: `POST /config/preview?layer=…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerPreview {
    /// Which.
    pub layer: ConfigLayer,
    /// The layer's version that was looked at.
    pub version: u64,
    /// How many devices it is of.
    pub devices: usize,
    /// How many of them would get a new version.
    pub changes: usize,
    /// Some of those, by id.
    pub sample: Vec<DeviceId>,
    /// What would be otherwise in the layer.
    pub differences: Vec<Difference>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_go_by_their_words() {
        for text in ["fleet", "tag:canary", "tag:tag:x", "tag:é"] {
            let layer: ConfigLayer = text.parse().unwrap();
            assert_eq!(
                (layer.to_string(), serde_json::to_value(&layer).unwrap()),
                (text.to_owned(), json!(text))
            );
            assert_eq!(serde_json::from_value::<ConfigLayer>(json!(text)).unwrap(), layer);
        }
        let long = format!("tag:{}", "x".repeat(TAG_BYTES_MAX + 1));
        for bad in ["", "device", "tag:", "tag:a b", "tag:a,b", "tag:\u{202e}", "Fleet", &long] {
            assert_eq!(bad.parse::<ConfigLayer>(), Err(LayerError), "{bad:?}");
        }
    }

    #[test]
    fn of_each_path_the_later_layer_has_the_last_word() {
        let mut layered = Layered::default();
        layered.add("fleet", &json!({"telemetry": {"interval": 60, "metrics": ["a"]}}));
        layered.add("tag:canary", &json!({"telemetry": {"interval": 10}}));
        layered.add("device", &json!({}));
        assert_eq!(layered.document(), json!({"telemetry": {"interval": 10, "metrics": ["a"]}}));
        let from: Vec<_> = layered.provenance.iter().collect();
        assert_eq!(
            from,
            [
                (&"telemetry.interval".to_owned(), &"tag:canary".to_owned()),
                (&"telemetry.metrics".to_owned(), &"fleet".to_owned()),
            ]
        );
    }
}
