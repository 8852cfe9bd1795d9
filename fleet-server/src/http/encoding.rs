//! Content-Encoding: bodies that come packed, unpacked up to a bound.
//!
//! A packed body says nothing reliable about its size, so it is unpacked until it ends or is too
//! large, whichever comes first. zstd is unpacked by Rust code alone.

use std::io::{self, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use fleet_core::untrusted::escaped;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::body::too_large;
use super::reply::Failure;

/// Bytes that zstd may look back. More than its usual levels want.
const ZSTD_WINDOW_MAX: u64 = 16 * 1024 * 1024;

/// What comes to no more than this is unpacked once.
const SMALL_BYTES: usize = 256 * 1024;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// As the headers of a request say.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Identity) };
        match value.to_str().map_or("?", str::trim) {
            "" | "identity" => Ok(Self::Identity),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => {
                let detail = format!(
                    "Content-Encoding {} is not read here: send gzip, zstd or identity",
                    escaped(other)
                );
                let known = HeaderValue::from_static("gzip, zstd, identity");
                Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
                    .with_header(header::ACCEPT_ENCODING, known))
            }
        }
    }

    /// The body, unpacked. Takes its time: not for a thread that serves others.
    pub(super) fn unpack(self, body: Bytes, bytes_max: usize) -> Result<Bytes, Failure> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => all_of(|| MultiGzDecoder::new(&body[..]), bytes_max, "gzip"),
            // Its decoder means to fail where data is wrong; should it panic, that is no reason for
            // us to do so.
            Self::Zstd => catch_unwind(AssertUnwindSafe(|| {
                all_of(|| ZstdFrames { rest: &body, frame: None }, bytes_max, "zstd")
            }))
            .unwrap_or_else(|_| Err(wrong("zstd"))),
        }
    }
}

/// All that a decoder gives. What turns out to be large is unpacked once more before it is kept, to
/// learn how large: whatever is too large never takes the room.
fn all_of<R: Read>(
    decoder: impl Fn() -> R,
    bytes_max: usize,
    name: &str,
) -> Result<Bytes, Failure> {
    let up_to = |bytes: usize| decoder().take(bytes as u64 + 1);
    let mut plain = Vec::new();
    let small = bytes_max.min(SMALL_BYTES);
    up_to(small).read_to_end(&mut plain).map_err(|_| wrong(name))?;
    if plain.len() <= small {
        return Ok(plain.into());
    }
    drop(plain);
    let bytes = io::copy(&mut up_to(bytes_max), &mut io::sink()).map_err(|_| wrong(name))?;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= bytes_max);
    let mut plain = Vec::with_capacity(bytes.ok_or_else(|| too_large(bytes_max))?);
    decoder().read_to_end(&mut plain).map_err(|_| wrong(name))?;
    Ok(plain.into())
}

fn wrong(name: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, format!("the body is not {name}"))
}

/// Frames of zstd, one after the other.
struct ZstdFrames<'a> {
    rest: &'a [u8],
    frame: Option<StreamingDecoder<&'a [u8], FrameDecoder>>,
}

impl Read for ZstdFrames<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None if self.rest.is_empty() => return Ok(0),
                None => StreamingDecoder::new_with_max_window_size(self.rest, ZSTD_WINDOW_MAX)
                    .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?,
            };
            let read = frame.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                self.frame = Some(frame);
                return Ok(read);
            }
            self.rest = frame.into_inner();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn zipped(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        compress_to_vec(plain, CompressionLevel::Fastest)
    }

    fn unpacked(encoding: Encoding, body: Vec<u8>, bytes_max: usize) -> Result<Bytes, u16> {
        let unpacked = encoding.unpack(body.into(), bytes_max);
        unpacked.map_err(|failure| failure.status().as_u16())
    }

    #[test]
    fn what_was_packed_is_unpacked_in_one_frame_or_many() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for (encoding, pack) in
            [(Encoding::Gzip, zipped as fn(&[u8]) -> Vec<u8>), (Encoding::Zstd, zstd)]
        {
            assert_eq!(unpacked(encoding, pack(&text), text.len()), Ok(text.clone().into()));
            let two = [pack(b"one "), pack(b""), pack(b"two")].concat();
            assert_eq!(unpacked(encoding, two, 7), Ok("one two".into()));
            assert_eq!(unpacked(encoding, Vec::new(), 7).is_ok(), encoding == Encoding::Zstd);
            for wrong in [&b"plain"[..], &pack(&text)[..1000]] {
                assert_eq!(unpacked(encoding, wrong.to_vec(), text.len()), Err(400));
            }
        }
        assert_eq!(unpacked(Encoding::Identity, b"x".to_vec(), 1), Ok("x".into()));
    }

    #[test]
    fn a_bomb_is_too_large_long_before_it_has_gone_off() {
        let max = 64 * 1024;
        for (encoding, bomb) in [
            (Encoding::Gzip, zipped(&vec![b' '; 50 << 20])),
            (Encoding::Zstd, zstd(&vec![b' '; 50 << 20])),
        ] {
            assert!(bomb.len() < max, "{}", bomb.len());
            assert_eq!(unpacked(encoding, bomb, max), Err(413));
        }
        // A frame that wants to look back 128 MiB, with nothing in it.
        let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 1, 0, 0];
        assert_eq!(unpacked(Encoding::Zstd, window.to_vec(), max), Err(400));
        let modest = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3, 1, 0, 0];
        assert_eq!(unpacked(Encoding::Zstd, modest.to_vec(), max), Ok(Bytes::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..200) {
            for encoding in [Encoding::Gzip, Encoding::Zstd] {
                let _ = unpacked(encoding, bytes.clone(), 1000);
            }
            let mut frame = zstd(b"a text that is packed, a text that is packed and then altered");
            let length = frame.len();
            for (place, byte) in bytes.iter().take(3).enumerate() {
                frame[(at + place * 7) % length] ^= byte;
            }
            let _ = unpacked(Encoding::Zstd, frame, 1000);
        }
    }
}
