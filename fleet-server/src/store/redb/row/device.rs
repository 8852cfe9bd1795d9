//! A device's two rows.

use bincode::{Decode, Encode};
use fleet_core::codec::CodecError;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;

use super::device_id;
use crate::store::{Admission, Device, NextKey, OtherKeys, ReportedConfig, ReportedPhase};

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct DeviceRow {
    id: String,
    keys: KeysRow,
    name: Option<String>,
    state: AdmissionRow,
    state_reason: String,
    state_at_millis: i64,
    facts: FactsRow,
    metadata: Vec<(String, String)>,
    created_at_millis: i64,
    reported: SaidRow,
}

/// A device's keys. The first two are what an option of a key is.
#[derive(Debug, PartialEq, Encode, Decode)]
enum KeysRow {
    None,
    One([u8; 32]),
    Several { key: Option<[u8; 32]>, next: Option<[u8; 32]>, former: Vec<[u8; 32]> },
    Offered { key: Option<[u8; 32]>, next: [u8; 32], command: [u8; 16], former: Vec<[u8; 32]> },
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) enum AdmissionRow {
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

/// What a device said of its configuration. The first two are what an option of a row is.
#[derive(Debug, PartialEq, Encode, Decode)]
enum SaidRow {
    Nothing,
    Said(ReportedRow),
    Trying(ReportedRow),
    Reverted(ReportedRow, u64),
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
pub(in crate::store::redb) struct SeenRow {
    pub(in crate::store::redb) last_seen_millis: Option<i64>,
    pub(in crate::store::redb) missed_reports: u64,
}

impl DeviceRow {
    pub(in crate::store::redb) fn has_id(&self, id: &DeviceId) -> bool {
        self.id == id.as_str()
    }

    pub(in crate::store::redb) fn has_key(&self, key: PublicKey) -> bool {
        let key = &key.bytes();
        match &self.keys {
            KeysRow::None => false,
            KeysRow::One(known) => known == key,
            KeysRow::Several { key: known, next, former } => {
                known.iter().chain(next).chain(former).any(|known| known == key)
            }
            KeysRow::Offered { key: known, next, former, .. } => {
                known.iter().chain([next]).chain(former).any(|known| known == key)
            }
        }
    }

    pub(in crate::store::redb) fn is_deleted(&self) -> bool {
        self.state == AdmissionRow::Deleted
    }

    pub(in crate::store::redb) fn state_at(&self) -> Timestamp {
        Timestamp::from_millis(self.state_at_millis)
    }

    /// The device that this row and its companion store.
    pub(in crate::store::redb) fn into_device(
        self,
        uid: Uid,
        seen: SeenRow,
    ) -> Result<Device, CodecError> {
        let (key, other_keys) = self.keys.into_keys();
        Ok(Device {
            uid,
            id: device_id(self.id)?,
            key,
            name: self.name,
            state: self.state.into(),
            state_reason: self.state_reason,
            state_at: Timestamp::from_millis(self.state_at_millis),
            facts: self.facts.into(),
            metadata: self.metadata.into_iter().collect(),
            created_at: Timestamp::from_millis(self.created_at_millis),
            last_seen: seen.last_seen_millis.map(Timestamp::from_millis),
            missed_reports: seen.missed_reports,
            other_keys,
            reported: self.reported.into_reported(),
        })
    }
}

/// A device as its two rows.
pub(in crate::store::redb) fn device_rows(device: Device) -> (DeviceRow, SeenRow) {
    let seen = SeenRow {
        last_seen_millis: device.last_seen.map(Timestamp::millis),
        missed_reports: device.missed_reports,
    };
    let row = DeviceRow {
        id: device.id.into(),
        keys: KeysRow::of(device.key, device.other_keys),
        name: device.name,
        state: device.state.into(),
        state_reason: device.state_reason,
        state_at_millis: device.state_at.millis(),
        facts: device.facts.into(),
        metadata: device.metadata.into_iter().collect(),
        created_at_millis: device.created_at.millis(),
        reported: device.reported.into(),
    };
    (row, seen)
}

impl KeysRow {
    fn of(key: Option<PublicKey>, OtherKeys { next, former }: OtherKeys) -> Self {
        let key = key.map(PublicKey::bytes);
        match key {
            None if next.is_none() && former.is_empty() => Self::None,
            Some(key) if next.is_none() && former.is_empty() => Self::One(key),
            key => {
                let former = former.into_iter().map(PublicKey::bytes).collect();
                match next {
                    Some(NextKey { key: next, command: Some(command) }) => {
                        let (next, command) = (next.bytes(), command.bytes());
                        Self::Offered { key, next, command, former }
                    }
                    next => Self::Several { key, next: next.map(|next| next.key.bytes()), former },
                }
            }
        }
    }

    fn into_keys(self) -> (Option<PublicKey>, OtherKeys) {
        let known = PublicKey::from_bytes;
        match self {
            Self::None => (None, OtherKeys::default()),
            Self::One(key) => (Some(known(key)), OtherKeys::default()),
            Self::Several { key, next, former } => {
                let former = former.into_iter().map(known).collect();
                let next = next.map(|next| NextKey { key: known(next), command: None });
                (key.map(known), OtherKeys { next, former })
            }
            Self::Offered { key, next, command, former } => {
                let former = former.into_iter().map(known).collect();
                let command = Some(Uid::from_bytes(command));
                let next = Some(NextKey { key: known(next), command });
                (key.map(known), OtherKeys { next, former })
            }
        }
    }
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

impl From<Option<ReportedConfig>> for SaidRow {
    fn from(reported: Option<ReportedConfig>) -> Self {
        let Some(ReportedConfig { version, hash, at, error, phase }) = reported else {
            return Self::Nothing;
        };
        let row = ReportedRow { version, hash, at_millis: at.millis(), error };
        match phase {
            ReportedPhase::Said => Self::Said(row),
            ReportedPhase::Trying => Self::Trying(row),
            ReportedPhase::Reverted { holds } => Self::Reverted(row, holds),
        }
    }
}

impl SaidRow {
    fn into_reported(self) -> Option<ReportedConfig> {
        let (row, phase) = match self {
            Self::Nothing => return None,
            Self::Said(row) => (row, ReportedPhase::Said),
            Self::Trying(row) => (row, ReportedPhase::Trying),
            Self::Reverted(row, holds) => (row, ReportedPhase::Reverted { holds }),
        };
        let ReportedRow { version, hash, at_millis, error } = row;
        Some(ReportedConfig { version, hash, at: Timestamp::from_millis(at_millis), error, phase })
    }
}
