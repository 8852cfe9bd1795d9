//! What the store knows about itself.

use async_trait::async_trait;
use fleet_core::identity::PublicKey;

use super::StoreError;

/// The store's owner and its state.
#[async_trait]
pub trait MetaStore: Send + Sync {
    /// The key of the server that the store belongs to; none before the first start.
    async fn server_key(&self) -> Result<Option<PublicKey>, StoreError>;

    /// Makes the store this server's. Repeating it changes nothing; another server's key is
    /// [`Conflict::ServerKey`](super::Conflict::ServerKey).
    async fn claim_server_key(&self, key: PublicKey) -> Result<(), StoreError>;

    /// How the store is, at once and without touching the disk.
    fn health(&self) -> StoreHealth;

    /// What of what is stored cannot be read, as far as anybody has tried.
    fn damage(&self) -> Option<String>;
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// Nothing to say.
    Healthy,
    /// It works in part, or not at present; the text says what is wrong, for a person.
    Degraded(String),
}
