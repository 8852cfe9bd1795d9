//! A backup's pieces, and reading them one after the other.
//!
//! ```text
//! frame's payload = number, kind, body                             (numbers little-endian)
//!   begin  what and whose it is
//!   key    srv.key
//!   list   bytes of revoked.log, in order
//!   rows   length and name of a table; then lengths of key and value, key, value, for each row
//!   file   length and name of a file of telemetry, place in it, bytes
//!   end    rows, bytes of files
//! ```

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use bincode::{Decode, Encode};
use bytes::Bytes;
use fleet_core::codec::{self, CodecError, Coded};
use fleet_core::frames::{self, Found, HEADER_BYTES};

use crate::store::Part;

/// Bytes of a frame's payload: the largest row there is fits, with many small ones.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a name of a table or file.
const NAME_BYTES_MAX: usize = 64;
const BUFFER_BYTES: usize = 1024 * 1024;

const BEGIN: u8 = 0;
const KEY: u8 = 1;
const ROWS: u8 = 2;
const FILE: u8 = 3;
const END: u8 = 4;
const REVOKED: u8 = 5;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Begin {
    /// When it was begun.
    pub(crate) at_millis: i64,
    /// The release that made it.
    pub(crate) release: String,
    /// The database's name, to which the server's key is bound.
    pub(crate) database: String,
    /// The server's identity.
    pub(crate) server: String,
}

impl Coded for Begin {
    const TAG: u8 = 61;
    const VERSION: u8 = 1;
}

/// A piece of a backup.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Begin(Begin),
    Key(&'a [u8]),
    Revoked(&'a [u8]),
    Rows { table: &'a str, rows: Vec<(&'a [u8], &'a [u8])> },
    File { name: &'a str, offset: u64, bytes: &'a [u8] },
    End(Contents),
}

/// How much a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Rows of the database.
    pub(crate) rows: u64,
    /// Bytes of telemetry's files.
    pub(crate) file_bytes: u64,
}

/// Why a file is no whole backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The file cannot be read.
    #[error("cannot read it")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is not a backup of a FleetD server")]
    Foreign,
    /// From a later release.
    #[error("a later release has made it, which this one cannot read: its format is {0}")]
    Newer(u8),
    /// Its end is missing.
    #[error("it is not whole: it breaks off at byte {0}")]
    Cut(u64),
    /// Bytes are not those that were written.
    #[error("it is damaged at byte {0}")]
    Damaged(u64),
}

/// Makes pieces into frames.
#[derive(Default)]
pub(super) struct Encoder {
    number: u64,
    contents: Contents,
}

impl Encoder {
    pub(super) fn begin(&mut self, begin: &Begin) -> Result<Bytes, CodecError> {
        let begin = codec::encode(begin)?;
        Ok(self.frame(BEGIN, |out| out.extend(begin)))
    }

    pub(super) fn key(&mut self, key: &[u8]) -> Bytes {
        self.frame(KEY, |out| out.extend(key))
    }

    pub(super) fn part(&mut self, part: Part<'_>) -> Bytes {
        match part {
            Part::Rows { table, rows } => {
                self.contents.rows += rows.len() as u64;
                self.frame(ROWS, |out| {
                    put_name(out, table);
                    for (key, value) in rows {
                        out.extend((key.len() as u32).to_le_bytes());
                        out.extend((value.len() as u32).to_le_bytes());
                        out.extend(key);
                        out.extend(value);
                    }
                })
            }
            Part::File { name, offset, bytes } => {
                self.contents.file_bytes += bytes.len() as u64;
                self.frame(FILE, |out| {
                    put_name(out, name);
                    out.extend(offset.to_le_bytes());
                    out.extend(bytes);
                })
            }
            Part::Revoked(bytes) => self.frame(REVOKED, |out| out.extend(bytes)),
            Part::End => {
                let Contents { rows, file_bytes } = self.contents;
                self.frame(END, |out| {
                    out.extend(rows.to_le_bytes());
                    out.extend(file_bytes.to_le_bytes());
                })
            }
        }
    }

