//! The spool's ledger: what became of numbers that no record is found for, so that counts and
//! reasons outlive records, restarts and power cuts.
//!
//! A file of frames that only grows, until it is written anew without what nobody needs any more.
//! An entry is on the disk before what it tells of is done, except that an acknowledgement may be
//! forgotten: the record is then sent again, and the server knows it.

use std::collections::{BTreeMap, VecDeque};
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
/// Bytes of a file at least: room for entries to come.
const READY_BYTES: usize = 4096;
/// Bytes that are read of it.
const READ_BYTES_MAX: u64 = 4 * BYTES_MAX;
/// Holes that are told apart; of more only the counts are kept.
const HOLES_MAX: usize = 512;
/// Streams of which it is known how far the server has them, or that they may have been sent.
const STREAMS_MAX: usize = 64;

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
    /// A stream may have been sent.
    Sent {
        stream: StreamId,
    },
}

impl Coded for Entry {
    const TAG: u8 = 47;
    const VERSION: u8 = 1;
}

/// What the ledger says.
#[derive(Clone, Default)]
pub(super) struct Notes {
    pub(super) totals: Holes,
    /// How often the agent ended without saying so.
    pub(super) unclean_ends: u64,
    pub(super) generation: u32,
    holes: VecDeque<Hole>,
    acked: BTreeMap<StreamId, u64>,
    sent: VecDeque<StreamId>,
}

/// The ledger.
#[derive(Default)]
pub(super) struct Ledger {
    notes: Notes,
    /// The file that this process wrote, and its end. Of another's nobody knows whether syncing it
    /// failed.
    file: Option<(Arc<dyn DiskFile>, u64)>,
    /// Whether the file has to be written anew before it can be relied on.
    in_doubt: bool,
    /// Whether the next file is there.
    is_ready: bool,
    /// Entries that are not in the file. While there is none to append to, the notes say it all.
    unsaved: Vec<Entry>,
}

impl Ledger {
    /// Reads what is there.
    pub(super) fn open(disk: &dyn Disk) -> io::Result<Self> {
        let mut ledger = Self::default();
        let Some(bytes) = contents(disk)? else { return Ok(ledger) };
        let (mut has_totals, mut is_damaged) = (false, false);
        for found in frames::read(&bytes) {
            match found {
                Found::Frame { payload, .. } => {
                    if let Ok(entry) = codec::decode(payload) {
                        has_totals |= matches!(entry, Entry::Totals { .. });
                        ledger.notes.take(&entry);
                    }
                }
                // What is kept ready for entries to come.
                Found::Torn { at } if bytes[at..].iter().all(|byte| *byte == 0) => {}
                Found::Damage { .. } | Found::Torn { .. } => is_damaged = true,
            }
        }
        // Each ledger was begun with what all before comes to.
        ledger.in_doubt = is_damaged || !has_totals;
        Ok(ledger)
    }

