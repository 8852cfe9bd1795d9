//! The spool's ledger: what became of numbers that no record is found for, so that counts and
//! reasons outlive records, restarts and power cuts.
//!
//! A file of frames that only grows, until it is written anew without what nobody needs any more.
//! An entry is on the disk before what it tells of is done, except that an acknowledgement may be
//! forgotten: the record is then sent again, and the server knows it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bincode::{Decode, Encode};
use fleet_core::api::Holes;
use fleet_core::codec::{self, Coded};
use fleet_core::disk::{Disk, DiskFile};
use fleet_core::frames::{self, Found};

use super::segment::StreamId;

/// The file, and the one that is to take its place.
pub(super) const FILE: &str = "ledger";
const NEW_FILE: &str = "ledger.new";
/// Bytes of the file before it is written anew.
const BYTES_MAX: u64 = 64 * 1024;
/// Bytes that are read of it.
const READ_BYTES_MAX: u64 = 4 * BYTES_MAX;
/// Entries that wait for a disk that takes them; of more only the counts are kept.
const UNSAVED_MAX: usize = 256;
/// Holes of streams that are still there, in a ledger that is written anew.
const HOLES_MAX: usize = 512;

/// Why there is no record for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Reason {
    /// There was no room for it.
    Quota,
    /// The disk did not give back what was on it.
    Damaged,
    /// The power went, or the agent was killed, before it was sure to be on the disk.
    PowerCut,
}

/// Numbers without records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hole {
    pub(super) stream: StreamId,
    pub(super) from: u64,
    pub(super) to: u64,
    /// How many records were lost; other numbers between are with the server.
    pub(super) count: u64,
    pub(super) reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum Entry {
    /// What all before comes to.
    Totals {
        quota: u64,
        damaged: u64,
        power_cut: u64,
        unclean_ends: u64,
    },
    Hole(Hole),
    /// The server has all of a stream up to this number.
    Acked {
        stream: StreamId,
        seq: u64,
    },
    /// The agent ended without saying so.
    UncleanEnd,
    /// So many streams were begun.
    Begun {
        generation: u32,
    },
}

impl Coded for Entry {
    const TAG: u8 = 47;
    const VERSION: u8 = 1;
}

/// What the ledger says of the streams that are still there.
#[derive(Default)]
pub(super) struct Known {
    pub(super) acked: HashMap<StreamId, u64>,
    pub(super) holes: Vec<Hole>,
    pub(super) generation: u32,
}

/// The ledger.
#[derive(Default)]
pub(super) struct Ledger {
    totals: Holes,
    unclean_ends: u64,
    generation: u32,
    file: Option<(Arc<dyn DiskFile>, u64)>,
    /// Whether the file has to be written anew before it can be relied on.
    in_doubt: bool,
    unsaved: Vec<Entry>,
}

impl Ledger {
    /// Reads what is there, and what it says of streams.
    pub(super) fn open(disk: &dyn Disk) -> io::Result<(Self, Known)> {
        let mut ledger = Self::default();
        let mut known = Known::default();
        let Some(bytes) = contents(disk)? else { return Ok((ledger, known)) };
        let mut whole = 0;
        for found in frames::read(&bytes) {
            match found {
                Found::Frame { at, payload } => {
                    whole = (at + frames::HEADER_BYTES + payload.len()) as u64;
                    if let Ok(entry) = codec::decode(payload) {
                        ledger.count(&entry);
                        known.take(entry);
                    }
                }
                Found::Damage { .. } | Found::Torn { .. } => ledger.in_doubt = true,
            }
        }
        known.generation = ledger.generation;
        if !ledger.in_doubt {
            ledger.file = Some((disk.open(FILE)?, whole));
        }
        Ok((ledger, known))
    }

    /// Records that were lost so far.
    pub(super) fn totals(&self) -> Holes {
        self.totals
    }

    /// How often the agent ended without saying so.
    pub(super) fn unclean_ends(&self) -> u64 {
        self.unclean_ends
    }

