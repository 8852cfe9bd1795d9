//! A session's row, without the hash, which is its key in the table.

use bincode::{Decode, Encode};
use fleet_core::time::Timestamp;

use crate::store::SessionRecord;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct SessionRow {
    key: String,
    begun_at_millis: i64,
    used_at_millis: i64,
}

impl SessionRow {
    pub(in crate::store::redb) fn into_session(self, hash: [u8; 32]) -> SessionRecord {
        SessionRecord {
            hash,
            key: self.key,
            begun_at: Timestamp::from_millis(self.begun_at_millis),
            used_at: Timestamp::from_millis(self.used_at_millis),
        }
    }

    pub(in crate::store::redb) fn begun_at(&self) -> Timestamp {
        Timestamp::from_millis(self.begun_at_millis)
    }

    pub(in crate::store::redb) fn used_at(&self) -> Timestamp {
        Timestamp::from_millis(self.used_at_millis)
    }
}

impl From<SessionRecord> for SessionRow {
    fn from(session: SessionRecord) -> Self {
        Self {
            key: session.key,
            begun_at_millis: session.begun_at.millis(),
            used_at_millis: session.used_at.millis(),
        }
    }
}
