//! The devices, as the stream tells of them: rows by slot, kept as they come.

use std::borrow::Cow;
use std::collections::HashMap;

use fleet_core::api::{DeviceStatus, IndexPage, IndexRow, ValueRow, Values};
use fleet_core::field::Field;
use fleet_core::filter::Subject;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use serde_json::Value;

/// Slots beyond this are not believed.
const SLOTS_MAX: u32 = 1_000_000;
/// CPU values that a row remembers.
pub const PAST_LEN: usize = 10;

/// All devices that the server has told of.
#[derive(Debug, Default)]
pub struct Fleet {
    rows: Vec<Option<Row>>,
    slots: HashMap<Uid, u32>,
    /// The slots of all rows, sorted by the rows' ids: what is nearly in order is soon sorted.
    by_id: Vec<u32>,
    counts: Counts,
    widths: Widths,
    /// How many devices the server said there are.
    pub expected: u32,
    /// Whether every device is known.
    pub is_complete: bool,
    /// Grows with every change of the index, and with every change of values.
    pub revision: Revision,
}

/// The longest of each name that there was: columns are made for them, and do not change with
/// every row that scrolls in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Widths {
    /// Characters of an id.
    pub device: usize,
    /// Characters of a type.
    pub device_type: usize,
}

/// How often something changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Slots, all of them.
    pub run: u64,
    /// Rows.
    pub index: u64,
    /// What rows measured.
    pub values: u64,
}

/// How many devices are doing how; last of all, those of which only a later release knows that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; DeviceStatus::ALL.len() + 1]);

impl Counts {
    /// How many have a status.
    pub fn of(&self, status: DeviceStatus) -> u32 {
        self.0[Self::place(status)]
    }

    /// How many have a status that this release does not know.
    pub fn later(&self) -> u32 {
        self.0[DeviceStatus::ALL.len()]
    }

    fn place(status: DeviceStatus) -> usize {
        let known = DeviceStatus::ALL.iter().position(|known| *known == status);
        known.unwrap_or(DeviceStatus::ALL.len())
    }

    /// How many there are.
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    fn add(&mut self, status: DeviceStatus) {
        self.0[Self::place(status)] += 1;
    }

    fn remove(&mut self, status: DeviceStatus) {
        self.0[Self::place(status)] -= 1;
    }
}

/// One device.
#[derive(Clone, Debug)]
pub struct Row {
    /// What changes seldom.
    pub index: IndexRow,
    /// What it measured last, if anybody looked.
    pub values: Option<ValueRow>,
    /// Its last CPU values, oldest first.
    past: [u8; PAST_LEN],
    past_len: u8,
}

impl Fleet {
    /// Forgets everything: a server's slots are its own.
    pub fn clear(&mut self) {
        let revision = self.revision;
        *self = Self::default();
        self.revision = Revision { run: revision.run + 1, ..revision };
    }

    /// Takes new, changed and gone rows.
    pub fn take_index(&mut self, page: IndexPage) {
        let known = self.slots.len();
        let mut is_sorted = page.gone.is_empty();
        for slot in page.gone {
            self.remove(slot);
        }
        for row in page.rows {
            is_sorted &= self.row(row.slot).is_some_and(|known| known.index.id == row.id);
            self.put(row);
        }
        if !is_sorted || self.slots.len() != known {
            self.sort();
        }
        self.is_complete |= page.complete;
        self.revision.index += 1;
    }

    /// Takes what rows measured.
    pub fn take_values(&mut self, values: Values) {
        for (slot, past) in values.past {
            if let Some(row) = self.row_mut(slot) {
                let kept = &past[past.len().saturating_sub(PAST_LEN)..];
                row.past[..kept.len()].copy_from_slice(kept);
                row.past_len = kept.len() as u8;
                // The newest of them is also what comes as the current value.
                row.values = None;
            }
        }
        for value in values.rows {
            if let Some(row) = self.row_mut(value.0) {
                row.take(value);
            }
        }
        self.revision.values += 1;
    }

    /// A row.
    pub fn row(&self, slot: u32) -> Option<&Row> {
        self.rows.get(slot as usize)?.as_ref()
    }

    /// The row of a device.
    pub fn device(&self, uid: Uid) -> Option<&Row> {
        self.row(self.slot(uid)?)
    }

    /// The slot of a device.
    pub fn slot(&self, uid: Uid) -> Option<u32> {
        self.slots.get(&uid).copied()
    }

    /// Every row, sorted by id.
    pub fn rows(&self) -> impl Iterator<Item = &Row> + Clone {
        self.by_id.iter().filter_map(|slot| self.row(*slot))
    }

