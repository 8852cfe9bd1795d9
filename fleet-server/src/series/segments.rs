//! The files in which chunks lie, one after the other; what is in them never changes.
//!
//! A file begins with a frame that says whose it is, and each chunk is a frame. The index says
//! which chunks there are, and up to where a file is written: what a crash left behind that is
//! written over. A file of chunks that nobody wants any more is removed as a whole, once nobody
//! reads who may have found them in the index before.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::Chain;
use fleet_core::disk::{Disk, DiskFile};
use fleet_core::frames::{self, Found, HEADER_BYTES};

use super::catalog::{ChunkRef, SegmentInfo, Tier};

/// A file that has become so long is not written to any more.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files that are kept open for reading.
const OPEN_MAX: usize = 256;
const NAME: &str = "chunks-";
const VERSION: u8 = 1;
/// Bytes of the frame that a file begins with: version, store, tier.
const HEADER_FRAME_BYTES: usize = HEADER_BYTES + 1 + 16 + 1;

/// The files. One thread writes; any may read.
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    store: [u8; 16],
    open: Mutex<HashMap<u64, Arc<dyn DiskFile>>>,
    readers: Mutex<Readers>,
}

/// Who reads, and what goes when they are done.
#[derive(Default)]
struct Readers {
    /// The number of the next one.
    next: u64,
    active: BTreeSet<u64>,
    /// Files with the number of the first reader who cannot have found them.
    leaving: Vec<(u64, u64)>,
}

/// Somebody who reads. What is in the index after this was made stays readable as long as it is
/// there.
pub(super) struct Reading<'a> {
    segments: &'a Segments,
    number: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let gone = {
            let mut readers = self.segments.readers();
            readers.active.remove(&self.number);
            readers.gone()
        };
        if let Err(error) = self.segments.unlink(&gone) {
            tracing::warn!(error = %Chain(&error), "old files of chunks were not removed");
        }
    }
}

impl Readers {
    /// The files that nobody reads any more.
    fn gone(&mut self) -> Vec<u64> {
        let first = self.active.first().copied().unwrap_or(self.next);
        let gone = self.leaving.extract_if(.., |(unknown_from, _)| *unknown_from <= first);
        gone.map(|(_, file)| file).collect()
    }
}

/// Where chunks are appended to.
pub(super) struct Ends {
    open: HashMap<Tier, End>,
    next: u64,
    /// Files that something failed with, of which the index may know nothing.
    abandoned: Vec<u64>,
}

impl Ends {
    /// Whether files were abandoned.
    pub(super) fn has_abandoned(&self) -> bool {
        !self.abandoned.is_empty()
    }
}

struct End {
    number: u64,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    is_synced: bool,
}

/// Where a chunk lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

