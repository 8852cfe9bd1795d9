//! What is found on the disk when the agent starts, whatever it is.
//!
//! Numbers that should have records and have none are counted, once, with the reason: those that
//! were sure to be on the disk are damage, the others went with the power. Files that are not ours
//! are left alone.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use fleet_core::disk::Disk;

use super::SYNC_BYTES;
use super::boots::Boots;
use super::ledger::Ledger;
use super::notes::{Hole, Notes, Reason};
use super::segment::{self, Name, Record, SEGMENT_BYTES_MAX, StreamId};
use super::stream::{self, Segment, Stream};
use super::write::Tail;

/// What is to take the place of a segment.
pub(super) const NEW_FILE: &str = "segment.new";

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
    let mut ledger = Ledger::open(disk)?;
    let known = ledger.notes().clone();
    // Without all of the ledger nobody knows what was sent.
    let all_were_sent = ledger.is_in_doubt();
    let mut names: Vec<Name> = disk.names()?.iter().filter_map(|name| Name::parse(name)).collect();
    names.sort_unstable();
    retain_own(disk, &mut names)?;
    let mut generation = known.generation;
    let mut streams = Vec::new();
    for names in names.chunk_by(|one, next| one.stream == next.stream) {
        generation = generation.max(names[0].generation);
        let mut stream = Search::new(disk, names, &known, boots).run(&mut ledger)?;
        stream.sent |= all_were_sent;
        // The last file may have been written to just before the agent was killed.
        if let Some(last) = stream.segments.back() {
            disk.open(&stream.name(last).to_string())?.sync()?;
        }
        streams.push(stream);
    }
    if !streams.is_empty() {
        disk.sync()?;
    }
    ledger.save(disk)?;
    Ok(Recovered { streams, ledger, generation })
}

/// Leaves files alone that are named after a stream and are not its own. A stream is of one
/// generation: the one that goes furthest, or has more in it.
fn retain_own(disk: &dyn Disk, names: &mut Vec<Name>) -> io::Result<()> {
    let mut reach: BTreeMap<StreamId, BTreeMap<u32, (u64, u64)>> = BTreeMap::new();
    for name in names.iter() {
        let known = reach.entry(name.stream).or_default().entry(name.generation).or_default();
        known.0 = known.0.max(name.first);
    }
    reach.retain(|_, generations| generations.len() > 1);
    for name in names.iter() {
        if let Some(known) = reach.get_mut(&name.stream)
            && let Some((_, bytes)) = known.get_mut(&name.generation)
        {
            *bytes += disk.open(&name.to_string())?.bytes()?;
        }
    }
    names.retain(|name| {
        let Some(generations) = reach.get(&name.stream) else { return true };
        let own = generations.iter().max_by_key(|(_, reach)| **reach);
        own.is_some_and(|(own, _)| *own == name.generation)
    });
    Ok(())
}

/// Writes the last segment of a stream that goes on anew, so that it can be added to: whether an
/// earlier run of the agent failed to sync it, nobody knows. One that is large already stays as it
/// is, and the next is begun.
pub(super) fn reopen(disk: &dyn Disk, stream: &mut Stream) -> io::Result<()> {
    let Some(segment) = stream.segments.back().filter(|segment| segment.is_known) else {
        return Ok(());
    };
    if segment.bytes == 0 || segment.bytes > SYNC_BYTES as u64 {
        return Ok(());
    }
    let name = stream.name(segment).to_string();
    let mut bytes = vec![0; usize::try_from(segment.bytes).map_err(io::Error::other)?];
    disk.open(&name)?.read_at(&mut bytes, 0)?;
    match disk.remove(NEW_FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(NEW_FILE)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(NEW_FILE, &name)?;
    disk.sync()?;
    let (end, last) = (segment.bytes, segment.last);
    stream.tail = Some(Tail { file, end, last });
    Ok(())
}

/// The look through one stream's files.
struct Search<'a> {
    disk: &'a dyn Disk,
    names: &'a [Name],
    known: &'a Notes,
    boots: &'a mut Boots,
    stream: Stream,
    /// The number that comes next.
    expected: u64,
    /// The largest number in any file. None of those before is ever given to another record.
    highest: u64,
    /// Numbers without records.
    gaps: Vec<(u64, u64)>,
    /// Numbers with records, and the segment that they are in.
    runs: Vec<(usize, u64, u64)>,
}

