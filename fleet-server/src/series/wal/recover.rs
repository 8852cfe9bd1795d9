//! Reading the log: showing what is there, naming what is not, and making its end sure.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use fleet_core::disk::{self, Disk, DiskFile};
use fleet_core::frames::{self, Found};

use super::files::{Files, LogFile};
use super::format::{self, FileStart, Lsn, Named, Payload, VERSION};
use super::{Failure, OpenError};

/// Damaged places that are told one by one; beyond that they are counted.
pub const DAMAGE_MAX: usize = 1_000;

/// What is shown of a log, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A file begins: what its records name, they name themselves.
    FileStart,
    /// A record.
    Record {
        /// Its number.
        lsn: Lsn,
        /// What was appended.
        bytes: &'a [u8],
    },
}

/// How reading a log went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Files that were read.
    pub files: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Records that were shown.
    pub records: u64,
    /// The number that the next record gets.
    pub next: Lsn,
    /// What was cut off at the end of the newest file. A crash leaves it, and nothing in it was
    /// acknowledged, unless the medium has destroyed the last frame of all.
    pub torn: Option<Damage>,
    /// Where the log is not what was written. The files stay, and say so each time, until they
    /// are released.
    pub damage: Vec<Damage>,
    /// Damaged places beyond [`DAMAGE_MAX`].
    pub more_damage: u64,
}

/// A place where the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file; if files are missing, the one after them.
    pub file: String,
    /// Where in it.
    pub at: u64,
    /// How many bytes; none if there are records missing and no bytes in their place.
    pub bytes: u64,
    /// The records that were there; nothing if that is not known.
    pub lost: Option<Range<Lsn>>,
}

/// Reads the log of a store and makes sure of all that it showed.
pub(super) fn recover(
    disk: &dyn Disk,
    store: [u8; 16],
    visit: &mut dyn FnMut(Entry<'_>),
) -> Result<(Files, Recovered), OpenError> {
    let parts = parts(disk)?;
    let newest = parts.last().copied();
    let mut reading =
        Reading { store, visit, next: Lsn::FIRST, open: None, out: Recovered::default() };
    let mut files = VecDeque::new();
    for first in parts {
        let name = format::file_name(first);
        let file = disk.open(&name).map_err(Failure::at("opening", &name))?;
        let bytes = disk::read_all(file.as_ref()).map_err(Failure::at("reading", &name))?;
        let mut part = reading.part(first, &name, &bytes, newest == Some(first))?;
        if newest == Some(first) {
            part.file.bytes =
                make_sure(file.as_ref(), &bytes, &part).map_err(Failure::at("repairing", &name))?;
        }
        files.push_back(part.file);
    }
    if let Some(damage) = reading.open.take() {
        reading.note(damage);
    }
    Ok((Files::new(files), Recovered { next: reading.next, ..reading.out }))
}

/// The first records of all files, in order. Files that were not finished are removed.
fn parts(disk: &dyn Disk) -> Result<BTreeSet<Lsn>, Failure> {
    let mut parts = BTreeSet::new();
    for name in disk.names().map_err(Failure::at("listing", "the folder"))? {
        match format::read_name(&name) {
            Some(Named::Part(first)) => drop(parts.insert(first)),
            Some(Named::New) => disk.remove(&name).map_err(Failure::at("removing", &name))?,
            Some(Named::Damaged) | None => {}
        }
    }
    Ok(parts)
}

/// Cuts off a torn end, or room that was not used, and writes the last frame once more: if a sync
/// failed, it may be in the system's cache alone, and syncing again would prove nothing. Returns
/// the file's length.
fn make_sure(file: &dyn DiskFile, bytes: &[u8], part: &Part) -> std::io::Result<u64> {
    if part.end < bytes.len() {
        file.truncate(part.end as u64)?;
    }
    if let Some(last) = part.last_frame.clone() {
        file.write_at(&bytes[last.clone()], last.start as u64)?;
    }
    file.sync()?;
    Ok(part.end as u64)
}

/// What was read of a file.
struct Part {
    file: LogFile,
    last_frame: Option<Range<usize>>,
    /// Where what counts of it ends.
    end: usize,
}

/// The log, as far as it was read.
struct Reading<'a> {
    store: [u8; 16],
    visit: &'a mut dyn FnMut(Entry<'_>),
    /// The number that should come next.
    next: Lsn,
    /// Damage of which it is not known yet what was there.
    open: Option<Damage>,
    out: Recovered,
}