impl Segments {
    /// The files that an index knows. Others of the kind are what a crash left, and are removed.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        store: [u8; 16],
        known: &[SegmentInfo],
    ) -> io::Result<(Self, Ends)> {
        let mut ends = Ends { open: HashMap::new(), next: 1, abandoned: Vec::new() };
        // All of them before any is changed.
        let names = disk.names()?;
        let numbered = || names.iter().filter_map(|name| Some((name, number_of(name)?)));
        for (name, _) in numbered() {
            check_own(disk.open(name)?.as_ref(), name, store)?;
        }
        for (name, number) in numbered() {
            ends.next = ends.next.max(number + 1);
            if !known.iter().any(|info| info.number == number) {
                disk.remove(name)?;
            }
        }
        let (open, readers) = (Mutex::default(), Mutex::default());
        let segments = Self { disk, store, open, readers };
        for info in known {
            ends.next = ends.next.max(info.number + 1);
            segments.resume(&mut ends, info)?;
        }
        Ok((segments, ends))
    }

    /// Goes on in a file that has room, if it is the last of its tier.
    fn resume(&self, ends: &mut Ends, info: &SegmentInfo) -> io::Result<()> {
        if ends.open.get(&info.tier).is_some_and(|end| end.number > info.number) {
            return Ok(());
        }
        // What comes next must not stand before what this one has, if that takes no more.
        ends.open.remove(&info.tier);
        if info.bytes >= SEGMENT_BYTES_MAX || !self.holds(info) {
            return Ok(());
        }
        let file = self.file(info.number)?;
        file.truncate(info.bytes)?;
        file.sync()?;
        let end = End { number: info.number, file, bytes: info.bytes, is_synced: true };
        ends.open.insert(info.tier, end);
        Ok(())
    }

    /// Appends a chunk; it is safe after [`Segments::sync`].
    pub(super) fn append(&self, ends: &mut Ends, tier: Tier, chunk: &[u8]) -> io::Result<Place> {
        if ends.open.get(&tier).is_none_or(|end| end.bytes >= SEGMENT_BYTES_MAX) {
            // What was written to the former one must not be forgotten.
            if let Some(end) = ends.open.remove(&tier).filter(|end| !end.is_synced) {
                end.file.sync()?;
            }
            let number = ends.next;
            // Also where this fails: something of that name may be there then.
            ends.next += 1;
            ends.abandoned.push(number);
            let end = self.create(number, tier)?;
            ends.abandoned.pop();
            ends.open.insert(tier, end);
        }
        let end = ends.open.get_mut(&tier).expect("put there above");
        let mut frame = Vec::with_capacity(HEADER_BYTES + chunk.len());
        frames::put(&mut frame, |out| out.extend(chunk));
        end.file.write_at(&frame, end.bytes)?;
        let place = Place { segment: end.number, offset: end.bytes, bytes: frame.len() as u32 };
        end.bytes += frame.len() as u64;
        end.is_synced = false;
        Ok(place)
    }

    fn create(&self, number: u64, tier: Tier) -> io::Result<End> {
        let file = self.disk.create(&name_of(number))?;
        let mut header = Vec::new();
        frames::put(&mut header, |out| {
            out.push(VERSION);
            out.extend(self.store);
            out.push(tier.number());
        });
        file.write_at(&header, 0)?;
        file.sync()?;
        self.disk.sync()?;
        let bytes = header.len() as u64;
        Ok(End { number, file, bytes, is_synced: true })
    }

    /// Makes sure of all that was appended.
    pub(super) fn sync(ends: &mut Ends) -> io::Result<()> {
        for end in ends.open.values_mut().filter(|end| !end.is_synced) {
            end.file.sync()?;
            end.is_synced = true;
        }
        Ok(())
    }

    /// Nothing more is appended to a file.
    pub(super) fn leave(ends: &mut Ends, number: u64) {
        ends.open.retain(|_, end| end.number != number);
    }

    /// How long a file is; nothing if it is not there.
    pub(super) fn bytes(&self, number: u64) -> u64 {
        self.file(number).and_then(|file| file.bytes()).unwrap_or(0)
    }

    /// After a failure nobody knows what is in the files that were written to: goes on in new ones.
    pub(super) fn abandon(ends: &mut Ends) {
        let left = ends.open.drain().map(|(_, end)| end.number);
        ends.abandoned.extend(left);
    }

    /// Removes of the files that were abandoned those that the index does not know: failing again
    /// and again must not fill the disk.
    pub(super) fn clear_abandoned(&self, ends: &mut Ends, known: &[SegmentInfo]) -> io::Result<()> {
        let abandoned = std::mem::take(&mut ends.abandoned);
        let is_known = |number: &u64| known.iter().any(|info| info.number == *number);
        let unknown: Vec<u64> = abandoned.into_iter().filter(|number| !is_known(number)).collect();
        self.unlink(&unknown).inspect_err(|_| ends.abandoned = unknown)
    }

    /// A chunk's bytes.
    pub(super) fn read(&self, chunk: &ChunkRef) -> io::Result<Vec<u8>> {
        let file = self.file(chunk.segment)?;
        let mut frame = vec![0; chunk.bytes as usize];
        file.read_at(&mut frame, chunk.offset)?;
        match frames::read(&frame).next() {
            Some(Found::Frame { at: 0, payload })
                if HEADER_BYTES + payload.len() == frame.len() =>
            {
                frame.drain(..HEADER_BYTES);
                Ok(frame)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the chunk is damaged")),
        }
    }

    /// To be asked for before the index is, by whoever reads what it says.
    pub(super) fn reading(&self) -> Reading<'_> {
        let mut readers = self.readers();
        let number = readers.next;
        readers.next += 1;
        readers.active.insert(number);
        Reading { segments: self, number }
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes files of which the index has forgotten all chunks.
    pub(super) fn remove(&self, ends: &mut Ends, numbers: &[u64]) -> io::Result<()> {
        ends.open.retain(|_, end| !numbers.contains(&end.number));
        ends.abandoned.retain(|number| !numbers.contains(number));
        let gone = {
            let mut readers = self.readers();
            let next = readers.next;
            readers.leaving.extend(numbers.iter().map(|number| (next, *number)));
            readers.gone()
        };
        self.unlink(&gone)
    }

    /// Removes files. One that cannot be removed is in nobody's way, and the next start tries again.
    fn unlink(&self, numbers: &[u64]) -> io::Result<()> {
        let mut failed = None;
        for number in numbers {
            self.lock().remove(number);
            match self.disk.remove(&name_of(*number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    failed.get_or_insert(error);
                }
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether a file is there and as long as the index says.
    pub(super) fn holds(&self, info: &SegmentInfo) -> bool {
        self.file(info.number).and_then(|file| file.bytes()).is_ok_and(|bytes| bytes >= info.bytes)
    }

    /// A file of the index, which stays readable for whoever has this, also when it is removed.
    pub(super) fn hold(&self, info: &SegmentInfo) -> io::Result<(String, Arc<dyn DiskFile>)> {
        Ok((name_of(info.number), self.file(info.number)?))
    }

    fn file(&self, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.lock().get(&number) {
            return Ok(file.clone());
        }
        let file = self.disk.open(&name_of(number))?;
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(number, file.clone());
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<dyn DiskFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a file of another database. One without a whole beginning is what a crash left, and in
/// it nothing was ever stored.
fn check_own(file: &dyn DiskFile, name: &str, store: [u8; 16]) -> io::Result<()> {
    let length = file.bytes()?.min(HEADER_FRAME_BYTES as u64);
    let mut header = vec![0; length as usize];
    file.read_at(&mut header, 0)?;
    match frames::read(&header).next() {
        Some(Found::Frame { at: 0, payload }) if payload.get(1..17) != Some(store.as_slice()) => {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{name} belongs to another database"),
            ))
        }
        _ => Ok(()),
    }
}

fn name_of(number: u64) -> String {
    format!("{NAME}{number:016x}")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use fleet_core::disk::sim::SimDisk;

    use super::*;

    #[test]
    fn files_go_when_nobody_who_knew_them_reads() {
        let (disk, store) = (Arc::new(SimDisk::new(1)), [7; 16]);
        let (segments, mut ends) = Segments::open(disk.clone(), store, &[]).unwrap();
        let new = |ends: &mut Ends| {
            Segments::abandon(ends);
            segments.append(ends, Tier::Raw, &[1; 50]).unwrap().segment
        };
        let numbers = [new(&mut ends), new(&mut ends), new(&mut ends)];
        let left = || disk.names().unwrap().iter().filter_map(|name| number_of(name)).count();
        let first = segments.reading();
        segments.remove(&mut ends, &numbers[..1]).unwrap();
        let second = segments.reading();
        segments.remove(&mut ends, &numbers[1..2]).unwrap();
        assert_eq!(left(), 3);
        drop(first);
        assert_eq!(left(), 2, "the second never knew the first file");
        drop(second);
        assert_eq!(left(), 1);
        segments.remove(&mut ends, &numbers[2..]).unwrap();
        assert_eq!(left(), 0);
        drop(segments.reading());
    }

    #[test]
    fn nothing_is_appended_before_what_came_earlier() {
        let (disk, store) = (Arc::new(SimDisk::new(1)), [7; 16]);
        let (segments, mut ends) = Segments::open(disk.clone(), store, &[]).unwrap();
        let mut known = Vec::new();
        for bytes in [None, Some(SEGMENT_BYTES_MAX)] {
            let place = segments.append(&mut ends, Tier::Raw, &[1; 50]).unwrap();
            Segments::sync(&mut ends).unwrap();
            Segments::abandon(&mut ends);
            known.push(SegmentInfo {
                number: place.segment,
                tier: Tier::Raw,
                bytes: bytes.unwrap_or(place.offset + u64::from(place.bytes)),
                live_bytes: 50,
                live_chunks: 1,
                live_rows: 1,
            });
        }
        for (known, expected) in [(&known[..1], known[0].number), (&known[..], 3)] {
            let (segments, mut ends) = Segments::open(disk.clone(), store, known).unwrap();
            let place = segments.append(&mut ends, Tier::Raw, &[2; 50]).unwrap();
            assert_eq!(place.segment, expected, "{known:?}");
        }
    }
}
