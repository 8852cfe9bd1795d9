//! bincode's one door.
//!
//! A value on the link is `[tag][version][payload]`; a value on disk carries a CRC-32C over its
//! key and all of that besides, because the store below does not notice a flipped bit. Sizes are
//! bounded twice: bytes here, memory by bincode itself, since a nine-byte input may otherwise ask
//! for the whole machine. No type that passes here is recursive, and none holds a collection of
//! zero-sized things. Bytes that are out in the world never change: a new layout is a new version.

use bincode::{Decode, Encode};

use crate::limits::CODEC_BYTES_MAX;

/// Memory that decoding one value may claim; more than its bytes, since text has a header.
const CODEC_MEMORY_MAX: usize = 16 * CODEC_BYTES_MAX;

/// A type that travels or is stored.
pub trait Coded: Encode + Decode<()> {
    /// What it is. Never reused.
    const TAG: u8;
    /// Which layout.
    const VERSION: u8;
}

/// Why a value could not be written or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// Larger than allowed.
    #[error("larger than {CODEC_BYTES_MAX} bytes")]
    TooLarge,
    /// Ends early, or claims impossible lengths.
    #[error("malformed")]
    Malformed,
    /// More bytes than the value has.
    #[error("followed by stray bytes")]
    TrailingBytes,
    /// Something else, or from another release.
    #[error("of kind {tag} version {version}, which this release does not read")]
    Unknown {
        /// The tag found.
        tag: u8,
        /// The version found.
        version: u8,
    },
    /// A stored value whose checksum does not match.
    #[error("damaged: its checksum does not match")]
    Checksum,
}

/// `[tag][version][payload]`, for the link.
pub fn encode<T: Coded>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![T::TAG, T::VERSION];
    bytes.extend(payload(value)?);
    Ok(bytes)
}

/// The value that [`encode`] wrote.
pub fn decode<T: Coded>(bytes: &[u8]) -> Result<T, CodecError> {
    let [tag, version, payload @ ..] = bytes else { return Err(CodecError::Malformed) };
    expect_kind::<T>(*tag, *version)?;
    parse(payload)
}

/// `[tag][version][crc32c][payload]`, for a store that finds it under `key`.
pub fn seal<T: Coded>(key: &[u8], value: &T) -> Result<Vec<u8>, CodecError> {
    let payload = payload(value)?;
    let mut bytes = vec![T::TAG, T::VERSION];
    bytes.extend(checksum(key, T::TAG, T::VERSION, &payload).to_le_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

/// The value that [`seal`] wrote under the same key.
pub fn open<T: Coded>(key: &[u8], bytes: &[u8]) -> Result<T, CodecError> {
    let [tag, version, a, b, c, d, payload @ ..] = bytes else {
        return Err(CodecError::Malformed);
    };
    if checksum(key, *tag, *version, payload) != u32::from_le_bytes([*a, *b, *c, *d]) {
        return Err(CodecError::Checksum);
    }
    expect_kind::<T>(*tag, *version)?;
    parse(payload)
}

/// Checks what holds for all bytes: they are refused, or they are a value that is read as itself
/// again. Returns it.
#[cfg(any(test, feature = "testing"))]
pub fn check<T: Coded>(bytes: &[u8]) -> Option<T> {
    let value: T = decode(bytes).ok()?;
    let written = encode(&value).expect("a value that was read is small enough");
    assert!(written.len() <= bytes.len(), "it is written as short as can be");
    let again: T = decode(&written).expect("what was written is read");
    assert_eq!(encode(&again), Ok(written), "what was read is what was written");
    Some(value)
}

fn checksum(key: &[u8], tag: u8, version: u8, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(key);
    let crc = crc32c::crc32c_append(crc, &[tag, version]);
    crc32c::crc32c_append(crc, payload)
}

fn expect_kind<T: Coded>(tag: u8, version: u8) -> Result<(), CodecError> {
    if (tag, version) == (T::TAG, T::VERSION) {
        Ok(())
    } else {
        Err(CodecError::Unknown { tag, version })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn payload<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::encode_to_vec(value, bincode::config::standard())
        .map_err(|_| CodecError::Malformed)?;
    if bytes.len() > CODEC_BYTES_MAX { Err(CodecError::TooLarge) } else { Ok(bytes) }
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn parse<T: Decode<()>>(payload: &[u8]) -> Result<T, CodecError> {
    if payload.len() > CODEC_BYTES_MAX {
        return Err(CodecError::TooLarge);
    }
    let config = bincode::config::standard().with_limit::<CODEC_MEMORY_MAX>();
    let (value, used) =
        bincode::decode_from_slice(payload, config).map_err(|_| CodecError::Malformed)?;
    if used == payload.len() { Ok(value) } else { Err(CodecError::TrailingBytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Note {
        words: Vec<String>,
        number: u64,
    }

    impl Coded for Note {
        const TAG: u8 = 250;
        const VERSION: u8 = 1;
    }

    fn note() -> Note {
        Note { words: vec!["a".to_owned(), "bc".to_owned()], number: 70_000 }
    }

    #[test]
    fn bytes_of_a_value_are_these() {
        assert_eq!(
            encode(&note()).unwrap(),
            [250, 1, 2, 1, b'a', 2, b'b', b'c', 252, 112, 17, 1, 0]
        );
    }

    #[test]
    fn what_is_not_exactly_a_value_is_refused() {
        let good = encode(&note()).unwrap();
        assert_eq!(decode::<Note>(&good), Ok(note()));
        assert_eq!(decode::<Note>(&[&good[..], &[0]].concat()), Err(CodecError::TrailingBytes));
        assert_eq!(decode::<Note>(&good[..good.len() - 1]), Err(CodecError::Malformed));
        assert_eq!(decode::<Note>(&[250]), Err(CodecError::Malformed));
        assert_eq!(
            decode::<Note>(&[250, 2, 0, 0]),
            Err(CodecError::Unknown { tag: 250, version: 2 })
        );
        let bomb = [250, 1, 253, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(decode::<Note>(&bomb), Err(CodecError::Malformed));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_another_key_is_noticed(bit in 0_usize..18 * 8) {
            let mut bytes = seal(b"key", &note()).unwrap();
            prop_assert_eq!(open::<Note>(b"key", &bytes), Ok(note()));
            prop_assert_eq!(open::<Note>(b"kez", &bytes), Err(CodecError::Checksum));
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open::<Note>(b"key", &bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = check::<Note>(&[&[250, 1], &bytes[..]].concat());
            let _ = open::<Note>(b"key", &bytes);
        }
    }
}