    fn frame(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut frame = Vec::new();
        frames::put(&mut frame, |out| {
            out.extend(self.number.to_le_bytes());
            out.push(kind);
            body(out);
        });
        self.number += 1;
        frame.into()
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(name.len() as u8);
    out.extend(name.as_bytes());
}

/// Reads a backup from its beginning to its end, piece by piece, and what each makes of it.
pub(super) fn read<E: From<BackupError>>(
    path: &Path,
    take: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<Contents, E> {
    let file = File::open(path).map_err(BackupError::Io)?;
    let mut from = BufReader::with_capacity(BUFFER_BYTES, file);
    let (mut at, mut number, mut contents) = (0, 0, Contents::default());
    let mut payload = Vec::new();
    loop {
        next(&mut from, at, &mut payload)?;
        let piece = piece(&payload, number, at)?;
        at += (HEADER_BYTES + payload.len()) as u64;
        number += 1;
        match &piece {
            Piece::Rows { rows, .. } => contents.rows += rows.len() as u64,
            Piece::File { bytes, .. } => contents.file_bytes += bytes.len() as u64,
            Piece::Begin(_) | Piece::Key(_) | Piece::Revoked(_) => {}
            Piece::End(told) => {
                let is_more = from.read(&mut [0]).map_err(BackupError::Io)? > 0;
                if *told != contents || is_more {
                    return Err(BackupError::Damaged(at).into());
                }
                take(piece)?;
                return Ok(contents);
            }
        }
        take(piece)?;
    }
}

/// Reads a backup to its end, and checks that it is whole.
pub(crate) fn read_through(path: &Path) -> Result<(Begin, Contents), BackupError> {
    let mut begin = None;
    let contents = read(path, &mut |piece| {
        if let Piece::Begin(found) = piece {
            begin = Some(found);
        }
        Ok::<(), BackupError>(())
    })?;
    Ok((begin.ok_or(BackupError::Foreign)?, contents))
}

/// The next frame's payload.
fn next(from: &mut impl io::Read, at: u64, payload: &mut Vec<u8>) -> Result<(), BackupError> {
    let cut = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof if at == 0 => BackupError::Foreign,
        io::ErrorKind::UnexpectedEof => BackupError::Cut(at),
        _ => BackupError::Io(error),
    };
    let bad = || if at == 0 { BackupError::Foreign } else { BackupError::Damaged(at) };
    payload.resize(HEADER_BYTES, 0);
    from.read_exact(payload).map_err(cut)?;
    let length = payload[4..8].try_into().map_or(u32::MAX, u32::from_le_bytes) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(bad());
    }
    payload.resize(HEADER_BYTES + length, 0);
    from.read_exact(&mut payload[HEADER_BYTES..]).map_err(cut)?;
    match frames::read(payload).next() {
        Some(Found::Frame { at: 0, payload: found }) if found.len() == length => {
            payload.drain(..HEADER_BYTES);
            Ok(())
        }
        _ => Err(bad()),
    }
}

/// What a payload says. The first piece, and no other, is a beginning.
fn piece(payload: &[u8], number: u64, at: u64) -> Result<Piece<'_>, BackupError> {
    let damaged = || BackupError::Damaged(at);
    let (found, rest) = payload.split_first_chunk().ok_or_else(damaged)?;
    let (kind, body) = rest.split_first().ok_or_else(damaged)?;
    if u64::from_le_bytes(*found) != number || (number == 0) != (*kind == BEGIN) {
        return Err(if number == 0 { BackupError::Foreign } else { damaged() });
    }
    let piece = match *kind {
        BEGIN => return begin(body).map(Piece::Begin),
        KEY => Some(Piece::Key(body)),
        REVOKED => Some(Piece::Revoked(body)),
        ROWS => rows(body),
        FILE => file(body),
        END => end(body),
        _ => None,
    };
    piece.ok_or_else(damaged)
}

fn begin(body: &[u8]) -> Result<Begin, BackupError> {
    codec::decode(body).map_err(|error| match error {
        CodecError::Unknown { tag: Begin::TAG, version } => BackupError::Newer(version),
        _ => BackupError::Foreign,
    })
}

fn rows(body: &[u8]) -> Option<Piece<'_>> {
    let (table, mut rest) = name(body)?;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_first_chunk()?;
        let (value, after) = after.split_first_chunk()?;
        let (key, after) = after.split_at_checked(u32::from_le_bytes(*key) as usize)?;
        let (value, after) = after.split_at_checked(u32::from_le_bytes(*value) as usize)?;
        rows.push((key, value));
        rest = after;
    }
    Some(Piece::Rows { table, rows })
}

