//! A grant's row.

use bincode::{Decode, Encode};
use fleet_core::codec::CodecError;
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;

use super::device_id;
use crate::store::GrantRecord;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct GrantRow {
    device_key: [u8; 32],
    device_id: String,
    created_by: String,
    created_at_millis: i64,
    expires_at_millis: i64,
    device: Option<[u8; 16]>,
}

impl GrantRow {
    pub(in crate::store::redb) fn device_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.device_key)
    }

    pub(in crate::store::redb) fn expires_at(&self) -> Timestamp {
        Timestamp::from_millis(self.expires_at_millis)
    }

    pub(in crate::store::redb) fn into_grant(self, uid: Uid) -> Result<GrantRecord, CodecError> {
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
