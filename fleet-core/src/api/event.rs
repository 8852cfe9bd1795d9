//! What happened in the fleet: `GET /api/v1/events`, newest first, and the stream's `event`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::later::{self, LaterWord};
use crate::id::{DeviceId, Uid};
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// Something that happened. Stored before it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number; grows by one.
    pub seq: u64,
    /// When, by the server's clock.
    pub timestamp: Timestamp,
    /// What kind of thing.
    pub kind: EventKind,
    /// Who did it: `operator:KEYID`, `enrol:KEYID`, `device`, or `server`.
    pub actor: Untrusted,
    /// The device it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// That device's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// What happened, in words.
    pub text: Untrusted,
}

macro_rules! kinds {
    ($($name:ident $word:literal $doc:literal,)*) => {
        /// The kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind {
            $(#[doc = $doc] $name,)*
            /// What only a later release knows. Read by clients, never made.
            Later(LaterWord),
        }

        impl EventKind {
            /// Every kind that this release knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word in JSON and on screens. Safe to show.
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$name => $word,)*
                    Self::Later(word) => word.as_str(),
                }
            }

            /// The kind with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    ServerStarted "server.started" "The server began to serve.",
    DevicePending "device.pending" "A device asks to be let in.",
    DeviceEnrolled "device.enrolled" "A device joined the fleet.",
    DeviceAccepted "device.accepted" "An operator let a device in.",
    DeviceRejected "device.rejected" "An operator turned a device away.",
    DeviceRevoked "device.revoked" "An operator put a device out for good.",
    DeviceDeleted "device.deleted" "An operator removed a device.",
    DeviceUpdated "device.updated" "An operator changed a device's name or metadata.",
    DeviceOnline "device.online" "A device is heard again.",
    DeviceLate "device.late" "A device misses a report or two.",
    DeviceOffline "device.offline" "A device is silent.",
    DeviceLost "device.lost" "A device has been silent for a month.",
    ConfigSet "config.set" "A device shall have another configuration.",
    ConfigApplied "config.applied" "A device took its configuration.",
    ConfigRefused "config.refused" "A device refused its configuration.",
    CommandQueued "command.queued" "A device shall do something.",
    CommandSucceeded "command.succeeded" "A device did what it should.",
    CommandFailed "command.failed" "A device did not do what it should, or not well.",
    CommandExpired "command.expired" "It is too late for what a device should do.",
    CommandCancelled "command.cancelled" "A device need not do what it should.",
    CommandUnknown "command.unknown" "It is not known what became of a command.",
    BatchBegun "batch.begun" "Many devices shall do something.",
    BatchPaused "batch.paused" "No further device of a batch begins.",
    BatchContinued "batch.continued" "A batch goes on.",
    BatchDone "batch.done" "Nothing of a batch is to come any more.",
    BatchCancelled "batch.cancelled" "What had not begun of a batch was called off.",
    KeyCreated "key.created" "A key was made.",
    KeyRevoked "key.revoked" "A key was ended.",
    DbPruned "db.pruned" "An operator removed old telemetry.",
    DbDamaged "db.damaged" "Something that the server stored cannot be read any more.",
    DbBackedUp "db.backed_up" "An operator took a backup.",
    ConfigReverted "config.reverted" "A device tried its configuration and went back.",
    CertificateRenewed "certificate.renewed" "The server shows a new certificate.",
    CertificateAtRisk "certificate.at_risk" "The server's certificate ends soon, or a new one cannot be used.",
    ConfigLayerSet "config.layer_set" "A layer of configurations says something else.",
    DeviceRestored "device.restored" "An operator had a deleted device back.",
    DeviceDoubleSuspected "device.double_suspected" "A device's key seems to be in two places.",
    DeviceRekeyed "device.rekeyed" "A device has a new key, and its old one is of no use.",
    DbDiskFull "db.disk_full" "The server's disk is full, and its changes take the room that was held back for them.",
    DbDiskFreed "db.disk_freed" "The server's disk has room again.",
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read =
            |word: &str| Self::from_word(word).unwrap_or_else(|| Self::Later(LaterWord::new(word)));
        later::read(deserializer, read)
    }
}

impl EventKind {
    /// The kinds that a text names: one by its word, or all with the same first part, as `device`
    /// does. None if it names nothing.
    pub fn named(text: &str) -> Vec<Self> {
        Self::ALL.iter().copied().filter(|kind| kind.is(text)).collect()
    }

    /// Whether a text names this kind, among others or alone.
    pub fn is(&self, text: &str) -> bool {
        let rest = self.word().strip_prefix(text);
        !text.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_their_word_or_its_first_part() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_word(kind.word()), Some(*kind));
            assert_eq!(EventKind::named(kind.word()), [*kind]);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
        assert_eq!(EventKind::named("key"), [EventKind::KeyCreated, EventKind::KeyRevoked]);
        assert_eq!(EventKind::named("device").len(), 14);
        for nothing in ["", "dev", "device.", "device.gone", "Device", "."] {
            assert_eq!(EventKind::named(nothing), [], "{nothing}");
            assert_eq!(EventKind::from_word(nothing), None, "{nothing}");
        }
    }
}
