//! Session records: which browsers an operator's key was shown from.

use async_trait::async_trait;
use fleet_core::time::Timestamp;

use super::StoreError;

/// The sessions of the page.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Adds a session. Of more than `max` sessions, those used longest ago give way.
    async fn session_insert(&self, session: SessionRecord, max: usize) -> Result<(), StoreError>;

    /// A session by the hash of its secret, whether it still works or not. A damaged one is none,
    /// and health says so: its browser can sign in anew.
    async fn session_get(&self, hash: [u8; 32]) -> Result<Option<SessionRecord>, StoreError>;

    /// Notes that a session is used. Of one that is gone, nothing comes back.
    async fn session_use(&self, hash: [u8; 32], at: Timestamp) -> Result<(), StoreError>;

    /// Ends a session. Repeating it changes nothing.
    async fn session_end(&self, hash: [u8; 32]) -> Result<(), StoreError>;

    /// Removes sessions last used before one time, or begun before another. Returns how many.
    async fn session_purge(
        &self,
        used_before: Timestamp,
        begun_before: Timestamp,
    ) -> Result<u64, StoreError>;
}

/// What the server keeps of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The hash of the secret in the browser's cookie.
    pub hash: [u8; 32],
    /// The id of the key that began it. It ends with that key.
    pub key: String,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it was last used, as far as that was noted.
    pub used_at: Timestamp,
}
