//! The audit record in redb: key = number.
//!
//! Open intents have a row of their own beside, so that a start finds them without reading all.
//! Signed places lie in one table: the one where the chain begins, and the newest few heads.

use async_trait::async_trait;
use fleet_core::api::{AuditBegin, AuditEntry, AuditHash, AuditKind, AuditPoint, AuditRecord};
use fleet_core::audit::{self, Broken, PointKind, Verified, Verifier};
use fleet_core::identity::{PublicKey, ServerIdentity};
use fleet_core::limits::AUDIT_RECORDS_MAX;
use fleet_core::time::Timestamp;
use redb::ReadableTable;

use super::RedbStore;
use super::row::{AuditOpenRow, AuditPointRow, AuditRow};
use super::tables::{AUDIT, AUDIT_OPEN, AUDIT_POINTS, Bytes, Fault, Reading, View, Writing, seal};
use crate::store::{AuditQuery, AuditStore, AuditStretch, Sealer, StoreError};

/// Records beyond the most that are kept, before the oldest give way: a signature for many of them.
const SLACK: u64 = 1_000;
/// Records that one commit removes, so that others need not wait long.
const TRIM_ROWS_MAX: usize = 5_000;
/// Heads that are kept.
const HEADS_MAX: usize = 8;

const START_KEY: [u8; 9] = [0; 9];
const LAST: [u8; 8] = [u8::MAX; 8];

#[async_trait]
impl AuditStore for RedbStore {
    async fn audit_append(
        &self,
        entries: Vec<AuditEntry>,
        sealer: Sealer,
    ) -> Result<Vec<u64>, StoreError> {
        let weight = entries.len();
        self.write_heavy(weight, move |txn| append(txn, entries, &sealer, AUDIT_RECORDS_MAX)).await
    }

    async fn audit_unfinished(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(move |txn| {
            let (records, open) = (txn.open(&AUDIT)?, txn.open(&AUDIT_OPEN)?);
            let mut found = Vec::new();
            for key in open.keys(&[], &LAST)?.take(limit) {
                found.extend(sound(&records, &key?)?);
            }
            Ok(found)
        })
        .await
    }

    async fn audit_list(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(move |txn| {
            let records = txn.open(&AUDIT)?;
            let mut found = Vec::new();
            let Some(last) = query.before.checked_sub(1) else { return Ok(found) };
            for key in records.keys(&[], &last.to_be_bytes())?.rev() {
                if found.len() == query.limit {
                    break;
                }
                let record = sound(&records, &key?)?;
                found.extend(record.filter(|record| query.wants(&record.entry)));
            }
            Ok(found)
        })
        .await
    }

    async fn audit_chain(&self, after: u64, limit: usize) -> Result<AuditStretch, StoreError> {
        self.read(move |txn| chain(txn, after, limit)).await
    }

    async fn audit_seal(&self, sealer: Sealer) -> Result<AuditPoint, StoreError> {
        self.write(move |txn| {
            let (seq, hash) = newest(txn)?;
            let mut points = txn.open(&AUDIT_POINTS)?;
            let known = point(&points, &head_key(seq))?;
            if let Some(point) = known.clone().filter(|point| point.hash == hash) {
                return Ok(point);
            }
            let point = sealer(PointKind::Head, seq, hash);
            if known.is_some() {
                // Another record was here when it was signed: that shows what was done, and stays.
                return Ok(point);
            }
            points.put(&head_key(seq), &AuditPointRow::from(&point))?;
            let heads = points.keys(&head_key(0), &head_key(u64::MAX))?;
            let heads = heads.collect::<Result<Vec<_>, Fault>>()?;
            let surplus = heads.len().saturating_sub(HEADS_MAX);
            for key in &heads[..surplus] {
                points.remove(key)?;
            }
            Ok(point)
        })
        .await
    }

    async fn audit_signed(&self) -> Result<Vec<AuditPoint>, StoreError> {
        self.read(heads).await
    }

    async fn audit_purge(&self, before: Timestamp, sealer: Sealer) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let sealer = sealer.clone();
            let gone = self.write(move |txn| purge(txn, before, &sealer)).await?;
            removed += gone;
            if gone < TRIM_ROWS_MAX as u64 {
                return Ok(removed);
            }
        }
    }
}

impl RedbStore {
    /// Goes through the whole audit record of a store that no server has open, and computes all of
    /// it anew. It is to be that of `expected`, if that is known. Nothing if the store is no server's.
    pub(crate) fn audit_verify(
        &self,
        expected: Option<ServerIdentity>,
    ) -> Result<Option<Result<Verified, Broken>>, StoreError> {
        self.shared.read(|txn| {
            let Some(server) = super::meta::server_key(txn)? else { return Ok(None) };
            Ok(Some(verify(txn, server, expected.unwrap_or(server.identity()))?))
        })
    }
}

