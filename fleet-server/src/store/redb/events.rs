//! Events in redb: key = number, uid of the device (zeros if it is about none).
//!
//! The uid stands in the key so that a search for one device's events need not open the others'.

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::limits::EVENTS_MAX;
use redb::ReadableTable;
use tokio::sync::watch;

use super::RedbStore;
use super::row::EventRow;
use super::tables::{Bytes, EVENTS, Fault, Reading, View, Writing, seal};
use crate::store::{About, Event, EventQuery, EventStore, StoreError};

/// Events that one commit removes beyond as many as it adds, so that others need not wait long.
const TRIM_ROWS_MAX: usize = 1_000;

#[async_trait]
impl EventStore for RedbStore {
    async fn event_append(&self, events: Vec<Event>) -> Result<u64, StoreError> {
        let weight = events.len();
        self.write_heavy(weight, move |txn| append(txn, events, EVENTS_MAX)).await
    }

    async fn event_newest(&self) -> Result<u64, StoreError> {
        self.read(newest_number).await
    }

    fn event_news(&self) -> watch::Receiver<u64> {
        self.shared.newest_event.subscribe()
    }

    async fn event_after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, Event)>, StoreError> {
        self.read(move |txn| {
            let events = txn.open(&EVENTS)?;
            let mut found = Vec::new();
            for entry in events.rows(&first_key(seq.saturating_add(1)), &LAST_KEY)? {
                if found.len() == limit {
                    break;
                }
                let (key, row) = entry?;
                found.extend(sound(&events, &key, row)?);
            }
            Ok(found)
        })
        .await
    }

    async fn event_list(&self, query: EventQuery) -> Result<Vec<(u64, Event)>, StoreError> {
        self.read(move |txn| {
            let events = txn.open(&EVENTS)?;
            let mut found = Vec::new();
            let Some(last) = query.before.checked_sub(1) else { return Ok(found) };
            for key in events.keys(&[], &last_key(last))?.rev() {
                if found.len() == query.limit {
                    break;
                }
                let key = key?;
                if matches!(query.about, Some(About::Device(uid)) if uid != uid_of(&key)) {
                    continue;
                }
                let row = match events.get(&key) {
                    Ok(Some(row)) => row,
                    Ok(None) | Err(Fault::Refused(StoreError::Damaged { .. })) => continue,
                    Err(fault) => return Err(fault),
                };
                let event = sound(&events, &key, row)?;
                found.extend(event.filter(|(_, event)| is_asked_for(event, &query)));
            }
            Ok(found)
        })
        .await
    }
}

/// Adds the events that tell of a change, if there are any. Refuses before anything of them is
/// written.
pub(super) fn tell(txn: &Writing<'_>, events: Vec<Event>) -> Result<(), Fault> {
    if !events.is_empty() {
        append(txn, events, EVENTS_MAX)?;
    }
    Ok(())
}

/// The newest number; 0 if nothing has happened yet.
pub(super) fn newest_number(txn: &Reading<'_>) -> Result<u64, Fault> {
    newest(&txn.open(&EVENTS)?)
}

/// Adds events and removes the oldest beyond `kept`. Returns the newest number.
fn append(txn: &Writing<'_>, events: Vec<Event>, kept: u64) -> Result<u64, Fault> {
    let mut table = txn.open(&EVENTS)?;
    let mut seq = newest(&table)?;
    let added = events.len();
    let mut sealed = Vec::with_capacity(added);
    for event in events {
        seq += 1;
        let uid = event.device.as_ref().map_or(NOBODY, |(_, uid)| uid.bytes());
        let key = key(seq, uid);
        sealed.push((key, seal(&key, &EventRow::from(event), "event")?));
    }
    for (key, value) in sealed {
        table.put_sealed(&key, &value)?;
    }
    if let Some(oldest) = seq.checked_sub(kept) {
        table.remove_range(&[], &last_key(oldest), added.saturating_add(TRIM_ROWS_MAX))?;
    }
    txn.newest_event.set(Some(seq));
    Ok(seq)
}

/// The newest number, whether its event can be read or not; 0 if there is none.
fn newest<T: ReadableTable<Bytes, Bytes>>(events: &View<'_, EventRow, T>) -> Result<u64, Fault> {
    let last = events.keys(&[], &LAST_KEY)?.next_back().transpose()?;
    Ok(last.map_or(0, |key| seq_of(&key)))
}

