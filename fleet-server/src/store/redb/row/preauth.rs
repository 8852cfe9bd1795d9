//! The row of a device that is let in before it has come.

use bincode::{Decode, Encode};
use fleet_core::codec::CodecError;
use fleet_core::identity::Fingerprint;
use fleet_core::time::Timestamp;

use super::device_id;
use crate::store::PreauthRecord;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct PreauthRow {
    device_id: Option<String>,
    name: Option<String>,
    tags: Vec<String>,
    created_by: String,
    created_at_millis: i64,
    expires_at_millis: i64,
}

impl From<PreauthRecord> for PreauthRow {
    fn from(record: PreauthRecord) -> Self {
        Self {
            device_id: record.device_id.map(Into::into),
            name: record.name,
            tags: record.tags,
            created_by: record.created_by,
            created_at_millis: record.created_at.millis(),
            expires_at_millis: record.expires_at.millis(),
        }
    }
}

impl PreauthRow {
    pub(in crate::store::redb) fn expires_at(&self) -> Timestamp {
        Timestamp::from_millis(self.expires_at_millis)
    }

    pub(in crate::store::redb) fn into_preauth(
        self,
        key: Fingerprint,
    ) -> Result<PreauthRecord, CodecError> {
        Ok(PreauthRecord {
            key,
            device_id: self.device_id.map(device_id).transpose()?,
            name: self.name,
            tags: self.tags,
            created_by: self.created_by,
            created_at: Timestamp::from_millis(self.created_at_millis),
            expires_at: Timestamp::from_millis(self.expires_at_millis),
        })
    }
}
