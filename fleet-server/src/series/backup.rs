//! Telemetry's files as they are at one moment, for a copy of them; and whether a copy can be read.
//!
//! Chunks are added and removed, and files of either kind let go of, by whoever holds the ends.
//! While a backup holds them ([`Engine::still`]), the index does not change, and it can be read and
//! its files opened together. Who has a file open keeps it, so after that everything goes on, and
//! reports were taken in all the while. Of files of chunks that much is copied of which the index
//! of that moment knows, which never changes. The log is copied as far as it was safe at that
//! moment, and on from there as far as it is whole.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use fleet_core::disk::{self, DiskFile};

use super::catalog::{SegmentInfo, Tier};
use super::engine::Engine;
use super::query::read_chunk;
use super::segments::Ends;
use super::wal::HeldLog;
use crate::store::{Failure, Pace, Pacer, StoreError};

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 256 * 1024;

/// While this is there no chunk comes or goes, and no file of the log.
pub(crate) struct Still<'a> {
    engine: &'a Engine,
    _ends: MutexGuard<'a, Ends>,
}

/// The files of a moment.
pub(crate) struct Held {
    segments: Vec<(String, Arc<dyn DiskFile>, u64)>,
    log: HeldLog,
}

/// Takes a piece of a file: its name, where in it, and the bytes. False if no more is wanted.
pub(crate) type TakePiece<'a> = &'a mut dyn FnMut(&str, u64, &[u8]) -> bool;

/// What was read of all chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// Chunks, of all resolutions.
    pub(crate) chunks: u64,
    /// Reports that are kept as they came.
    pub(crate) reports: u64,
}

impl Engine {
    /// Waits until nobody adds or removes chunks, and keeps it so.
    pub(crate) fn still(&self) -> Still<'_> {
        Still { engine: self, _ends: self.shared.ends() }
    }

    /// Seals all that is in the log, and reads every chunk.
    pub(crate) fn read_all(&self) -> Result<Read, StoreError> {
        self.seal_all()?;
        self.read_chunks(Pace::Fast, &AtomicBool::new(false))
    }

    /// Reads every chunk as a whole, until it shall stop. What is damaged is noted for health.
    pub(crate) fn read_chunks(&self, pace: Pace, stop: &AtomicBool) -> Result<Read, StoreError> {
        let mut pacer = Pacer::new(pace);
        let shared = &self.shared;
        let mut all = Read::default();
        for segment in shared.catalog.segments()? {
            let _reading = shared.segments.reading();
            for chunk in shared.catalog.chunks_in(segment.number)? {
                if stop.load(Ordering::Relaxed) {
                    return Err(Failure::Closed.into());
                }
                let read = read_chunk(shared, &chunk, &mut |chunk| chunk.table().map(drop));
                match read {
                    Ok(()) => {
                        all.chunks += 1;
                        let reports = if chunk.tier == Tier::Raw { chunk.rows } else { 0 };
                        all.reports += u64::from(reports);
                    }
                    Err(unread) => shared.pass_over(unread)?,
                }
                pacer.rest();
            }
        }
        Ok(all)
    }
}

impl Still<'_> {
    /// The files of this moment, of which the index says so, held for as long as they are needed.
    pub(crate) fn hold(self, index: &[SegmentInfo]) -> Result<Held, StoreError> {
        let shared = &self.engine.shared;
        let wal = shared.wal().ok_or(Failure::Reopening)?;
        let mut segments = Vec::with_capacity(index.len());
        for info in index {
            match shared.segments.hold(info) {
                Ok((name, file)) => segments.push((name, file, info.bytes)),
                // Health says so, and so will whoever looks at the backup.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::Storage(error.into()).into()),
            }
        }
        let log = wal.hold().map_err(|error| Failure::Storage(error.into()))?;
        Ok(Held { segments, log })
    }
}

impl Held {
    /// Copies all files, piece by piece. False if it was ended.
    pub(crate) fn copy(self, take: TakePiece<'_>) -> Result<bool, StoreError> {
        let failed = |error: io::Error| StoreError::from(Failure::Storage(error.into()));
        for (name, file, bytes) in self.segments {
            // Where it is shorter than it should be, health says so.
            let bytes = bytes.min(file.bytes().map_err(failed)?);
            if !copy_file(&name, file.as_ref(), bytes, take).map_err(failed)? {
                return Ok(false);
            }
        }
        for (name, file) in &self.log.finished {
            let bytes = file.bytes().map_err(failed)?;
            if !copy_file(name, file.as_ref(), bytes, take).map_err(failed)? {
                return Ok(false);
            }
        }
        let Some((name, file)) = &self.log.newest else { return Ok(true) };
        let bytes = disk::read_all(file.as_ref()).map_err(failed)?;
        let whole = &bytes[..self.log.whole(&bytes)];
        let mut pieces = whole.chunks(PIECE_BYTES).zip((0..).step_by(PIECE_BYTES));
        Ok(pieces.all(|(piece, at)| take(name, at, piece)))
    }
}

/// Copies so much of a file that is not written to any more, up to there.
fn copy_file(name: &str, file: &dyn DiskFile, bytes: u64, take: TakePiece<'_>) -> io::Result<bool> {
    let mut at = 0;
    let mut buffer = vec![0; PIECE_BYTES];
    while at < bytes {
        let piece = &mut buffer[..(bytes - at).min(PIECE_BYTES as u64) as usize];
        file.read_at(piece, at)?;
        if !take(name, at, piece) {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}