    /// What it says.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(super) fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, end)| *end)
    }

    /// Notes lost records.
    pub(super) fn hole(&mut self, hole: Hole) {
        if hole.count > 0 {
            self.note(Entry::Hole(hole));
        }
    }

    /// Notes that the agent ended without saying so.
    pub(super) fn unclean_end(&mut self) {
        self.note(Entry::UncleanEnd);
    }

    /// Notes how far the server has a stream.
    pub(super) fn acked(&mut self, stream: StreamId, seq: u64) {
        self.note(Entry::Acked { stream, seq });
    }

    /// Notes how many streams were begun.
    pub(super) fn begun(&mut self, generation: u32) {
        self.note(Entry::Begun { generation });
    }

    /// Notes that a stream of which there are files may have been sent.
    pub(super) fn sent(&mut self, stream: StreamId) {
        self.note(Entry::Sent { stream });
    }

    /// Goes back to what was noted before, after that could not be saved.
    pub(super) fn restore(&mut self, notes: Notes) {
        self.notes = notes;
        self.doubt();
    }

    /// Takes in what was found on a disk that could not be read before.
    pub(super) fn join(&mut self, found: Self) {
        let own = std::mem::replace(self, found);
        let Notes { totals, unclean_ends, generation, holes, acked, sent } = own.notes;
        let notes = &mut self.notes;
        notes.totals.quota = notes.totals.quota.saturating_add(totals.quota);
        notes.totals.damaged = notes.totals.damaged.saturating_add(totals.damaged);
        notes.totals.power_cut = notes.totals.power_cut.saturating_add(totals.power_cut);
        notes.unclean_ends = notes.unclean_ends.saturating_add(unclean_ends);
        notes.generation = notes.generation.max(generation);
        notes.holes.extend(holes);
        notes.acked.extend(acked);
        notes.sent.extend(sent);
        self.in_doubt |= own.in_doubt || !own.unsaved.is_empty();
    }

    /// Whether something of the file cannot be relied on.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// What the disk said is not to be relied on.
    pub(super) fn doubt(&mut self) {
        self.in_doubt = true;
        self.unsaved.clear();
    }

    /// Forgets everything, as the file's remover.
    pub(super) fn forget(&mut self) {
        let generation = self.notes.generation;
        *self = Self { notes: Notes { generation, ..Notes::default() }, ..Self::default() };
    }

    /// Forgets how far the server has streams that are gone.
    pub(super) fn forget_others(&mut self, is_there: impl Fn(&StreamId) -> bool) {
        self.notes.acked.retain(|stream, _| is_there(stream));
    }

    /// Makes sure that all notes are on the disk.
    pub(super) fn save(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if self.unsaved.is_empty() && !self.in_doubt {
            return Ok(());
        }
        if self.file.is_none() || self.in_doubt || self.bytes() > BYTES_MAX {
            return self.write_anew(disk);
        }
        self.append()?;
        let synced = self.file.as_ref().map_or(Ok(()), |(file, _)| file.sync());
        synced.inspect_err(|_| self.doubt())
    }

    /// Writes what was noted, without waiting until it is sure to be on the disk. Without a file
    /// there is no hurry.
    pub(super) fn append(&mut self) -> io::Result<()> {
        let Some((file, end)) = self.file.as_mut().filter(|_| !self.in_doubt) else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        for entry in &self.unsaved {
            put(&mut bytes, entry);
        }
        if let Err(error) = file.write_at(&bytes, *end) {
            self.doubt();
            return Err(error);
        }
        *end += bytes.len() as u64;
        self.unsaved.clear();
        Ok(())
    }

    fn note(&mut self, entry: Entry) {
        self.notes.take(&entry);
        if self.in_doubt {
            return;
        }
        self.unsaved.push(entry);
        if self.unsaved.len() > HOLES_MAX {
            self.doubt();
        }
    }

    /// Keeps a file with room for the next ledger, so that one can be written when the disk is
    /// full.
    pub(super) fn keep_ready(&mut self, disk: &dyn Disk) {
        if self.is_ready {
            return;
        }
        let made = disk.create(NEW_FILE).and_then(|file| file.write_at(&[0; READY_BYTES], 0));
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                tracing::debug!(%error, "the next ledger will need room");
            }
            _ => self.is_ready = true,
        }
    }

    /// Puts a ledger with all notes in the file's place, with room for some more.
    fn write_anew(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.doubt();
        let mut bytes = self.notes.bytes();
        let end = bytes.len();
        bytes.resize(end.max(READY_BYTES), 0);
        let file = match disk.open(NEW_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(NEW_FILE)?,
            file => file?,
        };
        file.write_at(&bytes, 0)?;
        file.truncate(bytes.len() as u64)?;
        file.sync()?;
        disk.rename(NEW_FILE, FILE)?;
        disk.sync()?;
        self.file = Some((file, end as u64));
        self.in_doubt = false;
        self.is_ready = false;
        self.keep_ready(disk);
        Ok(())
    }
}

impl Notes {
    /// How far the server is known to have a stream.
    pub(super) fn acked(&self, stream: &StreamId) -> u64 {
        self.acked.get(stream).copied().unwrap_or(0)
    }

    /// Numbers of a stream without records.
    pub(super) fn holes_of(&self, stream: &StreamId) -> Vec<(u64, u64)> {
        let holes = self.holes.iter().filter(|hole| hole.stream == *stream);
        holes.map(|hole| (hole.from, hole.to)).collect()
    }

    /// Whether these numbers of a stream were dropped together because there was no room.
    pub(super) fn was_dropped(&self, stream: &StreamId, from: u64, to: u64) -> bool {
        self.holes.iter().any(|hole| {
            (hole.stream, hole.reason) == (*stream, Reason::Quota)
                && hole.from <= from
                && to <= hole.to
        })
    }

    /// Whether a stream may have been sent.
    pub(super) fn was_sent(&self, stream: &StreamId) -> bool {
        self.sent.contains(stream)
    }

