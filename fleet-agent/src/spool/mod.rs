//! The spool: reports that wait for the server, on the device's own disk, through restarts, kills
//! and days without a server.
//!
//! # What is promised
//!
//! - What was synced is sent until the server has it, or counted in a hole with its reason.
//! - What was collected is synced [`SYNC_EVERY`] or [`SYNC_BYTES`] later, unless the server has it
//!   by then. So a power cut costs what was collected in the last five seconds at most, and the
//!   loss shows: as a hole where its numbers are known, else as an unclean end. Most reports of a
//!   device that is connected never touch the disk.
//! - A number of a stream never stands for two records, whatever happens.
//! - Nothing on the disk, and no error of it, stops the agent. While the disk takes nothing, the
//!   newest reports are held in memory.
//!
//! # Why that holds in a power cut
//!
//! - A segment is begun only after the one before it was synced, and written to only after its name
//!   was. So what is not sure to be there is the end of a stream's last file.
//! - A record leaves memory only when it was synced, or when the server has it. After an error
//!   nothing is believed of what was not synced before: it is written again, to another segment,
//!   or to the same if nothing in that was sure. Of two records with one number the later file's
//!   counts, and no number that is found in any file is ever given to another record.
//! - Before anything of a stream is sent that has files, or a stream gets a file of which something
//!   was sent, the ledger says so, and that is synced. Such a stream is counted on by nobody but
//!   the process that began it; any other begins a new one. A stream of which nothing was sent may
//!   be continued, since nobody has seen its numbers.
//! - What another process wrote may be in the kernel's memory alone and have failed to be synced.
//!   So whatever later promises build on is written anew: the ledger, and the end of a stream that
//!   is continued.
//! - A file is removed when the server has all of its records, or after the ledger that counts
//!   them as a hole was synced. A file that comes back after a power cut does no harm: its records
//!   are known to the server, or the ledger tells of them.
//! - A record says up to which number the server had the stream, so that records which never came
//!   to the disk are not taken for lost ones.
//!
//! # Streams
//!
//! New reports go to the newest stream. When a link comes up and more waits than one frame takes,
//! a new stream is begun, so that what is collected from now on need not wait for what was before.
//! The server remembers a device's last 16 streams, so there are at most [`STREAMS_MAX`] with
//! data, and one that was begun [`STREAMS_BEGUN_MAX`] or more after the oldest of them waits.

mod boots;
#[cfg(any(test, fuzzing))]
pub(crate) mod check;
mod ground;
mod keep;
mod ledger;
mod load;
mod notes;
mod recover;
mod room;
mod segment;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
mod world;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;

use bincode::{Decode, Encode};
use fleet_core::api::QueueView;
use fleet_core::codec::{self, CodecError, Coded};
use fleet_core::disk::Disk;
use fleet_core::identity::ServerIdentity;
use fleet_core::limits::CODEC_BYTES_MAX;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;
use fleet_core::wire::{QueuedReport, Samples};

use boots::Boots;
use keep::Trouble;
use ledger::Ledger;
use load::Found;
use notes::{Hole, Reason};
use stream::Stream;

pub use boots::Moment;
pub use ground::{Ground, OnFolder, erase};
pub use load::Acknowledged;

