//! For tests of whatever writes through [`Output`]: streams to read afterwards, and the texts of
//! hostile devices.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::listed::Format;
use super::output::{Output, Terminal};
use crate::untrusted::write_escaped;

/// A stream that can be read afterwards.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// What was written so far.
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("only text was written")
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output to read afterwards: its stdout and its stderr.
pub fn written(format: Format, terminal: Terminal) -> (Output<'static>, Written, Written) {
    let (out, err) = (Written::default(), Written::default());
    (Output::new(format.into(), terminal, out.clone(), err.clone()), out, err)
}

/// All that a hostile device or server might send.
pub const HOSTILE: &[&str] = &[
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "a\u{9b}31m\u{90}q\u{9c}",
    "\r\nforged line\n",
    "\u{202e}gnp.exe\u{2066}x\u{200b}",
    "\u{0}\u{8}\u{7f}\u{b}\u{c}\t",
    "=cmd|' /C calc'!A0",
    "a,\"b\"\n;c",
    "\u{e0041}\u{feff}\u{2028}",
];

/// The escape sequences that a table may have.
const COLOURS: [&str; 6] =
    ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[36m", "\u{1b}[90m", "\u{1b}[0m"];

/// Fails if a text would do more to a terminal than show itself in our colours.
pub fn assert_harmless(text: &str) {
    let mut plain = text.to_owned();
    for code in COLOURS {
        plain = plain.replace(code, "");
    }
    let shown = plain.replace('\n', "");
    let mut safe = String::new();
    write_escaped(&mut safe, &shown, usize::MAX).expect("writing to a String cannot fail");
    assert_eq!(shown, safe);
}
