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

use super::segment::{self, Name, Record, Stamp, StreamId};
use super::{FRAME_BYTES, OVERHEAD_BYTES, SYNC_BYTES};

/// Holes of one stream that are told apart.
const HOLES_MAX: usize = 512;
/// How often a segment may be unreadable before it is given up.
const UNREADABLE_MAX: u32 = 3;

pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) generation: u32,
    /// Whom it is for, once that is known.
    pub(super) server: Option<ServerIdentity>,
    /// Whether any of it may have been sent. Then nobody but the process that began it counts on in
    /// it.
    pub(super) sent: bool,
    /// Whether this process made sure that the ledger says so.
    pub(super) is_noted: bool,
    /// Whether there are files of it, or a power cut may bring some back.
    pub(super) has_files: bool,
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
    /// Numbers without records, of which the ledger was told.
    holes: Vec<(u64, u64)>,
}

/// A file, as far as it is sure to be on the disk.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
    /// Records in it that the server is not known to have.
    pub(super) waiting: u64,
    /// How often it could not be read.
    pub(super) unreadable: u32,
    /// Whether it was ever; else the last number and the count of records are not known yet.
    pub(super) is_known: bool,
    /// Whether this process made it, so that its name is sure to be on the disk.
    pub(super) is_own: bool,
}

