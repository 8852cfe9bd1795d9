//! From the spool to the server: records into frames, and what the server has out of the spool.

use std::io;
use std::ops::ControlFlow;

use fleet_core::disk::Disk;
use fleet_core::limits::FRAME_REPORTS_MAX;

use super::segment::{self, Record, Stamp};
use super::stream::{Stream, Young, hole, without};
use super::{FRAME_BYTES, OVERHEAD_BYTES};

/// How often a segment may be unreadable before it is given up.
const UNREADABLE_MAX: u32 = 3;

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

/// A report that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number.
    pub seq: u64,
    /// When it was collected, by the device's clock, in milliseconds since 1970.
    pub at_millis: i64,
}

/// A record that was sent.
pub(super) struct UnderWay {
    pub(super) seq: u64,
    at_millis: i64,
    /// Where it ends on the disk: a segment's first number, and a place.
    pub(super) end: Option<(u64, u64)>,
}

impl Stream {
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
                    self.give_up(index, &error, &mut load).ok_or(error)?
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
    fn give_up(&mut self, index: usize, error: &io::Error, load: &mut Load) -> Option<Read> {
        let segment = &mut self.segments[index];
        segment.unreadable += 1;
        if segment.unreadable < UNREADABLE_MAX && error.kind() != io::ErrorKind::NotFound {
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
            // One that is full takes one record.
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
