//! What the server holds of one device in memory: the values that are not sealed yet, the newest
//! value of each series, and how far the device's streams have come.
//!
//! Rows gather in a tail; a full tail becomes a block, packed but quick to read. Sealing takes all
//! that is there at a moment, and lets go of it once it lies in a chunk that the index knows.

use std::sync::Arc;

use fleet_core::limits::REPORT_SAMPLES_MAX;

use super::chunk::{self, Chunk, ChunkError, Column, ColumnKey, Effort, Part, Rows, Table};
use super::names::{SeriesId, Shape};
use super::number::{NUMBER_BYTES_MAX, Number};
use super::points::{Points, Wanted};
use super::record::Mark;
use super::varint;
use super::wal::Lsn;
use crate::store::STREAMS_PER_DEVICE_MAX;

/// Rows of a tail.
const TAIL_ROWS_MAX: usize = 32;
/// Values of a tail, where rows have many; with one more report, a chunk can hold them even if no
/// two are of one series.
const TAIL_NUMBERS_MAX: usize = 4_096;
const _: () = assert!(TAIL_NUMBERS_MAX + REPORT_SAMPLES_MAX <= chunk::COLUMNS_MAX);
/// So many of the last rows of blocks stay in memory at least, sealed or not.
const RECENT_ROWS: usize = 64;
/// Rows for which room is made at a time.
const TAIL_ROWS_STEP: usize = 8;
/// Series of a device whose newest value is kept.
const NEWEST_MAX: usize = 5_000;

/// A device's part of the engine.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// What the log noted of the device.
    pub(super) mark: Mark,
    rows: Vec<Row>,
    /// The numbers of the rows, as [`Number::put`] writes them: most of a fleet's memory is here.
    numbers: Vec<u8>,
    /// How many they are.
    count: usize,
    /// Whether some are floats, which are not as easily skipped.
    has_floats: bool,
    /// Whether the rows are alike, and each is as late as the one before or later.
    is_plain: bool,
    blocks: Vec<Arc<Block>>,
    /// The newest blocks that lie in chunks too, so that what was measured last is read from memory
    /// also right after it was sealed; fewer as others come.
    recent: Vec<Arc<Block>>,
    cursors: Vec<Cursor>,
    missed: u64,
    /// The newest values of what is not in the tail.
    newest: Vec<Newest>,
    /// The latest time of all.
    newest_at: Option<i64>,
    /// The first record that is not sealed, and the last that was applied.
    first: Option<Lsn>,
    last: Option<Lsn>,
    unsealed_rows: usize,
    /// Nothing later than this lies in chunks alone; none if nothing does.
    sealed_until: Option<i64>,
    /// Whether it waits to be sealed, or is being.
    pub(super) is_due: bool,
    /// Whether sealing it failed, and nobody has looked how far it came.
    pub(super) is_unsure: bool,
}

#[derive(Debug)]
struct Row {
    at: i64,
    shape: Arc<Shape>,
    /// Where its numbers begin.
    first: u32,
}

/// Rows that were packed: a chunk in memory.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    pub(super) rows: usize,
    pub(super) first_at: i64,
    pub(super) last_at: i64,
    /// The last record of which it has values.
    pub(super) last: Lsn,
}

impl Block {
    /// The rows, to be read.
    pub(super) fn chunk(&self) -> Result<Chunk<'_>, ChunkError> {
        Chunk::open_unsummed(&self.bytes)
    }

    /// Whether it has rows of a time.
    pub(super) fn touches(&self, from: i64, to: i64) -> bool {
        self.first_at <= to && self.last_at >= from
    }
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) stream: [u8; 16],
    pub(crate) seq: u64,
    /// Grows with each stream of the device.
    pub(crate) born: u64,
    pub(crate) mark: Mark,
}

/// The newest value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Newest {
    pub(crate) series: SeriesId,
    pub(crate) at: i64,
    pub(crate) number: Number,
}

/// What of a device is written down when it is sealed, and read at the next start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// The last record whose values lie in chunks.
    pub(crate) applied: Option<Lsn>,
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) missed: u64,
    pub(crate) newest: Vec<Newest>,
    pub(crate) newest_at: Option<i64>,
}

/// The values of a row, each with its series.
pub(super) type Values<'a> = &'a mut dyn Iterator<Item = (SeriesId, Number)>;