fn verify(
    txn: &Reading<'_>,
    server_key: PublicKey,
    expected: ServerIdentity,
) -> Result<Result<Verified, Broken>, Fault> {
    let AuditStretch { after, after_hash, start, .. } = chain(txn, 0, 0)?;
    let signed = heads(txn)?;
    let begin = AuditBegin { server_key, after, after_hash, start, signed };
    let mut verifier = match Verifier::begin(begin, expected) {
        Ok(verifier) => verifier,
        Err(broken) => return Ok(Err(broken)),
    };
    let records = txn.open(&AUDIT)?;
    for key in records.keys(&after.saturating_add(1).to_be_bytes(), &LAST)? {
        let key = key?;
        let taken = match sound(&records, &key)? {
            Some(record) => verifier.take(&record),
            None => Err(Broken::Missing(seq_of(&key))),
        };
        if let Err(broken) = taken {
            return Ok(Err(broken));
        }
    }
    Ok(verifier.end_unsigned())
}

fn heads(txn: &Reading<'_>) -> Result<Vec<AuditPoint>, Fault> {
    let points = txn.open(&AUDIT_POINTS)?;
    let heads = points.rows(&head_key(0), &head_key(u64::MAX))?;
    heads.map(|entry| entry.map(|(_, row)| row.point())).collect()
}

/// Adds records of something that the same commit does. What is too much goes with the next ones.
pub(super) fn tell(txn: &Writing<'_>, entries: Vec<AuditEntry>) -> Result<(), Fault> {
    if !entries.is_empty() {
        add(txn, entries)?;
    }
    Ok(())
}

/// Adds records, and removes the oldest beyond `kept` and some.
fn append(
    txn: &Writing<'_>,
    entries: Vec<AuditEntry>,
    sealer: &Sealer,
    kept: u64,
) -> Result<Vec<u64>, Fault> {
    let added = entries.len() as u64;
    let seqs = add(txn, entries)?;
    let (seq, _) = newest(txn)?;
    let oldest = txn.open(&AUDIT)?.keys(&[], &LAST)?.next().transpose()?;
    let oldest = oldest.map_or(seq, |key| seq_of(&key));
    if (seq + 1).saturating_sub(oldest) > kept.saturating_add(SLACK) {
        let surplus = (seq + 1 - oldest).saturating_sub(kept);
        let most = added.saturating_add(TRIM_ROWS_MAX as u64);
        remove_until(txn, oldest.saturating_add(surplus.min(most)).saturating_sub(1), sealer)?;
    }
    Ok(seqs)
}

fn add(txn: &Writing<'_>, entries: Vec<AuditEntry>) -> Result<Vec<u64>, Fault> {
    let (mut seq, mut hash) = newest(txn)?;
    let mut table = txn.open(&AUDIT)?;
    let mut open = txn.open(&AUDIT_OPEN)?;
    let mut seqs = Vec::with_capacity(entries.len());
    let mut sealed = Vec::with_capacity(entries.len());
    let mut ended: Vec<u64> = Vec::new();
    for entry in entries {
        if entry.kind == AuditKind::Outcome {
            let intent = entry.intent.unwrap_or_default();
            if ended.contains(&intent) || !open.contains(&intent.to_be_bytes())? {
                seqs.push(0);
                continue;
            }
            ended.push(intent);
        }
        let (kind, at) = (entry.kind, entry.timestamp);
        let too_large = |_| StoreError::TooLarge("audit record");
        let record = audit::follow(seq + 1, entry, hash).map_err(too_large)?;
        let row = AuditRow::of(&record).map_err(too_large)?;
        (seq, hash) = (record.seq, record.hash);
        let key = seq.to_be_bytes();
        sealed.push((key, seal(&key, &row, "audit record")?, kind, at));
        seqs.push(seq);
    }
    for (key, value, kind, at) in sealed {
        table.put_sealed(&key, &value)?;
        if kind == AuditKind::Intent {
            open.put(&key, &AuditOpenRow { at_millis: at.millis() })?;
        }
    }
    for intent in ended {
        open.remove(&intent.to_be_bytes())?;
    }
    Ok(seqs)
}

/// Removes so many of the oldest records as are from before a time, a commit's worth of them.
fn purge(txn: &Writing<'_>, before: Timestamp, sealer: &Sealer) -> Result<u64, Fault> {
    let (newest, _) = newest(txn)?;
    let table = txn.open(&AUDIT)?;
    let mut last = None;
    for key in table.keys(&[], &LAST)?.take(TRIM_ROWS_MAX) {
        let key = key?;
        // The chain goes on from its newest record, however old that is.
        let is_old = seq_of(&key) < newest
            && sound(&table, &key)?.is_none_or(|record| record.entry.timestamp < before);
        if !is_old {
            break;
        }
        last = Some(seq_of(&key));
    }
    drop(table);
    last.map_or(Ok(0), |last| remove_until(txn, last, sealer))
}

