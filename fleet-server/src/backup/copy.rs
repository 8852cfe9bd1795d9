//! Taking a backup of a store: its pieces, as fast as they are taken.

use std::path::Path;

use bytes::Bytes;
use fleet_core::codec::CodecError;
use fleet_core::time::Timestamp;
use tokio::sync::mpsc;

use super::format::{Begin, Encoder};
use crate::keyring::{self, KeyringError};
use crate::store::{Failure, Store, StoreError};

/// Why a backup was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The server's key.
    #[error(transparent)]
    Key(#[from] KeyringError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No server has ever started on it.
    #[error("the database belongs to no server yet")]
    NoServer,
    /// What it says of itself.
    #[error("the beginning of the backup cannot be written")]
    Begin(#[from] CodecError),
}

/// Sends all pieces of a backup of a store and of the key beside its database. If whoever takes
/// them leaves, or on an error, the last piece is missing.
pub(crate) async fn copy(
    store: &dyn Store,
    database: &Path,
    now: Timestamp,
    out: mpsc::Sender<Bytes>,
) -> Result<(), CopyError> {
    let server = store.server_key().await?.ok_or(CopyError::NoServer)?;
    let beside = database.to_owned();
    let reading = tokio::task::spawn_blocking(move || keyring::sealed(&beside, server.identity()));
    let key = reading.await.map_err(|_| StoreError::from(Failure::Closed))??;
    let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let begin = Begin {
        at_millis: now.millis(),
        release: fleet_core::VERSION.to_owned(),
        database: name,
        server: server.identity().to_string(),
    };
    let mut encoder = Encoder::default();
    let head = [encoder.begin(&begin)?, encoder.key(&key)];
    for piece in head {
        if out.send(piece).await.is_err() {
            return Ok(());
        }
    }
    let take = move |part: crate::store::Part<'_>| out.blocking_send(encoder.part(part)).is_ok();
    Ok(store.copy(Box::new(take)).await?)
}
