//! The store's owner and health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use fleet_core::identity::PublicKey;

use super::row::{GroupRow, ServerKeyRow};
use super::tables::{Fault, REVOKED_GROUP, Reading, SERVER_KEY, Writing};
use super::{RedbStore, backup};
use crate::series::backup::Read;
use crate::store::revoked::REVOKED_FILE;
use crate::store::{Checked, Conflict, Failure, MetaStore, Pace, StoreError, StoreHealth};

const KEY: &[u8] = b"server_key";
const GROUP: &[u8] = b"revoked_group";

#[async_trait]
impl MetaStore for RedbStore {
    async fn server_key(&self) -> Result<Option<PublicKey>, StoreError> {
        self.read(server_key).await
    }

    async fn claim_server_key(&self, key: PublicKey) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        self.write(move |txn| {
            if shared.revoked.owner().is_some_and(|owner| owner != key) {
                return Err(Conflict::ServerKey.into());
            }
            match owner(txn)? {
                Some(owner) if owner != key => return Err(Conflict::ServerKey.into()),
                Some(_) => {}
                None => txn.open(&SERVER_KEY)?.put(KEY, &ServerKeyRow { key: key.bytes() })?,
            }
            // So that there is a file for which room can be held before anything was revoked.
            match shared.revoked.add(Some(key), group(txn)?, Vec::new()) {
                Ok(group) => note_group(txn, group),
                Err(_) => {
                    tracing::warn!(
                        "{REVOKED_FILE} is made with the first key or device that is revoked"
                    );
                    Ok(())
                }
            }
        })
        .await
    }

    fn health(&self) -> StoreHealth {
        self.health_now()
    }

    fn damage(&self) -> Option<String> {
        let all = [self.shared.damage.summary(), self.series.damage()];
        all.into_iter().flatten().reduce(|rows, telemetry| format!("{rows}; {telemetry}"))
    }

    async fn check(&self, pace: Pace) -> Result<Checked, StoreError> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| Failure::Closed)?;
        let (shared, series) = (Arc::clone(&self.shared), Arc::clone(&self.series));
        // Whoever waits for it may leave, and the server may stop.
        let stop = StopOnDrop::default();
        let stopped = stop.0.clone();
        let checking = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let rows = backup::read_rows(&shared, pace, &stopped)?;
            Ok::<_, StoreError>((rows, series.read_chunks(pace, &stopped)?))
        });
        let (rows, Read { chunks, reports }) =
            checking.await.unwrap_or_else(|_| Err(Failure::Closed.into()))?;
        Ok(Checked { rows, chunks, reports, damage: self.damage() })
    }
}

/// Says that something shall stop when nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The same, for who changes something.
pub(super) fn owner(txn: &Writing<'_>) -> Result<Option<PublicKey>, Fault> {
    let row = txn.open(&SERVER_KEY)?.get(KEY)?;
    Ok(row.map(|row| PublicKey::from_bytes(row.key)))
}

/// The newest group of what was revoked that the database has; none if that is damaged, or the
/// database is from before groups had numbers.
pub(super) fn group(txn: &Writing<'_>) -> Result<u64, Fault> {
    match txn.open(&REVOKED_GROUP)?.get(GROUP) {
        Ok(row) => Ok(row.map_or(0, |row| row.group)),
        Err(Fault::Refused(_)) => Ok(0),
        Err(fault) => Err(fault),
    }
}

/// Notes that the database has all groups up to one.
pub(super) fn note_group(txn: &Writing<'_>, group: u64) -> Result<(), Fault> {
    txn.open(&REVOKED_GROUP)?.put(GROUP, &GroupRow { group })
}

/// The key of the server that the store belongs to.
pub(super) fn server_key(txn: &Reading<'_>) -> Result<Option<PublicKey>, Fault> {
    let row = txn.open(&SERVER_KEY)?.get(KEY)?;
    Ok(row.map(|row| PublicKey::from_bytes(row.key)))
}
