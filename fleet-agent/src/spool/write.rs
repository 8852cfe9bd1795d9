//! From memory to the disk: a stream's young records into its segments.

use std::io;
use std::mem;
use std::sync::Arc;

use fleet_core::disk::{Disk, DiskFile};

use super::SYNC_BYTES;
use super::segment::{self, Name, Record};
use super::stream::{Segment, Stream, Young};

/// Bytes of a record in its frame, besides its samples, at most.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// The end of the last segment, while it can be written to.
pub(super) struct Tail {
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// The last number written.
    pub(super) last: u64,
}

impl Stream {
    /// The first record that was not written.
    pub(super) fn unwritten(&self) -> Option<u64> {
        self.young.iter().find(|young| !young.written).map(|young| young.seq)
    }

    /// Begins a file, whose name is then sure to be on the disk. One in which nothing is sure yet
    /// is begun anew.
    pub(super) fn begin_segment(&mut self, disk: &dyn Disk, first: u64) -> io::Result<()> {
        if let Some(last) = self.segments.back().filter(|last| last.is_own && last.bytes == 0) {
            let file = disk.open(&self.name(last).to_string())?;
            file.truncate(0)?;
            self.tail = Some(Tail { file, end: 0, last: last.last });
            return Ok(());
        }
        let last = first - 1;
        let segment = Segment {
            first,
            last,
            bytes: 0,
            waiting: 0,
            unreadable: 0,
            is_known: true,
            is_own: true,
        };
        let name = self.name(&segment).to_string();
        self.has_files = true;
        let file = match disk.create(&name) {
            // A try that failed left it, with nothing in it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&name)?;
                disk.create(&name)?
            }
            file => file?,
        };
        disk.sync()?;
        self.segments.push_back(segment);
        self.tail = Some(Tail { file, end: 0, last });
        Ok(())
    }

    /// Writes what was not written yet to the tail, as far as that has room. A single record may
    /// be larger than others are together.
    pub(super) fn write(&mut self, segment_bytes: u64) -> io::Result<bool> {
        let server = self.server.map(|server| server.to_string());
        let Self { acked, synced, young, tail, .. } = self;
        let Some(tail) = tail else { return Ok(false) };
        let mut bytes = Vec::new();
        let mut count = 0;
        for Young { seq, stamp, packed, .. } in young.iter().skip_while(|young| young.written) {
            let end = tail.end + (bytes.len() + packed.len() + FRAME_OVERHEAD_BYTES) as u64;
            if end > segment_bytes && (tail.end > 0 || count > 0) {
                break;
            }
            let (seq, acked, synced, stamp) = (*seq, *acked, *synced, *stamp);
            let (server, packed) = (server.clone(), packed.clone());
            let record = Record { seq, acked, synced, server, stamp, packed };
            segment::put(&mut bytes, record).map_err(io::Error::other)?;
            count += 1;
        }
        if count == 0 {
            return Ok(false);
        }
        tail.file.write_at(&bytes, tail.end)?;
        tail.end += bytes.len() as u64;
        for young in young.iter_mut().skip_while(|young| young.written).take(count) {
            young.written = true;
            tail.last = young.seq;
        }
        Ok(true)
    }

    /// Makes sure of what was written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let bytes = self.segments.back().map_or(0, |segment| segment.bytes);
        let Some(tail) = self.tail.as_ref().filter(|tail| tail.end > bytes) else { return Ok(()) };
        tail.file.sync()?;
        self.settled();
        Ok(())
    }

    /// The oldest segment, if nothing in it waits any more. The end of the newest stream stays
    /// while little is in it.
    pub(super) fn drained(&self, is_newest: bool) -> Option<Name> {
        let segment = self.segments.front().filter(|segment| segment.waiting == 0)?;
        if is_newest && self.segments.len() == 1 && segment.bytes == 0 {
            // What may be in it after all must not come back when its numbers are another's.
            return None;
        }
        if self.segments.len() == 1
            && let Some(tail) = &self.tail
        {
            let is_written = self.young.iter().any(|young| young.written);
            if is_written || (is_newest && tail.end < SYNC_BYTES as u64) {
                return None;
            }
        }
        Some(self.name(segment))
    }

    /// What the disk said is not to be relied on: whatever is not sure to be there is written
    /// anew, to another segment.
    pub(super) fn doubt(&mut self) {
        self.tail = None;
        self.young.iter_mut().for_each(|young| young.written = false);
    }

    /// What was written is now sure to be on the disk.
    fn settled(&mut self) {
        let (Some(tail), Some(segment)) = (&self.tail, self.segments.back_mut()) else { return };
        segment.bytes = tail.end;
        segment.last = tail.last;
        self.synced = tail.last;
        let young = mem::take(&mut self.young);
        let (written, rest): (Vec<_>, Vec<_>) = young.into_iter().partition(|young| young.written);
        segment.waiting += written.len() as u64;
        self.young = rest.into();
    }
}
