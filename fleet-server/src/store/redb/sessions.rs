//! Session records in redb.

use async_trait::async_trait;
use fleet_core::time::Timestamp;

use super::RedbStore;
use super::row::SessionRow;
use super::tables::{Fault, SESSIONS, Writing};
use crate::store::{SessionRecord, SessionStore, StoreError};

#[async_trait]
impl SessionStore for RedbStore {
    async fn session_insert(&self, session: SessionRecord, max: usize) -> Result<(), StoreError> {
        self.write(move |txn| {
            make_room(txn, max)?;
            let hash = session.hash;
            txn.open(&SESSIONS)?.put(&hash, &session.into())
        })
        .await
    }

    async fn session_get(&self, hash: [u8; 32]) -> Result<Option<SessionRecord>, StoreError> {
        self.read_few(move |txn| match txn.open(&SESSIONS)?.get(&hash) {
            Ok(row) => Ok(row.map(|row| row.into_session(hash))),
            Err(Fault::Refused(StoreError::Damaged { .. })) => Ok(None),
            Err(fault) => Err(fault),
        })
        .await
    }

    async fn session_use(&self, hash: [u8; 32], at: Timestamp) -> Result<(), StoreError> {
        self.write(move |txn| {
            let mut sessions = txn.open(&SESSIONS)?;
            let Some(row) = sessions.get(&hash)? else { return Ok(()) };
            let session = SessionRecord { used_at: at, ..row.into_session(hash) };
            sessions.put(&hash, &session.into())
        })
        .await
    }

    async fn session_end(&self, hash: [u8; 32]) -> Result<(), StoreError> {
        self.write(move |txn| txn.open(&SESSIONS)?.remove(&hash)).await
    }

    async fn session_purge(
        &self,
        used_before: Timestamp,
        begun_before: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(move |txn| {
            let is_over =
                |row: &SessionRow| row.used_at() < used_before || row.begun_at() < begun_before;
            let over = hashes(txn, |row| is_over(row).then_some(()))?;
            remove(txn, over.iter().map(|(hash, ())| hash))?;
            Ok(over.len() as u64)
        })
        .await
    }
}

/// Removes what was used longest ago until one more fits into `max`.
fn make_room(txn: &Writing<'_>, max: usize) -> Result<(), Fault> {
    let count = usize::try_from(txn.open(&SESSIONS)?.count()?).unwrap_or(usize::MAX);
    if count < max {
        return Ok(());
    }
    let mut used = hashes(txn, |row| Some(row.used_at()))?;
    used.sort_by_key(|(_, used_at)| *used_at);
    let surplus = (used.len() + 1).saturating_sub(max);
    remove(txn, used.iter().take(surplus).map(|(hash, _)| hash))
}

/// The keys of the rows that `pick` finds something in, with what it finds. Their number is
/// bounded by what was ever let in.
fn hashes<T>(
    txn: &Writing<'_>,
    pick: impl Fn(&SessionRow) -> Option<T>,
) -> Result<Vec<(Vec<u8>, T)>, Fault> {
    let sessions = txn.open(&SESSIONS)?;
    let found = sessions.all()?.filter_map(|entry| match entry {
        Ok((hash, row)) => pick(&row).map(|found| Ok((hash, found))),
        Err(fault) => Some(Err(fault)),
    });
    found.collect()
}

fn remove<'a>(txn: &Writing<'_>, hashes: impl Iterator<Item = &'a Vec<u8>>) -> Result<(), Fault> {
    let mut sessions = txn.open(&SESSIONS)?;
    for hash in hashes {
        sessions.remove(hash)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::store::{MetaStore as _, StoreHealth};

    #[tokio::test]
    async fn a_damaged_session_is_none_and_gives_way_to_a_new_one() {
        let store = RedbStore::in_memory();
        let at = Timestamp::default();
        let session = |hash| SessionRecord { hash, key: "k".to_owned(), begun_at: at, used_at: at };
        store.session_insert(session([1; 32]), 9).await.unwrap();
        let damage = |txn: &Writing<'_>| txn.open(&SESSIONS)?.put_sealed(&[1; 32], b"junk");
        store.write(damage).await.unwrap();
        assert_eq!(store.session_get([1; 32]).await.unwrap(), None);
        let health = "1 stored value in sessions is damaged";
        assert_eq!(store.health(), StoreHealth::Degraded(health.to_owned()));
        store.session_end([1; 32]).await.unwrap();
        store.session_insert(session([2; 32]), 9).await.unwrap();
        assert_eq!(store.session_get([2; 32]).await.unwrap(), Some(session([2; 32])));
    }
}
