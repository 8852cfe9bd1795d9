//! All that the store has, as it is at one moment, for a copy of it.

use async_trait::async_trait;

use super::StoreError;

/// A piece of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Some rows of a table, in the order of their keys; none if the table has none.
    Rows {
        /// The table.
        table: &'a str,
        /// Keys and values, as they are stored.
        rows: &'a [(Vec<u8>, Vec<u8>)],
    },
    /// A piece of a file of telemetry.
    File {
        /// Its name.
        name: &'a str,
        /// Where in it.
        offset: u64,
        /// What is there.
        bytes: &'a [u8],
    },
    /// A piece of the list of what was ended for good, as it lies in its file.
    Revoked(&'a [u8]),
    /// That was all.
    End,
}

/// Takes a piece, and waits for room where there is none; false if it takes no more. It is called
/// on a thread for reading.
pub type TakePart = Box<dyn FnMut(Part<'_>) -> bool + Send>;

/// Copying a store while it goes on.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// Shows what was revoked, all rows of all tables, then all files of telemetry, and [`Part::End`]; nothing after
    /// an error, or when no more is taken. Whatever was on the disk before this was called is in
    /// it, each once, as the page of `backup` says. Sessions of browsers are left out.
    async fn copy(&self, take: TakePart) -> Result<(), StoreError>;
}