/// Finds the wanted values of rows. It remembers the shape of the last row: most are alike.
pub(super) struct Finder<'a> {
    wanted: &'a Wanted,
    shape: Option<Arc<Shape>>,
    /// How many values stand before each that is wanted, after the one before it, and its place.
    steps: Vec<(usize, usize)>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(wanted: &'a Wanted) -> Self {
        Self { wanted, shape: None, steps: Vec::new() }
    }

    fn steps(&mut self, shape: &Arc<Shape>) -> &[(usize, usize)] {
        if !self.shape.as_ref().is_some_and(|known| Arc::ptr_eq(known, shape)) {
            self.shape = Some(shape.clone());
            self.steps.clear();
            let mut next = 0;
            for (at, series) in shape.series().iter().enumerate() {
                if let Some(place) = self.wanted.place(*series) {
                    self.steps.push((at - next, place));
                    next = at + 1;
                }
            }
        }
        &self.steps
    }
}

/// What is to be sealed, as it was at one moment.
pub(super) struct Sealing {
    pub(super) blocks: Vec<Arc<Block>>,
    pub(super) remembered: Remembered,
}

impl Head {
    pub(super) fn remembering(remembered: Remembered) -> Self {
        let Remembered { applied, cursors, missed, newest, newest_at } = remembered;
        let sealed_until = newest_at;
        Self { last: applied, cursors, missed, newest, newest_at, sealed_until, ..Self::default() }
    }

    /// Of a device of which what was remembered cannot be read: anything may lie in chunks.
    pub(super) fn forgetful() -> Self {
        Self { sealed_until: Some(i64::MAX), ..Self::default() }
    }

    /// The cursor of the report's stream if the report is new, moved to it. Counts what was left
    /// out before it.
    pub(super) fn admit(&mut self, stream: [u8; 16], seq: u64) -> Option<&mut Cursor> {
        let place = match self.cursors.iter().position(|cursor| cursor.stream == stream) {
            Some(place) => place,
            None if seq == 0 => return None,
            None => self.begin_stream(stream),
        };
        let cursor = &mut self.cursors[place];
        if seq <= cursor.seq {
            return None;
        }
        self.missed = self.missed.saturating_add(seq - cursor.seq - 1);
        cursor.seq = seq;
        Some(cursor)
    }

    /// The oldest streams are forgotten.
    fn begin_stream(&mut self, stream: [u8; 16]) -> usize {
        self.cursors.sort_unstable_by_key(|cursor| cursor.born);
        let surplus = (self.cursors.len() + 1).saturating_sub(STREAMS_PER_DEVICE_MAX);
        self.cursors.drain(..surplus);
        let born = self.cursors.last().map_or(1, |last| last.born.saturating_add(1));
        self.cursors.push(Cursor { stream, seq: 0, born, mark: 0 });
        self.cursors.len() - 1
    }

    /// Reports that were numbered and never came.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    /// Takes a report's values. Records come in the order of their numbers.
    pub(super) fn apply(&mut self, lsn: Lsn, at: i64, shape: &Arc<Shape>, numbers: &[Number]) {
        let first = self.numbers.len();
        let is_alike = |last: &Row| Arc::ptr_eq(&last.shape, shape) && last.at <= at;
        self.is_plain = self.rows.last().is_none_or(|last| self.is_plain && is_alike(last));
        self.rows.push(Row { at, shape: shape.clone(), first: first as u32 });
        for number in numbers {
            if self.numbers.capacity() - self.numbers.len() < NUMBER_BYTES_MAX {
                let row = (self.numbers.len() - first).max(NUMBER_BYTES_MAX);
                self.numbers.reserve_exact(TAIL_ROWS_STEP * row);
            }
            number.put(&mut self.numbers);
            self.has_floats |= number.decimal().is_none();
        }
        self.count += numbers.len();
        self.newest_at = self.newest_at.max(Some(at));
        self.first.get_or_insert(lsn);
        self.last = Some(lsn);
        self.unsealed_rows += 1;
        if self.rows.len() >= TAIL_ROWS_MAX || self.count >= TAIL_NUMBERS_MAX {
            self.pack();
        }
    }

    /// The last record that was applied.
    pub(super) fn last(&self) -> Option<Lsn> {
        self.last
    }

