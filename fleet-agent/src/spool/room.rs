//! Room on the disk: the quota, and what leaves.

use std::io;

use fleet_core::disk::Disk;

use super::notes::{Hole, Reason};
use super::segment::SEGMENT_BYTES_MAX;
use super::stream::{Segment, Stream};
use super::{Moment, QUOTA_MIN, QUOTA_SHARE, Spool};

/// Bytes of a segment where there is little room.
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Segments that make a quota at least, so that room is not made in too large steps.
const SEGMENTS_MIN: u64 = 8;

impl Spool {
    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.streams.iter().map(Stream::bytes).sum::<u64>() + self.ledger.bytes()
    }

    /// Makes room for one more segment: the oldest give way. What goes is in the ledger first.
    pub(super) fn make_room(&mut self) -> io::Result<()> {
        let disk = self.opened()?;
        let own = self.bytes();
        // Without an answer the owner's word alone counts.
        let share =
            self.ground.free().map_or(u64::MAX, |free| free.saturating_add(own) / QUOTA_SHARE);
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
        if index + 1 == self.streams.len()
            && let Err(error) = self.begin_stream()
        {
            tracing::warn!(%error, "the next server will see a hole in the reports");
            let old = &self.streams[index];
            let mut same = Stream::new(old.id, old.generation);
            (same.next, same.acked, same.sent) = (old.next, old.next - 1, true);
            same.has_files = old.has_files;
            self.streams.push_back(same);
        }
        let Some(stream) = self.streams.remove(index) else { return };
        let Some(disk) = self.disk.clone() else { return };
        for segment in &stream.segments {
            let name = stream.name(segment).to_string();
            self.try_to(now, |_| remove(disk.as_ref(), &name));
        }
        self.try_to(now, |_| disk.sync());
    }
}

/// Removes a file, if there is one.
pub(super) fn remove(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
