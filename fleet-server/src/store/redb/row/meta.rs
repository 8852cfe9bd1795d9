//! Rows of what there is one of.

use bincode::{Decode, Encode};

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct SchemaRow {
    pub(in crate::store::redb) schema: u32,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct ServerKeyRow {
    pub(in crate::store::redb) key: [u8; 32],
}

/// The newest group of what was revoked that the database has.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct GroupRow {
    pub(in crate::store::redb) group: u64,
}