    /// The first record that is not sealed.
    pub(super) fn first(&self) -> Option<Lsn> {
        self.first
    }

    /// The earliest time of what is not sealed.
    pub(super) fn first_at(&self) -> Option<i64> {
        let rows = self.rows.iter().map(|row| row.at);
        self.blocks.iter().map(|block| block.first_at).chain(rows).min()
    }

    /// Rows that are not sealed.
    pub(super) fn unsealed_rows(&self) -> usize {
        self.unsealed_rows
    }

    /// Makes the tail a block.
    fn pack(&mut self) {
        let Some(last) = self.last.filter(|_| !self.rows.is_empty()) else { return };
        self.renew();
        let table = self.table();
        let (first_at, last_at) = (table.times[0], table.times[table.times.len() - 1]);
        let bytes = chunk::encode(&table, Effort::Quick).into_boxed_slice();
        let rows = table.times.len();
        self.blocks.push(Arc::new(Block { bytes, rows, first_at, last_at, last }));
        self.forget_old();
        self.rows.clear();
        self.numbers.clear();
        self.count = 0;
        self.has_floats = false;
    }

    /// Keeps of the sealed blocks no more than make enough rows together with the others.
    fn forget_old(&mut self) {
        let mut rows: usize = self.blocks.iter().map(|block| block.rows).sum();
        let mut kept = self.recent.len();
        while kept > 0 && rows < RECENT_ROWS {
            kept -= 1;
            rows += self.recent[kept].rows;
        }
        let forgotten = self.recent.drain(..kept).map(|block| block.last_at);
        self.sealed_until = self.sealed_until.max(forgotten.max());
    }

