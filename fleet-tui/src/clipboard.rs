//! The clipboard of whoever sits at the terminal, however far away that is: OSC 52. Programs of
//! this machine that set a clipboard would set the wrong one over ssh.

use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::terminal::caps::Multiplexer;

/// Bytes that terminals take; longer texts are refused rather than cut.
const TEXT_BYTES_MAX: usize = 74_994;

/// A text that no terminal takes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{bytes} bytes are more than terminals take ({TEXT_BYTES_MAX}); e writes a file instead")]
pub struct TooLong {
    bytes: usize,
}

/// What to write to the terminal. It may be a key: it is wiped when it is dropped, and so is all
/// that it is made of. None of that grows, which would leave a copy behind.
pub fn sequence(text: &str, multiplexer: Multiplexer) -> Result<Zeroizing<Vec<u8>>, TooLong> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(TooLong { bytes: text.len() });
    }
    let base64 = Zeroizing::new(BASE64.encode(text.as_bytes()));
    let plain = joined(&[b"\x1b]52;c;", base64.as_bytes(), b"\x07"]);
    Ok(match multiplexer {
        Multiplexer::None => plain,
        // What is inside is handed on as it is, with every escape doubled; it has one, at its start.
        Multiplexer::Tmux => joined(&[b"\x1bPtmux;\x1b", &plain, b"\x1b\\"]),
        Multiplexer::Screen => screen(&plain),
    })
}

fn joined(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut whole = Zeroizing::new(Vec::with_capacity(len));
    for part in parts {
        whole.extend_from_slice(part);
    }
    whole
}

/// GNU screen hands on at most 768 bytes at a time.
fn screen(plain: &[u8]) -> Zeroizing<Vec<u8>> {
    const PIECE: usize = 500;
    let (begin, end): (&[u8], &[u8]) = (b"\x1bP", b"\x1b\\");
    let parts: Vec<&[u8]> = plain.chunks(PIECE).flat_map(|piece| [begin, piece, end]).collect();
    joined(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_for_what_sits_in_between() {
        let text =
            |multiplexer| String::from_utf8(sequence("hi", multiplexer).unwrap().to_vec()).unwrap();
        assert_eq!(text(Multiplexer::None), "\u{1b}]52;c;aGk=\u{7}");
        assert_eq!(text(Multiplexer::Tmux), "\u{1b}Ptmux;\u{1b}\u{1b}]52;c;aGk=\u{7}\u{1b}\\");
        assert_eq!(text(Multiplexer::Screen), "\u{1b}P\u{1b}]52;c;aGk=\u{7}\u{1b}\\");
        let pieces = sequence(&"x".repeat(600), Multiplexer::Screen).unwrap();
        let pieces = String::from_utf8_lossy(&pieces);
        assert_eq!(pieces.matches("\u{1b}P").count(), 2);
        assert_eq!(pieces.matches("\u{1b}\\").count(), 2);
        let inside = pieces.replace("\u{1b}P", "").replace("\u{1b}\\", "");
        assert_eq!(
            inside.as_bytes(),
            sequence(&"x".repeat(600), Multiplexer::None).unwrap().as_slice()
        );
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(sequence(&long, Multiplexer::None).is_err());
    }
}
