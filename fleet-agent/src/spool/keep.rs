//! What the spool does to the disk, when, and what it does when the disk does not.

use std::io;
use std::sync::Arc;

use fleet_core::disk::Disk;
use fleet_core::untrusted::Untrusted;

use super::ledger::{self, Hole, Reason};
use super::recover::{self, Recovered};
use super::segment::{self, Name, Record, SEGMENT_BYTES_MAX};
use super::stream::{Segment, Stream, Tail, Young};
use super::{Moment, QUOTA_MIN, QUOTA_SHARE, SYNC_BYTES, SYNC_EVERY, Spool};

/// Between two tries of a disk that failed, in milliseconds.
const RETRY: u64 = 10_000;
/// Bytes of a segment where there is little room.
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Bytes of a record in its frame, besides its samples, at most.
const FRAME_OVERHEAD_BYTES: usize = 128;
/// Segments that make a quota at least, so that room is not made in too large steps.
const SEGMENTS_MIN: u64 = 8;

/// The disk failed.
pub(super) struct Trouble {
    pub(super) reason: Untrusted,
    /// Whether there is only no room; then what is there can be read and removed.
    is_full: bool,
    retry_at: u64,
}

impl Spool {
    /// When [`Spool::tick`] has something to do, in milliseconds since the boot.
    pub fn due(&self) -> Option<u64> {
        if let Some(trouble) = &self.trouble {
            return Some(trouble.retry_at);
        }
        let young = self.streams.iter().filter_map(|stream| stream.young.front());
        let young = young.map(|young| young.stamp.up_millis).min();
        let since = [young, self.removed].into_iter().flatten().min()?;
        Some(since.saturating_add(SYNC_EVERY))
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) {
        if self.due().is_none_or(|due| due > now.up_millis) {
            return;
        }
        if self.trouble.is_none() {
            self.try_to(now, Self::settle);
            return;
        }
        match self.find().and_then(|()| self.settle()) {
            Ok(()) => {
                tracing::info!("collected reports are kept on the disk again");
                self.trouble = None;
                self.let_go_of_others(now);
                self.tidy(now);
            }
            Err(error) => self.fail(&error, now),
        }
    }

    /// Leaves everything that waits on the disk, and nothing else, for the agent's end.
    pub fn close(&mut self, now: Moment) {
        for stream in &self.streams {
            if stream.on_disk() > 0 && stream.acked > 0 {
                self.ledger.acked(stream.id, stream.acked);
            }
        }
        if self.trouble.is_none() && self.newest().waiting() == 0 {
            self.try_to(now, |spool| {
                let disk = spool.opened()?;
                while let Some(name) = spool.newest().drained(false) {
                    remove(disk.as_ref(), &name.to_string())?;
                    spool.newest().drop_segment();
                    spool.removed = Some(now.up_millis);
                }
                Ok(())
            });
        }
        if self.trouble.is_some() {
            self.tick(Moment { up_millis: u64::MAX, ..now });
        } else {
            self.try_to(now, Self::settle);
        }
    }

    /// Does something with the disk, and takes note if it fails.
    pub(super) fn try_to(
        &mut self,
        now: Moment,
        deed: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> bool {
        let done = deed(self);
        if let Err(error) = &done {
            self.fail(error, now);
        }
        done.is_ok()
    }

    /// From here on reports are held in memory, until the disk is tried again.
    pub(super) fn fail(&mut self, error: &io::Error, now: Moment) {
        let is_full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let reason = Untrusted::new(error.to_string());
        match &self.trouble {
            Some(trouble) if trouble.reason == reason => {
                tracing::debug!(%error, "the disk still takes no reports");
            }
            _ => tracing::warn!(
                error = %reason,
                "the disk takes no reports; the newest are held in memory"
            ),
        }
        let due = self.trouble.as_ref().map(|trouble| trouble.retry_at);
        let retry_at = due.filter(|due| *due > now.up_millis);
        let retry_at = retry_at.unwrap_or_else(|| now.up_millis.saturating_add(RETRY));
        self.trouble = Some(Trouble { reason, is_full, retry_at });
        self.ledger.doubt();
        self.streams.iter_mut().for_each(Stream::doubt);
        if self.connected && self.is_broken() && self.newest().on_disk() > 0 {
            self.freshen();
        }
    }

    /// Whether what is on the disk can be neither read nor removed.
    pub(super) fn is_broken(&self) -> bool {
        self.disk.is_none() || self.trouble.as_ref().is_some_and(|trouble| !trouble.is_full)
    }

    /// Opens the disk, if that was not possible before, and looks what is there.
    pub(super) fn find(&mut self) -> io::Result<()> {
        let disk = self.ground.disk()?;
        if self.disk.is_some() {
            // The folder may have been made anew.
            self.disk = Some(disk);
            return Ok(());
        }
        let Recovered { mut streams, ledger, generation } =
            recover::recover(disk.as_ref(), &mut self.boots)?;
        if let Some(newest) = streams.last_mut().filter(|newest| !newest.sent)
            && self.streams.is_empty()
        {
            recover::reopen(disk.as_ref(), newest)?;
        }
        self.generation = self.generation.saturating_add(generation);
        // What was begun without a disk has left no trace there.
        for stream in &mut self.streams {
            stream.generation = stream.generation.saturating_add(generation);
        }
        for stream in streams.into_iter().rev() {
            self.streams.push_front(stream);
        }
        self.ledger.join(ledger);
        self.disk = Some(disk);
        Ok(())
    }

    /// Makes sure that all is on the disk.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.write_all()?;
        self.sync_all()?;
        self.save_ledger()?;
        if self.removed.is_some() {
            self.opened()?.sync()?;
            self.removed = None;
        }
        Ok(())
    }

