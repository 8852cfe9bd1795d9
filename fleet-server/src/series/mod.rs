//! The telemetry engine: durable, small, fast.
//!
//! Reports go into a log that is made safe in groups, and from there into heads, one for each
//! device, in memory. What has gathered in a head is sealed into a chunk of columns in a file, and
//! the database keeps an index of chunks. Older values are kept more coarsely.
//!
//! | module | what lives there |
//! |---|---|
//! | [`names`] | series and shapes by number |
//! | [`number`], [`chunk`] | a value, and many of them packed in columns |
//! | [`batch`] | reports on their way in |
//! | `wal`, `record` | the log, and what is written in it |
//! | `head` | what is held of a device |
//! | `engine`, `seal` | the order of things; the thread that seals |
//! | `segments`, `catalog` | the files of chunks, and what the index must do |
//! | `points`, `merge`, `query`, [`overview`], `scan`, [`curves`] | reading |
//! | `roll`, `again`, [`stat`], `keep` | coarser tiers; what goes, and how much there is |
//! | `backup` | the files of one moment, to be copied |

mod again;
pub(crate) mod backup;
pub mod batch;
pub mod catalog;
pub mod chunk;
pub mod curves;
pub mod engine;
pub(crate) mod head;
pub mod keep;
mod merge;
pub mod names;
pub mod number;
pub mod overview;
mod points;
pub mod query;
mod record;
mod roll;
mod scan;
mod seal;
mod segments;
pub mod stat;
pub mod varint;
pub mod wal;

/// Doors of the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    pub(crate) use super::chunk::check::{any_table, chunk};
    pub(crate) use super::record::check::record;
    pub(crate) use super::wal::check::{damaged, forged};
}
