//! The audit record in JSON: `GET /audit`, newest first, and the lines of `GET /audit/chain`. How
//! records hang together is [`crate::audit`].

use std::fmt;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Route;
use crate::identity::PublicKey;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// One record: something that somebody asked for, or what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number; from 1 without gaps.
    pub seq: u64,
    /// What it says.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// The hash of the record before.
    pub prev_hash: AuditHash,
    /// The hash of that hash and of this record.
    pub hash: AuditHash,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, by the server's clock.
    pub timestamp: Timestamp,
    /// Whether it was written before or after.
    pub kind: AuditKind,
    /// The number of the intent that an outcome belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// The request, as its answer and the server's log name it; empty if there was none.
    pub request_id: Untrusted,
    /// Who asked.
    pub actor: AuditActor,
    /// How they showed who they are: `key`, `session`, `link`, or `none`.
    pub via: Untrusted,
    /// The address that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Untrusted>,
    /// What was asked for: a word of [`AuditAction`].
    pub action: Untrusted,
    /// What it was asked for of: ids and uids, so many at most.
    pub targets: Vec<Untrusted>,
    /// How many there are in all.
    pub target_count: u64,
    /// SHA-256 of the request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<AuditHash>,
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What is asked for more exactly, or what came of it, in words.
    pub text: Untrusted,
}

/// Whether a record was written before or after. The numbers are a part of what is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// Before anything was done.
    Intent = 0,
    /// What came of an intent.
    Outcome = 1,
    /// At once: of what was refused, or decided by the server itself.
    Single = 2,
}

impl AuditKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Single => "single",
        }
    }
}

/// Who asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditActor {
    /// `operator`, `enrol`, `device`, `server`, or `nobody` where no key was good.
    pub kind: Untrusted,
    /// The id of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Untrusted>,
    /// What people call the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Untrusted>,
    /// The role that the key had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Untrusted>,
}

impl AuditActor {
    /// Somebody without a key.
    pub fn bare(kind: &str) -> Self {
        Self { kind: kind.into(), key_id: None, label: None, role: None }
    }

    /// Whether a text names it: its kind, or its key by id or label.
    pub fn is(&self, text: &str) -> bool {
        let named = |name: &Untrusted| name.raw() == text;
        let whole = self.key_id.as_ref().map(|id| format!("{}:{}", self.kind.raw(), id.raw()));
        named(&self.kind)
            || self.key_id.as_ref().is_some_and(named)
            || self.label.as_ref().is_some_and(named)
            || whole.as_deref() == Some(text)
    }
}

impl fmt::Display for AuditActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.label.as_ref().or(self.key_id.as_ref());
        let text = match name {
            Some(name) => format!("{}:{name}", self.kind),
            None => self.kind.to_string(),
        };
        f.pad(&text)
    }
}

/// SHA-256; 64 hexadecimal digits in JSON.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AuditHash(pub [u8; 32]);

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for AuditHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for AuditHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|it| it.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not a SHA-256 in hexadecimal"))
    }
}

/// A place in the chain that the server has signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPoint {
    /// The number of the record.
    pub seq: u64,
    /// Its hash.
    pub hash: AuditHash,
    /// When it was signed, by the server's clock.
    pub timestamp: Timestamp,
    /// The server's signature.
    pub signature: AuditSignature,
}

/// An ed25519 signature; base64url in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuditSignature(pub [u8; 64]);

impl fmt::Debug for AuditSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl Serialize for AuditSignature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for AuditSignature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|it| it.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not a signature"))
    }
}

/// A line of the chain: the beginning, then records, then the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditLine {
    /// The first line.
    Begin(AuditBegin),
    /// A record.
    Record(Box<AuditRecord>),
    /// The last line: the newest record, signed. Without it the answer is not whole.
    End(AuditPoint),
}

/// What is known of a chain before its records come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBegin {
    /// The server's key, with which it signs.
    pub server_key: PublicKey,
    /// The number of the record before the first that comes; 0 if there is none.
    pub after: u64,
    /// The hash of that record; zeros if there is none.
    pub after_hash: AuditHash,
    /// That record, signed, where older ones were removed because of their age or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<AuditPoint>,
    /// Places that were signed earlier.
    pub signed: Vec<AuditPoint>,
}