    /// How many devices are known.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How long names are.
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many devices are doing how.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn row_mut(&mut self, slot: u32) -> Option<&mut Row> {
        self.rows.get_mut(slot as usize)?.as_mut()
    }

    fn put(&mut self, index: IndexRow) {
        let slot = index.slot;
        if slot >= SLOTS_MAX {
            return;
        }
        let Widths { device, device_type } = &mut self.widths;
        *device = (*device).max(index.id.as_str().len());
        *device_type = (*device_type).max(index.device_type.raw().chars().count());
        let place = slot as usize;
        if place >= self.rows.len() {
            self.rows.resize_with(place + 1, || None);
        }
        match &mut self.rows[place] {
            Some(row) if row.index.uid == index.uid => {
                self.counts.remove(row.index.status);
                self.counts.add(index.status);
                row.index = index;
            }
            _ => {
                self.remove(slot);
                // A device has one row.
                if let Some(before) = self.slots.get(&index.uid).copied() {
                    self.remove(before);
                }
                self.slots.insert(index.uid, slot);
                self.counts.add(index.status);
                self.rows[place] = Some(Row::new(index));
            }
        }
    }

    fn sort(&mut self) {
        let mut slots = std::mem::take(&mut self.by_id);
        slots.retain(|slot| self.row(*slot).is_some());
        let mut is_there = vec![false; self.rows.len()];
        for slot in &slots {
            is_there[*slot as usize] = true;
        }
        let new = (0..).zip(&self.rows).zip(is_there).filter(|((_, row), is)| row.is_some() && !is);
        slots.extend(new.map(|((slot, _), _)| slot));
        let id = |slot: &u32| self.row(*slot).map(|row| &row.index.id);
        slots.sort_by(|a, b| id(a).cmp(&id(b)));
        self.by_id = slots;
    }

    fn remove(&mut self, slot: u32) {
        if let Some(row) = self.rows.get_mut(slot as usize).and_then(Option::take) {
            self.slots.remove(&row.index.uid);
            self.counts.remove(row.index.status);
        }
    }
}

impl Row {
    /// A row of which nothing was measured yet.
    pub fn new(index: IndexRow) -> Self {
        Self { index, values: None, past: [0; PAST_LEN], past_len: 0 }
    }

    /// Its last CPU values, oldest first.
    pub fn past(&self) -> &[u8] {
        &self.past[..usize::from(self.past_len)]
    }

    /// When it was last heard.
    pub fn last_seen(&self) -> Option<Timestamp> {
        let heard = self.values.and_then(|values| values.1).map(Timestamp::from_millis);
        heard.max(self.index.last_seen)
    }

    /// Whether somebody should look at it.
    pub fn is_problem(&self) -> bool {
        let refused = self.index.config_error.is_some();
        match self.index.status {
            DeviceStatus::Online => refused,
            DeviceStatus::Late
            | DeviceStatus::Offline
            | DeviceStatus::Lost
            | DeviceStatus::Pending => true,
            DeviceStatus::Rejected | DeviceStatus::Revoked | DeviceStatus::Later(_) => false,
        }
    }

    fn take(&mut self, values: ValueRow) {
        let is_news = self.values.is_some_and(|before| before.1 < values.1);
        if let Some(cpu) = values.2
            && (is_news || self.past_len == 0)
        {
            let len = usize::from(self.past_len);
            if len == PAST_LEN {
                self.past.rotate_left(1);
                self.past[PAST_LEN - 1] = cpu;
            } else {
                self.past[len] = cpu;
                self.past_len += 1;
            }
        }
        self.values = Some(values);
    }
}

impl Subject for Row {
    fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        self.index.text(field)
    }

    fn status(&self) -> DeviceStatus {
        self.index.status
    }

    fn number(&self, field: Field) -> Option<f64> {
        // What an absent device measured last is not how it is.
        let ValueRow(_, _, cpu, memory, disk, temperature) =
            self.values.filter(|_| self.index.status.is_heard())?;
        match field {
            Field::Cpu => cpu.map(f64::from),
            Field::Memory => memory.map(f64::from),
            Field::Disk => disk.map(f64::from),
            Field::Temperature => temperature.map(f64::from),
            _ => None,
        }
    }

    fn time(&self, field: Field) -> Option<Timestamp> {
        match field {
            Field::Seen => self.last_seen(),
            _ => self.index.time(field),
        }
    }

    fn metadata(&self, name: &str) -> Option<&Value> {
        self.index.metadata(name)
    }

    fn entries(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        self.index.entries()
    }
}
