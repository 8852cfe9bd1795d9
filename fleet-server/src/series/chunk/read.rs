//! Opens a chunk, and decodes what is asked for and nothing else.

use super::directory::{self, Directory, Entry};
use super::table::{Column, ColumnKey, Rows, Table};
use super::{ChunkError, SUM_BYTES, VERSION, column, gaps, whole};

/// A chunk whose checksum and directory are right.
#[derive(Clone, Debug)]
pub struct Chunk<'a> {
    bytes: &'a [u8],
    directory: Directory,
}

impl<'a> Chunk<'a> {
    /// Opens what [`encode`](super::encode) made. Takes memory for a few words per column.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        // The version stands under the sum, but says what a sum is.
        let (version, _) = bytes.split_first().ok_or(ChunkError::Checksum)?;
        let (summed, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(ChunkError::Checksum)?;
        if *version == VERSION && crc32c::crc32c(summed) != u32::from_le_bytes(*sum) {
            return Err(ChunkError::Checksum);
        }
        Self::open_unsummed(bytes)
    }

    /// The same for bytes that cannot have changed since they were made, or whose sum was found
    /// right already: nobody adds them up.
    pub(crate) fn open_unsummed(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        let (version, _) = bytes.split_first().ok_or(ChunkError::Checksum)?;
        if *version != VERSION {
            return Err(ChunkError::Version(*version));
        }
        let (bytes, _) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(ChunkError::Checksum)?;
        if bytes.is_empty() {
            return Err(ChunkError::Checksum);
        }
        Ok(Self { bytes, directory: directory::take(bytes, 1)? })
    }

    /// How many reports there are; at least one.
    pub fn rows(&self) -> usize {
        self.directory.rows
    }

    /// When the first report was made.
    pub fn first_time(&self) -> i64 {
        self.directory.first
    }

    /// When the last report was made.
    pub fn last_time(&self) -> i64 {
        self.directory.last
    }

    /// The columns, ascending.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = ColumnKey> {
        self.directory.columns.iter().map(|entry| entry.key)
    }

    /// When each report was made.
    pub fn times(&self) -> Result<Vec<i64>, ChunkError> {
        let Directory { rows, first, last, ref times, .. } = self.directory;
        let mut out = Vec::with_capacity(rows);
        let head = whole::take(&self.bytes[times.clone()], rows, &mut out);
        for time in &mut out {
            *time = time.wrapping_add(first);
        }
        let ends = out.first() == Some(&first) && out.last() == Some(&last);
        if head != Some(0) || !ends || !out.is_sorted() {
            return Err(ChunkError::Times);
        }
        Ok(out)
    }

    /// A column, if there is one of this key.
    pub fn column(&self, key: ColumnKey) -> Result<Option<Column>, ChunkError> {
        self.entry(key).map(|entry| self.whole_column(entry)).transpose()
    }

    /// The floats of a column appended to `out`, and the rows that have them, if there is a column
    /// of this key. This is the fast way, for graphs. After an error, `out` is as before.
    pub fn values(&self, key: ColumnKey, out: &mut Vec<f64>) -> Result<Option<Rows>, ChunkError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let rows = self.rows_of(entry)?;
        column::floats(&self.bytes[entry.at.clone()], self.count(entry), out)
            .ok_or(ChunkError::Column(key))?;
        Ok(Some(rows))
    }

    /// Everything.
    pub fn table(&self) -> Result<Table, ChunkError> {
        let columns = self.directory.columns.iter().map(|entry| self.whole_column(entry));
        Ok(Table { times: self.times()?, columns: columns.collect::<Result<_, _>>()? })
    }

    fn whole_column(&self, entry: &Entry) -> Result<Column, ChunkError> {
        let numbers = column::take(&self.bytes[entry.at.clone()], self.count(entry))
            .ok_or(ChunkError::Column(entry.key))?;
        Ok(Column { key: entry.key, rows: self.rows_of(entry)?, numbers })
    }

    fn entry(&self, key: ColumnKey) -> Option<&Entry> {
        let columns = &self.directory.columns;
        let at = columns.binary_search_by_key(&key, |entry| entry.key).ok()?;
        Some(&columns[at])
    }

    fn count(&self, entry: &Entry) -> usize {
        entry.set.map_or(self.directory.rows, |set| self.directory.sets[set].count)
    }

    fn rows_of(&self, entry: &Entry) -> Result<Rows, ChunkError> {
        let Some(set) = entry.set else { return Ok(Rows::All) };
        let set = &self.bytes[self.directory.sets[set].at.clone()];
        let rows = gaps::take(set, self.directory.rows).ok_or(ChunkError::Column(entry.key))?;
        Ok(Rows::Some(rows))
    }
}