    fn take(&mut self, entry: &Entry) {
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
                self.join(*hole);
            }
            Entry::Acked { stream, seq } => {
                if self.acked.len() < STREAMS_MAX || self.acked.contains_key(stream) {
                    let acked = self.acked.entry(*stream).or_default();
                    *acked = (*acked).max(*seq);
                }
            }
            Entry::UncleanEnd => self.unclean_ends = self.unclean_ends.saturating_add(1),
            Entry::Begun { generation } => self.generation = self.generation.max(*generation),
            Entry::Sent { stream } => {
                self.sent.retain(|known| known != stream);
                if self.sent.len() == STREAMS_MAX {
                    self.sent.pop_front();
                }
                self.sent.push_back(*stream);
            }
        }
    }

    /// Holes right after each other are one.
    fn join(&mut self, hole: Hole) {
        if let Some(last) = self.holes.back_mut()
            && (last.stream, last.reason) == (hole.stream, hole.reason)
            && last.to.checked_add(1) == Some(hole.from)
        {
            last.to = hole.to;
            last.count = last.count.saturating_add(hole.count);
            return;
        }
        if self.holes.len() == HOLES_MAX {
            self.holes.pop_front();
        }
        self.holes.push_back(hole);
    }

    /// All of it, as a file.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Also those of streams that are gone: a power cut may bring files of theirs back.
        for hole in &self.holes {
            put(&mut bytes, &Entry::Hole(*hole));
        }
        for (stream, seq) in &self.acked {
            put(&mut bytes, &Entry::Acked { stream: *stream, seq: *seq });
        }
        for stream in &self.sent {
            put(&mut bytes, &Entry::Sent { stream: *stream });
        }
        put(&mut bytes, &Entry::Begun { generation: self.generation });
        // These come last, because they hold all that is counted before.
        let Holes { quota, damaged, power_cut } = self.totals;
        let unclean_ends = self.unclean_ends;
        put(&mut bytes, &Entry::Totals { quota, damaged, power_cut, unclean_ends });
        bytes
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

#[cfg(test)]
mod tests {
    use fleet_core::disk::sim::{Fault, SimDisk};

    use super::*;

    const STREAM: StreamId = [3; 16];

    fn hole(from: u64, count: u64, reason: Reason) -> Hole {
        Hole { stream: STREAM, from, to: from + count - 1, count, reason }
    }

    #[test]
    fn counts_and_reasons_survive() {
        let disk = SimDisk::new(1);
        let mut ledger = Ledger::open(&disk).unwrap();
        ledger.hole(hole(1, 4, Reason::Quota));
        ledger.save(&disk).unwrap();
        ledger.hole(hole(9, 1, Reason::Damaged));
        ledger.acked(STREAM, 20);
        ledger.unclean_end();
        ledger.save(&disk).unwrap();
        // What was noted and not saved may go.
        ledger.hole(hole(30, 1, Reason::PowerCut));
        let disk = disk.power_cut();
        let ledger = Ledger::open(&disk).unwrap();
        let notes = ledger.notes();
        assert_eq!(notes.totals, Holes { quota: 4, damaged: 1, power_cut: 0 });
        assert_eq!((notes.unclean_ends, notes.acked(&STREAM)), (1, 20));
        assert_eq!(notes.holes_of(&STREAM), [(1, 4), (9, 9)]);
        assert!(notes.was_dropped(&STREAM, 2, 4) && !notes.was_dropped(&STREAM, 9, 9));
    }

    #[test]
    fn a_ledger_stays_small_and_forgets_no_count() {
        let disk = SimDisk::new(1);
        let mut ledger = Ledger::open(&disk).unwrap();
        let mut largest = 0;
        for round in 0..5_000 {
            ledger.hole(hole(1 + 10 * round, 2, Reason::Damaged));
            ledger.save(&disk).unwrap();
            largest = largest.max(disk.contents(FILE).unwrap().len() as u64);
        }
        assert!(largest < BYTES_MAX + 1024, "{largest}");
        let ledger = Ledger::open(&disk).unwrap();
        assert_eq!(ledger.notes().totals.damaged, 10_000);
        assert_eq!(ledger.notes().holes.len(), HOLES_MAX);
    }

    #[test]
    fn after_an_error_all_of_it_is_written_again() {
        for fault in [Fault::Write, Fault::ShortWrite, Fault::Sync] {
            let disk = SimDisk::new(1);
            let mut ledger = Ledger::open(&disk).unwrap();
            ledger.hole(hole(1, 1, Reason::Quota));
            ledger.save(&disk).unwrap();
            disk.fail(fault, 0);
            ledger.hole(hole(5, 1, Reason::Quota));
            ledger.save(&disk).unwrap_err();
            ledger.hole(hole(9, 1, Reason::Quota));
            ledger.save(&disk).unwrap();
            let disk = disk.power_cut();
            assert_eq!(Ledger::open(&disk).unwrap().notes().totals.quota, 3, "{fault:?}");
        }
    }

    #[test]
    fn a_damaged_ledger_is_read_as_far_as_it_can_be() {
        let disk = SimDisk::new(1);
        let mut ledger = Ledger::open(&disk).unwrap();
        for from in [1, 5, 9] {
            ledger.hole(hole(from, 1, Reason::Quota));
            ledger.save(&disk).unwrap();
        }
        let bytes = disk.contents(FILE).unwrap().len();
        for bit in 0..bytes * 8 {
            disk.rot(FILE, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let read = Ledger::open(&disk).unwrap();
            assert!(read.notes().totals.quota < 4);
            disk.rot(FILE, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
    }
}
