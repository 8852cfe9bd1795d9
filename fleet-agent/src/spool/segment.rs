//! A segment: a file with records of one stream, in frames, oldest first.
//!
//! Its name says how many streams were begun before, which this is, and the first record's number.
//! What a file holds is believed as far as its checksums go and no further.

use std::fmt;
use std::io;
use std::ops::ControlFlow;

use bincode::{Decode, Encode};
use fleet_core::codec::{self, CodecError, Coded};
use fleet_core::disk::DiskFile;
use fleet_core::frames::{self, Found, HEADER_BYTES};

/// Bytes of a segment.
pub(super) const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a file that are looked at; more cannot be ours.
const READ_BYTES_MAX: u64 = 2 * SEGMENT_BYTES_MAX;
/// Bytes that are read at once, unless one record is larger.
const PIECE_BYTES: u64 = 64 * 1024;
/// No stream comes this far; what does was not written by us.
const NUMBER_MAX: u64 = u64::MAX / 2;
/// The same for the count of streams.
const GENERATION_MAX: u32 = u32::MAX / 2;

/// The end of a segment's name.
const SUFFIX: &str = ".segment";

/// A stream's own random name.
pub(super) type StreamId = [u8; 16];

/// A segment's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// Grows from stream to stream.
    pub(super) generation: u32,
    pub(super) stream: StreamId,
    /// The number of its first record.
    pub(super) first: u64,
}

impl Name {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(SUFFIX)?.split('-');
        let generation = u32::from_str_radix(parts.next()?, 16).ok()?;
        let stream = u128::from_str_radix(parts.next()?, 16).ok()?.to_be_bytes();
        let first = u64::from_str_radix(parts.next()?, 16).ok()?;
        let name = Self { generation, stream, first };
        let possible = generation < GENERATION_MAX && (1..NUMBER_MAX).contains(&first);
        (possible && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, stream, first } = self;
        let stream = u128::from_be_bytes(*stream);
        write!(f, "{generation:08x}-{stream:032x}-{first:016x}{SUFFIX}")
    }
}

/// What a frame of a segment holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum Entry {
    /// What was collected at one time.
    Record(Record),
}

impl Coded for Entry {
    const TAG: u8 = 46;
    const VERSION: u8 = 1;
}

/// What was collected at one time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Record {
    pub(super) seq: u64,
    /// All numbers up to this one were with the server when this was written.
    pub(super) acked: u64,
    /// All numbers up to this one were sure to be on the disk when this was written.
    pub(super) synced: u64,
    /// The server that it is for, if that was known.
    pub(super) server: Option<String>,
    pub(super) stamp: Stamp,
    /// The samples, packed.
    pub(super) packed: Box<[u8]>,
}

/// When something was collected, by both of the device's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Stamp {
    /// The wall clock, in milliseconds since 1970.
    pub(super) at_millis: i64,
    /// Which boot, …
    pub(super) boot: [u8; 16],
    /// … and how long after it, in milliseconds.
    pub(super) up_millis: u64,
}

/// Appends a record's frame.
pub(super) fn put(out: &mut Vec<u8>, record: Record) -> Result<(), CodecError> {
    let payload = codec::encode(&Entry::Record(record))?;
    frames::put(out, |out| out.extend(payload));
    Ok(())
}

/// How much of a file is to be read.
pub(super) fn readable_bytes(file: &dyn DiskFile) -> io::Result<u64> {
    Ok(file.bytes()?.min(READ_BYTES_MAX))
}

/// Shows the records of a file between two places, each with the place of its end, until the
/// visitor has seen enough. Says where the last whole frame ends, if the file was read to its end.
///
/// What is no record is passed over: those who count notice by the numbers.
pub(super) fn read(
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, Record) -> ControlFlow<()>,
) -> io::Result<Option<u64>> {
    let mut at = from;
    let mut whole = from;
    let mut piece = PIECE_BYTES;
    while at < to {
        let end = to.min(at + piece);
        let mut bytes = vec![0; usize::try_from(end - at).map_err(io::Error::other)?];
        file.read_at(&mut bytes, at)?;
        let mut goes_on_at = end;
        for found in frames::read(&bytes) {
            match found {
                Found::Frame { at: offset, payload } => {
                    whole = at + (offset + HEADER_BYTES + payload.len()) as u64;
                    if let Some(record) = record(payload)
                        && visit(whole, record).is_break()
                    {
                        return Ok(None);
                    }
                }
                Found::Damage { .. } => {}
                // A frame that goes beyond this piece looks the same.
                Found::Torn { at: offset } => goes_on_at = at + offset as u64,
            }
        }
        if end == to {
            break;
        }
        piece = if goes_on_at == at { piece.saturating_mul(2) } else { PIECE_BYTES };
        at = goes_on_at;
    }
    Ok(Some(whole))
}