/// How long a report may be in memory alone, in milliseconds.
pub const SYNC_EVERY: u64 = 5_000;
/// How many bytes of reports may be.
pub const SYNC_BYTES: usize = 64 * 1024;
/// Bytes on the disk, unless the device's owner says otherwise.
pub const QUOTA_BYTES: u64 = 64 * 1024 * 1024;
/// … and never more than this part of the space that would be free without them.
pub const QUOTA_SHARE: u64 = 10;
/// … but this much in any case: where others have filled the disk, letting go of the last reports
/// would help nobody.
pub const QUOTA_MIN: u64 = 1024 * 1024;
/// Streams with data.
pub const STREAMS_MAX: usize = 4;
/// Streams between the oldest with data and one that is sent.
pub const STREAMS_BEGUN_MAX: u32 = 12;
/// Bytes of reports that are held in memory while the disk takes none.
pub const MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of reports in one frame; a single larger report still gets one of its own.
const FRAME_BYTES: usize = 128 * 1024;
/// What a report costs besides its samples: its number, times and headers.
const OVERHEAD_BYTES: usize = 64;
/// Bytes of one report's samples. A larger one would fit in no frame and no segment, and keep all
/// others waiting.
const PACKED_BYTES_MAX: usize = CODEC_BYTES_MAX - 1024;
/// How long after its boot a device is given to set its clock, in milliseconds.
const CLOCK_WAIT: u64 = 10 * 60 * 1000;

/// Samples as they wait: packed, because on a small device most of a report's memory would be
/// the headers of its strings.
#[derive(Encode, Decode)]
struct Packed {
    samples: Vec<Sample>,
}

impl Coded for Packed {
    const TAG: u8 = 44;
    const VERSION: u8 = 1;
}

/// What the device's owner wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// Bytes on the disk at most.
    pub bytes_max: u64,
    /// Whether each report is synced before anything else is done with it.
    pub strict: bool,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { bytes_max: QUOTA_BYTES, strict: false }
    }
}

/// Which reports to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Those that are collected now.
    Live,
    /// Those of before.
    Backlog,
}

/// Reports that wait for the server.
pub struct Spool {
    ground: Box<dyn Ground>,
    settings: SpoolSettings,
    disk: Option<Arc<dyn Disk>>,
    trouble: Option<Trouble>,
    /// By age. The last takes new reports.
    streams: VecDeque<Stream>,
    /// Streams begun so far.
    generation: u32,
    ledger: Ledger,
    boots: Boots,
    /// Whom reports are for, once that is known.
    server: Option<ServerIdentity>,
    /// Whether reports can be handed over now.
    connected: bool,
    /// Since when files were removed and that is not sure.
    removed: Option<u64>,
    /// Bytes of a segment before the next is begun.
    segment_bytes: u64,
}

impl Spool {
    /// Opens what earlier runs of the agent left, if the disk lets it. `boot` is the kernel's id of
    /// this boot.
    pub fn open(
        ground: Box<dyn Ground>,
        settings: SpoolSettings,
        boot: [u8; 16],
        now: Moment,
    ) -> Result<Self, getrandom::Error> {
        let mut spool = Self {
            ground,
            settings,
            disk: None,
            trouble: None,
            streams: VecDeque::new(),
            generation: 0,
            ledger: Ledger::default(),
            boots: Boots::new(boot),
            server: None,
            connected: false,
            removed: None,
            segment_bytes: segment::SEGMENT_BYTES_MAX,
        };
        if let Err(error) = spool.find() {
            spool.fail(&error, now);
        }
        if spool.streams.back().is_none_or(|newest| newest.sent) {
            spool.begin_stream()?;
        }
        spool.tidy(now);
        Ok(spool)
    }

    /// Takes note that the last run of the agent did not end by itself.
    pub fn unclean_end(&mut self, now: Moment) {
        self.ledger.unclean_end();
        if self.trouble.is_none() {
            self.try_to(now, Self::save_ledger);
        }
    }

    /// Adds what was collected at one time, and gives its number.
    pub fn push(
        &mut self,
        at: Timestamp,
        up_millis: u64,
        samples: Vec<Sample>,
        now: Moment,
    ) -> Result<u64, CodecError> {
        let packed = codec::encode(&Packed { samples })?.into_boxed_slice();
        if packed.len() > PACKED_BYTES_MAX {
            return Err(CodecError::TooLarge);
        }
        let stamp = self.boots.stamp(at, up_millis);
        let seq = self.newest().push(stamp, packed);
        if self.trouble.is_none() {
            if self.settings.strict || self.young_bytes() >= SYNC_BYTES {
                self.try_to(now, Self::settle);
            } else if !self.connected {
                // A kill costs nothing then, and a power cut no more than it would otherwise.
                self.try_to(now, Self::write_all);
            }
        }
        self.bound_memory();
        Ok(seq)
    }

