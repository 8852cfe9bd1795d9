//! Grant records in redb, and which grants name a device key.

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;

use redb::ReadableTable;

use super::RedbStore;
use super::row::{GrantRow, UidRow};
use super::tables::{Bytes, Fault, GRANT_KEYS, GRANTS, View, Writing};
use crate::store::{Conflict, GrantRecord, GrantStore, StoreError};

/// Grants that one commit removes, so that others need not wait long.
const PURGE_ROWS_MAX: usize = 1_000;

#[async_trait]
impl GrantStore for RedbStore {
    async fn grant_insert(&self, grant: GrantRecord) -> Result<(), StoreError> {
        self.write(move |txn| {
            let mut grants = txn.open(&GRANTS)?;
            let uid = grant.uid.bytes();
            if grants.contains(&uid)? {
                return Err(Conflict::Exists("grant").into());
            }
            let key = grant.device_key;
            grants.put(&uid, &grant.into())?;
            txn.open(&GRANT_KEYS)?.put(&index_key(key, uid), &UidRow { uid })
        })
        .await
    }

    async fn grant_get(&self, uid: Uid) -> Result<Option<GrantRecord>, StoreError> {
        self.read_few(move |txn| load(&txn.open(&GRANTS)?, uid)).await
    }

    async fn grant_live(
        &self,
        device_key: PublicKey,
        now: Timestamp,
    ) -> Result<Option<GrantRecord>, StoreError> {
        self.read(move |txn| {
            let (index, grants) = (txn.open(&GRANT_KEYS)?, txn.open(&GRANTS)?);
            let (from, to) = (index_key(device_key, [0; 16]), index_key(device_key, [255; 16]));
            let mut best: Option<GrantRecord> = None;
            for entry in index.rows(&from, &to)? {
                let Some(grant) = load(&grants, Uid::from_bytes(entry?.1.uid))? else { continue };
                let live = grant.device.is_none() && now < grant.expires_at;
                if live && best.as_ref().is_none_or(|best| best.expires_at < grant.expires_at) {
                    best = Some(grant);
                }
            }
            Ok(best)
        })
        .await
    }

    async fn grant_fulfil(&self, uid: Uid, device: Uid) -> Result<(), StoreError> {
        self.write(move |txn| {
            let mut grants = txn.open(&GRANTS)?;
            let mut grant = load(&grants, uid)?.ok_or(StoreError::Missing("grant"))?;
            match grant.device {
                Some(other) if other != device => Err(Conflict::GrantUsed.into()),
                Some(_) => Ok(()),
                None => {
                    grant.device = Some(device);
                    grants.put(&uid.bytes(), &grant.into())
                }
            }
        })
        .await
    }

    async fn grant_purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let removed = self.write(move |txn| purge_some(txn, before)).await?;
            purged += removed as u64;
            if removed < PURGE_ROWS_MAX {
                return Ok(purged);
            }
        }
    }
}

/// Ends the open grants for the keys of a device that is put out. Their time is set to long ago, so
/// that no clock that is set back brings one to life again.
pub(super) fn void_grants(
    txn: &Writing<'_>,
    keys: impl Iterator<Item = PublicKey>,
) -> Result<(), Fault> {
    let mut grants = txn.open(&GRANTS)?;
    let index = txn.open(&GRANT_KEYS)?;
    let mut uids = Vec::new();
    for key in keys {
        let (from, to) = (index_key(key, [0; 16]), index_key(key, [255; 16]));
        for entry in index.rows(&from, &to)? {
            uids.push(entry?.1.uid);
        }
    }
    for uid in uids {
        let mut grant = match load(&grants, Uid::from_bytes(uid)) {
            Ok(Some(grant)) => grant,
            // A damaged one lets nobody in either, and must not keep a device from being put out.
            Ok(None) | Err(Fault::Refused(StoreError::Damaged { .. })) => continue,
            Err(fault) => return Err(fault),
        };
        if grant.device.is_none() {
            grant.expires_at = Timestamp::default();
            grants.put(&uid, &grant.into())?;
        }
    }
    Ok(())
}

fn load<T: ReadableTable<Bytes, Bytes>>(
    grants: &View<'_, GrantRow, T>,
    uid: Uid,
) -> Result<Option<GrantRecord>, Fault> {
    let Some(row) = grants.get(&uid.bytes())? else { return Ok(None) };
    Ok(Some(grants.sound(&uid.bytes(), row.into_grant(uid))?))
}

fn purge_some(txn: &Writing<'_>, before: Timestamp) -> Result<usize, Fault> {
    let mut grants = txn.open(&GRANTS)?;
    let mut index = txn.open(&GRANT_KEYS)?;
    let expired = grants
        .all()?
        .filter(|entry| entry.as_ref().map_or(true, |(_, row)| row.expires_at() < before))
        .take(PURGE_ROWS_MAX)
        .collect::<Result<Vec<_>, Fault>>()?;
    for (key, row) in &expired {
        grants.remove(key)?;
        index.remove(&[row.device_key().bytes().as_slice(), key].concat())?;
    }
    Ok(expired.len())
}

fn index_key(device_key: PublicKey, uid: [u8; 16]) -> [u8; 48] {
    let mut key = [0; 48];
    key[..32].copy_from_slice(&device_key.bytes());
    key[32..].copy_from_slice(&uid);
    key
}
