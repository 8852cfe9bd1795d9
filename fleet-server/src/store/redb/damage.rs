//! Values that did not read as what was written: counted once each, shown by health until the
//! next start.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;
use fleet_core::codec::CodecError;

use crate::store::StoreError;

/// Damaged values remembered one by one; beyond that the count says "at least".
const DAMAGED_MAX: usize = 1_000;

/// The damaged values met so far.
#[derive(Default)]
pub(super) struct DamageLog(Mutex<HashSet<(&'static str, Vec<u8>)>>);

impl DamageLog {
    /// Notes a damaged value and makes the error that says so.
    pub(super) fn note(&self, table: &'static str, key: &[u8], source: CodecError) -> StoreError {
        let shown = HEXLOWER.encode(key);
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() < DAMAGED_MAX && values.insert((table, key.to_vec())) {
            tracing::error!(table, key = shown, %source, "a stored value is damaged");
        }
        StoreError::Damaged { table, key: shown, source: Arc::new(source) }
    }

    /// What health says about it.
    pub(super) fn summary(&self) -> Option<String> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tables: Vec<&str> = values.iter().map(|(table, _)| *table).collect();
        tables.sort_unstable();
        tables.dedup();
        let tables = tables.join(", ");
        match values.len() {
            0 => None,
            1 => Some(format!("1 stored value in {tables} is damaged")),
            DAMAGED_MAX => Some(format!("at least {DAMAGED_MAX} values in {tables} are damaged")),
            count => Some(format!("{count} stored values in {tables} are damaged")),
        }
    }
}
