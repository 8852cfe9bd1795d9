//! The clipboard of whoever sits at the terminal, however far away that is: OSC 52. Programs of
//! this machine that set a clipboard would set the wrong one over ssh.

use data_encoding::BASE64;

use crate::terminal::caps::Multiplexer;

/// Bytes that terminals take; longer texts are refused rather than cut.
const TEXT_BYTES_MAX: usize = 74_994;

/// A text that no terminal takes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{bytes} bytes are more than terminals take ({TEXT_BYTES_MAX}); e writes a file instead")]
pub struct TooLong {
    bytes: usize,
}

/// What to write to the terminal.
pub fn sequence(text: &str, multiplexer: Multiplexer) -> Result<Vec<u8>, TooLong> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(TooLong { bytes: text.len() });
    }
    let plain = format!("\u{1b}]52;c;{}\u{7}", BASE64.encode(text.as_bytes()));
    let wrapped = match multiplexer {
        Multiplexer::None => plain,
        // What is inside is handed on as it is, with every escape doubled.
        Multiplexer::Tmux => {
            format!("\u{1b}Ptmux;{}\u{1b}\\", plain.replace('\u{1b}', "\u{1b}\u{1b}"))
        }
        Multiplexer::Screen => screen(&plain),
    };
    Ok(wrapped.into_bytes())
}

/// GNU screen hands on at most 768 bytes at a time.
fn screen(plain: &str) -> String {
    const PIECE: usize = 500;
    let mut wrapped = String::with_capacity(plain.len() + plain.len() / PIECE * 4 + 4);
    for piece in plain.as_bytes().chunks(PIECE) {
        wrapped.push_str("\u{1b}P");
        wrapped.push_str(&String::from_utf8_lossy(piece));
        wrapped.push_str("\u{1b}\\");
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_for_what_sits_in_between() {
        let text = |multiplexer| String::from_utf8(sequence("hi", multiplexer).unwrap()).unwrap();
        assert_eq!(text(Multiplexer::None), "\u{1b}]52;c;aGk=\u{7}");
        assert_eq!(text(Multiplexer::Tmux), "\u{1b}Ptmux;\u{1b}\u{1b}]52;c;aGk=\u{7}\u{1b}\\");
        assert_eq!(text(Multiplexer::Screen), "\u{1b}P\u{1b}]52;c;aGk=\u{7}\u{1b}\\");
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(sequence(&long, Multiplexer::None).is_err());
    }
}