/// The end of the last segment, while it can be written to.
pub(super) struct Tail {
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// The last number written.
    pub(super) last: u64,
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
    /// Numbers, from one to another, that should have been there and were not.
    pub(super) missing: Vec<(u64, u64)>,
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
            is_noted: false,
            has_files: false,
            next: 1,
            acked: 0,
            synced: 0,
            segments: VecDeque::new(),
            young: VecDeque::new(),
            tail: None,
            under_way: VecDeque::new(),
            place: (0, 0),
            noted: (0, 0),
            holes: Vec::new(),
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
        Name { generation, stream, first: segment.first }
    }

    /// The oldest records that the server is not known to have, as many as make a good frame.
    /// From now on they are under way.
    pub(super) fn load(&mut self, disk: Option<&dyn Disk>) -> io::Result<Load> {
        let mut load = Load::default();
        self.under_way.clear();
        for index in 0..self.segments.len() {
            if self.segments[index].waiting == 0 {
                continue;
            }
            let Some(disk) = disk else { return Ok(load) };
            let was = load.records.len();
            let read = match self.read(disk, index, &mut load) {
                Ok(read) => read,
                Err(error) => {
                    load.records.truncate(was);
                    self.give_up(index, &mut load).ok_or(error)?
                }
            };
            let segment = &mut self.segments[index];
            let found = read.ends.len() as u64;
            let records = load.records[was..].iter().zip(read.ends);
            self.under_way.extend(records.map(|(record, end)| UnderWay {
                seq: record.seq,
                at_millis: record.stamp.at_millis,
                end: Some((segment.first, end)),
            }));
            if read.is_done {
                segment.waiting = found;
                segment.is_known = true;
                segment.last = read.last;
            }
            for (from, to) in read.gaps {
                for (from, to) in without(&self.holes, from, to) {
                    load.missing.push((from, to));
                    if !read.is_done {
                        segment.waiting = segment.waiting.saturating_sub(to - from + 1);
                    }
                }
            }
            if !read.is_done {
                // One that could not be read before may hold more than was thought.
                segment.waiting = segment.waiting.max(found + 1);
                break;
            }
        }
        for (from, to) in load.missing.iter().copied() {
            hole(&mut self.holes, from, to);
        }
        let rest = self.segments.iter().map(|segment| segment.waiting).sum::<u64>();
        if rest > load.records.len() as u64 {
            return Ok(load);
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

    /// Adds what waits in a segment to a load, as far as there is room.
    fn read(&self, disk: &dyn Disk, index: usize, load: &mut Load) -> io::Result<Read> {
        let segment = &self.segments[index];
        let next = self.segments.get(index + 1).map_or(u64::MAX, |next| next.first);
        let end = if segment.is_known { segment.last + 1 } else { next };
        let file = disk.open(&self.name(segment).to_string())?;
        let from = self.read_to(segment);
        let to = segment.bytes.min(segment::readable_bytes(file.as_ref())?);
        let last = self.acked.max(segment.first - 1);
        let mut read = Read { ends: Vec::new(), gaps: Vec::new(), last, is_done: false };
        let whole = segment::read(file.as_ref(), from, to, |place, record| {
            if record.seq <= read.last || record.seq >= end {
                return ControlFlow::Continue(());
            }
            if !load.has_room(&record.packed) {
                return ControlFlow::Break(());
            }
            let Record { seq, acked, stamp, packed, .. } = record;
            read.gap(acked, seq);
            read.last = seq;
            read.ends.push(place);
            load.push(Found { seq, stamp, packed });
            ControlFlow::Continue(())
        })?;
        read.is_done = whole.is_some();
        if read.is_done && segment.is_known {
            read.gap(0, end);
            read.last = segment.last;
        }
        Ok(read)
    }

    /// Does without a segment that can never be read; nothing as long as it may be yet.
    fn give_up(&mut self, index: usize, load: &mut Load) -> Option<Read> {
        let segment = &mut self.segments[index];
        segment.unreadable += 1;
        if segment.unreadable < UNREADABLE_MAX {
            return None;
        }
        load.bytes = load.records.iter().map(Found::bytes).sum();
        let last = self.acked.max(segment.first - 1);
        let mut read = Read { ends: Vec::new(), gaps: Vec::new(), last, is_done: true };
        read.gap(0, segment.last.max(segment.first) + 1);
        read.last = segment.last.max(segment.first);
        Some(read)
    }

    /// When the oldest record that waits was collected.
    pub(super) fn oldest(&self, disk: Option<&dyn Disk>) -> io::Result<Option<Stamp>> {
        if let (Some(index), Some(disk)) =
            (self.segments.iter().position(|segment| segment.waiting > 0), disk)
        {
            let mut load = Load { bytes: FRAME_BYTES, ..Load::default() };
            self.read(disk, index, &mut load)?;
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

    /// Takes note that there are no records for some numbers, and that the ledger was told.
    pub(super) fn hole(&mut self, from: u64, to: u64) {
        hole(&mut self.holes, from, to);
    }

    /// Nothing is under way any more.
    pub(super) fn recall(&mut self) {
        self.under_way.clear();
    }

    /// Lets go of the oldest record in memory.
    pub(super) fn drop_young(&mut self) -> Option<u64> {
        let seq = self.young.pop_front()?.seq;
        self.under_way.retain(|sent| sent.seq != seq);
        self.hole(seq, seq);
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
    /// anew, to another segment.
    pub(super) fn doubt(&mut self) {
        self.tail = None;
        self.young.iter_mut().for_each(|young| young.written = false);
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

/// What was read of a segment.
struct Read {
    /// Where each record ends.
    ends: Vec<u64>,
    /// Numbers that were passed over.
    gaps: Vec<(u64, u64)>,
    /// The last number.
    last: u64,
    /// Whether the segment was read to its end.
    is_done: bool,
}

impl Read {
    /// The next number after the last is this one. Those up to `acked` are with the server.
    fn gap(&mut self, acked: u64, next: u64) {
        let from = self.last.max(acked) + 1;
        if from < next {
            self.gaps.push((from, next - 1));
        }
    }
}

/// Adds numbers to holes. Past [`HOLES_MAX`] they may be counted again.
fn hole(holes: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    if let Some((_, last)) = holes.last_mut().filter(|(_, last)| last.checked_add(1) == Some(from))
    {
        *last = to;
    } else if holes.len() < HOLES_MAX {
        holes.push((from, to));
    }
}

/// Numbers from one to another that are in none of these holes.
pub(super) fn without(holes: &[(u64, u64)], from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut ranges = vec![(from, to)];
    for (first, last) in holes {
        let outside = |(from, to): (u64, u64)| {
            let before = (from, to.min(first.saturating_sub(1)));
            let after = (from.max(last.saturating_add(1)), to);
            [before, after].into_iter().filter(|(from, to)| from <= to)
        };
        ranges = ranges.into_iter().flat_map(outside).collect();
    }
    ranges
}

impl Found {
    fn bytes(&self) -> usize {
        self.packed.len() + OVERHEAD_BYTES
    }
}

impl Load {
    /// A single record gets a frame of its own, however large it is.
    fn has_room(&self, packed: &[u8]) -> bool {
        let bytes = self.bytes + packed.len() + OVERHEAD_BYTES;
        self.records.is_empty() || (bytes <= FRAME_BYTES && self.records.len() < FRAME_REPORTS_MAX)
    }

    fn push(&mut self, found: Found) {
        self.bytes += found.bytes();
        self.records.push(found);
    }
}
