//! The board: every device's row of the index, as the streams send it.
//!
//! Each change gives its row the next revision. A reader keeps the revision that it has seen and
//! nothing else, and asks for what came after: each row is there once, in its newest form. However
//! slow a reader is, it costs no memory, and never gets a row that is out of date.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fleet_core::api::{DeviceStatus, IndexRow};
use fleet_core::id::Uid;

/// Rows of one page.
const PAGE_ROWS_MAX: usize = 500;
/// Bytes of one page's rows, but for the last one. One row is well below half of what readers take.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Devices that are gone and still known to have been. A reader that has not heard of an older one
/// must begin anew.
const GONE_MAX: usize = 10_000;

/// How many devices have each status.
pub(crate) type Counts = BTreeMap<DeviceStatus, u32>;

/// The board.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    slots_used: u32,
    slots: HashMap<Uid, u32>,
    entries: HashMap<u32, Entry>,
    /// The revision of each row, and of each row's end.
    changes: BTreeMap<u64, u32>,
    gone: BTreeMap<u64, u32>,
    /// Ends up to this revision are forgotten.
    gone_forgotten: u64,
    counts: Counts,
}

struct Entry {
    revision: u64,
    row: Arc<IndexRow>,
    /// The row as it is sent, written once for all streams.
    json: Bytes,
}

/// What came after a revision.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// Rows, in JSON.
    pub(crate) rows: Vec<Bytes>,
    /// Slots whose devices are gone.
    pub(crate) gone: Vec<u32>,
    /// What the reader has seen with this.
    pub(crate) revision: u64,
    /// Whether there is no more.
    pub(crate) is_complete: bool,
}

impl Board {
    /// The number of the newest change.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// How many devices there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Every row, in no order.
    pub(crate) fn rows(&self) -> Vec<Arc<IndexRow>> {
        self.lock().entries.values().map(|entry| entry.row.clone()).collect()
    }

    /// The devices that are on it.
    pub(crate) fn listed(&self) -> Vec<Uid> {
        self.lock().entries.values().map(|entry| entry.row.uid).collect()
    }

    /// How many devices have each status.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// The same for some devices.
    pub(crate) fn counts_of(&self, uids: &HashSet<Uid>) -> Counts {
        let state = self.lock();
        let mut counts = Counts::new();
        for entry in state.entries.values().filter(|entry| uids.contains(&entry.row.uid)) {
            *counts.entry(entry.row.status).or_default() += 1;
        }
        counts
    }

    /// The rows of some devices, as many as one page holds; those are taken from the list, and so
    /// are devices that have none.
    pub(crate) fn take_rows(&self, uids: &mut Vec<Uid>) -> Vec<Bytes> {
        let state = self.lock();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < PAGE_ROWS_MAX && bytes < PAGE_BYTES_MAX {
            let Some(uid) = uids.pop() else { break };
            let entry = state.slots.get(&uid).and_then(|slot| state.entries.get(slot));
            if let Some(entry) = entry {
                bytes += entry.json.len();
                rows.push(entry.json.clone());
            }
        }
        rows
    }

    /// Puts up a device's row, which `row` makes for its slot. One that differs only in when the
    /// device was last seen is no news.
    pub(crate) fn put(
        &self,
        uid: Uid,
        row: impl FnOnce(u32) -> IndexRow,
    ) -> Result<(), serde_json::Error> {
        // There is one who writes, so the slot is still free below.
        let slot = self.lock().slot_for(uid);
        let row = row(slot);
        let json = Bytes::from(serde_json::to_vec(&row)?);
        let mut state = self.lock();
        if let Some(entry) = state.entries.get(&slot)
            && *entry.row == (IndexRow { last_seen: entry.row.last_seen, ..row.clone() })
        {
            return Ok(());
        }
        state.remove(slot);
        state.revision += 1;
        let revision = state.revision;
        state.changes.insert(revision, slot);
        *state.counts.entry(row.status).or_default() += 1;
        state.entries.insert(slot, Entry { revision, row: Arc::new(row), json });
        Ok(())
    }

