//! A chunk: the reports of one device for an hour or so, kept column by column.
//!
//! It lies on disk for years. What must stay true: every table comes back as it was, and bytes
//! that are no chunk are an error, never a panic, never a wrong number, and never more memory than
//! the bounds of a [`Table`] allow. Bytes of a version that was ever written are read for ever;
//! another layout, or another format of pco, is another version.
//!
//! ```text
//! chunk     = version, directory, times, set of rows*, column*, CRC-32C over all before it
//! directory = rows, first time, last - first, sets, columns, length of times, length of set*, entry*
//! entry     = tag, [which set], length of column
//! tag       = (series - series before) << 4 | part << 1 | has gaps
//! times     = a block of whole numbers, all less the first time            (see whole)
//! set       = the rows of columns that have gaps, shared by them           (see gaps)
//! column    = a block of whole numbers, with the scale in its head         (see column)
//! ```
//!
//! Numbers are varints, the checksum is little-endian, the first time and what else may be negative
//! is folded. Columns are in the order of their keys, and everything follows on what is before it.

mod bits;
#[cfg(any(test, fuzzing))]
pub(crate) mod check;
mod column;
mod directory;
mod entropy;
mod frame;
mod gaps;
mod read;
mod table;
mod whole;
mod write;

#[cfg(test)]
mod tests;

pub use read::Chunk;
pub use table::{COLUMNS_MAX, Column, ColumnKey, NUMBERS_MAX, Part, ROWS_MAX, Rows, Table};
pub use write::encode;

/// The layout that is described above.
const VERSION: u8 = 1;
/// Bytes of the checksum.
const SUM_BYTES: usize = 4;

/// What a chunk may cost to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Bits are packed: for what stays in memory for some minutes.
    Quick,
    /// The fewest bytes: for what stays on disk for years.
    Best,
}

/// Why bytes are no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// From another release.
    #[error("a chunk of version {0}, which this release does not read")]
    Version(u8),
    /// Cut or changed.
    #[error("a damaged chunk: its checksum does not match")]
    Checksum,
    /// The checksum is right, and yet this makes no sense.
    #[error("a chunk whose directory is wrong: {0}")]
    Directory(&'static str),
    /// The checksum is right, and yet these cannot be.
    #[error("a chunk whose times are wrong")]
    Times,
    /// The checksum is right, and yet this cannot be.
    #[error("a chunk whose column {0:?} is wrong")]
    Column(ColumnKey),
}
