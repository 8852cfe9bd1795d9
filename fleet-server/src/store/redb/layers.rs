//! Layers of configurations in redb: key = name, zero, version. A name has no zero in it.

use async_trait::async_trait;
use fleet_core::limits::CONFIG_LAYERS_MAX;
use redb::ReadableTable;

use super::RedbStore;
use super::row::ConfigRow;
use super::tables::{Bytes, CONFIG_LAYERS, Fault, View, Writing, seal};
use crate::store::{ConfigVersion, Conflict, LayerStore, NewConfig, StoreError};

/// Bytes behind a name: the zero and the version.
const TAIL_BYTES: usize = 9;

#[async_trait]
impl LayerStore for RedbStore {
    async fn layer_list(&self) -> Result<Vec<(String, ConfigVersion)>, StoreError> {
        self.read(|txn| {
            let layers = txn.open(&CONFIG_LAYERS)?;
            let mut found = Vec::new();
            for name in names(&layers)? {
                let last = latest(&layers, &name)?;
                if let Some(row) = layers.get(&key(&name, last))? {
                    found.push((name, row.into_version(last)));
                }
            }
            Ok(found)
        })
        .await
    }

    async fn layer_append(
        &self,
        name: &str,
        expected: Option<u64>,
        config: NewConfig,
    ) -> Result<ConfigVersion, StoreError> {
        let name = name.to_owned();
        self.write(move |txn| append(txn, &name, expected, config)).await
    }

    async fn layer_history(
        &self,
        name: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConfigVersion>, StoreError> {
        let name = name.to_owned();
        // There is no version 0.
        let last = before.map_or(u64::MAX, |before| before.saturating_sub(1));
        self.read(move |txn| {
            let layers = txn.open(&CONFIG_LAYERS)?;
            let rows = layers.rows(&key(&name, 0), &key(&name, last))?;
            let versions = rows.rev().take(limit).map(|entry| {
                let (key, row) = entry?;
                Ok(row.into_version(version(&key)))
            });
            versions.collect()
        })
        .await
    }
}

fn append(
    txn: &Writing<'_>,
    name: &str,
    expected: Option<u64>,
    config: NewConfig,
) -> Result<ConfigVersion, Fault> {
    let mut layers = txn.open(&CONFIG_LAYERS)?;
    let current = latest(&layers, name)?;
    if let Some(expected) = expected.filter(|expected| *expected != current) {
        return Err(Conflict::Config { expected, current }.into());
    }
    if current == 0 && names(&layers)?.len() >= CONFIG_LAYERS_MAX {
        return Err(Conflict::LayersFull(CONFIG_LAYERS_MAX).into());
    }
    let version = current + 1;
    let row: ConfigRow = config.into();
    let value = seal(&key(name, version), &row, "configuration")?;
    layers.put_sealed(&key(name, version), &value)?;
    Ok(row.into_version(version))
}

/// The names of all layers. Each is found by one look behind the versions of the one before.
fn names<T: ReadableTable<Bytes, Bytes>>(
    layers: &View<'_, ConfigRow, T>,
) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    let mut from = Vec::new();
    while let Some(found) = layers.keys(&from, &[u8::MAX; 65])?.next().transpose()? {
        let name = found.len().checked_sub(TAIL_BYTES).and_then(|end| found.get(..end));
        // What was put there is a name.
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        from = key(&name, u64::MAX);
        from.push(0);
        names.push(name);
    }
    Ok(names)
}

/// A layer's latest version's number, whether its value can be read or not; 0 if there is none.
fn latest<T: ReadableTable<Bytes, Bytes>>(
    layers: &View<'_, ConfigRow, T>,
    name: &str,
) -> Result<u64, Fault> {
    let last = layers.keys(&key(name, 0), &key(name, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(0, |key| version(&key)))
}

fn key(name: &str, version: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + TAIL_BYTES);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key.extend_from_slice(&version.to_be_bytes());
    key
}

fn version(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
