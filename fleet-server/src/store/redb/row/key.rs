//! A key's row, without the id, which is its key in the table.

use bincode::{Decode, Encode};
use fleet_core::api::{Might, Right, Role};
use fleet_core::codec::Coded;
use fleet_core::id::Uid;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;

use crate::store::{KeyOrigin, KeyRecord};

/// A key that may do what its role and its rights say.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct KeyRow {
    pub(super) first: FirstKeyRow,
    role: RoleRow,
    rights: Vec<RightRow>,
    scope: Option<String>,
    last_used_from: Option<String>,
}

impl Coded for KeyRow {
    const TAG: u8 = FirstKeyRow::TAG;
    const VERSION: u8 = 2;
}

/// Where a key comes from. It lies beside the key, which may be older than this was kept.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct KeyOriginRow {
    author: String,
    succeeds: Option<String>,
}

/// What was kept of keys before they had roles: who held an operator's could do everything.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct FirstKeyRow {
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

#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
enum RoleRow {
    Viewer,
    Operator,
    Admin,
}

#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
enum RightRow {
    Exec,
    Delete,
    Export,
}

impl KeyRow {
    /// The key, without where it comes from.
    pub(in crate::store::redb) fn into_key(self, id: String) -> KeyRecord {
        let Self { first, role, rights, scope, last_used_from } = self;
        KeyRecord {
            id,
            kind: match first.kind {
                KeyKindRow::Operator => KeyKind::Operator,
                KeyKindRow::Enrol => KeyKind::Enrol,
                KeyKindRow::Device => KeyKind::Device,
            },
            hash: first.hash,
            label: first.label,
            device: first.device.map(Uid::from_bytes),
            uses_left: first.uses_left,
            created_at: Timestamp::from_millis(first.created_at_millis),
            expires_at: first.expires_at_millis.map(Timestamp::from_millis),
            revoked_at: first.revoked_at_millis.map(Timestamp::from_millis),
            last_used: first.last_used_millis.map(Timestamp::from_millis),
            last_used_from: last_used_from.and_then(|address| address.parse().ok()),
            might: Might {
                role: match role {
                    RoleRow::Viewer => Role::Viewer,
                    RoleRow::Operator => Role::Operator,
                    RoleRow::Admin => Role::Admin,
                },
                rights: rights.into_iter().map(RightRow::right).collect(),
            },
            scope,
            origin: None,
        }
    }
}

impl KeyOriginRow {
    pub(in crate::store::redb) fn into_origin(self) -> KeyOrigin {
        KeyOrigin { author: self.author, succeeds: self.succeeds }
    }
}

impl From<KeyOrigin> for KeyOriginRow {
    fn from(origin: KeyOrigin) -> Self {
        Self { author: origin.author, succeeds: origin.succeeds }
    }
}

impl FirstKeyRow {
    /// The same key as it is kept now.
    pub(in crate::store::redb) fn grown(self) -> KeyRow {
        let (role, rights) = (RoleRow::Admin, Vec::new());
        KeyRow { first: self, role, rights, scope: None, last_used_from: None }
    }
}

impl RightRow {
    fn right(self) -> Right {
        match self {
            Self::Exec => Right::Exec,
            Self::Delete => Right::Delete,
            Self::Export => Right::Export,
        }
    }

    fn of(right: Right) -> Self {
        match right {
            Right::Exec => Self::Exec,
            Right::Delete => Self::Delete,
            Right::Export => Self::Export,
        }
    }
}

impl From<KeyRecord> for KeyRow {
    fn from(key: KeyRecord) -> Self {
        let first = FirstKeyRow {
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
        };
        Self {
            first,
            role: match key.might.role {
                Role::Viewer => RoleRow::Viewer,
                Role::Operator => RoleRow::Operator,
                Role::Admin => RoleRow::Admin,
            },
            rights: key.might.rights.into_iter().map(RightRow::of).collect(),
            scope: key.scope,
            last_used_from: key.last_used_from.map(|address| address.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use fleet_core::codec;

    use super::*;

    fn origin() -> KeyOrigin {
        KeyOrigin { author: "ada".to_owned(), succeeds: Some("j".to_owned()) }
    }

    /// Databases out there hold these bytes.
    #[test]
    fn rows_keep_their_bytes() {
        let sealed = codec::seal(b"key", &KeyOriginRow::from(origin())).unwrap();
        assert_eq!(HEXLOWER.encode(&sealed), "46014be5ec2c0361646101016a");
        let row: KeyOriginRow = codec::open(b"key", &sealed).unwrap();
        assert_eq!(row.into_origin(), origin());
    }

    #[test]
    #[ignore = "writes the seeds anew: cargo test -p fleet-server --lib write_seeds -- --ignored"]
    fn write_seeds() {
        let bytes = codec::encode(&KeyOriginRow::from(origin())).unwrap();
        fleet_core::fuzz::write_seed("rows", "key-origin", &bytes).unwrap();
    }
}
