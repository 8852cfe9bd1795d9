//! The rows on disk, and how each becomes the thing that it stores.
//!
//! Rows outlive releases: a tag is never reused, and a layout that changes gets a new version
//! which a migration writes. Texts that were checked when they came in are checked again when they
//! come out.

use bincode::{Decode, Encode};
use fleet_core::codec::{CodecError, Coded};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::metric::Sample;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;

use crate::store::{
    Admission, ConfigVersion, Device, GrantRecord, KeyRecord, NewConfig, ReportedConfig,
};

macro_rules! coded {
    ($($row:ty = $tag:literal),* $(,)?) => {
        $(impl Coded for $row {
            const TAG: u8 = $tag;
            const VERSION: u8 = 1;
        })*
    };
}

coded! {
    SchemaRow = 32,
    ServerKeyRow = 33,
    DeviceRow = 34,
    SeenRow = 35,
    UidRow = 36,
    KeyRow = 37,
    GrantRow = 38,
    ConfigRow = 39,
    ReportRow = 40,
    CursorRow = 41,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct SchemaRow {
    pub(super) schema: u32,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct ServerKeyRow {
    pub(super) key: [u8; 32],
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct UidRow {
    pub(super) uid: [u8; 16],
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct DeviceRow {
    id: String,
    key: Option<[u8; 32]>,
    name: Option<String>,
    state: AdmissionRow,
    state_reason: String,
    state_at_millis: i64,
    facts: FactsRow,
    metadata: Vec<(String, String)>,
    created_at_millis: i64,
    reported: Option<ReportedRow>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
enum AdmissionRow {
    Pending,
    Active,
    Rejected,
    Revoked,
    Deleted,
}

#[derive(Debug, PartialEq, Encode, Decode)]
struct FactsRow {
    hostname: String,
    device_type: String,
    model: String,
    os: String,
    kernel: String,
    arch: String,
    version: String,
    boot_id: String,
    name: Option<String>,
    cores: u32,
    memory_bytes: Option<u64>,
    addresses: Vec<String>,
    interval_secs: u32,
}

#[derive(Debug, PartialEq, Encode, Decode)]
struct ReportedRow {
    version: u64,
    hash: String,
    at_millis: i64,
    error: Option<String>,
}

/// What changes with every report, apart from the rest so that the rest is not rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
pub(super) struct SeenRow {
    pub(super) last_seen_millis: Option<i64>,
    pub(super) missed_reports: u64,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct KeyRow {
    kind: KeyKindRow,
    hash: [u8; 32],
    label: String,
    device: Option<[u8; 16]>,
    uses_left: Option<u32>,
    created_at_millis: i64,
    expires_at_millis: Option<i64>,
    revoked_at_millis: Option<i64>,
    last_used_millis: Option<i64>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
enum KeyKindRow {
    Operator,
    Enrol,
    Device,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct GrantRow {
    device_key: [u8; 32],
    device_id: String,
    created_by: String,
    created_at_millis: i64,
    expires_at_millis: i64,
    device: Option<[u8; 16]>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct ConfigRow {
    document: String,
    author: String,
    at_millis: i64,
    comment: Option<String>,
    server_url: Option<String>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct ReportRow {
    samples: Vec<SampleRow>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
struct SampleRow {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct CursorRow {
    /// The last number stored.
    pub(super) seq: u64,
    /// Grows from stream to stream of a device, so that the oldest can give way.
    pub(super) born: u64,
}

impl DeviceRow {
    pub(super) fn is_deleted(&self) -> bool {
        self.state == AdmissionRow::Deleted
    }

    pub(super) fn state_at(&self) -> Timestamp {
        Timestamp::from_millis(self.state_at_millis)
    }

    /// The device that this row and its companion store.
    pub(super) fn into_device(self, uid: Uid, seen: SeenRow) -> Result<Device, CodecError> {
        Ok(Device {
            uid,
            id: device_id(self.id)?,
            key: self.key.map(PublicKey::from_bytes),
            name: self.name,
            state: self.state.into(),
            state_reason: self.state_reason,
            state_at: Timestamp::from_millis(self.state_at_millis),
            facts: self.facts.into(),
            metadata: self.metadata.into_iter().collect(),
            created_at: Timestamp::from_millis(self.created_at_millis),
            last_seen: seen.last_seen_millis.map(Timestamp::from_millis),
            missed_reports: seen.missed_reports,
            reported: self.reported.map(Into::into),
        })
    }
}

/// A device as its two rows.
pub(super) fn device_rows(device: Device) -> (DeviceRow, SeenRow) {
    let seen = SeenRow {
        last_seen_millis: device.last_seen.map(Timestamp::millis),
        missed_reports: device.missed_reports,
    };
    let row = DeviceRow {
        id: device.id.into(),
        key: device.key.map(PublicKey::bytes),
        name: device.name,
        state: device.state.into(),
        state_reason: device.state_reason,
        state_at_millis: device.state_at.millis(),
        facts: device.facts.into(),
        metadata: device.metadata.into_iter().collect(),
        created_at_millis: device.created_at.millis(),
        reported: device.reported.map(Into::into),
    };
    (row, seen)
}

fn device_id(text: String) -> Result<DeviceId, CodecError> {
    DeviceId::try_from(text).map_err(|_| CodecError::Malformed)
}

impl From<Admission> for AdmissionRow {
    fn from(state: Admission) -> Self {
        match state {
            Admission::Pending => Self::Pending,
            Admission::Active => Self::Active,
            Admission::Rejected => Self::Rejected,
            Admission::Revoked => Self::Revoked,
            Admission::Deleted => Self::Deleted,
        }
    }
}

impl From<AdmissionRow> for Admission {
    fn from(row: AdmissionRow) -> Self {
        match row {
            AdmissionRow::Pending => Self::Pending,
            AdmissionRow::Active => Self::Active,
            AdmissionRow::Rejected => Self::Rejected,
            AdmissionRow::Revoked => Self::Revoked,
            AdmissionRow::Deleted => Self::Deleted,
        }
    }
}

impl From<Facts> for FactsRow {
    fn from(facts: Facts) -> Self {
        Self {
            hostname: facts.hostname,
            device_type: facts.device_type,
            model: facts.model,
            os: facts.os,
            kernel: facts.kernel,
            arch: facts.arch,
            version: facts.version,
            boot_id: facts.boot_id,
            name: facts.name,
            cores: facts.cores,
            memory_bytes: facts.memory_bytes,
            addresses: facts.addresses,
            interval_secs: facts.interval_secs,
        }
    }
}

impl From<FactsRow> for Facts {
    fn from(row: FactsRow) -> Self {
        Self {
            hostname: row.hostname,
            device_type: row.device_type,
            model: row.model,
            os: row.os,
            kernel: row.kernel,
            arch: row.arch,
            version: row.version,
            boot_id: row.boot_id,
            name: row.name,
            cores: row.cores,
            memory_bytes: row.memory_bytes,
            addresses: row.addresses,
            interval_secs: row.interval_secs,
        }
    }
}

impl From<ReportedConfig> for ReportedRow {
    fn from(reported: ReportedConfig) -> Self {
        Self {
            version: reported.version,
            hash: reported.hash,
            at_millis: reported.at.millis(),
            error: reported.error,
        }
    }
}

impl From<ReportedRow> for ReportedConfig {
    fn from(row: ReportedRow) -> Self {
        Self {
            version: row.version,
            hash: row.hash,
            at: Timestamp::from_millis(row.at_millis),
            error: row.error,
        }
    }
}

impl KeyRow {
    pub(super) fn into_key(self, id: String) -> KeyRecord {
        KeyRecord {
            id,
            kind: match self.kind {
                KeyKindRow::Operator => KeyKind::Operator,
                KeyKindRow::Enrol => KeyKind::Enrol,
                KeyKindRow::Device => KeyKind::Device,
            },
            hash: self.hash,
            label: self.label,
            device: self.device.map(Uid::from_bytes),
            uses_left: self.uses_left,
            created_at: Timestamp::from_millis(self.created_at_millis),
            expires_at: self.expires_at_millis.map(Timestamp::from_millis),
            revoked_at: self.revoked_at_millis.map(Timestamp::from_millis),
            last_used: self.last_used_millis.map(Timestamp::from_millis),
        }
    }
}

impl From<KeyRecord> for KeyRow {
    fn from(key: KeyRecord) -> Self {
        Self {
            kind: match key.kind {
                KeyKind::Operator => KeyKindRow::Operator,
                KeyKind::Enrol => KeyKindRow::Enrol,
                KeyKind::Device => KeyKindRow::Device,
            },
            hash: key.hash,
            label: key.label,
            device: key.device.map(Uid::bytes),
            uses_left: key.uses_left,
            created_at_millis: key.created_at.millis(),
            expires_at_millis: key.expires_at.map(Timestamp::millis),
            revoked_at_millis: key.revoked_at.map(Timestamp::millis),
            last_used_millis: key.last_used.map(Timestamp::millis),
        }
    }
}

impl GrantRow {
    pub(super) fn device_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.device_key)
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        Timestamp::from_millis(self.expires_at_millis)
    }

    pub(super) fn into_grant(self, uid: Uid) -> Result<GrantRecord, CodecError> {
        Ok(GrantRecord {
            uid,
            device_key: PublicKey::from_bytes(self.device_key),
            device_id: device_id(self.device_id)?,
            created_by: self.created_by,
            created_at: Timestamp::from_millis(self.created_at_millis),
            expires_at: Timestamp::from_millis(self.expires_at_millis),
            device: self.device.map(Uid::from_bytes),
        })
    }
}

impl From<GrantRecord> for GrantRow {
    fn from(grant: GrantRecord) -> Self {
        Self {
            device_key: grant.device_key.bytes(),
            device_id: grant.device_id.into(),
            created_by: grant.created_by,
            created_at_millis: grant.created_at.millis(),
            expires_at_millis: grant.expires_at.millis(),
            device: grant.device.map(Uid::bytes),
        }
    }
}

impl ConfigRow {
    pub(super) fn into_version(self, version: u64) -> ConfigVersion {
        ConfigVersion {
            version,
            config: NewConfig {
                document: self.document,
                author: self.author,
                at: Timestamp::from_millis(self.at_millis),
                comment: self.comment,
                server_url: self.server_url,
            },
        }
    }
}

impl From<NewConfig> for ConfigRow {
    fn from(config: NewConfig) -> Self {
        Self {
            document: config.document,
            author: config.author,
            at_millis: config.at.millis(),
            comment: config.comment,
            server_url: config.server_url,
        }
    }
}

impl From<Vec<Sample>> for ReportRow {
    fn from(samples: Vec<Sample>) -> Self {
        let row = |sample: Sample| SampleRow {
            name: sample.name,
            labels: sample.labels,
            value: sample.value,
        };
        Self { samples: samples.into_iter().map(row).collect() }
    }
}

impl From<ReportRow> for Vec<Sample> {
    fn from(row: ReportRow) -> Self {
        let sample =
            |row: SampleRow| Sample { name: row.name, labels: row.labels, value: row.value };
        row.samples.into_iter().map(sample).collect()
    }
}
