//! Frames in a file: how logs and spools put records one after the other, and find out after a
//! crash which of them are whole.
//!
//! ```text
//! frame = mark, payload's length, CRC-32C over length and payload, payload      (numbers little-endian)
//! ```
//!
//! After damage the next frame is found again by its mark and its sum, so what was destroyed is
//! known by its place and nothing behind it is lost. Damage with no whole frame behind it is the
//! end of the file as a crash may leave it; the owner of the file knows whether that can be.

/// Begins every frame.
const MARK: [u8; 4] = *b"\xF1eD\n";
/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 12;
/// Bytes of a payload at most.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Appends a frame with the payload that `write` appends. Larger payloads than
/// [`PAYLOAD_BYTES_MAX`] could not be read, so their writers must see to it that there are none.
pub fn put(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(MARK);
    out.extend([0; HEADER_BYTES - MARK.len()]);
    write(out);
    seal(&mut out[start..]);
}

/// Completes the header of a frame whose payload is in place after [`HEADER_BYTES`].
pub fn seal(frame: &mut [u8]) {
    let payload = frame.len() - HEADER_BYTES;
    assert!(payload <= PAYLOAD_BYTES_MAX, "a frame of {payload} bytes");
    let length = (payload as u32).to_le_bytes();
    let sum = checksum(length, &frame[HEADER_BYTES..]);
    frame[..4].copy_from_slice(&MARK);
    frame[4..8].copy_from_slice(&length);
    frame[8..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Gives whatever looks like a frame the checksum of its payload: a fuzzer, which alters payloads,
/// would never find it.
#[cfg(any(test, feature = "testing"))]
pub fn mend(file: &mut [u8]) {
    let mut at = 0;
    while at + HEADER_BYTES <= file.len() {
        let rest = &mut file[at..];
        at += 1;
        let Some((&MARK, length)) = rest.split_first_chunk() else { continue };
        let length = length.first_chunk().map_or(u32::MAX, |length| u32::from_le_bytes(*length));
        let Some(frame) = rest.get_mut(..HEADER_BYTES + length as usize) else { continue };
        seal(frame);
        at += frame.len() - 1;
    }
}

/// What is found in a file, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole frame.
    Frame {
        /// Where it begins.
        at: usize,
        /// What it holds.
        payload: &'a [u8],
    },
    /// Bytes that are no frame, before one that is.
    Damage {
        /// Where they begin.
        at: usize,
        /// How many.
        bytes: usize,
    },
    /// Bytes that are no frame, up to the end of the file.
    Torn {
        /// Where they begin.
        at: usize,
    },
}

/// Reads the frames of a file.
pub fn read(bytes: &[u8]) -> Frames<'_> {
    Frames { bytes, at: 0 }
}

/// The frames of a file.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let at = self.at;
        if at == self.bytes.len() {
            return None;
        }
        if let Some(payload) = frame_at(self.bytes, at) {
            self.at += HEADER_BYTES + payload.len();
            return Some(Found::Frame { at, payload });
        }
        let next = if is_blank(&self.bytes[at..]) { None } else { self.next_frame(at + 1) };
        self.at = next.unwrap_or(self.bytes.len());
        Some(if self.at == self.bytes.len() {
            Found::Torn { at }
        } else {
            Found::Damage { at, bytes: self.at - at }
        })
    }
}

impl Frames<'_> {
    fn next_frame(&self, from: usize) -> Option<usize> {
        let rest = self.bytes.get(from..)?;
        let marks = rest.windows(MARK.len()).enumerate().filter(|(_, four)| *four == MARK);
        marks.map(|(offset, _)| from + offset).find(|at| frame_at(self.bytes, *at).is_some())
    }
}

/// The payload of the frame at a place, if there is one and it is whole.
fn frame_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (header, rest) = bytes.get(at..)?.split_at_checked(HEADER_BYTES)?;
    let (mark, header) = header.split_first_chunk()?;
    let (length, header) = header.split_first_chunk()?;
    let (sum, _) = header.split_first_chunk()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    let is_whole = *mark == MARK
        && payload.len() <= PAYLOAD_BYTES_MAX
        && checksum(*length, payload) == u32::from_le_bytes(*sum);
    is_whole.then_some(payload)
}

/// Whether bytes are zeros alone, as where a file was made longer than what was written to it.
pub fn is_blank(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        for payload in payloads {
            put(&mut file, |out| out.extend(payload));
        }
        file
    }

    fn payloads(file: &[u8]) -> Vec<&[u8]> {
        let payload = |found| match found {
            Found::Frame { payload, .. } => Some(payload),
            Found::Damage { .. } | Found::Torn { .. } => None,
        };
        read(file).filter_map(payload).collect()
    }

    #[test]
    fn what_is_destroyed_is_known_by_its_place() {
        let mut file = file(&[b"one".to_vec(), MARK.to_vec(), b"three".to_vec()]);
        file[13] ^= 1;
        file[30] ^= 1;
        let length = file.len();
        file.extend(b"torn");
        assert_eq!(
            read(&file).collect::<Vec<_>>(),
            [
                Found::Damage { at: 0, bytes: 31 },
                Found::Frame { at: 31, payload: b"three" },
                Found::Torn { at: length },
            ]
        );
    }

    #[test]
    fn zeros_are_no_frames() {
        let mut file = file(&[b"one".to_vec()]);
        let at = file.len();
        file.extend([0; 10_000]);
        assert!(is_blank(&file[at..]) && !is_blank(&file) && is_blank(&[]));
        assert_eq!(read(&file).last(), Some(Found::Torn { at }));
        file.extend(b"two");
        assert_eq!(read(&file).last(), Some(Found::Torn { at }));
    }

    proptest! {
        #[test]
        fn a_cut_file_is_read_up_to_the_cut(
            written in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let file = file(&written);
            prop_assert_eq!(payloads(&file), written.clone());
            let cut = cut.index(file.len() + 1);
            let whole = payloads(&file[..cut]);
            prop_assert!(written.starts_with(&whole.iter().map(|p| p.to_vec()).collect::<Vec<_>>()));
        }

        #[test]
        fn a_flipped_bit_costs_one_frame(
            written in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            flip in any::<proptest::sample::Index>(),
        ) {
            let mut file = file(&written);
            let bit = flip.index(file.len() * 8);
            file[bit / 8] ^= 1 << (bit % 8);
            let mut left = written.clone();
            let hit = payloads(&file);
            let lost = left.iter().zip(&hit).position(|(a, b)| a != b).unwrap_or(hit.len());
            left.remove(lost);
            prop_assert_eq!(hit, left);
        }

        #[test]
        fn anything_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let total: usize = read(&bytes).map(|found| match found {
                Found::Frame { payload, .. } => HEADER_BYTES + payload.len(),
                Found::Damage { bytes, .. } => bytes,
                Found::Torn { at } => bytes.len() - at,
            }).sum();
            prop_assert_eq!(total, bytes.len());
        }
    }
}