macro_rules! actions {
    ($($name:ident $word:literal $doc:literal,)*) => {
        /// What is recorded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AuditAction {
            $(#[doc = $doc] $name,)*
        }

        impl AuditAction {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word in JSON and on screens.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

actions! {
    DeviceUpdate "device.update" "A device's name or metadata.",
    DeviceDelete "device.delete" "A device out of the fleet.",
    DeviceAccept "device.accept" "A pending device in.",
    DeviceReject "device.reject" "A pending device turned away.",
    DeviceRevoke "device.revoke" "A device refused for good.",
    DeviceRestore "device.restore" "A deleted device back.",
    DeviceClaim "device.claim" "A device that the server sees claimed by it.",
    DeviceEnrol "device.enrol" "A device came, and the server decided what it is.",
    DeviceRekey "device.rekey" "A device came with its new key.",
    GrantCreate "grant.create" "A grant for a device's key.",
    ConfigSet "config.set" "A configuration of a device or a layer.",
    CommandCreate "command.create" "A command to a device.",
    CommandCancel "command.cancel" "A command taken back.",
    BatchCreate "batch.create" "A batch.",
    BatchPause "batch.pause" "A batch held up.",
    BatchContinue "batch.continue" "A batch going on.",
    BatchCancel "batch.cancel" "A batch called off.",
    BatchRetry "batch.retry" "A batch anew with what failed.",
    KeyCreate "key.create" "A key.",
    KeyRotate "key.rotate" "A key's successor.",
    KeyRevoke "key.revoke" "A key ended.",
    PreauthCreate "preauth.create" "Devices to be let in when they come.",
    PreauthRemove "preauth.remove" "A device not to be let in any more when it comes.",
    SessionBegin "session.begin" "A browser signed in.",
    SessionEnd "session.end" "A browser signed out.",
    ExportTake "export.take" "An export.",
    BackupTake "backup.take" "A backup.",
    DbPrune "db.prune" "Old telemetry removed.",
    DbCompact "db.compact" "Room of telemetry given back.",
    AccessRefused "access.refused" "A look, or telemetry, that was refused.",
}

impl AuditAction {
    /// The actions that a text names: one by its word, or all with the same first part, as
    /// `device` does. None if it names nothing.
    pub fn named(text: &str) -> Vec<Self> {
        Self::ALL.iter().copied().filter(|action| Self::names(text, action.word())).collect()
    }

    /// Whether a text names a word, or the first part of it.
    pub fn names(text: &str, word: &str) -> bool {
        let rest = word.strip_prefix(text);
        !text.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// What a request for a route is recorded as; nothing if it only looks, or is telemetry, of
    /// which there is too much.
    pub fn of(route: &Route) -> Option<Self> {
        Some(match route {
            Route::DevicePut(_) | Route::PageMetadataPost(_) => Self::DeviceUpdate,
            Route::DeviceDelete(_) => Self::DeviceDelete,
            Route::DeviceAccept(_) => Self::DeviceAccept,
            Route::DeviceReject(_) => Self::DeviceReject,
            Route::DeviceRevoke(_) => Self::DeviceRevoke,
            Route::DeviceRestore(_) => Self::DeviceRestore,
            Route::ExportGet => Self::ExportTake,
            Route::BackupGet => Self::BackupTake,
            Route::DbPrune => Self::DbPrune,
            Route::DbCompact => Self::DbCompact,
            Route::ConfigPost | Route::PageConfigPost(_) => Self::ConfigSet,
            Route::BatchCreate => Self::BatchCreate,
            Route::BatchPause(_) => Self::BatchPause,
            Route::BatchContinue(_) => Self::BatchContinue,
            Route::BatchCancel(_) => Self::BatchCancel,
            Route::BatchRetry(_) => Self::BatchRetry,
            Route::CommandCreate => Self::CommandCreate,
            Route::CommandCancel(_) => Self::CommandCancel,
            Route::DiscoverPost => Self::DeviceClaim,
            Route::GrantCreate => Self::GrantCreate,
            Route::KeyCreate => Self::KeyCreate,
            Route::KeyRotate(_) => Self::KeyRotate,
            Route::KeyRevoke(_) => Self::KeyRevoke,
            Route::PreauthCreate => Self::PreauthCreate,
            Route::PreauthDelete(_) => Self::PreauthRemove,
            Route::PageSignInPost => Self::SessionBegin,
            Route::PageSignOut => Self::SessionEnd,
            Route::Health
            | Route::HealthReady
            | Route::Identity
            | Route::OpenApi
            | Route::Link
            | Route::Install(_)
            | Route::DeviceList
            | Route::DeviceGet(_)
            | Route::DeletedList
            | Route::DeviceLogs(_)
            | Route::TelemetryPost
            | Route::TelemetryMetrics
            | Route::TelemetrySeries
            | Route::TelemetryLatest
            | Route::TelemetryTop
            | Route::EventList
            | Route::AuditList
            | Route::AuditChain
            | Route::DbGet
            | Route::DbCheck
            | Route::ConfigGet
            | Route::ConfigHistory
            | Route::ConfigLayers
            | Route::ConfigPreview
            | Route::BatchList
            | Route::BatchPreview
            | Route::BatchGet(_)
            | Route::BatchMembers(_)
            | Route::CommandList
            | Route::CommandGet(_)
            | Route::DiscoverGet
            | Route::GrantGet(_)
            | Route::KeyList
            | Route::PreauthList
            | Route::Me
            | Route::PageOverview
            | Route::PageDevice(_)
            | Route::PageConfig(_)
            | Route::PageMetadata(_)
            | Route::PageSignIn
            | Route::PageAsset(_)
            | Route::StreamOpen
            | Route::StreamView(_)
            | Route::InfluxWrite
            | Route::InfluxWriteV2
            | Route::InfluxQuery
            | Route::InfluxQueryPost
            | Route::InfluxPing
            | Route::Metrics => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_recorded_and_so_is_what_takes_everything() {
        for route in Route::all() {
            let is_telemetry = matches!(
                route,
                Route::TelemetryPost
                    | Route::InfluxWrite
                    | Route::InfluxWriteV2
                    | Route::InfluxQueryPost
            );
            let takes_all = matches!(route, Route::ExportGet | Route::BackupGet);
            let wanted = takes_all || (route.changes_something() && !is_telemetry);
            assert_eq!(AuditAction::of(&route).is_some(), wanted, "{route}");
        }
    }

    #[test]
    fn actions_go_by_their_word_or_its_first_part() {
        for action in AuditAction::ALL {
            assert_eq!(AuditAction::named(action.word()), [*action]);
        }
        let keys = [AuditAction::KeyCreate, AuditAction::KeyRotate, AuditAction::KeyRevoke];
        assert_eq!(AuditAction::named("key"), keys);
        for nothing in ["", "dev", "device.", "Device"] {
            assert_eq!(AuditAction::named(nothing), [], "{nothing}");
        }
    }

    #[test]
    fn an_actor_goes_by_its_kind_key_and_label() {
        let actor = AuditActor {
            kind: "operator".into(),
            key_id: Some("k1".into()),
            label: Some("anna".into()),
            role: None,
        };
        for name in ["operator", "k1", "anna", "operator:k1"] {
            assert!(actor.is(name), "{name}");
        }
        assert!(!actor.is("an") && !actor.is("enrol:k1"));
        assert_eq!(actor.to_string(), "operator:anna");
        assert_eq!(AuditActor::bare("server").to_string(), "server");
    }

    #[test]
    fn hashes_and_signatures_read_back() {
        let hash = AuditHash([7; 32]);
        let text = serde_json::to_string(&hash).unwrap();
        assert_eq!(text, format!("\"{}\"", "07".repeat(32)));
        assert_eq!(serde_json::from_str::<AuditHash>(&text).unwrap(), hash);
        let signature = AuditSignature([9; 64]);
        let text = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<AuditSignature>(&text).unwrap(), signature);
        assert!(serde_json::from_str::<AuditHash>("\"07\"").is_err());
        assert!(serde_json::from_str::<AuditSignature>("\"AA\"").is_err());
    }
}
