//! Key records: what the server keeps of the key texts that it handed out.

use std::net::IpAddr;

use async_trait::async_trait;
use fleet_core::api::{Might, Role};
use fleet_core::id::Uid;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;

use super::StoreError;

/// The keys that let people, scripts and devices in.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Adds a key, unless its id is taken.
    async fn key_insert(&self, key: KeyRecord) -> Result<(), StoreError>;

    /// A key by its id, whether it still works or not.
    async fn key_get(&self, id: &str) -> Result<Option<KeyRecord>, StoreError>;

    /// All keys, by id. Damaged ones are left out, and health says so.
    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError>;

    /// Ends a key for good, unless it may do everything and no other that may works for a week, or as
    /// long: of any number of simultaneous callers, one fails then. Repeating it keeps the first time. Returns
    /// the key as it was before, without where it comes from.
    async fn key_revoke(&self, id: &str, at: Timestamp) -> Result<KeyRecord, StoreError>;

    /// Adds a key's successor, and has the key itself end at a time, unless it ends before: both in
    /// one commit. A key that works no more at `now` has no successor. Returns the key after it,
    /// without where it comes from.
    async fn key_succeed(
        &self,
        id: &str,
        successor: KeyRecord,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<KeyRecord, StoreError>;

    /// Uses a key once, if it may be used: of a key with one use left, one of any number of
    /// simultaneous callers gets it. Returns the record after it. Costs a commit, so it is for
    /// keys whose uses are counted and for now and then noting the last use of others, and from
    /// where that was.
    async fn key_use(
        &self,
        id: &str,
        at: Timestamp,
        from: Option<IpAddr>,
    ) -> Result<KeyRecord, StoreError>;

    /// Removes keys that ended before a time. Returns how many.
    async fn key_purge(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// What the server keeps of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public part of the key's text.
    pub id: String,
    /// What it may do at most.
    pub kind: KeyKind,
    /// The hash of its secret.
    pub hash: [u8; 32],
    /// What it is for, in its maker's words.
    pub label: String,
    /// The one device it is for.
    pub device: Option<Uid>,
    /// How many more it may let in; none if they are not counted.
    pub uses_left: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was withdrawn.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, as far as that was noted.
    pub last_used: Option<Timestamp>,
    /// From where that was.
    pub last_used_from: Option<IpAddr>,
    /// What an operator may do who comes in with it.
    pub might: Might,
    /// With which devices, as a filter; all if there is none.
    pub scope: Option<String>,
    /// Where it comes from; nothing of keys that are older than this was kept.
    pub origin: Option<KeyOrigin>,
}

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOrigin {
    /// Who made it.
    pub author: String,
    /// The id of the key that it takes the place of.
    pub succeeds: Option<String>,
}

impl KeyRecord {
    /// Whether it works at a time.
    pub fn works(&self, at: Timestamp) -> bool {
        self.revoked_at.is_none()
            && self.expires_at.is_none_or(|end| at < end)
            && self.uses_left != Some(0)
    }

    /// Until when it works if nobody ends it.
    pub fn end(&self) -> Timestamp {
        self.expires_at.unwrap_or(Timestamp::from_millis(i64::MAX))
    }

    /// Since when it works no more, or from when on.
    pub fn ended_at(&self) -> Option<Timestamp> {
        let spent = self.last_used.filter(|_| self.uses_left == Some(0));
        [self.revoked_at, self.expires_at, spent].into_iter().flatten().min()
    }

    /// Whether an operator comes in with it at a time.
    pub fn is_good_operator(&self, at: Timestamp) -> bool {
        self.kind == KeyKind::Operator && self.works(at)
    }

    /// Whether somebody who may do everything comes in with it at a time.
    pub fn is_good_admin(&self, at: Timestamp) -> bool {
        self.is_good_operator(at) && self.might.role == Role::Admin && self.scope.is_none()
    }
}
