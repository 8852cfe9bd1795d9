//! Server-sent events, read as they come: bytes in, events out, cut wherever the network cut them.
//!
//! The grammar is the one of the HTML standard: lines end in CR, LF or both; a leading byte order
//! mark, comments and unknown fields are passed over; several `data` lines are joined. What the
//! standard leaves open is bounded: a line and an event each have an end.

use bytes::{Buf as _, Bytes};

/// Bytes of a line.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all `data` lines of one event.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its `event` line; `message` if it has none.
    pub(super) name: String,
    /// Its `data` lines.
    pub(super) data: String,
    /// The newest `id` line so far, of this event or one before.
    pub(super) id: Option<String>,
}

/// Why what comes cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum SseError {
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    Line,
    #[error("an event is longer than {EVENT_BYTES_MAX} bytes")]
    Event,
}

/// What has come of a stream and is not yet an event.
#[derive(Default)]
pub(super) struct Parser {
    chunk: Bytes,
    line: Vec<u8>,
    is_after_cr: bool,
    is_begun: bool,
    name: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// Takes bytes. Call [`Parser::next`] until it has nothing before the next ones.
    pub(super) fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.chunk.is_empty(), "what came before is read");
        self.chunk = bytes;
    }

    /// The next whole event; nothing before more bytes come.
    pub(super) fn next(&mut self) -> Result<Option<Event>, SseError> {
        while self.next_line()? {
            let line = std::mem::take(&mut self.line);
            let event = self.take_line(&line)?;
            self.line = line;
            self.line.clear();
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Completes the line, if its end is there.
    fn next_line(&mut self) -> Result<bool, SseError> {
        if self.is_after_cr && !self.chunk.is_empty() {
            self.is_after_cr = false;
            if self.chunk[0] == b'\n' {
                self.chunk.advance(1);
            }
        }
        let end = self.chunk.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let part = self.chunk.split_to(end.unwrap_or(self.chunk.len()));
        if self.line.len() + part.len() > LINE_BYTES_MAX {
            return Err(SseError::Line);
        }
        self.line.extend_from_slice(&part);
        if end.is_none() {
            return Ok(false);
        }
        self.is_after_cr = self.chunk.get_u8() == b'\r';
        Ok(true)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Event>, SseError> {
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_first).unwrap_or(line);
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.take_data(value)?,
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {} // comments, `retry`, and what a later standard has
        }
        Ok(None)
    }

    fn take_data(&mut self, value: &str) -> Result<(), SseError> {
        if self.data.len() + value.len() + 1 > EVENT_BYTES_MAX {
            return Err(SseError::Event);
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push('\n');
        }
        self.data.push_str(value);
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let name = if name.is_empty() { "message".to_owned() } else { name };
        std::mem::take(&mut self.has_data).then(|| Event { name, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Event>, SseError> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(Bytes::copy_from_slice(piece));
            while let Some(event) = parser.next()? {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn the_grammar_is_the_standards() {
        let cases: &[(&str, &[Event])] = &[
            ("event: ping\ndata: {}\n\n", &[event("ping", "{}", None)]),
            ("data:x\n\n", &[event("message", "x", None)]),
            ("data:  x\n\n", &[event("message", " x", None)]),
            ("data: a\ndata: b\ndata\n\n", &[event("message", "a\nb\n", None)]),
            ("data\n\n", &[event("message", "", None)]),
            (
                "data: a\r\n\r\ndata: b\r\rdata: c\n\n",
                &[
                    event("message", "a", None),
                    event("message", "b", None),
                    event("message", "c", None),
                ],
            ),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[event("message", "a", None)]),
            (": comment\nretry: 5\nx: y\ndata: a\n\n", &[event("message", "a", None)]),
            (
                "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
                &[
                    event("message", "a", Some("1")),
                    event("message", "b", Some("1")),
                    event("message", "c", Some("")),
                ],
            ),
            ("id: 1\nid: 2\0\ndata: a\n\n", &[event("message", "a", Some("1"))]),
            // Without data there is no event, and its name does not stay for the next one.
            ("event: x\n\ndata: a\n\n", &[event("message", "a", None)]),
            ("data: never finished\n", &[]),
        ];
        for (text, events) in cases {
            assert_eq!(read(&[text.as_bytes()]).unwrap(), *events, "{text:?}");
        }
    }

    #[test]
    fn where_the_network_cuts_makes_no_difference() {
        let text = "\u{feff}id: 7\r\nevent: index\r\ndata: ü\r\ndata: €\r\n\r\n: c\rdata: z\r\r";
        let whole = read(&[text.as_bytes()]).unwrap();
        assert_eq!(whole, [event("index", "ü\n€", Some("7")), event("message", "z", Some("7"))]);
        for cut in 0..=text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            assert_eq!(read(&[one, other]).unwrap(), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), whole);
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(read(&[&long]), Err(SseError::Line));
        let (one, other) = long.split_at(LINE_BYTES_MAX / 2);
        assert_eq!(read(&[one, other]), Err(SseError::Line));
        let data = [b"data: ".as_slice(), &vec![b'x'; LINE_BYTES_MAX - 6], b"\n"].concat();
        let pieces = vec![data.as_slice(); 5];
        assert_eq!(read(&pieces), Err(SseError::Event));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_however_cut(
            bytes in proptest::collection::vec(
                proptest::sample::select(b"dataeventid: \r\n\0\xef\xbb\xbfx".to_vec()), 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(read(&pieces).unwrap(), read(&[&bytes]).unwrap());
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z]{1,8}", data in "\\PC{0,40}", id in "[0-9a-f-]{1,20}",
        ) {
            let text = format!("id: {id}\nevent: {name}\ndata: {data}\n\n");
            prop_assert_eq!(read(&[text.as_bytes()]).unwrap(), [event(&name, &data, Some(&id))]);
        }
    }
}
