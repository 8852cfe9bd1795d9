//! Bytes from the terminal, as keys, pasted text and clicks.
//!
//! Own rather than crossterm's reader, which spins when the terminal goes, waits without end for the
//! rest of what came in two parts, keeps pasted text of any length and loses a key that comes together
//! with another size of the window. The events are crossterm's.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::input::{Input, PASTE_BYTES_MAX};

const ESC: u8 = 0x1b;
const PASTE_END: &[u8] = b"\x1b[201~";
/// How long the rest of a key may take that began with Escape.
const ESCAPE: Duration = Duration::from_millis(50);
/// How long the rest of a pasted text may take. Then its end is lost, and what comes are keys again;
/// no sooner, or the rest of a text that was held up on its way would press keys.
const PASTE: Duration = Duration::from_secs(5);
/// Bytes of one key; longer ones are not keys.
const KEY_BYTES_MAX: usize = 64;

/// What came so far and is not complete.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    pending: Vec<u8>,
    paste: Option<Paste>,
}

/// A text that is being pasted.
#[derive(Debug, Default)]
struct Paste {
    text: Vec<u8>,
    /// The last bytes, in which the end may have begun.
    tail: Vec<u8>,
}

/// What the next bytes are.
enum Step {
    /// The beginning of something.
    Wait,
    /// So many bytes are this, or nothing that is known here.
    Take(usize, Option<Input>),
    /// So many bytes begin a paste.
    Paste(usize),
}

impl Decoder {
    /// Takes bytes as they came; gives what is complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for byte in bytes {
            match &mut self.paste {
                Some(paste) => {
                    if paste.push(*byte) {
                        inputs.extend(self.paste.take().map(Paste::into_input));
                    }
                }
                None => {
                    self.pending.push(*byte);
                    self.decode(false, &mut inputs);
                }
            }
        }
        inputs
    }

    /// How long to wait for the bytes that complete what was begun, if something was.
    pub(super) fn patience(&self) -> Option<Duration> {
        let key = (!self.pending.is_empty()).then_some(ESCAPE);
        self.paste.as_ref().map(|_| PASTE).or(key)
    }

    /// Nothing more came for that long: an Escape was the key and not a beginning, and a pasted text
    /// is what came of it.
    pub(super) fn settle(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        inputs.extend(self.paste.take().map(Paste::into_input));
        self.decode(true, &mut inputs);
        inputs
    }

    fn decode(&mut self, is_all: bool, inputs: &mut Vec<Input>) {
        while !self.pending.is_empty() && self.paste.is_none() {
            let is_all = is_all || self.pending.len() >= KEY_BYTES_MAX;
            match step(&self.pending, is_all) {
                Step::Wait => return,
                Step::Take(count, input) => {
                    self.pending.drain(..count);
                    inputs.extend(input);
                }
                Step::Paste(count) => {
                    self.pending.drain(..count);
                    self.paste = Some(Paste::default());
                }
            }
        }
    }
}

impl Paste {
    /// Takes a byte; tells whether it was the last.
    fn push(&mut self, byte: u8) -> bool {
        self.tail.push(byte);
        if self.tail == PASTE_END {
            return true;
        }
        while !PASTE_END.starts_with(&self.tail) {
            let text = self.tail.remove(0);
            if self.text.len() < PASTE_BYTES_MAX {
                self.text.push(text);
            }
        }
        false
    }

    fn into_input(self) -> Input {
        let text = String::from_utf8_lossy(&self.text);
        // A character that was cut in the middle is left out rather than replaced.
        let is_full = self.text.len() == PASTE_BYTES_MAX;
        let text = if is_full { text.trim_end_matches('\u{fffd}') } else { &text };
        Input::Paste(text.to_owned())
    }
}

/// What these bytes begin with; `is_all` if no more will come.
fn step(bytes: &[u8], is_all: bool) -> Step {
    let is_short = |count| bytes.len() < count && !is_all;
    match bytes {
        [ESC] if is_all => take(1, KeyCode::Esc, KeyModifiers::NONE),
        [ESC] => Step::Wait,
        [ESC, ESC, ..] => take(1, KeyCode::Esc, KeyModifiers::NONE),
        [ESC, b'[' | b'O'] if is_short(3) => Step::Wait,
        // The Linux console's F1 to F5.
        [ESC, b'[', b'[', key, ..] => known(4, function(key.wrapping_sub(b'A').wrapping_add(1))),
        // A click as very old terminals tell it.
        [ESC, b'[', b'M', _, _, _, ..] => Step::Take(6, None),
        [ESC, b'[', b'[' | b'M', ..] if !is_all => Step::Wait,
        [ESC, b'[', rest @ ..] if !rest.is_empty() => sequence(rest, is_all),
        [ESC, b'O', key, ..] => known(3, letter(*key)),
        [ESC, rest @ ..] => match plain(rest, is_all) {
            Step::Take(count, Some(Input::Key(key))) if has_alt(&key) => {
                take(count + 1, key.code, key.modifiers | KeyModifiers::ALT)
            }
            Step::Take(..) => take(1, KeyCode::Esc, KeyModifiers::NONE),
            other => other,
        },
        _ => plain(bytes, is_all),
    }
}