/// Removes all records up to a number, and signs the place where the chain then begins. If nobody
/// knows the hash there, since records cannot be read, fewer go: up to the last place with a known
/// one. Returns how many went.
fn remove_until(txn: &Writing<'_>, last: u64, sealer: &Sealer) -> Result<u64, Fault> {
    let mut table = txn.open(&AUDIT)?;
    let mut place = None;
    for key in table.keys(&[], &last.to_be_bytes())?.rev() {
        let seq = seq_of(&key?);
        // Of one that cannot be read the record after it knows the hash.
        let hash = match hash_of(&table, seq)? {
            Some(hash) => Some(hash),
            None => sound(&table, &seq.saturating_add(1).to_be_bytes())?.map(|it| it.prev_hash),
        };
        place = hash.map(|hash| (seq, hash));
        if place.is_some() {
            break;
        }
    }
    let Some((seq, hash)) = place else { return Ok(0) };
    removed(txn, &mut table, sealer(PointKind::Start, seq, hash))
}

type Records<'a> = View<'a, AuditRow, redb::Table<'a, Bytes, Bytes>>;

fn removed(txn: &Writing<'_>, table: &mut Records<'_>, start: AuditPoint) -> Result<u64, Fault> {
    let key = start.seq.to_be_bytes();
    let count = table.remove_range(&[], &key, usize::MAX)?;
    txn.open(&AUDIT_OPEN)?.remove_range(&[], &key, usize::MAX)?;
    let mut points = txn.open(&AUDIT_POINTS)?;
    // What was signed of records that are gone can be compared with nothing.
    points.remove_range(&head_key(0), &head_key(start.seq), usize::MAX)?;
    points.put(&START_KEY, &AuditPointRow::from(&start))?;
    Ok(count as u64)
}

fn chain(txn: &Reading<'_>, after: u64, limit: usize) -> Result<AuditStretch, Fault> {
    let records = txn.open(&AUDIT)?;
    let start = point(&txn.open(&AUDIT_POINTS)?, &START_KEY)?;
    let begins_after = start.as_ref().map_or(0, |start| start.seq);
    let (after, after_hash, start) = if after <= begins_after {
        let hash = start.as_ref().map_or_else(AuditHash::default, |start| start.hash);
        (begins_after, hash, start)
    } else {
        let hash = hash_of(&records, after)?;
        let Some(hash) = hash else { return Err(StoreError::Missing("audit record").into()) };
        (after, hash, None)
    };
    let mut found = Vec::new();
    let first = after.saturating_add(1).to_be_bytes();
    for key in records.keys(&first, &LAST)?.take(limit) {
        found.extend(sound(&records, &key?)?);
    }
    Ok(AuditStretch { after, after_hash, start, records: found })
}

/// The number and the hash of the newest record; of the place where the chain begins if there is
/// none. One that cannot be read has no hash that anybody knows.
fn newest(txn: &Writing<'_>) -> Result<(u64, AuditHash), Fault> {
    let records = txn.open(&AUDIT)?;
    let last = records.keys(&[], &LAST)?.next_back().transpose()?;
    if let Some(key) = last {
        let seq = seq_of(&key);
        return Ok((seq, hash_of(&records, seq)?.unwrap_or_default()));
    }
    let start = point(&txn.open(&AUDIT_POINTS)?, &START_KEY)?;
    Ok(start.map_or_else(Default::default, |start| (start.seq, start.hash)))
}

fn hash_of<T: ReadableTable<Bytes, Bytes>>(
    records: &View<'_, AuditRow, T>,
    seq: u64,
) -> Result<Option<AuditHash>, Fault> {
    let row = readable(records.get(&seq.to_be_bytes()))?;
    Ok(row.map(|row| AuditHash(row.hash)))
}

fn point<T: ReadableTable<Bytes, Bytes>>(
    points: &View<'_, AuditPointRow, T>,
    key: &[u8],
) -> Result<Option<AuditPoint>, Fault> {
    Ok(readable(points.get(key))?.map(AuditPointRow::point))
}

/// The record under a key; nothing if it is damaged, which is then noted.
fn sound<T: ReadableTable<Bytes, Bytes>>(
    records: &View<'_, AuditRow, T>,
    key: &[u8],
) -> Result<Option<AuditRecord>, Fault> {
    let Some(row) = readable(records.get(key))? else { return Ok(None) };
    readable(records.sound(key, row.into_record()).map(Some).map_err(Fault::from))
}

/// What was found; nothing if that is damaged.
fn readable<T>(found: Result<Option<T>, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Err(Fault::Refused(StoreError::Damaged { .. })) => Ok(None),
        found => found,
    }
}

fn head_key(seq: u64) -> [u8; 9] {
    let mut key = [1; 9];
    key[1..].copy_from_slice(&seq.to_be_bytes());
    key
}

fn seq_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
