//! One stream: what of it lies on the disk, what is in memory alone, and how far the server has
//! it.
//!
//! Numbers go on without gaps, oldest first: segments on the disk, then the young, which are in
//! memory until they are sure to be on the disk. A young record that the server has before that
//! never needs to get there.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use fleet_core::disk::{Disk, DiskFile};
use fleet_core::identity::ServerIdentity;
use fleet_core::limits::FRAME_REPORTS_MAX;

use super::segment::{self, Entry, Name, Record, Stamp, StreamId};
use super::{FRAME_BYTES, OVERHEAD_BYTES, SYNC_BYTES};

/// How often a segment may be unreadable before it is given up.
const UNREADABLE_MAX: u32 = 3;

pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) generation: u32,
    /// Whom it is for, once that is known.
    pub(super) server: Option<ServerIdentity>,
    /// Whether any of it may have been sent. Then its segments' names say so, and nobody but the
    /// process that began it counts on in it.
    pub(super) sent: bool,
    /// The next record's number.
    pub(super) next: u64,
    /// The server has all up to this one.
    pub(super) acked: u64,
    /// All up to this one that are not with the server are sure to be on the disk.
    pub(super) synced: u64,
    pub(super) segments: VecDeque<Segment>,
    pub(super) young: VecDeque<Young>,
    pub(super) tail: Option<Tail>,
    under_way: VecDeque<UnderWay>,
    /// Behind the last record that the server is known to have: a segment's first number, and a
    /// place in its file.
    place: (u64, u64),
    /// The last such place that the ledger was told of.
    noted: (u64, u64),
}

/// A file, as far as it is sure to be on the disk.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
    /// Records in it that the server is not known to have.
    pub(super) waiting: u64,
    /// Whether its name says that the stream may have been sent.
    pub(super) sent: bool,
    pub(super) unreadable: u32,
}

/// The end of the last segment, while it can be written to.
pub(super) struct Tail {
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// The last number written.
    pub(super) last: u64,
    /// Whether its name is sure to be on the disk.
    pub(super) is_named: bool,
    /// Whom the file says that the stream is for.
    pub(super) server: Option<ServerIdentity>,
}

/// A record that is not sure to be on the disk.
pub(super) struct Young {
    pub(super) seq: u64,
    pub(super) stamp: Stamp,
    pub(super) packed: Box<[u8]>,
    /// Whether it was written.
    pub(super) written: bool,
}

impl Young {
    pub(super) fn bytes(&self) -> usize {
        self.packed.len() + OVERHEAD_BYTES
    }
}

struct UnderWay {
    seq: u64,
    at_millis: i64,
    /// Where it ends on the disk: a segment's first number, and a place.
    end: Option<(u64, u64)>,
}

/// A report that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number.
    pub seq: u64,
    /// When it was collected, by the device's clock, in milliseconds since 1970.
    pub at_millis: i64,
}

/// Records for one frame.
#[derive(Default)]
pub(super) struct Load {
    pub(super) records: Vec<Found>,
    bytes: usize,
    /// Numbers that should have been there and were not: the first, the last, and how many.
    pub(super) missing: Vec<(u64, u64, u64)>,
}

/// A record on its way into a frame.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) stamp: Stamp,
    pub(super) packed: Box<[u8]>,
}

impl Stream {
    pub(super) fn new(id: StreamId, generation: u32) -> Self {
        Self {
            id,
            generation,
            server: None,
            sent: false,
            next: 1,
            acked: 0,
            synced: 0,
            segments: VecDeque::new(),
            young: VecDeque::new(),
            tail: None,
            under_way: VecDeque::new(),
            place: (0, 0),
            noted: (0, 0),
        }
    }

    /// Records that the server is not known to have.
    pub(super) fn waiting(&self) -> u64 {
        self.on_disk() + self.young.len() as u64
    }

    /// Those of them that are read from the disk.
    pub(super) fn on_disk(&self) -> u64 {
        self.segments.iter().map(|segment| segment.waiting).sum()
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        let written = self.tail.as_ref().map_or(0, |tail| tail.end);
        let all: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        let last = self.segments.back().map_or(0, |segment| segment.bytes);
        all - last + last.max(written)
    }

