//! Batches in JSON: the same thing done to many devices, one fixed set of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::later::{self, LaterWord};
use super::value_or_text;
use crate::id::{DeviceId, Uid};
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $word:literal $about:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $about] $variant,)*
            /// What only a later release knows. Read by clients, never made.
            Later(LaterWord),
        }

        impl $name {
            /// Every one that this release knows.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in JSON and on screens. Safe to show.
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Later(word) => word.as_str(),
                }
            }

            /// The one with this word, if this release knows it.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                later::read(deserializer, |word| {
                    Self::from_word(word).unwrap_or_else(|| Self::Later(LaterWord::new(word)))
                })
            }
        }
    };
}

words! {
    /// How a batch is doing.
    BatchState {
        Running "running" "Devices are at it, or are waited for.",
        Paused "paused" "No further device begins until somebody says so.",
        Done "done" "Nothing is to come any more.",
        Cancelled "cancelled" "What had not begun was called off.",
    }
}

words! {
    /// How far a device of a batch has come.
    MemberState {
        Waiting "waiting" "Its turn has not come, or it is not connected.",
        Running "running" "It was told, and has not said how it went.",
        Succeeded "succeeded" "It was done.",
        Failed "failed" "It was not, or not well.",
        Expired "expired" "It was too late when it could have begun.",
        Cancelled "cancelled" "It was called off before it began.",
        Unknown "unknown" "It is not known what became of it.",
        Skipped "skipped" "It was left out when the batch began.",
    }
}

impl MemberState {
    /// Whether nothing is to come any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    /// Whether it counts towards the failures at which a batch pauses, and is tried anew by a retry.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Unknown)
    }
}

/// What a batch does about devices that are not connected when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenOffline {
    /// They have their turn when they come, until the batch expires.
    #[default]
    Queue,
    /// They are left out.
    Skip,
    /// They count as failed.
    Fail,
}

impl WhenOffline {
    /// Every way, with its word.
    pub const ALL: [(&'static str, Self); 3] =
        [("queue", Self::Queue), ("skip", Self::Skip), ("fail", Self::Fail)];

    /// The word in JSON and on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }
}

/// The body of `POST /batches/{id}/retry`, which may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRetry {
    /// How many devices must have failed for anything to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<usize>,
}

/// The body of `POST /batches`. It names its devices by `filter` or by `devices`, and what they
/// shall do by `command` or by `config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The batch's number, if whoever asks gives it one: asking again under the same number asks for
    /// nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uid>,
    /// All devices that fit this when the batch begins; none that come later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// These devices: what somebody saw and agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<Uid>>,
    /// How many devices must be found; with any other number nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<usize>,
    /// The command's word; with its arguments, if there are no `args`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments, one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// What of the devices' configurations shall be otherwise: an object, or a string that holds
    /// one. `null` takes a key away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "value_or_text")]
    pub config: Option<Value>,
    /// How many devices are at it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// How many go first, alone; the others wait for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<usize>,
    /// At so many failures the batch pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fail: Option<usize>,
    /// How long each device may take, such as `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How long devices are waited for, such as `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// What becomes of devices that are not connected.
    #[serde(default)]
    pub offline: WhenOffline,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a batch would be, for whoever is about to begin it: `POST /batches/preview`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchPreview {
    /// The devices that were found, by id.
    pub devices: Vec<BatchDevice>,
    /// How many have which status.
    pub by_status: BTreeMap<String, usize>,
    /// How many are of which type.
    pub by_type: BTreeMap<String, usize>,
    /// How many would be waited for, left out or failed because they are not connected.
    pub offline: usize,
    /// Devices that were found and cannot take part, with the reason.
    pub excluded: Vec<Excluded>,
    /// How many would be at it at once.
    pub window: usize,
    /// How many would go first.
    pub canary: usize,
    /// At how many failures it would pause.
    pub max_fail: usize,
    /// When it would give up waiting.
    pub expires_at: Timestamp,
}

/// A device that would take part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchDevice {
    /// Its id.
    pub device_id: DeviceId,
    /// Its uid.
    pub uid: Uid,
}

/// A device that cannot take part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// Its id.
    pub device_id: DeviceId,
    /// Why.
    pub why: Untrusted,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchView {
    /// Its number.
    pub id: Uid,
    /// How it is doing.
    pub state: BatchState,
    /// Why it is in this state.
    pub why: Untrusted,
    /// When it came to be in this state.
    pub state_at: Timestamp,
    /// The command's word, if it is one of commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Untrusted>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Untrusted>,
    /// What of the configurations shall be otherwise, if it is one of configurations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// The filter that its devices were found by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Untrusted>,
    /// How many devices take part.
    pub total: usize,
    /// How many of them have come how far.
    pub counts: BTreeMap<MemberState, usize>,
    /// How many are at it at once.
    pub window: usize,
    /// How many go first.
    pub canary: usize,
    /// At how many failures it pauses.
    pub max_fail: usize,
    /// How long each device may take, in seconds.
    pub timeout_secs: u64,
    /// What becomes of devices that are not connected.
    pub offline: WhenOffline,
    /// When it gives up waiting.
    pub expires_at: Timestamp,
    /// Who began it.
    pub author: Untrusted,
    /// When.
    pub created_at: Timestamp,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
    /// The batch whose failures it tries anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<Uid>,
}

/// A device of a batch: `GET /batches/{id}/devices`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchMember {
    /// Its id.
    pub device_id: DeviceId,
    /// Its uid.
    pub uid: Uid,
    /// How far it has come.
    pub state: MemberState,
    /// Why it is in this state.
    pub why: Untrusted,
    /// When it came to be in this state.
    pub state_at: Timestamp,
    /// The command that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uid>,
    /// The version of its configuration that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_version: Option<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn states_go_by_their_words() {
        for state in MemberState::ALL {
            assert_eq!(MemberState::from_word(state.word()), Some(*state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
        for state in BatchState::ALL {
            assert_eq!(BatchState::from_word(state.word()), Some(*state));
        }
        let counts: BTreeMap<MemberState, usize> =
            serde_json::from_value(json!({"waiting": 2, "resting": 1})).unwrap();
        assert_eq!(serde_json::to_value(&counts).unwrap(), json!({"waiting": 2, "resting": 1}));
        for (word, way) in WhenOffline::ALL {
            assert_eq!((way.word(), serde_json::to_value(way).unwrap()), (word, json!(word)));
        }
    }

    #[test]
    fn a_request_may_bring_its_configuration_as_a_text() {
        let read = |config: Value| {
            serde_json::from_value::<BatchRequest>(json!({"filter": "", "config": config})).unwrap()
        };
        assert_eq!(
            read(json!("{\"telemetry_interval\": 30}")),
            read(json!({"telemetry_interval": 30}))
        );
        let stranger = json!({"filter": "", "comand": "restart"});
        assert!(serde_json::from_value::<BatchRequest>(stranger).is_err());
    }
}