impl Reading<'_> {
    fn part(
        &mut self,
        first: Lsn,
        name: &str,
        bytes: &[u8],
        is_newest: bool,
    ) -> Result<Part, OpenError> {
        self.out.files += 1;
        self.out.bytes += bytes.len() as u64;
        let mut found = frames::read(bytes);
        let start = match found.clone().next() {
            Some(Found::Frame { payload, .. }) => self.start(name, payload)?,
            _ => None,
        };
        let start = start.filter(|start| start.first == first);
        self.begin(name, first, start.map_or(first, |start| start.follows));
        (self.visit)(Entry::FileStart);
        if start.is_some() {
            found.next();
        }
        let (mut last_frame, mut end) = (None, bytes.len());
        let mut is_damaged = start.is_none();
        if is_damaged {
            self.open(name, 0, 0);
        }
        for found in found {
            match found {
                Found::Frame { at, payload } => {
                    let frame = at..at + frames::HEADER_BYTES + payload.len();
                    is_damaged |= !self.frame(name, frame.clone(), payload);
                    last_frame = Some(frame);
                }
                Found::Torn { at } if start.is_some() && frames::is_blank(&bytes[at..]) => end = at,
                Found::Torn { at } if start.is_some() && is_newest => {
                    end = at;
                    self.out.torn = Some(place(name, at, bytes.len() - at));
                }
                Found::Damage { at, bytes } => {
                    is_damaged = true;
                    self.open(name, at, bytes);
                }
                Found::Torn { at } => {
                    is_damaged = true;
                    self.open(name, at, bytes.len() - at);
                }
            }
        }
        let file = LogFile { first, end: self.next, bytes: bytes.len() as u64, is_damaged };
        Ok(Part { file, last_frame, end })
    }

    /// What a file's first frame says, if it is one.
    fn start(&self, name: &str, payload: &[u8]) -> Result<Option<FileStart>, OpenError> {
        match format::read_payload(payload) {
            Payload::FileStart(start) if start.store == self.store => Ok(Some(start)),
            Payload::FileStart(_) => Err(OpenError::OtherStore { file: name.to_owned() }),
            Payload::Newer(version) => {
                Err(OpenError::Newer { file: name.to_owned(), version, known: VERSION })
            }
            Payload::Group { .. } | Payload::Unknown => Ok(None),
        }
    }

    /// Begins a file. Files before the first may have been released; after that, each begins
    /// where the one before ends.
    fn begin(&mut self, name: &str, first: Lsn, follows: Lsn) {
        if self.out.files > 1 {
            // If numbers were passed over, nobody knows whether what is damaged had them.
            if self.next >= follows
                && follows < first
                && let Some(damage) = self.open.take()
            {
                self.note(damage);
            }
            self.continue_at(name, 0, follows);
        }
        self.next = self.next.max(first);
    }

    /// Takes in a whole frame. False if it is not what it should be.
    fn frame(&mut self, name: &str, range: Range<usize>, payload: &[u8]) -> bool {
        let Payload::Group { first, count, records } = format::read_payload(payload) else {
            self.open(name, range.start, range.len());
            return false;
        };
        let mut is_good = self.continue_at(name, range.start, first);
        let end = first.after(count.into());
        let mut lsn = first;
        let mut records = records;
        for bytes in records.by_ref().take(count as usize) {
            // One that came before is not shown again.
            if lsn >= self.next {
                (self.visit)(Entry::Record { lsn, bytes });
                self.out.records += 1;
            }
            lsn = lsn.after(1);
        }
        if first < self.next || lsn < end || !records.is_empty() {
            is_good = false;
            let lost = Some(lsn.max(self.next)..end.max(self.next));
            self.note(Damage { lost, ..place(name, range.start, range.len()) });
        }
        self.next = self.next.max(end);
        is_good
    }

    /// Compares the number that comes next with the one that should. False if some are missing
    /// and no damage was found where they were.
    fn continue_at(&mut self, name: &str, at: usize, found: Lsn) -> bool {
        let lost = self.next..found.max(self.next);
        let open = self.open.take();
        let is_explained = lost.is_empty() || open.is_some();
        if let Some(damage) = open.or_else(|| (!lost.is_empty()).then(|| place(name, at, 0))) {
            self.note(Damage { lost: Some(lost.clone()), ..damage });
        }
        self.next = lost.end;
        is_explained
    }

    /// Remembers a damaged place until it is known what was there.
    fn open(&mut self, name: &str, at: usize, bytes: usize) {
        let here = place(name, at, bytes);
        match &mut self.open {
            Some(open) if open.file == here.file && open.at + open.bytes == here.at => {
                open.bytes += here.bytes;
            }
            _ => {
                if let Some(before) = self.open.replace(here) {
                    self.note(before);
                }
            }
        }
    }

    fn note(&mut self, damage: Damage) {
        if self.out.damage.len() < DAMAGE_MAX {
            self.out.damage.push(damage);
        } else {
            self.out.more_damage += 1;
        }
    }
}

fn place(file: &str, at: usize, bytes: usize) -> Damage {
    Damage { file: file.to_owned(), at: at as u64, bytes: bytes as u64, lost: None }
}