/// Whether a key is one that is pressed with Alt, as lines are edited. Before every other one an
/// Escape is the key itself: a slow way brings both at once, and what was left with Escape must not
/// get the key after it.
fn has_alt(key: &KeyEvent) -> bool {
    matches!(key.code, KeyCode::Char('b' | 'f') | KeyCode::Backspace) && key.modifiers.is_empty()
}

/// A key without an escape sequence.
fn plain(bytes: &[u8], is_all: bool) -> Step {
    let control = |c: u8| take(1, KeyCode::Char(char::from(c)), KeyModifiers::CONTROL);
    match bytes[0] {
        b'\r' => take(1, KeyCode::Enter, KeyModifiers::NONE),
        b'\t' => take(1, KeyCode::Tab, KeyModifiers::NONE),
        0x7f => take(1, KeyCode::Backspace, KeyModifiers::NONE),
        0 => control(b' '),
        byte @ 0x01..=0x1a => control(byte - 1 + b'a'),
        byte @ 0x1c..=0x1f => control(byte - 0x1c + b'4'),
        _ => match first_char(bytes) {
            Ok(c) => {
                let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
                take(c.len_utf8(), KeyCode::Char(c), shift)
            }
            Err(None) if !is_all => Step::Wait,
            Err(None) => Step::Take(bytes.len(), None),
            Err(Some(count)) => Step::Take(count, None),
        },
    }
}

/// The first character; otherwise how many bytes are none, or nothing if it is not complete.
fn first_char(bytes: &[u8]) -> Result<char, Option<usize>> {
    let bytes = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(error) => return Err(error.error_len()),
    };
    valid.chars().next().ok_or(None)
}

/// What follows `ESC [`.
fn sequence(rest: &[u8], is_all: bool) -> Step {
    let Some(end) = rest.iter().position(|byte| !(0x20..0x40).contains(byte)) else {
        return if is_all { Step::Take(rest.len() + 2, None) } else { Step::Wait };
    };
    let (parameters, last, count) = (&rest[..end], rest[end], end + 3);
    if !(0x40..0x7f).contains(&last) {
        // Something else begins in the middle.
        return Step::Take(count - 1, None);
    }
    if let Some(mouse) = parameters.strip_prefix(b"<") {
        return Step::Take(count, click(mouse, last));
    }
    let numbers = numbers(parameters);
    let first = numbers.first().copied().unwrap_or(0);
    let code = match last {
        b'~' if first == 200 => return Step::Paste(count),
        b'~' => tilde(first),
        b'Z' => Some(KeyCode::BackTab),
        key => letter(key),
    };
    match code {
        Some(KeyCode::BackTab) => take(count, KeyCode::BackTab, KeyModifiers::SHIFT),
        Some(code) => take(count, code, modifiers(numbers.get(1).copied())),
        None => Step::Take(count, None),
    }
}

fn numbers(parameters: &[u8]) -> Vec<u16> {
    let text = std::str::from_utf8(parameters).unwrap_or_default();
    text.split(';').map(|number| number.parse().unwrap_or(0)).collect()
}

fn letter(key: u8) -> Option<KeyCode> {
    Some(match key {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'M' => KeyCode::Enter,
        b'P'..=b'S' => KeyCode::F(key - b'P' + 1),
        _ => return None,
    })
}

fn tilde(number: u16) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F(number as u8 - 10),
        17..=21 => KeyCode::F(number as u8 - 11),
        23 | 24 => KeyCode::F(number as u8 - 12),
        _ => return None,
    })
}

fn function(number: u8) -> Option<KeyCode> {
    (1..=5).contains(&number).then_some(KeyCode::F(number))
}

fn modifiers(number: Option<u16>) -> KeyModifiers {
    let bits = number.unwrap_or(1).saturating_sub(1);
    let mut modifiers = KeyModifiers::NONE;
    for (bit, modifier) in
        [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)]
    {
        if bits & bit != 0 {
            modifiers |= modifier;
        }
    }
    modifiers
}