    /// Takes down a device's row. Its slot is not given to another.
    pub(crate) fn take_down(&self, uid: Uid) {
        let mut state = self.lock();
        let Some(slot) = state.slots.remove(&uid) else { return };
        state.remove(slot);
        state.revision += 1;
        let revision = state.revision;
        state.gone.insert(revision, slot);
        if state.gone.len() > GONE_MAX
            && let Some((forgotten, _)) = state.gone.pop_first()
        {
            state.gone_forgotten = forgotten;
        }
    }

    /// What came after a revision, as much as one page holds; with `only`, of these devices. A
    /// reader that began at revision `begun` knows nothing that was gone by then. Nothing if it
    /// must begin anew.
    pub(crate) fn after(
        &self,
        revision: u64,
        begun: u64,
        only: Option<&HashSet<Uid>>,
    ) -> Option<Delta> {
        let state = self.lock();
        let gone_after = revision.max(begun);
        if gone_after < state.gone_forgotten || gone_after > state.revision {
            return None;
        }
        let mut delta = Delta { revision: state.revision, is_complete: true, ..Delta::default() };
        let mut bytes = 0;
        for (changed, slot) in state.changes.range(revision + 1..) {
            let Some(entry) = state.entries.get(slot) else { continue };
            if only.is_some_and(|only| !only.contains(&entry.row.uid)) {
                continue;
            }
            if delta.rows.len() == PAGE_ROWS_MAX || bytes >= PAGE_BYTES_MAX {
                // This row is for the next page.
                delta.revision = changed - 1;
                delta.is_complete = false;
                break;
            }
            bytes += entry.json.len();
            delta.rows.push(entry.json.clone());
        }
        if delta.revision > gone_after {
            let gone = state.gone.range(gone_after + 1..=delta.revision);
            delta.gone = gone.map(|(_, slot)| *slot).collect();
        }
        Some(delta)
    }

    /// A device's slot.
    pub(crate) fn slots(&self, uids: impl Iterator<Item = Uid>) -> Vec<Option<u32>> {
        let state = self.lock();
        uids.map(|uid| state.slots.get(&uid).copied()).collect()
    }

