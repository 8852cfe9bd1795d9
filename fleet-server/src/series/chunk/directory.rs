//! The directory of a chunk: what is in it, and where. See the layout in the module above.
//!
//! What is read here has been checked to its end: all places lie within the chunk, and all counts
//! within their bounds.

use std::ops::Range;

use super::table::{COLUMNS_MAX, ColumnKey, NUMBERS_MAX, Part, ROWS_MAX};
use super::{ChunkError, gaps};
use crate::series::varint::{self, fold, unfold};

/// Said of the column in its tag.
const HAS_GAPS: u64 = 1;
const PART_BITS: u32 = 3;

/// What is in a chunk.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) rows: usize,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) times: Range<usize>,
    /// Sets of rows, which columns share.
    pub(super) sets: Vec<Set>,
    /// By their keys.
    pub(super) columns: Vec<Entry>,
}

/// Rows that a column can have.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) count: usize,
    pub(super) at: Range<usize>,
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: ColumnKey,
    /// The set of its rows, if it does not have all.
    pub(super) set: Option<usize>,
    pub(super) at: Range<usize>,
}

/// Appends a directory whose ranges follow on one another. Their places do not matter, their
/// lengths do.
pub(super) fn put(out: &mut Vec<u8>, directory: &Directory) {
    let Directory { rows, first, last, times, sets, columns } = directory;
    varint::put(out, *rows as u64);
    varint::put(out, fold(*first));
    varint::put(out, last.wrapping_sub(*first) as u64);
    varint::put(out, sets.len() as u64);
    varint::put(out, columns.len() as u64);
    varint::put(out, times.len() as u64);
    for set in sets {
        varint::put(out, set.at.len() as u64);
    }
    let mut before = 0;
    for Entry { key, set, at } in columns {
        let step = u64::from(key.series - before);
        before = key.series;
        let gaps = if set.is_some() { HAS_GAPS } else { 0 };
        varint::put(out, (step << PART_BITS | key.part as u64) << 1 | gaps);
        if let Some(set) = set {
            varint::put(out, *set as u64);
        }
        varint::put(out, at.len() as u64);
    }
}

/// Reads the directory that begins at `start`, and checks that what it names fills the bytes to
/// their end.
pub(super) fn take(bytes: &[u8], start: usize) -> Result<Directory, ChunkError> {
    let mut reader = Reader { rest: &bytes[start..] };
    let rows = reader.count("rows", ROWS_MAX)?;
    if rows == 0 {
        return Err(ChunkError::Directory("rows"));
    }
    let first = unfold(reader.number("first time")?);
    let span = reader.number("last time")?;
    let last = first.checked_add_unsigned(span).ok_or(ChunkError::Directory("last time"))?;
    let set_count = reader.count("sets of rows", COLUMNS_MAX)?;
    let column_count = reader.count("columns", COLUMNS_MAX)?;
    let times = reader.length()?;
    let sets = (0..set_count).map(|_| reader.length()).collect::<Result<Vec<_>, _>>()?;
    let mut columns: Vec<Entry> = Vec::with_capacity(column_count);
    for _ in 0..column_count {
        let entry = reader.entry(columns.last().map(|entry| entry.key), set_count)?;
        columns.push(entry);
    }
    let mut places = Places { at: bytes.len() - reader.rest.len(), end: bytes.len() };
    let times = places.next(times)?;
    let set = |length| {
        let at = places.next(length)?;
        let count = gaps::count(&bytes[at.clone()], rows);
        Ok(Set { count: count.ok_or(ChunkError::Directory("sets of rows"))?, at })
    };
    let sets = sets.into_iter().map(set).collect::<Result<Vec<_>, _>>()?;
    for entry in &mut columns {
        entry.at = places.next(entry.at.len())?;
    }
    let count = |entry: &Entry| entry.set.map_or(rows, |set| sets[set].count);
    let numbers: usize = columns.iter().map(count).sum();
    if numbers > NUMBERS_MAX || places.at != places.end {
        return Err(ChunkError::Directory("lengths"));
    }
    Ok(Directory { rows, first, last, times, sets, columns })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn number(&mut self, of: &'static str) -> Result<u64, ChunkError> {
        varint::take(&mut self.rest).ok_or(ChunkError::Directory(of))
    }

    fn count(&mut self, of: &'static str, max: usize) -> Result<usize, ChunkError> {
        let count = usize::try_from(self.number(of)?).ok();
        count.filter(|count| *count <= max).ok_or(ChunkError::Directory(of))
    }

    fn length(&mut self) -> Result<usize, ChunkError> {
        self.count("lengths", usize::MAX)
    }

    /// A column after the one before it. Its place is not known yet, its length is.
    fn entry(&mut self, before: Option<ColumnKey>, sets: usize) -> Result<Entry, ChunkError> {
        let wrong = ChunkError::Directory("columns");
        let tag = self.number("columns")?;
        let part = (tag >> 1) & ((1 << PART_BITS) - 1);
        let part = *Part::ALL.get(part as usize).ok_or(wrong)?;
        let step = u32::try_from(tag >> 1 >> PART_BITS).map_err(|_| wrong)?;
        let series = before.map_or(0, |key| key.series).checked_add(step).ok_or(wrong)?;
        let key = ColumnKey { series, part };
        if before.is_some_and(|before| key <= before) {
            return Err(wrong);
        }
        let set = match tag & HAS_GAPS {
            0 => None,
            _ => Some(self.count("columns", sets.checked_sub(1).ok_or(wrong)?)?),
        };
        Ok(Entry { key, set, at: 0..self.length()? })
    }
}

/// Gives out what follows on one another.
struct Places {
    at: usize,
    end: usize,
}

impl Places {
    fn next(&mut self, length: usize) -> Result<Range<usize>, ChunkError> {
        let start = self.at;
        let end = start.checked_add(length).filter(|end| *end <= self.end);
        self.at = end.ok_or(ChunkError::Directory("lengths"))?;
        Ok(start..self.at)
    }
}