/// A click or a turn of the wheel; movements are not asked for and not told.
fn click(parameters: &[u8], last: u8) -> Option<Input> {
    let [button, column, row] = numbers(parameters)[..] else { return None };
    let kind = match (button & 0b1100_0011, last) {
        (64, b'M') => MouseEventKind::ScrollUp,
        (65, b'M') => MouseEventKind::ScrollDown,
        (number @ 0..=2, b'M' | b'm') => {
            let button =
                [MouseButton::Left, MouseButton::Middle, MouseButton::Right][usize::from(number)];
            if last == b'M' { MouseEventKind::Down(button) } else { MouseEventKind::Up(button) }
        }
        _ => return None,
    };
    let mut held = KeyModifiers::NONE;
    for (bit, modifier) in
        [(4, KeyModifiers::SHIFT), (8, KeyModifiers::ALT), (16, KeyModifiers::CONTROL)]
    {
        if button & bit != 0 {
            held |= modifier;
        }
    }
    let (column, row) = (column.checked_sub(1)?, row.checked_sub(1)?);
    Some(Input::Mouse(MouseEvent { kind, column, row, modifiers: held }))
}

fn take(count: usize, code: KeyCode, modifiers: KeyModifiers) -> Step {
    Step::Take(count, Some(Input::Key(KeyEvent::new(code, modifiers))))
}