fn record(payload: &[u8]) -> Option<Record> {
    let Entry::Record(record) = codec::decode(payload).ok()?;
    (1..NUMBER_MAX).contains(&record.seq).then_some(record)
}

#[cfg(test)]
mod tests {
    use fleet_core::disk::Disk as _;
    use fleet_core::disk::sim::SimDisk;
    use proptest::prelude::*;

    use super::*;

    const NAME: Name = Name { generation: 3, stream: [0xab; 16], first: 1 << 20 };

    fn collected(seq: u64, bytes: usize) -> Record {
        let stamp = Stamp { at_millis: -1, boot: [7; 16], up_millis: 5 };
        let packed = vec![seq as u8; bytes].into_boxed_slice();
        Record { seq, acked: 0, synced: 0, server: None, stamp, packed }
    }

    fn records(bytes: &[u8], from: u64) -> (Vec<(u64, Record)>, Option<u64>) {
        let disk = SimDisk::new(1);
        let file = disk.create("file").unwrap();
        file.write_at(bytes, 0).unwrap();
        let mut records = Vec::new();
        let end = read(file.as_ref(), from, bytes.len() as u64, |end, record| {
            records.push((end, record));
            ControlFlow::Continue(())
        });
        (records, end.unwrap())
    }

    #[test]
    fn stream_and_first_number_can_be_told_from_a_name() {
        let text = "00000003-abababababababababababababababab-0000000000100000.segment";
        assert_eq!(NAME.to_string(), text);
        assert_eq!(Name::parse(text), Some(NAME));
        for other in [
            "ledger",
            "00000003-abababababababababababababababab-0000000000100000.segment.old",
            "00000003-ABABABABABABABABABABABABABABABAB-0000000000100000.segment",
            "00000003-abababababababababababababababab-0000000000000000.segment",
            "+0000003-abababababababababababababababab-0000000000100000.segment",
            "ffffffff-abababababababababababababababab-0000000000100000.segment",
            "00000003-abababababababababababababababab-ffffffffffffffff.segment",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_of_a_frame_are_these() {
        let mut bytes = Vec::new();
        put(&mut bytes, collected(300, 2)).unwrap();
        let mut payload = vec![46, 1, 0, 251, 44, 1, 0, 0, 0, 1];
        payload.extend([7; 16]);
        payload.extend([5, 2, 44, 44]);
        assert_eq!(bytes[HEADER_BYTES..], payload);
    }

    #[test]
    fn records_larger_than_a_piece_are_read() {
        let mut bytes = Vec::new();
        let sizes = [10, 3 * PIECE_BYTES as usize, PIECE_BYTES as usize - 40, 7];
        let written: Vec<_> =
            sizes.iter().zip(1..).map(|(size, seq)| collected(seq, *size)).collect();
        for record in &written {
            put(&mut bytes, record.clone()).unwrap();
        }
        let (read, end) = records(&bytes, 0);
        assert_eq!(
            read.iter().map(|(_, record)| record).collect::<Vec<_>>(),
            written.iter().collect::<Vec<_>>()
        );
        assert_eq!(end, Some(bytes.len() as u64));
        let after_first = read[0].0;
        assert_eq!(records(&bytes, after_first).0, read[1..]);
        bytes.extend([0; 100]);
        assert_eq!(records(&bytes, 0), (read, end));
    }

    proptest! {
        #[test]
        fn a_file_may_hold_anything(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            rot in any::<proptest::sample::Index>(),
        ) {
            prop_assert!(records(&bytes, 0).0.is_empty());
            put(&mut bytes, collected(1, 30)).unwrap();
            put(&mut bytes, collected(2, 30)).unwrap();
            let rotten = rot.index(bytes.len());
            bytes[rotten] ^= 1;
            prop_assert!(records(&bytes, 0).0.len() <= 2);
            let _ = Name::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