    /// Writes what is in memory alone, without waiting until it is sure to be on the disk.
    pub(super) fn write_all(&mut self) -> io::Result<()> {
        (0..self.streams.len()).try_for_each(|index| self.write(index))
    }

    fn write(&mut self, index: usize) -> io::Result<()> {
        let disk = self.opened()?;
        while let Some(seq) = self.streams[index].unwritten() {
            if !self.streams[index].write(self.segment_bytes)? {
                // What makes room may be any stream's.
                self.sync_all()?;
                self.make_room()?;
                if self.streams[index].sent && !self.streams[index].is_noted {
                    self.note_as_sent(index)?;
                }
                self.ledger.keep_ready(disk.as_ref());
                self.streams[index].begin_segment(disk.as_ref(), seq)?;
            }
        }
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.streams.iter_mut().try_for_each(Stream::sync)
    }

    pub(super) fn save_ledger(&mut self) -> io::Result<()> {
        let disk = self.opened()?;
        self.ledger.save(disk.as_ref())
    }

    pub(super) fn remove_ledger(&mut self) -> io::Result<()> {
        let disk = self.opened()?;
        remove(disk.as_ref(), ledger::FILE)?;
        disk.sync()?;
        self.removed = None;
        Ok(())
    }

    pub(super) fn opened(&self) -> io::Result<Arc<dyn Disk>> {
        self.disk.clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.streams.iter().map(Stream::bytes).sum::<u64>() + self.ledger.bytes()
    }

    /// Makes room for one more segment: the oldest give way. What goes is in the ledger first.
    fn make_room(&mut self) -> io::Result<()> {
        let disk = self.opened()?;
        let own = self.bytes();
        // Without an answer the owner's word alone counts.
        let share = self.ground.free().map_or(u64::MAX, |free| (free + own) / QUOTA_SHARE);
        let quota = share.max(QUOTA_MIN).min(self.settings.bytes_max);
        self.segment_bytes = (quota / SEGMENTS_MIN).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let mut too_much = (self.bytes() + self.segment_bytes).saturating_sub(quota);
        let mut victims = Vec::new();
        let mut dropped = 0;
        let notes = self.ledger.notes().clone();
        for (index, stream) in self.streams.iter().enumerate() {
            let mut count = 0;
            for segment in &stream.segments {
                if too_much == 0 {
                    break;
                }
                let Segment { first: from, last: to, waiting, bytes, .. } = *segment;
                let (stream, reason) = (stream.id, Reason::Quota);
                self.ledger.hole(Hole { stream, from, to, count: waiting, reason });
                too_much = too_much.saturating_sub(bytes);
                dropped += waiting;
                count += 1;
            }
            victims.push((index, count));
        }
        if dropped > 0 {
            tracing::warn!(dropped, "no room for more reports on the disk; the oldest give way");
            if let Err(error) = self.save_ledger() {
                self.ledger.restore(notes);
                return Err(error);
            }
        }
        for (index, count) in victims {
            let stream = &mut self.streams[index];
            stream.segments.iter_mut().take(count).for_each(|segment| segment.waiting = 0);
            for _ in 0..count {
                let Some(segment) = stream.segments.front() else { break };
                remove(disk.as_ref(), &stream.name(segment).to_string())?;
                stream.drop_segment();
                // Made sure of when something is due next.
                self.removed.get_or_insert(0);
            }
        }
        Ok(())
    }

