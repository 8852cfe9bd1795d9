//! What the rows on a reader's screen measured: only what that reader has not seen.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use fleet_core::api::{StreamView, ValueRow, Values};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use tokio::time::Instant;

use super::board::Board;
use crate::ops::Presence;
use crate::ops::presence::Reading;
use crate::ops::vitals::Numbers;

/// Between two looks at all devices.
const ALL_INTERVAL: Duration = Duration::from_secs(2);
/// Rows of one message.
const MESSAGE_ROWS_MAX: usize = 5_000;

/// What a reader has seen.
#[derive(Default)]
pub(super) struct Looking {
    /// The rows in view.
    shown: HashMap<u32, Seen>,
    all: Option<All>,
    /// Reports whose values were never shown because there was a newer one.
    pub(super) skipped: u64,
}

#[derive(Clone, Copy)]
struct Seen {
    change: u64,
    reports: u64,
}

/// What a reader has seen who looks at all devices.
#[derive(Default)]
struct All {
    sent: HashMap<u32, Numbers>,
    change: Option<u64>,
    looked: Option<Instant>,
}

impl Looking {
    /// What is new in a view, in messages.
    pub(super) fn look(
        &mut self,
        view: &StreamView,
        own: &[u32],
        shown: Option<&HashSet<Uid>>,
        board: &Board,
        presence: &Presence,
        now: Instant,
    ) -> Vec<Values> {
        let mut values = Values::default();
        let rows = view.rows.iter().chain(own);
        self.look_at_rows(rows, shown, board, presence, &mut values);
        if view.all {
            let all = self.all.get_or_insert_default();
            if all.looked.is_none_or(|looked| now.duration_since(looked) >= ALL_INTERVAL) {
                all.looked = Some(now);
                all.look(shown, board, presence, &mut values);
            }
        } else {
            self.all = None;
        }
        messages(values)
    }

    fn look_at_rows<'a>(
        &mut self,
        slots: impl Iterator<Item = &'a u32>,
        shown: Option<&HashSet<Uid>>,
        board: &Board,
        presence: &Presence,
        values: &mut Values,
    ) {
        let slots: BTreeSet<u32> = slots.copied().collect();
        self.shown.retain(|slot, _| slots.contains(slot));
        let uids = board.uids(slots.iter().copied());
        let known = slots.into_iter().zip(uids).filter_map(|(slot, uid)| Some((slot, uid?)));
        let known: Vec<_> = known.filter(|(_, uid)| is_shown(shown, *uid)).collect();
        let readings = presence.readings(known.iter().map(|(_, uid)| *uid));
        for ((slot, uid), reading) in known.into_iter().zip(readings) {
            let Some(reading) = reading else { continue };
            let Reading { change, reports, .. } = reading;
            match self.shown.insert(slot, Seen { change, reports }) {
                Some(seen) if seen.change == change => continue,
                Some(seen) => self.skipped += reports.saturating_sub(seen.reports + 1),
                None => {
                    let past = presence.past(uid);
                    if !past.is_empty() {
                        values.past.push((slot, past));
                    }
                }
            }
            values.rows.push(row(slot, &reading));
        }
    }
}

impl All {
    /// Adds the devices whose numbers are not those that were sent.
    fn look(
        &mut self,
        shown: Option<&HashSet<Uid>>,
        board: &Board,
        presence: &Presence,
        values: &mut Values,
    ) {
        let change = presence.change();
        let mut readings = presence.readings_after(self.change);
        readings.retain(|(uid, _)| is_shown(shown, *uid));
        let slots = board.slots(readings.iter().map(|(uid, _)| *uid));
        if self.sent.len() > board.len() {
            let slots: Vec<u32> = self.sent.keys().copied().collect();
            let uids = board.uids(slots.iter().copied());
            for (slot, _) in slots.into_iter().zip(uids).filter(|(_, uid)| uid.is_none()) {
                self.sent.remove(&slot);
            }
        }
        let there: HashSet<u32> = values.rows.iter().map(|row| row.0).collect();
        for ((_, reading), slot) in readings.iter().zip(slots) {
            let Some(slot) = slot else { continue };
            let sent = self.sent.insert(slot, reading.numbers);
            if sent != Some(reading.numbers) && !there.contains(&slot) {
                values.rows.push(row(slot, reading));
            }
        }
        self.change = Some(change);
    }
}

fn is_shown(shown: Option<&HashSet<Uid>>, uid: Uid) -> bool {
    shown.is_none_or(|shown| shown.contains(&uid))
}

fn row(slot: u32, reading: &Reading) -> ValueRow {
    let Numbers { cpu, memory, disk, temperature } = reading.numbers;
    ValueRow(slot, reading.last_seen.map(Timestamp::millis), cpu, memory, disk, temperature)
}

/// Values in messages that are not too long for a line.
fn messages(values: Values) -> Vec<Values> {
    let Values { rows, past } = values;
    let mut messages: Vec<Values> = rows
        .chunks(MESSAGE_ROWS_MAX)
        .map(|rows| Values { rows: rows.to_vec(), past: Vec::new() })
        .collect();
    if let Some(first) = messages.first_mut() {
        first.past = past;
    }
    messages
}