    pub(super) fn young_bytes(&self) -> usize {
        self.young.iter().map(Young::bytes).sum()
    }

    /// Whether more waits than one frame takes.
    pub(super) fn fills_a_frame(&self) -> bool {
        let segments = self.segments.iter().filter(|segment| segment.waiting > 0);
        let on_disk: u64 =
            segments.map(|segment| segment.bytes.saturating_sub(self.read_to(segment))).sum();
        self.waiting() > FRAME_REPORTS_MAX as u64
            || on_disk + self.young_bytes() as u64 > FRAME_BYTES as u64
    }

    /// Where the first record of a segment is that the server is not known to have.
    fn read_to(&self, segment: &Segment) -> u64 {
        if self.place.0 == segment.first { self.place.1 } else { 0 }
    }

    /// How far the server has the stream, if that is worth a note in the ledger.
    pub(super) fn acked_to_note(&mut self) -> Option<u64> {
        let segment = self.segments.front().filter(|segment| segment.first == self.place.0)?;
        let noted = if self.noted.0 == segment.first { self.noted.1 } else { 0 };
        if self.place.1 < noted + SYNC_BYTES as u64 {
            return None;
        }
        self.noted = self.place;
        Some(self.acked)
    }

    pub(super) fn push(&mut self, stamp: Stamp, packed: Box<[u8]>) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.young.push_back(Young { seq, stamp, packed, written: false });
        seq
    }

    pub(super) fn name(&self, segment: &Segment) -> Name {
        let Self { generation, id: stream, .. } = *self;
        Name { generation, stream, first: segment.first, sent: segment.sent }
    }

    /// The oldest records that the server is not known to have, as many as make a good frame.
    /// From now on they are under way.
    pub(super) fn load(&mut self, disk: Option<&dyn Disk>) -> io::Result<Load> {
        let mut load = Load::default();
        self.under_way.clear();
        let young = self.young.front().map_or(u64::MAX, |young| young.seq);
        for index in 0..self.segments.len() {
            let segment = &self.segments[index];
            if segment.waiting == 0 {
                continue;
            }
            let Some(disk) = disk else { return Ok(load) };
            let mut ends = Vec::new();
            let was = load.records.len();
            let range = self.acked.max(segment.first - 1) + 1..young.min(segment.last + 1);
            let is_read = self.read(disk, segment, range.clone(), &mut load, &mut ends);
            let is_done = match is_read {
                Ok(is_done) => is_done,
                Err(error) => {
                    self.segments[index].unreadable += 1;
                    if self.segments[index].unreadable < UNREADABLE_MAX {
                        return Err(error);
                    }
                    load.records.truncate(was);
                    ends.clear();
                    true
                }
            };
            let segment = &mut self.segments[index];
            let first = segment.first;
            self.under_way.extend(load.records[was..].iter().zip(ends).map(|(found, end)| {
                UnderWay {
                    seq: found.seq,
                    at_millis: found.stamp.at_millis,
                    end: Some((first, end)),
                }
            }));
            let found = (load.records.len() - was) as u64;
            if !is_done {
                // One that could not be read before may hold more than was thought.
                segment.waiting = segment.waiting.max(found + 1);
                return Ok(load);
            }
            if found < segment.waiting {
                let missing = segment.waiting - found;
                load.missing.push((range.start, segment.last, missing));
            }
            segment.waiting = found;
        }
        for young in &self.young {
            if !load.has_room(&young.packed) {
                break;
            }
            let Young { seq, stamp, packed, .. } = young;
            load.push(Found { seq: *seq, stamp: *stamp, packed: packed.clone() });
            let at_millis = stamp.at_millis;
            self.under_way.push_back(UnderWay { seq: *seq, at_millis, end: None });
        }
        Ok(load)
    }

    /// Whether the segment was read to its end.
    fn read(
        &self,
        disk: &dyn Disk,
        segment: &Segment,
        range: std::ops::Range<u64>,
        load: &mut Load,
        ends: &mut Vec<u64>,
    ) -> io::Result<bool> {
        let file = disk.open(&self.name(segment).to_string())?;
        let from = self.read_to(segment);
        let mut last = range.start - 1;
        let to = segment.bytes.min(segment::readable_bytes(file.as_ref())?);
        let end = segment::read(file.as_ref(), from, to, |end, entry| {
            let Entry::Record(record) = entry else { return ControlFlow::Continue(()) };
            if !range.contains(&record.seq) || record.seq <= last {
                return ControlFlow::Continue(());
            }
            if !load.has_room(&record.packed) {
                return ControlFlow::Break(());
            }
            let Record { seq, stamp, packed, .. } = record;
            last = seq;
            load.push(Found { seq, stamp, packed });
            ends.push(end);
            ControlFlow::Continue(())
        })?;
        Ok(end.is_some())
    }

    /// When the oldest record that waits was collected.
    pub(super) fn oldest(&self, disk: Option<&dyn Disk>) -> io::Result<Option<Stamp>> {
        if let (Some(segment), Some(disk)) =
            (self.segments.iter().find(|segment| segment.waiting > 0), disk)
        {
            let mut load = Load { bytes: FRAME_BYTES, ..Load::default() };
            let range = self.acked.max(segment.first - 1) + 1..segment.last + 1;
            self.read(disk, segment, range, &mut load, &mut Vec::new())?;
            if let Some(found) = load.records.first() {
                return Ok(Some(found.stamp));
            }
        }
        Ok(self.young.front().map(|young| young.stamp))
    }

    /// Takes note that the server has all up to a number that was under way, and says which that
    /// is news of.
    pub(super) fn acknowledge(&mut self, seq: u64) -> Vec<Acknowledged> {
        let mut taken = Vec::new();
        while self.under_way.front().is_some_and(|sent| sent.seq <= seq)
            && let Some(sent) = self.under_way.pop_front()
        {
            self.acked = self.acked.max(sent.seq);
            if self.young.front().is_some_and(|young| young.seq == sent.seq) {
                self.young.pop_front();
            } else if let Some(segment) =
                self.segments.iter_mut().rev().find(|segment| segment.first <= sent.seq)
            {
                segment.waiting = segment.waiting.saturating_sub(1);
            }
            self.place = sent.end.unwrap_or(self.place);
            taken.push(Acknowledged { seq: sent.seq, at_millis: sent.at_millis });
        }
        taken
    }

    /// Nothing is under way any more.
    pub(super) fn recall(&mut self) {
        self.under_way.clear();
    }

    /// Lets go of the oldest record in memory.
    pub(super) fn drop_young(&mut self) -> Option<u64> {
        let seq = self.young.pop_front()?.seq;
        self.under_way.retain(|sent| sent.seq != seq);
        Some(seq)
    }

    /// Lets go of the oldest segment. Its file is the caller's.
    pub(super) fn drop_segment(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        self.under_way.retain(|sent| sent.seq > segment.last || sent.end.is_none());
        if self.segments.is_empty() {
            self.tail = None;
            self.young.iter_mut().for_each(|young| young.written = false);
        }
        Some(segment)
    }

    /// What the disk said is not to be relied on: whatever is not sure to be there is written
    /// anew, to another segment. Gives the name of a file with nothing in it, if one is left.
    pub(super) fn doubt(&mut self) -> Option<Name> {
        self.tail = None;
        self.young.iter_mut().for_each(|young| young.written = false);
        self.segments.back().filter(|segment| segment.bytes == 0)?;
        let empty = self.segments.pop_back()?;
        Some(self.name(&empty))
    }

    /// What was written is now sure to be on the disk.
    pub(super) fn settled(&mut self) {
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

impl Load {
    /// A single record gets a frame of its own, however large it is.
    fn has_room(&self, packed: &[u8]) -> bool {
        let bytes = self.bytes + packed.len() + OVERHEAD_BYTES;
        self.records.is_empty() || (bytes <= FRAME_BYTES && self.records.len() < FRAME_REPORTS_MAX)
    }

    fn push(&mut self, found: Found) {
        self.bytes += found.packed.len() + OVERHEAD_BYTES;
        self.records.push(found);
    }
}