    /// The stream that takes new reports.
    pub fn stream(&mut self) -> [u8; 16] {
        self.newest().id
    }

    /// Takes note that reports can be handed over from now on.
    pub fn connected(&mut self, now: Moment) {
        self.connected = true;
        if self.newest().fills_a_frame() {
            self.freshen();
        }
        self.tidy(now);
    }

    /// Takes note that they no longer can.
    pub fn disconnected(&mut self, now: Moment) {
        if !std::mem::take(&mut self.connected) {
            return;
        }
        self.streams.iter_mut().for_each(Stream::recall);
        if self.trouble.is_none() {
            self.try_to(now, Self::write_all);
        }
    }

    /// Takes note of whom reports are for. What was collected for another server is let go of.
    pub fn serve(&mut self, server: ServerIdentity, now: Moment) {
        if self.server.replace(server) == Some(server) {
            return;
        }
        self.let_go_of_others(now);
    }

    /// Lets go of everything, for another server, which counts from one.
    pub fn begin_anew(&mut self, now: Moment) {
        self.server = None;
        for index in (0..self.streams.len()).rev() {
            self.let_go(index, now);
        }
        self.ledger.forget();
        if self.disk.is_some() {
            self.try_to(now, Self::save_ledger);
        }
    }

    /// Reports to send, if there are any. They are under way until the server has them.
    pub fn take(&mut self, lane: Lane, now: Moment) -> Option<Samples> {
        // What was given up meanwhile is nobody's any more.
        self.tidy(now);
        let newest = self.streams.len() - 1;
        match lane {
            Lane::Live => self.send(newest, now),
            Lane::Backlog => {
                // The shortest first, so that there are soon fewer. By their names: one of which
                // nothing can be understood is gone when the next one's turn comes.
                let streams = self.streams.range(..newest);
                let mut waiting: Vec<_> =
                    streams.map(|stream| (stream.waiting(), stream.id)).collect();
                waiting.sort_by_key(|(waiting, _)| *waiting);
                waiting.into_iter().find_map(|(_, id)| {
                    let index = self.streams.iter().position(|stream| stream.id == id)?;
                    self.send(index, now)
                })
            }
        }
    }

    /// Lets go of what the server has, and says what that was.
    pub fn acknowledge(&mut self, stream: [u8; 16], seq: u64, now: Moment) -> Vec<Acknowledged> {
        let stream = self.streams.iter_mut().find(|known| known.id == stream);
        let taken = stream.map(|stream| stream.acknowledge(seq)).unwrap_or_default();
        self.tidy(now);
        taken
    }

    /// How much waits.
    pub fn view(&self, now: Moment) -> QueueView {
        let disk = self.disk.as_deref();
        // What cannot be read now has no age to show.
        let oldest = self.streams.iter().filter_map(|stream| stream.oldest(disk).ok()?);
        let oldest = oldest.map(|stamp| self.boots.tell(&stamp, now).1 / 1000).max();
        let notes = self.ledger.notes();
        QueueView {
            waiting: self.streams.iter().map(Stream::waiting).sum(),
            dropped: notes.totals.quota,
            oldest_secs: oldest,
            bytes: self.bytes(),
            holes: notes.totals,
            unclean_ends: notes.unclean_ends,
            disk_error: self.trouble.as_ref().map(|trouble| trouble.reason.clone()),
        }
    }

    fn newest(&mut self) -> &mut Stream {
        self.streams.back_mut().expect("there is always one that takes new reports")
    }

