//! Why the log said no.

use std::io;
use std::sync::Arc;

/// Why a record was not taken on, or is not known to be durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// Too much waits for the disk already. Nothing is wrong; try again.
    #[error("the write-ahead log has more waiting than it takes on")]
    Busy,
    /// The record is larger than a record may be.
    #[error("a record of {0} bytes is larger than the write-ahead log takes")]
    TooLarge(usize),
    /// The disk failed. What was appended and not acknowledged may be there or not.
    #[error("the write-ahead log is not available")]
    Failed(#[source] Arc<Failure>),
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file, or the folder.
    #[error("{doing} {file} failed")]
    Disk {
        /// What was being done with it.
        doing: &'static str,
        /// Its name.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A defect that was contained.
    #[error("the log's thread ended early")]
    Ended,
}

impl Failure {
    /// Says what was being done when the disk failed.
    pub(super) fn at(doing: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing, file: file.to_owned(), source }
    }
}

/// Why a log did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody mixed up folders.
    #[error("the log file {file} belongs to another store")]
    OtherStore {
        /// The file.
        file: String,
    },
    /// From the future.
    #[error(
        "the log file {file} has format {version} and this release reads up to {known}: use the release that wrote it, or a newer one"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        version: u8,
        /// The newest format that this release reads.
        known: u8,
    },
    /// The disk. Trying again may help.
    #[error("the write-ahead log cannot be opened")]
    Disk(#[from] Failure),
    /// The thread that writes did not start.
    #[error("the thread of the write-ahead log cannot be started")]
    Thread(#[source] io::Error),
}
