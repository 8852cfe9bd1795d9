//! A key's row, without the id, which is its key in the table.

use bincode::{Decode, Encode};
use fleet_core::id::Uid;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;

use crate::store::KeyRecord;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct KeyRow {
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

impl KeyRow {
    pub(in crate::store::redb) fn into_key(self, id: String) -> KeyRecord {
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