    /// The devices in slots.
    pub(crate) fn uids(&self, slots: impl Iterator<Item = u32>) -> Vec<Option<Uid>> {
        let state = self.lock();
        slots.map(|slot| state.entries.get(&slot).map(|entry| entry.row.uid)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn slot_for(&mut self, uid: Uid) -> u32 {
        let next = self.slots_used;
        let slot = *self.slots.entry(uid).or_insert(next);
        if slot == next {
            // At a thousand new devices a second this lasts for seven weeks of one run.
            self.slots_used = next.checked_add(1).expect("a run has not so many devices");
        }
        slot
    }

    /// Takes an entry away, if there is one.
    fn remove(&mut self, slot: u32) {
        let Some(entry) = self.entries.remove(&slot) else { return };
        self.changes.remove(&entry.revision);
        if let Some(count) = self.counts.get_mut(&entry.row.status) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.row.status);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use fleet_core::time::Timestamp;
    use fleet_core::untrusted::Untrusted;

    use super::*;

    pub(crate) fn row(slot: u32, uid: Uid, status: DeviceStatus) -> IndexRow {
        let none = || Untrusted::from("");
        IndexRow {
            slot,
            uid,
            id: format!("device-{slot}").parse().unwrap(),
            name: None,
            device_type: none(),
            version: none(),
            status,
            why: None,
            last_seen: None,
            created_at: Timestamp::default(),
            fingerprint: None,
            config_version: 0,
            config_reported: None,
            config_error: None,
            config_state: None,
            config_drift: false,
            interval_secs: 60,
            hostname: none(),
            model: none(),
            os: none(),
            arch: none(),
            address: None,
            metadata: BTreeMap::new(),
        }
    }

    fn put(board: &Board, uid: Uid, status: DeviceStatus) {
        board.put(uid, |slot| row(slot, uid, status)).unwrap();
    }

    fn slots(delta: &Delta) -> Vec<u32> {
        let read = |json: &Bytes| serde_json::from_slice::<IndexRow>(json).unwrap().slot;
        delta.rows.iter().map(read).collect()
    }

    /// A board of online devices.
    fn board(count: usize) -> (Board, Vec<Uid>) {
        let board = Board::default();
        let uids: Vec<Uid> = (0..count).map(|_| Uid::new()).collect();
        for uid in &uids {
            put(&board, *uid, DeviceStatus::Online);
        }
        (board, uids)
    }

    #[test]
    fn a_reader_gets_each_row_once_and_in_its_newest_form() {
        let (board, uids) = board(3);
        let first = board.after(0, 3, None).unwrap();
        assert_eq!((slots(&first), first.is_complete), (vec![0, 1, 2], true));
        for _ in 0..5 {
            put(&board, uids[0], DeviceStatus::Late);
            put(&board, uids[0], DeviceStatus::Online);
        }
        put(&board, uids[2], DeviceStatus::Late);
        let next = board.after(first.revision, 3, None).unwrap();
        assert_eq!(slots(&next), [0, 2]);
        assert_eq!(board.counts(), [(DeviceStatus::Online, 2), (DeviceStatus::Late, 1)].into());
        assert!(board.after(next.revision, 3, None).unwrap().rows.is_empty());
        // However often rows change, nothing is kept of it.
        assert_eq!(board.lock().changes.len(), 3);
    }

    #[test]
    fn when_a_device_was_last_seen_is_no_change() {
        let (board, uids) = board(1);
        let revision = board.revision();
        let seen = |slot| IndexRow {
            last_seen: Some(Timestamp::from_millis(5)),
            ..row(slot, uids[0], DeviceStatus::Online)
        };
        board.put(uids[0], seen).unwrap();
        assert_eq!(board.revision(), revision);
    }

    #[test]
    fn pages_end_and_go_on_where_they_ended() {
        let (board, uids) = board(PAGE_ROWS_MAX + 2);
        let begun = board.revision();
        let first = board.after(0, begun, None).unwrap();
        assert_eq!((first.rows.len(), first.is_complete), (PAGE_ROWS_MAX, false));
        // What changes in between comes later, and what goes is told.
        put(&board, uids[0], DeviceStatus::Late);
        board.take_down(uids[1]);
        let second = board.after(first.revision, begun, None).unwrap();
        let last = u32::try_from(PAGE_ROWS_MAX).unwrap();
        assert_eq!(slots(&second), [last, last + 1, 0]);
        assert_eq!((second.gone, second.is_complete), (vec![1], true));
    }

    #[test]
    fn pages_of_large_rows_are_shorter() {
        let board = Board::default();
        for _ in 0..10 {
            let uid = Uid::new();
            let large = |slot| IndexRow {
                hostname: "x".repeat(100 * 1024).into(),
                ..row(slot, uid, DeviceStatus::Online)
            };
            board.put(uid, large).unwrap();
        }
        let page = board.after(0, 10, None).unwrap();
        assert_eq!((page.rows.len(), page.is_complete), (3, false));
    }

    #[test]
    fn slots_are_not_given_twice_and_ends_are_forgotten_at_last() {
        let (board, uids) = board(1);
        let begun = board.revision();
        for _ in 0..=GONE_MAX {
            let uid = Uid::new();
            put(&board, uid, DeviceStatus::Pending);
            board.take_down(uid);
            board.take_down(uid);
        }
        assert_eq!(board.slots(uids.iter().copied()), [Some(0)]);
        assert_eq!(board.lock().slots_used as usize, GONE_MAX + 2);
        assert_eq!(board.lock().gone.len(), GONE_MAX);
        assert!(board.after(begun, begun, None).is_none(), "it has missed an end");
        let fresh = board.after(0, board.revision(), None).unwrap();
        assert_eq!((slots(&fresh), fresh.gone), (vec![0], vec![]));
        assert!(board.after(u64::MAX, u64::MAX, None).is_none(), "no such revision");
    }

    #[test]
    fn a_reader_of_some_devices_gets_only_those() {
        let (board, uids) = board(5);
        let only = HashSet::from([uids[1], uids[4]]);
        let page = board.after(0, 5, Some(&only)).unwrap();
        assert_eq!((slots(&page), page.revision, page.is_complete), (vec![1, 4], 5, true));
        put(&board, uids[0], DeviceStatus::Late);
        assert!(board.after(5, 5, Some(&only)).unwrap().rows.is_empty());
        assert_eq!(board.uids([0, 9].into_iter()), [Some(uids[0]), None]);
    }
}