    pub(super) fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, end)| *end)
    }

    /// Notes lost records. Right after each other they make one entry.
    pub(super) fn hole(&mut self, hole: Hole) {
        if hole.count == 0 {
            return;
        }
        if let Some(Entry::Hole(last)) = self.unsaved.last_mut()
            && (last.stream, last.reason) == (hole.stream, hole.reason)
            && last.to.checked_add(1) == Some(hole.from)
        {
            last.to = hole.to;
            last.count += hole.count;
            self.count(&Entry::Hole(hole));
        } else {
            self.note(Entry::Hole(hole));
        }
    }

    /// Notes that the agent ended without saying so.
    pub(super) fn unclean_end(&mut self) {
        self.note(Entry::UncleanEnd);
    }

    /// Notes how far the server has a stream.
    pub(super) fn acked(&mut self, stream: StreamId, seq: u64) {
        let entry = Entry::Acked { stream, seq };
        let same =
            |known: &&mut Entry| matches!(known, Entry::Acked { stream: s, .. } if *s == stream);
        match self.unsaved.iter_mut().find(same) {
            Some(known) => *known = entry,
            None => self.note(entry),
        }
    }

    /// Notes how many streams were begun.
    pub(super) fn begun(&mut self, generation: u32) {
        self.note(Entry::Begun { generation });
    }

    /// Makes sure that all notes are on the disk. `is_there` says which streams still are.
    pub(super) fn save(
        &mut self,
        disk: &dyn Disk,
        is_there: impl Fn(&StreamId) -> bool,
    ) -> io::Result<()> {
        if self.unsaved.is_empty() && !self.in_doubt {
            return Ok(());
        }
        if self.file.is_none() || self.in_doubt || self.bytes() > BYTES_MAX {
            return self.write_anew(disk, is_there);
        }
        self.append()?;
        let (file, _) = self.file.as_ref().expect("it was just written to");
        file.sync().inspect_err(|_| self.in_doubt = true)
    }

    /// Writes what was noted, without waiting until it is sure to be on the disk. Without a file
    /// there is no hurry.
    pub(super) fn append(&mut self) -> io::Result<()> {
        let Some((file, end)) = self.file.as_mut().filter(|_| !self.in_doubt) else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        self.unsaved.iter().for_each(|entry| put(&mut bytes, entry));
        if let Err(error) = file.write_at(&bytes, *end) {
            self.in_doubt = true;
            return Err(error);
        }
        *end += bytes.len() as u64;
        self.unsaved.clear();
        Ok(())
    }

    /// Takes in what was found on a disk that could not be read before.
    pub(super) fn join(&mut self, found: Self) {
        let Holes { quota, damaged, power_cut } = found.totals;
        self.totals.quota = self.totals.quota.saturating_add(quota);
        self.totals.damaged = self.totals.damaged.saturating_add(damaged);
        self.totals.power_cut = self.totals.power_cut.saturating_add(power_cut);
        self.unclean_ends = self.unclean_ends.saturating_add(found.unclean_ends);
        self.generation = self.generation.max(found.generation);
        self.in_doubt |= found.in_doubt || !self.unsaved.is_empty();
        self.file = found.file;
        self.unsaved.extend(found.unsaved);
    }

    /// What the disk said is not to be relied on.
    pub(super) fn doubt(&mut self) {
        self.file = None;
        self.in_doubt = true;
    }

    /// Forgets everything, as the file's remover.
    pub(super) fn forget(&mut self) {
        *self = Self { generation: self.generation, ..Self::default() };
    }

    fn note(&mut self, entry: Entry) {
        self.count(&entry);
        if self.unsaved.len() == UNSAVED_MAX {
            // The counts are in the totals; what they were of is not worth more memory.
            self.unsaved.clear();
            let Holes { quota, damaged, power_cut } = self.totals;
            let unclean_ends = self.unclean_ends;
            self.unsaved.push(Entry::Totals { quota, damaged, power_cut, unclean_ends });
        } else {
            self.unsaved.push(entry);
        }
    }

    fn count(&mut self, entry: &Entry) {
        match entry {
            Entry::Totals { quota, damaged, power_cut, unclean_ends } => {
                self.totals = Holes { quota: *quota, damaged: *damaged, power_cut: *power_cut };
                self.unclean_ends = *unclean_ends;
            }
            Entry::Hole(hole) => {
                let total = match hole.reason {
                    Reason::Quota => &mut self.totals.quota,
                    Reason::Damaged => &mut self.totals.damaged,
                    Reason::PowerCut => &mut self.totals.power_cut,
                };
                *total = total.saturating_add(hole.count);
            }
            Entry::Acked { .. } => {}
            Entry::UncleanEnd => self.unclean_ends = self.unclean_ends.saturating_add(1),
            Entry::Begun { generation } => self.generation = self.generation.max(*generation),
        }
    }

    /// Puts a ledger with what is still of use in the file's place.
    fn write_anew(
        &mut self,
        disk: &dyn Disk,
        is_there: impl Fn(&StreamId) -> bool,
    ) -> io::Result<()> {
        self.in_doubt = true;
        let mut known = Known::default();
        for found in frames::read(&contents(disk)?.unwrap_or_default()) {
            if let Found::Frame { payload, .. } = found
                && let Ok(entry) = codec::decode(payload)
            {
                known.take(entry);
            }
        }
        self.unsaved.iter().cloned().for_each(|entry| known.take(entry));
        let Holes { quota, damaged, power_cut } = self.totals;
        let unclean_ends = self.unclean_ends;
        let mut bytes = Vec::new();
        // The totals come last, because they hold all that is counted before.
        for hole in known.holes.iter().filter(|hole| is_there(&hole.stream)).take(HOLES_MAX) {
            put(&mut bytes, &Entry::Hole(*hole));
        }
        for (stream, seq) in known.acked.into_iter().filter(|(stream, _)| is_there(stream)) {
            put(&mut bytes, &Entry::Acked { stream, seq });
        }
        put(&mut bytes, &Entry::Begun { generation: self.generation });
        put(&mut bytes, &Entry::Totals { quota, damaged, power_cut, unclean_ends });
        match disk.remove(NEW_FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(NEW_FILE)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        disk.rename(NEW_FILE, FILE)?;
        disk.sync()?;
        self.file = Some((file, bytes.len() as u64));
        self.unsaved.clear();
        self.in_doubt = false;
        Ok(())
    }
}