/// A row's event with its number; nothing if it is damaged, which is then noted.
fn sound<T: ReadableTable<Bytes, Bytes>>(
    events: &View<'_, EventRow, T>,
    key: &[u8],
    row: EventRow,
) -> Result<Option<(u64, Event)>, Fault> {
    match events.sound(key, row.into_event(uid_of(key))) {
        Ok(event) => Ok(Some((seq_of(key), event))),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_asked_for(event: &Event, query: &EventQuery) -> bool {
    let is_about = match &query.about {
        Some(About::Called(id)) => event.device.as_ref().is_some_and(|(device, _)| device == id),
        // The keys have told already.
        Some(About::Device(_)) | None => true,
    };
    is_about
        && (query.kinds.is_empty() || query.kinds.contains(&event.kind))
        && query.since <= event.at
        && event.at <= query.until
}

const KEY_BYTES: usize = 24;
const NOBODY: [u8; 16] = [0; 16];
const LAST_KEY: [u8; KEY_BYTES] = [u8::MAX; KEY_BYTES];

fn first_key(seq: u64) -> [u8; KEY_BYTES] {
    key(seq, NOBODY)
}

fn last_key(seq: u64) -> [u8; KEY_BYTES] {
    key(seq, [u8::MAX; 16])
}

fn key(seq: u64, uid: [u8; 16]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&uid);
    key
}

fn seq_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn uid_of(key: &[u8]) -> Uid {
    Uid::from_bytes(key.last_chunk().copied().unwrap_or(NOBODY))
}

#[cfg(test)]
mod tests {
    use fleet_core::api::EventKind;
    use fleet_core::time::Timestamp;

    use super::*;
    use crate::store::{MetaStore as _, StoreHealth};

    fn events(count: usize) -> Vec<Event> {
        let event = Event {
            at: Timestamp::default(),
            kind: EventKind::DeviceUpdated,
            actor: "operator:a".to_owned(),
            device: Some(("a".parse().unwrap(), Uid::new())),
            text: "x".to_owned(),
        };
        vec![event; count]
    }

    async fn seqs(store: &RedbStore) -> Vec<u64> {
        let found = store.event_after(0, usize::MAX).await.unwrap();
        found.into_iter().map(|(seq, _)| seq).collect()
    }

    #[tokio::test]
    async fn the_oldest_give_way_and_numbers_go_on() {
        let store = RedbStore::in_memory();
        let add = |count, kept| {
            let added = events(count);
            store.write(move |txn| append(txn, added, kept))
        };
        assert_eq!(add(3, 5).await.unwrap(), 3);
        assert_eq!(seqs(&store).await, [1, 2, 3]);
        assert_eq!(add(4, 5).await.unwrap(), 7);
        assert_eq!(seqs(&store).await, [3, 4, 5, 6, 7]);
        assert_eq!(add(7, 5).await.unwrap(), 14);
        assert_eq!(seqs(&store).await, [10, 11, 12, 13, 14]);
        // A release that keeps fewer catches up by and by.
        assert_eq!(add(TRIM_ROWS_MAX + 20, 9_999).await.unwrap(), 1_034);
        assert_eq!(add(1, 5).await.unwrap(), 1_035);
        assert_eq!(seqs(&store).await.len(), 5 + 1_020 + 1 - 1_001);
        assert_eq!(add(0, 5).await.unwrap(), 1_035);
        assert_eq!(seqs(&store).await, [1_031, 1_032, 1_033, 1_034, 1_035]);
    }

    #[tokio::test]
    async fn a_damaged_event_is_left_out_and_its_number_is_not_given_again() {
        let store = RedbStore::in_memory();
        store.event_append(events(2)).await.unwrap();
        let uid = store.event_after(1, 1).await.unwrap().remove(0).1.device.unwrap().1;
        let damage =
            move |txn: &Writing<'_>| txn.open(&EVENTS)?.put_sealed(&key(2, uid.bytes()), b"junk");
        store.write(damage).await.unwrap();
        assert_eq!(seqs(&store).await, [1]);
        assert_eq!(store.event_append(events(1)).await.unwrap(), 3);
        assert_eq!(seqs(&store).await, [1, 3]);
        let query = EventQuery {
            about: None,
            kinds: Vec::new(),
            since: Timestamp::default(),
            until: Timestamp::from_millis(i64::MAX),
            before: u64::MAX,
            limit: 9,
        };
        let listed = store.event_list(query).await.unwrap();
        assert_eq!(listed.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [3, 1]);
        let health = "1 stored value in events is damaged";
        assert_eq!(store.health(), StoreHealth::Degraded(health.to_owned()));
    }
}