fn file(body: &[u8]) -> Option<Piece<'_>> {
    let (name, rest) = name(body)?;
    let (offset, bytes) = rest.split_first_chunk()?;
    Some(Piece::File { name, offset: u64::from_le_bytes(*offset), bytes })
}

fn end(body: &[u8]) -> Option<Piece<'_>> {
    let (rows, rest) = body.split_first_chunk()?;
    let (file_bytes, rest) = rest.split_first_chunk()?;
    let (rows, file_bytes) = (u64::from_le_bytes(*rows), u64::from_le_bytes(*file_bytes));
    rest.is_empty().then_some(Piece::End(Contents { rows, file_bytes }))
}

/// A name of a table or file: plain, so that it leads nowhere else.
fn name(body: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = body.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_".contains(b);
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(is_plain);
    Some((std::str::from_utf8(name).ok().filter(|_| fits)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Vec<u8> {
        let mut encoder = Encoder::default();
        let begin = Begin {
            at_millis: 1,
            release: "1.0.0".to_owned(),
            database: "fleet.db".to_owned(),
            server: "FD1-x".to_owned(),
        };
        let mut file = encoder.begin(&begin).unwrap().to_vec();
        file.extend(encoder.key(b"sealed"));
        file.extend(encoder.part(Part::Revoked(b"list")));
        let rows = [(b"a".to_vec(), b"one".to_vec()), (b"b".to_vec(), Vec::new())];
        file.extend(encoder.part(Part::Rows { table: "devices", rows: &rows }));
        file.extend(encoder.part(Part::Rows { table: "sessions", rows: &[] }));
        file.extend(encoder.part(Part::File { name: "wal-1", offset: 7, bytes: b"log" }));
        file.extend(encoder.part(Part::End));
        file
    }

    fn read_bytes(bytes: &[u8]) -> Result<(Vec<String>, Contents), BackupError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        std::fs::write(&path, bytes).unwrap();
        let mut pieces = Vec::new();
        let contents = read(&path, &mut |piece| {
            pieces.push(format!("{piece:?}"));
            Ok::<(), BackupError>(())
        })?;
        Ok((pieces, contents))
    }

    #[test]
    fn pieces_come_back_as_they_went() {
        let (pieces, contents) = read_bytes(&whole()).unwrap();
        assert_eq!(contents, Contents { rows: 2, file_bytes: 3 });
        assert_eq!(pieces.len(), 7);
        assert!(pieces[3].contains("devices") && pieces[5].contains("offset: 7"), "{pieces:#?}");
    }

    #[test]
    fn no_cut_and_no_flipped_bit_goes_unnoticed() {
        let good = whole();
        for cut in 0..good.len() {
            assert!(read_bytes(&good[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read_bytes(&bad).is_err(), "bit {bit}");
        }
        let mut more = good.clone();
        more.push(0);
        assert!(matches!(read_bytes(&more), Err(BackupError::Damaged(_))));
        assert!(matches!(read_bytes(b"redb and so on, and on"), Err(BackupError::Foreign)));
        assert!(matches!(read_bytes(b""), Err(BackupError::Foreign)));
    }

    #[test]
    fn pieces_that_are_left_out_or_come_twice_are_missed() {
        let good = whole();
        let mut ends = vec![0];
        for found in frames::read(&good) {
            let Found::Frame { at, payload } = found else { panic!("{found:?}") };
            ends.push(at + HEADER_BYTES + payload.len());
        }
        for piece in ends.windows(2) {
            let without = [&good[..piece[0]], &good[piece[1]..]].concat();
            assert!(read_bytes(&without).is_err(), "{piece:?}");
            let twice = [&good[..piece[1]], &good[piece[0]..]].concat();
            assert!(read_bytes(&twice).is_err(), "{piece:?}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for bad in ["", "../wal-1", "a/b", "a\\b", ".", "wal-1\0", &"x".repeat(65)] {
            let mut body = Vec::new();
            put_name(&mut body, bad);
            assert_eq!(name(&body), None, "{bad:?}");
        }
    }
}
