//! Configurations in redb: key = device, version. What of one is the device's own is apart, under the
//! same key, where it is not all of it.

use async_trait::async_trait;
use fleet_core::id::Uid;
use redb::ReadableTable;

use super::RedbStore;
use super::devices::require_live;
use super::row::{ConfigRow, OwnConfigRow};
use super::tables::{Bytes, CONFIG_OWNS, CONFIGS, Fault, Reading, View, Writing, seal};
use crate::store::{ConfigStore, ConfigVersion, Conflict, NewConfig, StoreError};

#[async_trait]
impl ConfigStore for RedbStore {
    async fn config_latest(&self, device: Uid) -> Result<Option<ConfigVersion>, StoreError> {
        self.read_few(move |txn| latest_of(txn, device)).await
    }

    async fn config_get(
        &self,
        device: Uid,
        version: u64,
    ) -> Result<Option<ConfigVersion>, StoreError> {
        self.read_few(move |txn| whole(txn, device, version)).await
    }

    async fn config_latest_of(
        &self,
        devices: Vec<Uid>,
    ) -> Result<Vec<(Uid, Option<ConfigVersion>)>, StoreError> {
        self.read(move |txn| {
            let mut found = Vec::with_capacity(devices.len());
            for device in devices {
                match latest_of(txn, device) {
                    Ok(latest) => found.push((device, latest)),
                    Err(Fault::Refused(StoreError::Damaged { .. })) => {}
                    Err(fault) => return Err(fault),
                }
            }
            Ok(found)
        })
        .await
    }

    async fn config_append(
        &self,
        device: Uid,
        expected: Option<u64>,
        config: NewConfig,
    ) -> Result<ConfigVersion, StoreError> {
        self.write(move |txn| append(txn, device, expected, config)).await
    }

    async fn config_list(
        &self,
        device: Uid,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConfigVersion>, StoreError> {
        // There is no version 0.
        let last = before.map_or(u64::MAX, |before| before.saturating_sub(1));
        self.read(move |txn| {
            let configs = txn.open(&CONFIGS)?;
            let owns = txn.open(&CONFIG_OWNS)?;
            let rows = configs.rows(&key(device, 0), &key(device, last))?;
            let versions = rows.rev().take(limit).map(|entry| {
                let (key, row) = entry?;
                let mut stored = row.into_version(version(&key));
                stored.config.own = owns.get(&key)?.map(|row| row.document);
                Ok(stored)
            });
            versions.collect()
        })
        .await
    }
}

/// Adds a device's next version, if `expected` is the latest or not said.
pub(super) fn append(
    txn: &Writing<'_>,
    device: Uid,
    expected: Option<u64>,
    config: NewConfig,
) -> Result<ConfigVersion, Fault> {
    require_live(txn, device)?;
    let mut configs = txn.open(&CONFIGS)?;
    let current = latest(&configs, device)?;
    if let Some(expected) = expected.filter(|expected| *expected != current) {
        return Err(Conflict::Config { expected, current }.into());
    }
    let version = current + 1;
    let key = key(device, version);
    let own = config.own.clone().map(|document| OwnConfigRow { document });
    let own_value = own.as_ref().map(|row| seal(&key, row, "configuration")).transpose()?;
    let row: ConfigRow = config.into();
    let value = seal(&key, &row, "configuration")?;
    configs.put_sealed(&key, &value)?;
    if let Some(value) = own_value {
        txn.open(&CONFIG_OWNS)?.put_sealed(&key, &value)?;
    }
    let mut stored = row.into_version(version);
    stored.config.own = own.map(|row| row.document);
    Ok(stored)
}

fn latest_of(txn: &Reading<'_>, device: Uid) -> Result<Option<ConfigVersion>, Fault> {
    let version = latest(&txn.open(&CONFIGS)?, device)?;
    whole(txn, device, version)
}

/// A version with what of it is the device's own.
fn whole(txn: &Reading<'_>, device: Uid, version: u64) -> Result<Option<ConfigVersion>, Fault> {
    let key = key(device, version);
    let Some(row) = txn.open(&CONFIGS)?.get(&key)? else { return Ok(None) };
    let mut stored = row.into_version(version);
    stored.config.own = txn.open(&CONFIG_OWNS)?.get(&key)?.map(|row| row.document);
    Ok(Some(stored))
}

/// Removes some of what a device was configured as. Returns how many rows.
pub(super) fn purge(txn: &Writing<'_>, device: Uid, max: usize) -> Result<usize, Fault> {
    let (from, to) = (key(device, 0), key(device, u64::MAX));
    let owns = txn.open(&CONFIG_OWNS)?.remove_range(&from, &to, max)?;
    Ok(owns + txn.open(&CONFIGS)?.remove_range(&from, &to, max - owns)?)
}

/// Refuses unless a version is a device's latest.
pub(super) fn require_latest(txn: &Writing<'_>, device: Uid, expected: u64) -> Result<(), Fault> {
    require_live(txn, device)?;
    let current = latest(&txn.open(&CONFIGS)?, device)?;
    if current == expected { Ok(()) } else { Err(Conflict::Config { expected, current }.into()) }
}

/// The latest version's number, whether its value can be read or not; 0 if there is none.
fn latest<T: ReadableTable<Bytes, Bytes>>(
    configs: &View<'_, ConfigRow, T>,
    device: Uid,
) -> Result<u64, Fault> {
    let last = configs.keys(&key(device, 0), &key(device, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(0, |key| version(&key)))
}

fn key(device: Uid, version: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&device.bytes());
    key[16..].copy_from_slice(&version.to_be_bytes());
    key
}

fn version(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