impl<'a> Search<'a> {
    fn new(disk: &'a dyn Disk, names: &'a [Name], known: &'a Notes, boots: &'a mut Boots) -> Self {
        let mut stream = Stream::new(names[0].stream, names[0].generation);
        stream.has_files = true;
        stream.sent = known.was_sent(&stream.id);
        stream.acked = known.acked(&stream.id);
        // Of a stream that may have been sent, what is missing before the first file was
        // acknowledged, or is in the ledger.
        let expected = if stream.sent { names[0].first } else { 1 };
        let (gaps, runs) = (Vec::new(), Vec::new());
        Self { disk, names, known, boots, stream, expected, highest: 0, gaps, runs }
    }

    fn run(mut self, ledger: &mut Ledger) -> io::Result<Stream> {
        for (index, name) in self.names.iter().enumerate() {
            let mut later = self.names[index + 1..].iter();
            let next = later.find(|name| self.has_bytes(name));
            let next = next.map_or(u64::MAX, |next| next.first);
            self.segment(*name, next)?;
        }
        if self.highest >= self.expected {
            self.gaps.push((self.expected, self.highest));
            self.expected = self.highest + 1;
        }
        let Self { known, mut stream, expected, gaps, runs, .. } = self;
        stream.next = expected.max(stream.acked + 1);
        for (index, from, to) in runs {
            let waiting = (to + 1).saturating_sub(from.max(stream.acked + 1));
            stream.segments[index].waiting += waiting;
        }
        let told = known.holes_of(&stream.id);
        for (from, to) in &told {
            stream.hole(*from, *to);
        }
        for (from, to) in gaps {
            let from = from.max(stream.acked + 1);
            if from > to {
                continue;
            }
            for (from, to) in stream::without(&told, from, to) {
                stream.hole(from, to);
                let synced = to.min(stream.synced);
                for (from, to, reason) in [
                    (from, synced, Reason::Damaged),
                    (from.max(stream.synced + 1), to, Reason::PowerCut),
                ] {
                    ledger.hole(Hole::all(stream.id, from, to, reason));
                }
            }
        }
        // From here on all of it is sure.
        stream.synced = stream.next - 1;
        Ok(stream)
    }

    /// A file without bytes was begun and never written to.
    fn has_bytes(&self, name: &Name) -> bool {
        let file = self.disk.open(&name.to_string());
        file.and_then(|file| file.bytes()).is_ok_and(|bytes| bytes > 0)
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
            unreadable: 0,
            is_known: true,
            is_own: false,
        };
        let read = segment::readable_bytes(file.as_ref()).and_then(|bytes| {
            let whole = segment::read(file.as_ref(), 0, bytes, |_, record| {
                self.record(record, index, &mut segment, next);
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
                segment.last = name.first;
                segment.waiting = 1;
                segment.is_known = false;
                self.expected = if is_last { name.first + 1 } else { next };
                // Nobody knows where to continue it.
                self.stream.sent |= is_last;
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

    fn record(&mut self, record: Record, index: usize, segment: &mut Segment, next: u64) {
        let seq = record.seq;
        self.highest = self.highest.max(seq);
        // A record that was written a second time, after an error, is in the later file.
        if seq < self.expected.max(segment.first) || seq >= next {
            return;
        }
        self.stream.acked = self.stream.acked.max(record.acked.min(seq - 1));
        self.stream.synced = self.stream.synced.max(record.synced.min(seq - 1));
        if let Some(server) = record.server.and_then(|server| server.parse().ok()) {
            self.stream.server = Some(server);
        }
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
        let torn = self.expected.max(name.first);
        // What is missing before it may be with the server, if anything of the stream is.
        let from = if self.stream.sent { torn } else { self.expected };
        self.gaps.push((from, torn));
        self.expected = torn + 1;
    }
}