    /// Removes what the server has.
    pub(super) fn tidy(&mut self, now: Moment) {
        let Some(disk) = self.disk.clone().filter(|_| !self.is_broken()) else { return };
        let newest = self.streams.len() - 1;
        for index in 0..=newest {
            let stream = &mut self.streams[index];
            while let Some(name) = stream.drained(index == newest) {
                if let Err(error) = remove(disk.as_ref(), &name.to_string()) {
                    self.fail(&error, now);
                    return;
                }
                stream.drop_segment();
                self.removed.get_or_insert(now.up_millis);
            }
            if let Some(acked) = stream.acked_to_note() {
                self.ledger.acked(stream.id, acked);
                if let Err(error) = self.ledger.append() {
                    self.fail(&error, now);
                    return;
                }
            }
        }
        let newest = self.streams.pop_back();
        self.streams.retain(|stream| stream.waiting() > 0);
        self.streams.extend(newest);
        let streams = &self.streams;
        self.ledger.forget_others(|id| streams.iter().any(|stream| stream.id == *id));
    }

    /// Lets go of what was collected for another server than there is now.
    pub(super) fn let_go_of_others(&mut self, now: Moment) {
        let Some(server) = self.server else { return };
        for index in (0..self.streams.len()).rev() {
            if self.streams[index].server.is_some_and(|theirs| theirs != server) {
                tracing::warn!("lets go of reports that were collected for another server");
                self.let_go(index, now);
            }
        }
        for stream in &mut self.streams {
            stream.server.get_or_insert(server);
        }
    }

    /// Lets go of a stream, and of its files as far as the disk lets it. If it was the newest,
    /// another takes its place.
    pub(super) fn let_go(&mut self, index: usize, now: Moment) {
        let Some(stream) = self.streams.remove(index) else { return };
        if let Some(disk) = self.disk.clone() {
            for segment in &stream.segments {
                let name = stream.name(segment).to_string();
                self.try_to(now, |_| remove(disk.as_ref(), &name));
            }
            self.try_to(now, |_| disk.sync());
        }
        if index == self.streams.len()
            && let Err(error) = self.begin_stream()
        {
            tracing::warn!(%error, "the next server will see a hole in the reports");
            let mut same = Stream::new(stream.id, stream.generation);
            (same.next, same.acked, same.sent) = (stream.next, stream.next - 1, true);
            self.streams.push_back(same);
        }
    }

    /// Whether something of a stream may be sent: nobody must ever count on in it then.
    pub(super) fn mark_as_sent(&mut self, index: usize, now: Moment) -> bool {
        let stream = &mut self.streams[index];
        if stream.sent && (stream.is_noted || !stream.has_files) {
            return true;
        }
        if stream.has_files {
            let marked = self.try_to(now, |spool| spool.note_as_sent(index));
            if !marked && index + 1 == self.streams.len() {
                self.freshen();
            }
            return marked;
        }
        stream.sent = true;
        let generation = stream.generation;
        let is_alone = self.streams.iter().filter(|stream| stream.waiting() > 0).count() == 1;
        if !is_alone && self.trouble.is_none() {
            // So that streams are counted that leave no files.
            self.ledger.begun(generation);
            self.try_to(now, Self::save_ledger);
        }
        true
    }

    fn note_as_sent(&mut self, index: usize) -> io::Result<()> {
        self.ledger.sent(self.streams[index].id);
        self.save_ledger()?;
        let stream = &mut self.streams[index];
        (stream.sent, stream.is_noted) = (true, true);
        Ok(())
    }
}

impl Stream {
    /// The first record that was not written.
    fn unwritten(&self) -> Option<u64> {
        self.young.iter().find(|young| !young.written).map(|young| young.seq)
    }

    /// Begins a file, whose name is then sure to be on the disk. One in which nothing is sure yet
    /// is begun anew.
    fn begin_segment(&mut self, disk: &dyn Disk, first: u64) -> io::Result<()> {
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
    fn write(&mut self, segment_bytes: u64) -> io::Result<bool> {
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

    fn sync(&mut self) -> io::Result<()> {
        let bytes = self.segments.back().map_or(0, |segment| segment.bytes);
        let Some(tail) = self.tail.as_ref().filter(|tail| tail.end > bytes) else { return Ok(()) };
        tail.file.sync()?;
        self.settled();
        Ok(())
    }

    /// The oldest segment, if nothing in it waits any more. The end of the newest stream stays
    /// while little is in it.
    fn drained(&self, is_newest: bool) -> Option<Name> {
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
}

/// Removes a file, if there is one.
fn remove(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
