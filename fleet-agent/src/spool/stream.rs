//! One stream: what of it lies on the disk, what is in memory alone, and how far the server has
//! it.
//!
//! Numbers go on without gaps, oldest first: segments on the disk, then the young, which are in
//! memory until they are sure to be on the disk. A young record that the server has before that
//! never needs to get there.

use std::collections::VecDeque;

use fleet_core::identity::ServerIdentity;
use fleet_core::limits::FRAME_REPORTS_MAX;

use super::load::UnderWay;
use super::segment::{Name, Stamp, StreamId};
use super::write::Tail;
use super::{FRAME_BYTES, OVERHEAD_BYTES, SYNC_BYTES};

/// Holes of one stream that are told apart.
const HOLES_MAX: usize = 512;

/// A stream.
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
    pub(super) under_way: VecDeque<UnderWay>,
    /// Behind the last record that the server is known to have: a segment's first number, and a
    /// place in its file.
    pub(super) place: (u64, u64),
    /// The last such place that the ledger was told of.
    noted: (u64, u64),
    /// Numbers without records, of which the ledger was told.
    pub(super) holes: Vec<(u64, u64)>,
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
    pub(super) fn read_to(&self, segment: &Segment) -> u64 {
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

    /// Takes note that there are no records for some numbers, and that the ledger was told.
    pub(super) fn hole(&mut self, from: u64, to: u64) {
        hole(&mut self.holes, from, to);
    }

    /// Nothing is under way any more.
    pub(super) fn recall(&mut self) {
        self.under_way.clear();
    }

    /// Lets go of the oldest record in memory.
    pub(super) fn drop_young(&mut self) -> Option<Young> {
        let young = self.young.pop_front()?;
        self.under_way.retain(|sent| sent.seq != young.seq);
        self.hole(young.seq, young.seq);
        Some(young)
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
}

/// Adds numbers to holes. Past [`HOLES_MAX`] they may be counted again.
pub(super) fn hole(holes: &mut Vec<(u64, u64)>, from: u64, to: u64) {
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
