//! What the log's files are called, and what their frames hold.
//!
//! ```text
//! wal-<number of its first record, 16 hexadecimal digits>          numbers are little-endian
//!
//! first frame    0, format, store (16 bytes), first record: u64, record that followed before: u64
//! other frames   1, first record: u64, records: u32, then each record: its length as a varint, its bytes
//! ```
//!
//! Zeros may follow the last frame: room that was made for more, and is no damage.
//!
//! The two numbers of the first frame differ where numbers were passed over; the second is the one
//! that the file before must end at. A file has its name only once its first frame is synced:
//! until then it is called `….new`.

use std::fmt;

use fleet_core::frames;

/// The format that this release writes, and the newest that it reads.
pub(super) const VERSION: u8 = 1;
/// Bytes of a record at most.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a frame of records before its first record.
pub(super) const RECORDS_AT: usize = frames::HEADER_BYTES + GROUP_HEADER_BYTES;
/// Bytes of a file's first frame.
pub(super) const FILE_START_BYTES: usize = frames::HEADER_BYTES + 2 + 16 + 8 + 8;

/// No log comes this far; what does was not written by us.
const NUMBER_MAX: u64 = u64::MAX / 2;

const PREFIX: &str = "wal-";
/// What a file is called that is being made.
const NEW: &str = ".new";
/// What a file is called that was damaged and is not needed any more.
const DAMAGED: &str = ".damaged";

const FILE_START: u8 = 0;
const GROUP: u8 = 1;
const GROUP_HEADER_BYTES: usize = 1 + 8 + 4;
const VARINT_BYTES_MAX: usize = 10;

/// The number of a record. They grow by one, from 1, and are never given anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The number that the first record of all gets.
    pub const FIRST: Self = Self(1);

    /// The number so many later. A log does not live to see the last one.
    #[must_use]
    pub fn after(self, records: u64) -> Self {
        Self(self.0.saturating_add(records))
    }

    /// The number before; 0, which is no record's, before the first.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a file is called.
pub(super) fn file_name(first: Lsn) -> String {
    format!("{PREFIX}{:016x}", first.0)
}

/// What a file is called while it is made.
pub(super) fn new_name(first: Lsn) -> String {
    file_name(first) + NEW
}

/// What a damaged file is called once it is not needed any more.
pub(super) fn damaged_name(first: Lsn) -> String {
    file_name(first) + DAMAGED
}

/// What a file of the log is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A part of the log, by its first record.
    Part(Lsn),
    /// It was being made.
    New,
    /// It was damaged, and was needed until it got this name.
    Damaged,
}

/// What a file is by its name, if it is one of the log's.
pub(super) fn read_name(name: &str) -> Option<Named> {
    let (digits, suffix) = name.strip_prefix(PREFIX)?.split_at_checked(16)?;
    let first = number(u64::from_str_radix(digits, 16).ok()?)?;
    match suffix {
        "" => (file_name(first) == name).then_some(Named::Part(first)),
        NEW => Some(Named::New),
        DAMAGED => Some(Named::Damaged),
        _ => None,
    }
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStart {
    pub(super) store: [u8; 16],
    /// The number of its first record.
    pub(super) first: Lsn,
    /// The number after the last record before it.
    pub(super) follows: Lsn,
}

impl FileStart {
    /// The frame that says it.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(FILE_START_BYTES);
        frames::put(&mut frame, |out| {
            out.extend([FILE_START, VERSION]);
            out.extend(self.store);
            out.extend(self.first.0.to_le_bytes());
            out.extend(self.follows.0.to_le_bytes());
        });
        frame
    }
}

/// What a frame holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    FileStart(FileStart),
    /// A file of a format that this release does not know.
    Newer(u8),
    /// Records in order, the first of which has this number.
    Group {
        first: Lsn,
        count: u32,
        records: Records<'a>,
    },
    /// It is whole and none of these.
    Unknown,
}