    /// The values of a row, each with its series.
    fn values_of<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (SeriesId, Number)> + 'a {
        let mut rest = &self.numbers[row.first as usize..];
        row.shape.series().iter().map_while(move |series| Some((*series, Number::take(&mut rest)?)))
    }

    /// The tail as columns, ordered by time; of one time, as they came.
    fn table(&self) -> Table {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|row| self.rows[*row].at);
        let times = order.iter().map(|row| self.rows[*row].at).collect();
        let shape = &self.rows[0].shape;
        let is_uniform = self.rows.iter().all(|row| Arc::ptr_eq(&row.shape, shape));
        let columns = if is_uniform {
            let width = shape.series().len();
            let numbers: Vec<Number> =
                self.rows.iter().flat_map(|row| self.values_of(row)).map(|(_, n)| n).collect();
            let column = |(place, series): (usize, &SeriesId)| Column {
                key: value_of(*series),
                rows: Rows::All,
                numbers: order.iter().map(|row| numbers[row * width + place]).collect(),
            };
            shape.series().iter().enumerate().map(column).collect()
        } else {
            self.mixed_columns(&order)
        };
        Table { times, columns }
    }

    fn mixed_columns(&self, order: &[usize]) -> Vec<Column> {
        let mut found: std::collections::BTreeMap<SeriesId, (Vec<u32>, Vec<Number>)> =
            std::collections::BTreeMap::new();
        for (place, row) in order.iter().map(|row| &self.rows[*row]).enumerate() {
            for (series, number) in self.values_of(row) {
                let (rows, numbers) = found.entry(series).or_default();
                rows.push(place as u32);
                numbers.push(number);
            }
        }
        let column = |(series, (rows, numbers)): (SeriesId, (Vec<u32>, Vec<Number>))| Column {
            key: value_of(series),
            rows: if rows.len() == order.len() { Rows::All } else { Rows::Some(rows) },
            numbers,
        };
        found.into_iter().map(column).collect()
    }

    /// Brings the newest values up to the tail's.
    fn renew(&mut self) {
        let mut newest = std::mem::take(&mut self.newest);
        for row in &self.rows {
            for (series, number) in self.values_of(row) {
                note(&mut newest, Newest { series, at: row.at, number });
            }
        }
        self.newest = newest;
    }

    /// The newest values of wanted series, each with its series' place.
    pub(super) fn newest(&self, finder: &mut Finder<'_>, out: &mut Vec<(usize, Newest)>) {
        let wanted = finder.wanted;
        out.clear();
        // Of rows alike and in order, the last has what counts.
        let from = if self.is_plain { self.rows.len().saturating_sub(1) } else { 0 };
        let rows = &self.rows[from..];
        // Mostly it has all, and nothing is newer.
        if let [row] = rows
            && Some(row.at) == self.newest_at
        {
            self.each_wanted(rows, finder, |row, place, number| {
                out.push((place, Newest { series: wanted.series()[place], at: row.at, number }));
            });
            if out.len() == wanted.series().len() {
                return;
            }
            out.clear();
        }
        for newest in &self.newest {
            if let Some(place) = wanted.place(newest.series) {
                out.push((place, *newest));
            }
        }
        self.each_wanted(rows, finder, |row, place, number| {
            let found = Newest { series: wanted.series()[place], at: row.at, number };
            match out.iter_mut().find(|(known, _)| *known == place) {
                Some((_, known)) if known.at > found.at => {}
                Some((_, known)) => *known = found,
                None => out.push((place, found)),
            }
        });
    }

    /// Shows the wanted values of rows, each with its series' place.
    fn each_wanted<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a Row>,
        finder: &mut Finder<'_>,
        mut show: impl FnMut(&Row, usize, Number),
    ) {
        for row in rows {
            let mut rest = &self.numbers[row.first as usize..];
            for (step, place) in finder.steps(&row.shape) {
                if self.has_floats {
                    (0..*step).for_each(|_| _ = Number::take(&mut rest));
                } else {
                    varint::skip(&mut rest, *step);
                }
                if let Some(number) = Number::take(&mut rest) {
                    show(row, *place, number);
                }
            }
        }
    }

    /// The latest time of any value.
    pub(super) fn newest_at(&self) -> Option<i64> {
        self.newest_at
    }

    /// The newest value of every series, or of as many as are kept.
    pub(super) fn all_newest(&self) -> Vec<Newest> {
        let mut newest = self.newest.clone();
        for row in &self.rows {
            for (series, number) in self.values_of(row) {
                note(&mut newest, Newest { series, at: row.at, number });
            }
        }
        newest
    }

    /// The blocks of a time, to be read without holding up the device. With the tail, read under the
    /// same lock, they are all that is not sealed, and some of what is.
    pub(super) fn blocks(&self, from: i64, to: i64) -> Vec<Arc<Block>> {
        let blocks = self.recent.iter().chain(&self.blocks);
        blocks.filter(|block| block.touches(from, to)).cloned().collect()
    }

    /// Adds the tail's values of a time to points.
    pub(super) fn tail_points(&self, wanted: &Wanted, from: i64, to: i64, points: &mut Points) {
        let rows = self.rows.iter().filter(|row| (from..=to).contains(&row.at));
        self.each_wanted(rows, &mut Finder::new(wanted), |row, place, number| {
            points.curve(place).add(row.at, number.get());
        });
    }

    /// Shows the tail's rows of a time, as they came.
    pub(super) fn tail_rows(&self, from: i64, to: i64, mut show: impl FnMut(i64, Values<'_>)) {
        for row in self.rows.iter().filter(|row| (from..=to).contains(&row.at)) {
            show(row.at, &mut self.values_of(row));
        }
    }

    /// Whether all values from a time on are here, and none in chunks alone.
    pub(super) fn has_all_from(&self, from: i64) -> bool {
        self.sealed_until.is_none_or(|until| until < from)
    }

    /// All that is to be sealed now. What comes after it stays when [`Head::sealed`] lets go of it.
    pub(super) fn seal(&mut self) -> Option<Sealing> {
        self.pack();
        if self.blocks.is_empty() {
            return None;
        }
        Some(Sealing { blocks: self.blocks.clone(), remembered: self.remembered() })
    }

    /// What is to be written down, with the tail packed.
    fn remembered(&self) -> Remembered {
        Remembered {
            applied: self.last,
            cursors: self.cursors.clone(),
            missed: self.missed,
            newest: self.newest.clone(),
            newest_at: self.newest_at,
        }
    }

    /// Lets go of what was sealed up to a record.
    pub(super) fn sealed(&mut self, applied: Lsn) {
        let unsealed = self.blocks.partition_point(|block| block.last <= applied);
        self.recent.extend(self.blocks.drain(..unsealed));
        self.forget_old();
        let packed: usize = self.blocks.iter().map(|block| block.rows).sum();
        self.unsealed_rows = packed + self.rows.len();
        // The record after it is of another device perhaps; that only keeps the log a little longer.
        self.first = (self.unsealed_rows > 0).then_some(Lsn(applied.0 + 1));
    }
}

