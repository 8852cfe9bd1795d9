//! What the spool does to the disk, when, and what it does when the disk does not.

use std::io;
use std::sync::Arc;

use fleet_core::disk::Disk;
use fleet_core::untrusted::Untrusted;

use super::recover::{self, Recovered};
use super::room::remove;
use super::stream::Stream;
use super::{Moment, SYNC_EVERY, Spool};

/// Between two tries of a disk that failed, in milliseconds.
const RETRY: u64 = 10_000;
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
                tracing::debug!(%error, "still cannot keep reports on the disk");
            }
            _ => tracing::warn!(
                error = %reason,
                "cannot keep reports on the disk; the newest are held in memory"
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

    pub(super) fn opened(&self) -> io::Result<Arc<dyn Disk>> {
        self.disk.clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
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