/// Reads a frame's payload.
pub(super) fn read_payload(payload: &[u8]) -> Payload<'_> {
    let read = match payload {
        [FILE_START, VERSION, rest @ ..] => read_start(rest),
        [FILE_START, version, ..] if *version > VERSION => Some(Payload::Newer(*version)),
        [GROUP, rest @ ..] => read_group(rest),
        _ => None,
    };
    read.unwrap_or(Payload::Unknown)
}

fn read_start(bytes: &[u8]) -> Option<Payload<'_>> {
    let (store, bytes) = bytes.split_first_chunk()?;
    let (first, bytes) = bytes.split_first_chunk()?;
    let (follows, rest) = bytes.split_first_chunk()?;
    let first = number(u64::from_le_bytes(*first))?;
    let follows = number(u64::from_le_bytes(*follows))?;
    rest.is_empty().then_some(Payload::FileStart(FileStart { store: *store, first, follows }))
}

fn read_group(bytes: &[u8]) -> Option<Payload<'_>> {
    let (first, bytes) = bytes.split_first_chunk()?;
    let (count, bytes) = bytes.split_first_chunk()?;
    let first = number(u64::from_le_bytes(*first))?;
    Some(Payload::Group { first, count: u32::from_le_bytes(*count), records: Records(bytes) })
}

fn number(number: u64) -> Option<Lsn> {
    (number < NUMBER_MAX).then_some(Lsn(number))
}

/// The records of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Records<'a>(&'a [u8]);

impl Records<'_> {
    /// Whether nothing is left, not even what is no record.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = read_varint(self.0)?;
        let (record, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(record)
    }
}

/// A frame of records that is being filled.
pub(super) struct Group {
    pub(super) first: Lsn,
    pub(super) count: u32,
    /// The frame, with room for its headers, and possibly the start of a record that was not
    /// finished.
    bytes: Vec<u8>,
    /// Where the whole records end.
    end: usize,
}

impl Group {
    /// An empty one, in a buffer that may have been used before.
    pub(super) fn new(first: Lsn, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(RECORDS_AT, 0);
        Self { first, count: 0, bytes: buffer, end: RECORDS_AT }
    }

    /// Appends a record and returns its length. One that is too large is left out again.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<usize, usize> {
        self.bytes.truncate(self.end);
        let start = self.end + 1;
        self.bytes.push(0);
        write(&mut self.bytes);
        let length = self.bytes.len().checked_sub(start).expect("writing a record only appends");
        if length > RECORD_BYTES_MAX {
            self.bytes.truncate(self.end);
            return Err(length);
        }
        if let Ok(byte @ 0..0x80) = u8::try_from(length) {
            self.bytes[self.end] = byte;
        } else {
            // Its length takes more than the byte that was left for it.
            let (varint, used) = varint(length as u64);
            self.bytes.resize(start + length + used - 1, 0);
            self.bytes.copy_within(start..start + length, start + used - 1);
            self.bytes[self.end..self.end + used].copy_from_slice(&varint[..used]);
        }
        self.end = self.bytes.len();
        self.count += 1;
        Ok(length)
    }

    /// Bytes of its frame.
    pub(super) fn bytes(&self) -> usize {
        self.end
    }

    /// The number after its last record.
    pub(super) fn end(&self) -> Lsn {
        self.first.after(self.count.into())
    }

    /// Completes the frame, and returns it with so many zeros behind it.
    pub(super) fn seal(&mut self, zeros: usize) -> &[u8] {
        self.bytes.truncate(self.end);
        let header = &mut self.bytes[frames::HEADER_BYTES..RECORDS_AT];
        header[0] = GROUP;
        header[1..9].copy_from_slice(&self.first.0.to_le_bytes());
        header[9..].copy_from_slice(&self.count.to_le_bytes());
        frames::seal(&mut self.bytes);
        self.bytes.resize(self.end + zeros, 0);
        &self.bytes
    }

    /// The buffer, to be used again.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

fn varint(mut number: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut bytes = [0; VARINT_BYTES_MAX];
    let mut used = 0;
    loop {
        bytes[used] = number as u8 | 0x80;
        number >>= 7;
        used += 1;
        if number == 0 {
            bytes[used - 1] &= 0x7F;
            return (bytes, used);
        }
    }
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        number |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}
