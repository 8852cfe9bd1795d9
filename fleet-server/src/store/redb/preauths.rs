//! Devices that are let in before they have come, in redb. A key is its fingerprint's text.

use async_trait::async_trait;
use fleet_core::codec::CodecError;
use fleet_core::identity::Fingerprint;
use fleet_core::time::Timestamp;

use super::RedbStore;
use super::tables::{Fault, PREAUTHS};
use crate::store::{Device, PreauthRecord, PreauthStore, Refusal, StoreError};

/// Rows that one commit removes, so that others need not wait long.
const PURGE_ROWS_MAX: usize = 1_000;

#[async_trait]
impl PreauthStore for RedbStore {
    async fn preauth_insert(
        &self,
        records: Vec<PreauthRecord>,
        now: Timestamp,
        max: usize,
    ) -> Result<(), StoreError> {
        let weight = records.len();
        self.write_heavy(weight, move |txn| {
            let mut table = txn.open(&PREAUTHS)?;
            let mut count = usize::try_from(table.count()?).unwrap_or(usize::MAX);
            for record in &records {
                let key = record.key.to_string();
                match table.get(key.as_bytes())? {
                    Some(row) if row.expires_at() > now => {
                        let reason = format!("{key} is preauthorised already");
                        return Err(StoreError::from(Refusal(reason)).into());
                    }
                    Some(_) => {}
                    None => count += 1,
                }
            }
            if count > max {
                let reason = format!("no more than {max} devices can be preauthorised at one time");
                return Err(StoreError::from(Refusal(reason)).into());
            }
            for record in &records {
                let key = record.key.to_string();
                table.put(key.as_bytes(), &record.clone().into())?;
            }
            Ok(())
        })
        .await
    }

    async fn preauth_get(&self, key: Fingerprint) -> Result<Option<PreauthRecord>, StoreError> {
        self.read_few(move |txn| {
            let table = txn.open(&PREAUTHS)?;
            let name = key.to_string();
            let Some(row) = table.get(name.as_bytes())? else { return Ok(None) };
            Ok(Some(table.sound(name.as_bytes(), row.into_preauth(key))?))
        })
        .await
    }

    async fn preauth_list(&self) -> Result<Vec<PreauthRecord>, StoreError> {
        self.read(|txn| {
            let table = txn.open(&PREAUTHS)?;
            let mut records = Vec::new();
            for entry in table.all()? {
                let (key, row) = entry?;
                let record = fingerprint(&key).and_then(|name| row.into_preauth(name));
                // A damaged one is noted as such.
                records.extend(table.sound(&key, record).ok());
            }
            Ok(records)
        })
        .await
    }

    async fn preauth_admit(&self, key: Fingerprint, device: Device) -> Result<(), StoreError> {
        let inserted = device.clone();
        self.write(move |txn| {
            let mut table = txn.open(&PREAUTHS)?;
            let name = key.to_string();
            if !table.contains(name.as_bytes())? {
                return Err(StoreError::Missing("preauthorised device").into());
            }
            super::devices::insert(txn, device.clone())?;
            table.remove(name.as_bytes())
        })
        .await?;
        self.noted(inserted).await;
        Ok(())
    }

    async fn preauth_remove(&self, key: Fingerprint) -> Result<bool, StoreError> {
        self.write(move |txn| {
            let mut table = txn.open(&PREAUTHS)?;
            let name = key.to_string();
            let was_there = table.contains(name.as_bytes())?;
            table.remove(name.as_bytes())?;
            Ok(was_there)
        })
        .await
    }

    async fn preauth_purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let removed = self
                .write(move |txn| {
                    let mut table = txn.open(&PREAUTHS)?;
                    let expired: Vec<Vec<u8>> = table
                        .all()?
                        .filter_map(|entry| match entry {
                            Ok((key, row)) => (row.expires_at() < before).then_some(Ok(key)),
                            Err(fault) => Some(Err(fault)),
                        })
                        .take(PURGE_ROWS_MAX)
                        .collect::<Result<_, Fault>>()?;
                    for key in &expired {
                        table.remove(key)?;
                    }
                    Ok(expired.len())
                })
                .await?;
            purged += removed as u64;
            if removed < PURGE_ROWS_MAX {
                return Ok(purged);
            }
        }
    }
}

fn fingerprint(key: &[u8]) -> Result<Fingerprint, CodecError> {
    let text = std::str::from_utf8(key).map_err(|_| CodecError::Malformed)?;
    text.parse().map_err(|_| CodecError::Malformed)
}
