//! Key records in redb.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::time::Timestamp;

use super::RedbStore;
use super::row::KeyOriginRow;
use super::tables::{Fault, KEY_ORIGINS, KEYS, Writing};
use crate::store::revoked::Ended;
use crate::store::{Conflict, KeyRecord, KeyRefusal, KeyStore, StoreError};

/// Keys that one commit removes, so that others need not wait long. The next round takes the rest.
const PURGE_ROWS_MAX: usize = 5_000;

#[async_trait]
impl KeyStore for RedbStore {
    async fn key_insert(&self, key: KeyRecord) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        self.write(move |txn| {
            // One that was ended once, and that an older database does not know, is not good again.
            let ended = shared.revoked.key_ended(&key.id).map(Timestamp::from_millis);
            insert(txn, KeyRecord { revoked_at: key.revoked_at.or(ended), ..key })
        })
        .await
    }

    async fn key_get(&self, id: &str) -> Result<Option<KeyRecord>, StoreError> {
        let id = id.to_owned();
        self.read_few(move |txn| {
            let Some(row) = txn.open(&KEYS)?.get(id.as_bytes())? else { return Ok(None) };
            // A key is good although nobody can tell any more where it comes from.
            let origins = txn.open(&KEY_ORIGINS)?;
            let origin = origins.rows(id.as_bytes(), id.as_bytes())?.next().transpose()?;
            let origin = origin.map(|(_, row)| row.into_origin());
            Ok(Some(KeyRecord { origin, ..row.into_key(id) }))
        })
        .await
    }

    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.read(|txn| {
            let (keys, origins) = (txn.open(&KEYS)?, txn.open(&KEY_ORIGINS)?);
            let mut known: BTreeMap<_, _> = origins.all()?.collect::<Result<_, _>>()?;
            let listed = keys.all()?.map(|entry| {
                let (id, row) = entry?;
                let origin = known.remove(&id).map(KeyOriginRow::into_origin);
                let key = row.into_key(String::from_utf8_lossy(&id).into_owned());
                Ok(KeyRecord { origin, ..key })
            });
            listed.collect()
        })
        .await
    }

    async fn key_revoke(&self, id: &str, at: Timestamp) -> Result<KeyRecord, StoreError> {
        let id = id.to_owned();
        self.write(move |txn| {
            let end = last_admin(txn, &id, at)?;
            let mut revoked_before = None;
            let key = change(txn, id, |key| {
                if key.is_good_admin(at)
                    && end.is_none_or(|end| end < key.end().min(at.plus(ADMIN_LIFE_MIN)))
                {
                    return Err(KeyRefusal::LastOperator);
                }
                revoked_before = key.revoked_at;
                key.revoked_at.get_or_insert(at);
                Ok(())
            })?;
            let at_millis = key.revoked_at.unwrap_or(at).millis();
            txn.ends([Ended::Key { id: key.id.clone(), at_millis }]);
            Ok(KeyRecord { revoked_at: revoked_before, ..key })
        })
        .await
    }

    async fn key_succeed(
        &self,
        id: &str,
        successor: KeyRecord,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<KeyRecord, StoreError> {
        let id = id.to_owned();
        self.write(move |txn| {
            require_unknown(txn, &successor.id)?;
            let old = change(txn, id, |key| {
                require_good(key, now)?;
                key.expires_at = Some(key.expires_at.map_or(end, |expires| expires.min(end)));
                Ok(())
            })?;
            insert(txn, successor)?;
            let at_millis = old.expires_at.unwrap_or(end).millis();
            txn.ends([Ended::KeyLife { id: old.id.clone(), at_millis }]);
            Ok(old)
        })
        .await
    }

    async fn key_use(
        &self,
        id: &str,
        at: Timestamp,
        from: Option<IpAddr>,
    ) -> Result<KeyRecord, StoreError> {
        let id = id.to_owned();
        self.write(move |txn| change(txn, id, |key| use_once(key, at, from))).await
    }

    async fn key_purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(move |txn| {
            let mut keys = txn.open(&KEYS)?;
            let ended: Vec<_> = keys
                .all()?
                .filter_map(|entry| match entry {
                    Ok((id, row)) => {
                        let key = row.into_key(String::from_utf8_lossy(&id).into_owned());
                        key.ended_at().is_some_and(|at| at < before).then_some(Ok(id))
                    }
                    Err(fault) => Some(Err(fault)),
                })
                .take(PURGE_ROWS_MAX)
                .collect::<Result<_, Fault>>()?;
            let mut origins = txn.open(&KEY_ORIGINS)?;
            for id in &ended {
                keys.remove(id)?;
                origins.remove(id)?;
            }
            Ok(ended.len() as u64)
        })
        .await
    }
}

fn insert(txn: &Writing<'_>, mut key: KeyRecord) -> Result<(), Fault> {
    require_unknown(txn, &key.id)?;
    let mut keys = txn.open(&KEYS)?;
    let id = key.id.clone();
    if let Some(origin) = key.origin.take() {
        txn.open(&KEY_ORIGINS)?.put(id.as_bytes(), &origin.into())?;
    }
    keys.put(id.as_bytes(), &key.into())
}

fn require_unknown(txn: &Writing<'_>, id: &str) -> Result<(), Fault> {
    if txn.open(&KEYS)?.contains(id.as_bytes())? {
        return Err(Conflict::Exists("key").into());
    }
    Ok(())
}

fn change(
    txn: &Writing<'_>,
    id: String,
    change: impl FnOnce(&mut KeyRecord) -> Result<(), KeyRefusal>,
) -> Result<KeyRecord, Fault> {
    let mut keys = txn.open(&KEYS)?;
    let row = keys.get(id.as_bytes())?.ok_or(StoreError::Missing("key"))?;
    let mut key = row.into_key(id);
    change(&mut key).map_err(StoreError::from)?;
    keys.put(key.id.as_bytes(), &key.clone().into())?;
    Ok(key)
}

/// For how long there is always somebody who may do everything.
const ADMIN_LIFE_MIN: Duration = Duration::from_secs(7 * 86_400);

/// Until when somebody who may do everything could still come in without one of the keys. Damaged
/// ones do not count.
fn last_admin(txn: &Writing<'_>, id: &str, at: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let mut last = None;
    for entry in txn.open(&KEYS)?.all()? {
        let (other, row) = entry?;
        let key = row.into_key(String::from_utf8_lossy(&other).into_owned());
        if key.id != id && key.is_good_admin(at) {
            last = last.max(Some(key.end()));
        }
    }
    Ok(last)
}

fn use_once(key: &mut KeyRecord, at: Timestamp, from: Option<IpAddr>) -> Result<(), KeyRefusal> {
    require_good(key, at)?;
    if let Some(left) = key.uses_left {
        key.uses_left = Some(left.checked_sub(1).ok_or(KeyRefusal::Spent)?);
    }
    (key.last_used, key.last_used_from) = (Some(at), from);
    Ok(())
}

fn require_good(key: &KeyRecord, at: Timestamp) -> Result<(), KeyRefusal> {
    if key.revoked_at.is_some() {
        Err(KeyRefusal::Revoked)
    } else if key.expires_at.is_some_and(|end| at >= end) {
        Err(KeyRefusal::Expired)
    } else {
        Ok(())
    }
}