fn known(count: usize, code: Option<KeyCode>) -> Step {
    match code {
        Some(code) => take(count, code, KeyModifiers::NONE),
        None => Step::Take(count, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Vec<Input> {
        let mut decoder = Decoder::default();
        let mut inputs = decoder.push(bytes);
        inputs.extend(decoder.settle());
        assert_eq!(decoder.patience(), None);
        inputs
    }

    fn key(code: KeyCode, modifiers: KeyModifiers) -> Input {
        Input::Key(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn keys_as_terminals_send_them() {
        const NONE: KeyModifiers = KeyModifiers::NONE;
        const CONTROL: KeyModifiers = KeyModifiers::CONTROL;
        for (bytes, code, modifiers) in [
            ("x", KeyCode::Char('x'), NONE),
            ("G", KeyCode::Char('G'), KeyModifiers::SHIFT),
            ("ä", KeyCode::Char('ä'), NONE),
            ("世", KeyCode::Char('世'), NONE),
            ("\r", KeyCode::Enter, NONE),
            ("\n", KeyCode::Char('j'), CONTROL),
            ("\t", KeyCode::Tab, NONE),
            ("\x7f", KeyCode::Backspace, NONE),
            ("\x08", KeyCode::Char('h'), CONTROL),
            ("\x1a", KeyCode::Char('z'), CONTROL),
            ("\0", KeyCode::Char(' '), CONTROL),
            ("\x1b", KeyCode::Esc, NONE),
            ("\x1bb", KeyCode::Char('b'), KeyModifiers::ALT),
            ("\x1b\x7f", KeyCode::Backspace, KeyModifiers::ALT),
            ("\x1b[A", KeyCode::Up, NONE),
            ("\x1bOB", KeyCode::Down, NONE),
            ("\x1b[1;5C", KeyCode::Right, CONTROL),
            ("\x1b[1;2D", KeyCode::Left, KeyModifiers::SHIFT),
            ("\x1b[H", KeyCode::Home, NONE),
            ("\x1b[1~", KeyCode::Home, NONE),
            ("\x1b[4~", KeyCode::End, NONE),
            ("\x1bOF", KeyCode::End, NONE),
            ("\x1b[3~", KeyCode::Delete, NONE),
            ("\x1b[3;5~", KeyCode::Delete, CONTROL),
            ("\x1b[5~", KeyCode::PageUp, NONE),
            ("\x1b[6~", KeyCode::PageDown, NONE),
            ("\x1b[Z", KeyCode::BackTab, KeyModifiers::SHIFT),
            ("\x1bOP", KeyCode::F(1), NONE),
            ("\x1b[[E", KeyCode::F(5), NONE),
            ("\x1b[15~", KeyCode::F(5), NONE),
            ("\x1b[21~", KeyCode::F(10), NONE),
            ("\x1b[24~", KeyCode::F(12), NONE),
        ] {
            assert_eq!(decoded(bytes.as_bytes()), [key(code, modifiers)], "{bytes:?}");
        }
    }

    #[test]
    fn a_key_that_comes_together_with_escape_is_a_key_of_its_own() {
        const NONE: KeyModifiers = KeyModifiers::NONE;
        for (bytes, code, modifiers) in [
            ("\x1by", KeyCode::Char('y'), NONE),
            ("\x1b\r", KeyCode::Enter, NONE),
            ("\x1b\x02", KeyCode::Char('b'), KeyModifiers::CONTROL),
            ("\x1b世", KeyCode::Char('世'), NONE),
            ("\x1b[", KeyCode::Char('['), NONE),
            ("\x1bO", KeyCode::Char('O'), KeyModifiers::SHIFT),
        ] {
            let both = [key(KeyCode::Esc, NONE), key(code, modifiers)];
            assert_eq!(decoded(bytes.as_bytes()), both, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_no_key() {
        for bytes in ["\x1b[?1;2c", "\x1b[I", "\x1b[99~", "\x1b[M !!", "\x1b[<35;1;1M", "\x1b[0n"] {
            assert_eq!(decoded(bytes.as_bytes()), [], "{bytes:?}");
        }
        assert_eq!(decoded(b"\xff\xc3x").len(), 1);
        let long = [b"\x1b[".as_slice(), &[b'1'; 1000]].concat();
        assert!(
            decoded(&long)
                .iter()
                .all(|input| *input == key(KeyCode::Char('1'), KeyModifiers::NONE))
        );
    }

    #[test]
    fn clicks_and_the_wheel() {
        let mouse = |bytes: &[u8]| match &decoded(bytes)[..] {
            [Input::Mouse(mouse)] => *mouse,
            other => panic!("{other:?}"),
        };
        let down = mouse(b"\x1b[<0;3;4M");
        assert_eq!(
            (down.kind, down.column, down.row),
            (MouseEventKind::Down(MouseButton::Left), 2, 3)
        );
        assert_eq!(mouse(b"\x1b[<2;1;1m").kind, MouseEventKind::Up(MouseButton::Right));
        assert_eq!(mouse(b"\x1b[<64;1;1M").kind, MouseEventKind::ScrollUp);
        let wheel = mouse(b"\x1b[<81;1;1M");
        assert_eq!(wheel.kind, MouseEventKind::ScrollDown);
        assert_eq!(wheel.modifiers, KeyModifiers::CONTROL);
        assert_eq!(decoded(b"\x1b[<0;0;1M"), []);
    }

    #[test]
    fn pasted_text_is_one_thing_with_a_bound() {
        let paste = |text: &str| decoded(format!("\x1b[200~{text}\x1b[201~q").as_bytes());
        for text in ["", "quit\r\x1a", "\x1b[A", "\x1b[20\x1b", "a\x1b[200~b", "世"] {
            let inputs = paste(text);
            assert_eq!(inputs[0], Input::Paste(text.to_owned()), "{text:?}");
            assert_eq!(inputs[1..], [key(KeyCode::Char('q'), KeyModifiers::NONE)]);
        }
        let Input::Paste(long) = &paste(&format!("x{}", "ä".repeat(PASTE_BYTES_MAX)))[0] else {
            panic!("no paste")
        };
        assert_eq!(long.len(), PASTE_BYTES_MAX - 1);
    }

    #[test]
    fn a_paste_whose_end_is_lost_keeps_keys_for_a_while_only() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"\x1b[200~abc\x1b[20"), []);
        assert_eq!(decoder.push(b"j"), [], "it may be a part of the text");
        assert_eq!(decoder.patience(), Some(PASTE));
        assert_eq!(decoder.settle(), [Input::Paste("abc\x1b[20j".to_owned())]);
        assert_eq!(decoder.patience(), None);
        assert_eq!(decoder.push(b"j"), [key(KeyCode::Char('j'), KeyModifiers::NONE)]);
    }

    #[test]
    fn an_escape_waits_for_what_may_follow() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"\x1b"), []);
        assert_eq!(decoder.patience(), Some(ESCAPE));
        assert_eq!(decoder.push(b"["), []);
        assert_eq!(decoder.push(b"A"), [key(KeyCode::Up, KeyModifiers::NONE)]);
        assert_eq!(decoder.patience(), None);
        assert_eq!(decoder.push(b"\x1b\x1b"), [key(KeyCode::Esc, KeyModifiers::NONE)]);
        assert_eq!(decoder.settle(), [key(KeyCode::Esc, KeyModifiers::NONE)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_mean_what_the_whole_means(
            keys in prop::collection::vec(prop::sample::select(vec![
                "x", "G", "世", "\x1b[A", "\x1b[3;5~", "\x1bb", "\x1b[<0;1;1M", "\x1b[200~a\x1b\x1b[201~",
            ]), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = keys.concat().into_bytes();
            let mut decoder = Decoder::default();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let inputs: Vec<Input> =
                at.windows(2).flat_map(|part| decoder.push(&bytes[part[0]..part[1]])).collect();
            prop_assert_eq!(inputs.len(), keys.len());
            prop_assert_eq!(inputs, decoded(&bytes));
        }

        #[test]
        fn any_bytes_end_somewhere(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            decoder.settle();
            prop_assert_eq!(decoder.patience(), None);
        }
    }
}
