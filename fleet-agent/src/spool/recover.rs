//! What is found on the disk when the agent starts, whatever it is.
//!
//! Numbers that should have records and have none are counted, once, with the reason: those that
//! were sure to be on the disk are damage, the others went with the power. Files that are not ours
//! are left alone.

use std::io;
use std::ops::ControlFlow;

use fleet_core::disk::Disk;

use super::boots::Boots;
use super::ledger::{Hole, Known, Ledger, Reason};
use super::segment::{self, Entry, Name, SEGMENT_BYTES_MAX};
use super::stream::{Segment, Stream, Tail};

/// What was found.
pub(super) struct Recovered {
    /// By age, the oldest first.
    pub(super) streams: Vec<Stream>,
    pub(super) ledger: Ledger,
    /// Streams begun so far.
    pub(super) generation: u32,
}

/// Looks through the disk. What is found is sure to be there when this returns.
pub(super) fn recover(disk: &dyn Disk, boots: &mut Boots) -> io::Result<Recovered> {
    let (mut ledger, known) = Ledger::open(disk)?;
    let mut names: Vec<Name> = disk.names()?.iter().filter_map(|name| Name::parse(name)).collect();
    names.sort_unstable();
    let mut generation = known.generation;
    let mut streams = Vec::new();
    for names in names.chunk_by(|one, next| one.stream == next.stream) {
        generation = generation.max(names[0].generation);
        let stream = Search::new(disk, names, &known, boots).run(&mut ledger)?;
        // The last file may have been written to just before the agent was killed.
        if let Some(last) = stream.segments.back() {
            disk.open(&stream.name(last).to_string())?.sync()?;
        }
        streams.push(stream);
    }
    disk.sync()?;
    ledger.save(disk, |id| streams.iter().any(|stream| stream.id == *id))?;
    Ok(Recovered { streams, ledger, generation })
}

/// Opens the last segment of a stream that goes on, cut behind its last whole record.
pub(super) fn reopen(disk: &dyn Disk, stream: &mut Stream) -> io::Result<()> {
    let Some(segment) = stream.segments.back().filter(|segment| segment.bytes > 0) else {
        return Ok(());
    };
    let file = disk.open(&stream.name(segment).to_string())?;
    if file.bytes()? > segment.bytes {
        file.truncate(segment.bytes)?;
        file.sync()?;
    }
    let (end, last, server) = (segment.bytes, segment.last, stream.server);
    stream.tail = Some(Tail { file, end, last, is_named: true, server });
    Ok(())
}

/// The look through one stream's files.
struct Search<'a> {
    disk: &'a dyn Disk,
    names: &'a [Name],
    known: &'a Known,
    boots: &'a mut Boots,
    stream: Stream,
    /// The number that comes next.
    expected: u64,
    /// Numbers without records.
    gaps: Vec<(u64, u64)>,
    /// Numbers with records, and the segment that they are in.
    runs: Vec<(usize, u64, u64)>,
}

impl<'a> Search<'a> {
    fn new(disk: &'a dyn Disk, names: &'a [Name], known: &'a Known, boots: &'a mut Boots) -> Self {
        let mut stream = Stream::new(names[0].stream, names[0].generation);
        stream.sent = names.iter().any(|name| name.sent);
        stream.acked = known.acked.get(&stream.id).copied().unwrap_or(0);
        // What is missing before the first file was acknowledged, or is in the ledger.
        let expected = names[0].first;
        Self { disk, names, known, boots, stream, expected, gaps: Vec::new(), runs: Vec::new() }
    }

    fn run(mut self, ledger: &mut Ledger) -> io::Result<Stream> {
        for (index, name) in self.names.iter().enumerate() {
            let next = self.names.get(index + 1).map_or(u64::MAX, |next| next.first);
            self.segment(*name, next)?;
        }
        let Self { known, mut stream, expected, gaps, runs, .. } = self;
        stream.next = expected.max(stream.acked + 1);
        for (index, from, to) in runs {
            let waiting = (to + 1).saturating_sub(from.max(stream.acked + 1));
            stream.segments[index].waiting += waiting;
        }
        for (from, to) in gaps {
            let from = from.max(stream.acked + 1);
            if from > to {
                continue;
            }
            for (from, to) in known.untold(&stream.id, from, to) {
                let synced = to.min(stream.synced);
                for (from, to, reason) in [
                    (from, synced, Reason::Damaged),
                    (from.max(stream.synced + 1), to, Reason::PowerCut),
                ] {
                    let count = (to + 1).saturating_sub(from);
                    ledger.hole(Hole { stream: stream.id, from, to, count, reason });
                }
            }
        }
        // From here on all of it is sure.
        stream.synced = stream.next - 1;
        Ok(stream)
    }

    /// Looks through the file `name`, which holds numbers below `next`.
    fn segment(&mut self, name: Name, next: u64) -> io::Result<()> {
        let file = self.disk.open(&name.to_string())?;
        let index = self.stream.segments.len();
        let mut segment = Segment {
            first: name.first,
            last: name.first - 1,
            bytes: 0,
            waiting: 0,
            sent: name.sent,
            unreadable: 0,
        };
        let read = segment::readable_bytes(file.as_ref()).and_then(|bytes| {
            let whole = segment::read(file.as_ref(), 0, bytes, |_, entry| {
                self.entry(entry, index, &mut segment, next);
                ControlFlow::Continue(())
            })?;
            Ok((bytes, whole.unwrap_or(bytes)))
        });
        let is_last = next == u64::MAX;
        match read {
            Ok((bytes, whole)) => {
                segment.bytes = whole;
                if is_last && (whole < bytes || segment.last < segment.first) {
                    self.torn(&name);
                }
            }
            // Perhaps it can be read when it is its turn.
            Err(error) => {
                tracing::warn!(%error, file = %name, "cannot read collected reports");
                segment.bytes = SEGMENT_BYTES_MAX;
                segment.last = if is_last { self.expected.max(name.first) } else { next - 1 };
                segment.waiting = 1;
                self.expected = segment.last + 1;
            }
        }
        let was_dropped = segment.last >= segment.first
            && self.known.was_dropped(&name.stream, segment.first, segment.last);
        if was_dropped {
            // Its removal was not sure yet when the power went.
            self.runs.retain(|(run, ..)| *run != index);
            segment.waiting = 0;
        }
        self.stream.segments.push_back(segment);
        Ok(())
    }

    fn entry(&mut self, entry: Entry, index: usize, segment: &mut Segment, next: u64) {
        let record = match entry {
            Entry::For { server } => {
                self.stream.server = server.parse().ok();
                return;
            }
            Entry::Record(record) => record,
        };
        let seq = record.seq;
        // A record that was written a second time is in the later file.
        if seq < self.expected.max(segment.first) || seq >= next {
            return;
        }
        self.stream.acked = self.stream.acked.max(record.acked.min(seq - 1));
        self.stream.synced = self.stream.synced.max(record.synced.min(seq - 1));
        self.boots.found(&record.stamp);
        if seq > self.expected {
            self.gaps.push((self.expected, seq - 1));
        }
        match self.runs.last_mut() {
            Some((run, _, to)) if (*run, *to) == (index, seq - 1) => *to = seq,
            _ => self.runs.push((index, seq, seq)),
        }
        segment.last = seq;
        self.expected = seq + 1;
    }

    /// The end of the stream is missing. How much that is nobody knows, but one record at least.
    fn torn(&mut self, name: &Name) {
        self.expected = self.expected.max(name.first);
        self.gaps.push((self.expected, self.expected));
        self.expected += 1;
    }
}