/// The key of a series' own values.
pub(super) fn value_of(series: SeriesId) -> ColumnKey {
    ColumnKey { series: series.0, part: Part::Value }
}

/// Keeps the newer of two values; of one time, the one that came later.
fn note(newest: &mut Vec<Newest>, found: Newest) {
    match newest.binary_search_by_key(&found.series, |known| known.series) {
        Ok(place) if newest[place].at > found.at => {}
        Ok(place) => newest[place] = found,
        Err(place) if newest.len() < NEWEST_MAX => newest.insert(place, found),
        Err(_) => {
            forget_oldest(newest);
            note(newest, found);
        }
    }
}

/// Forgets a quarter, the oldest: so that not each new series costs a search.
fn forget_oldest(newest: &mut Vec<Newest>) {
    let mut oldest: Vec<(i64, SeriesId)> =
        newest.iter().map(|newest| (newest.at, newest.series)).collect();
    let (_, last, _) = oldest.select_nth_unstable(NEWEST_MAX / 4);
    let last = *last;
    newest.retain(|newest| (newest.at, newest.series) > last);
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::*;

    /// The values from a time on, if all are in memory.
    fn in_memory(head: &Head, wanted: &Wanted, from: i64) -> Option<usize> {
        let packed: usize = head.blocks(from, i64::MAX).iter().map(|block| block.rows).sum();
        let mut tail = Points::default();
        head.tail_points(wanted, from, i64::MAX, &mut tail);
        let tail: usize = tail.values().map(|(_, values)| values.len()).sum();
        head.has_all_from(from).then_some(packed + tail)
    }

    #[test]
    fn what_was_measured_last_stays_in_memory_after_it_was_sealed() {
        let names = Names::default();
        let series = names.series::<&str>("cpu", &[]).unwrap();
        let (shape, wanted) = (names.shape(&[series]), Wanted::new([series]));
        let mut head = Head::default();
        let report = |head: &mut Head, at: i64| {
            head.apply(Lsn(at as u64), at, &shape, &[Number::new(at as f64)]);
        };
        (0..200).for_each(|at| report(&mut head, at));
        let applied = head.seal().unwrap().remembered.applied.unwrap();
        // Some come while the others are sealed.
        (200..210).for_each(|at| report(&mut head, at));
        head.sealed(applied);
        assert_eq!(head.unsealed_rows(), 10);
        // The last blocks had 8 and 32 rows, and 32 more make enough.
        assert_eq!(in_memory(&head, &wanted, 128), Some(82));
        assert_eq!(in_memory(&head, &wanted, 127), None);
        // They go as others are packed.
        (210..263).for_each(|at| report(&mut head, at));
        assert_eq!(in_memory(&head, &wanted, 159), None);
        assert_eq!(in_memory(&head, &wanted, 160), Some(103));
        report(&mut head, 263);
        assert_eq!(in_memory(&head, &wanted, 199), None);
        assert_eq!(in_memory(&head, &wanted, 200), Some(64));
        // A late value that is sealed is in chunks alone some day, and then nothing is sure before
        // it.
        report(&mut head, 500);
        let applied = head.seal().unwrap().remembered.applied.unwrap();
        (501..571).for_each(|at| report(&mut head, at));
        head.sealed(applied);
        assert_eq!(in_memory(&head, &wanted, 500), None);
        assert_eq!(in_memory(&head, &wanted, 501), Some(70));
    }

    #[test]
    fn of_too_many_series_the_oldest_newest_values_give_way() {
        let names = Names::default();
        let mut head = Head::default();
        for at in 0..6_i64 {
            let series: Vec<SeriesId> = (0..1_000)
                .map(|number| names.series::<&str>(&format!("m{at}_{number}"), &[]).unwrap())
                .collect();
            head.apply(Lsn(at as u64), at, &names.shape(&series), &[Number::new(1.0); 1_000]);
        }
        let newest = head.all_newest();
        assert!(newest.len() <= NEWEST_MAX && newest.is_sorted_by_key(|newest| newest.series));
        let of = |at| newest.iter().filter(|newest| newest.at == at).count();
        assert_eq!([of(0), of(4), of(5)], [0, 1_000, 1_000]);
    }
}