impl Known {
    /// Those of a stream's numbers, from one to another, of which nothing was told yet.
    pub(super) fn untold(&self, stream: &StreamId, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut ranges = vec![(from, to)];
        for hole in self.holes.iter().filter(|hole| hole.stream == *stream) {
            let outside = |(from, to): (u64, u64)| {
                let before = (from, to.min(hole.from.saturating_sub(1)));
                let after = (from.max(hole.to.saturating_add(1)), to);
                [before, after].into_iter().filter(|(from, to)| from <= to)
            };
            ranges = ranges.into_iter().flat_map(outside).collect();
        }
        ranges
    }

    /// Whether these numbers of a stream were dropped together because there was no room.
    pub(super) fn was_dropped(&self, stream: &StreamId, from: u64, to: u64) -> bool {
        self.holes.iter().any(|hole| {
            (hole.stream, hole.reason) == (*stream, Reason::Quota)
                && hole.from <= from
                && to <= hole.to
        })
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Hole(hole) => self.holes.push(hole),
            Entry::Acked { stream, seq } => {
                let acked = self.acked.entry(stream).or_default();
                *acked = seq.max(*acked);
            }
            Entry::Totals { .. } | Entry::UncleanEnd | Entry::Begun { .. } => {}
        }
    }
}

/// Whether a file of this name is the ledger's.
pub(super) fn is_ours(name: &str) -> bool {
    [FILE, NEW_FILE].contains(&name)
}

fn contents(disk: &dyn Disk) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let bytes = file.bytes()?.min(READ_BYTES_MAX);
    let mut contents = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    file.read_at(&mut contents, 0)?;
    Ok(Some(contents))
}

fn put(out: &mut Vec<u8>, entry: &Entry) {
    let payload = codec::encode(entry).expect("an entry is small");
    frames::put(out, |out| out.extend(payload));
}