    fn send(&mut self, index: usize, now: Moment) -> Option<Samples> {
        if self.streams[index].waiting() == 0
            || !self.may_send(index)
            || self.waits_for_clock(index, now)
            || !self.mark_as_sent(index, now)
        {
            return None;
        }
        let disk = self.disk.as_deref().filter(|_| !self.is_broken());
        let stream = &mut self.streams[index];
        let load = match stream.load(disk) {
            Ok(load) => load,
            Err(error) => {
                self.fail(&error, now);
                return None;
            }
        };
        let id = stream.id;
        if !load.missing.is_empty() {
            for (from, to) in load.missing {
                let count = to - from + 1;
                tracing::warn!(count, "the disk does not give back some of the collected reports");
                self.ledger.hole(Hole::all(id, from, to, Reason::Damaged));
            }
            self.try_to(now, Self::save_ledger);
        }
        let last = load.records.last()?.seq;
        let mut reports = Vec::with_capacity(load.records.len());
        for found in load.records {
            let Found { seq, stamp, packed } = found;
            match codec::decode(&packed) {
                Ok(Packed { samples }) => {
                    let (at_millis, age_millis) = self.boots.tell(&stamp, now);
                    reports.push(QueuedReport { seq, at_millis, age_millis, samples });
                }
                // Its checksum was right, so another release wrote it.
                Err(error) => {
                    tracing::warn!(%error, "cannot understand a collected report");
                    self.ledger.hole(Hole::all(id, seq, seq, Reason::Damaged));
                }
            }
        }
        if reports.is_empty() {
            self.acknowledge(id, last, now);
            return None;
        }
        Some(Samples { stream: id, reports })
    }

    /// Whether a stream's turn has come.
    fn may_send(&self, index: usize) -> bool {
        let stream = &self.streams[index];
        if stream.on_disk() > 0 && self.is_broken() {
            return false;
        }
        let others = || {
            let others = self.streams.iter().enumerate().filter(|(other, _)| *other != index);
            others.map(|(_, other)| other).filter(|other| other.sent && other.waiting() > 0)
        };
        // One place is kept for a stream that nothing was sent of, which a restart can continue.
        stream.sent
            || (others().count() + 1 < STREAMS_MAX
                && others().all(|other| {
                    stream.generation.saturating_sub(other.generation) < STREAMS_BEGUN_MAX
                }))
    }

    /// Whether a stream has only wall times to show, and the clock will say more soon.
    fn waits_for_clock(&self, index: usize, now: Moment) -> bool {
        if now.up_millis >= CLOCK_WAIT || !self.boots.clock_is_behind(now) {
            return false;
        }
        let disk = self.disk.as_deref();
        // What cannot be read is for others to find.
        let oldest = self.streams[index].oldest(disk).ok().flatten();
        oldest.is_some_and(|stamp| !self.boots.is_this(&stamp))
    }

    /// Begins a stream for new reports if there may be one more.
    fn freshen(&mut self) {
        if self.streams.len() < STREAMS_MAX
            && let Err(error) = self.begin_stream()
        {
            tracing::warn!(%error, "new reports wait behind older ones");
        }
    }

    fn begin_stream(&mut self) -> Result<(), getrandom::Error> {
        let id = self.ground.stream()?;
        self.generation = self.generation.saturating_add(1);
        let mut stream = Stream::new(id, self.generation);
        stream.server = self.server;
        self.streams.push_back(stream);
        Ok(())
    }

    fn young_bytes(&self) -> usize {
        self.streams.iter().map(Stream::young_bytes).sum()
    }

    /// The oldest give way when memory is full of what the disk does not take.
    fn bound_memory(&mut self) {
        let mut bytes = self.young_bytes();
        while bytes > MEMORY_BYTES_MAX
            && let Some(stream) = self.streams.iter_mut().find(|stream| !stream.young.is_empty())
            && let Some(young) = stream.drop_young()
        {
            bytes -= young.bytes();
            self.ledger.hole(Hole::all(stream.id, young.seq, young.seq, Reason::Quota));
        }
    }
}
