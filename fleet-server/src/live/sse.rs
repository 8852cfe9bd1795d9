//! Server-sent events, written.

use std::io::Write as _;

use serde::Serialize;

use super::board::Delta;
use super::position::Position;

/// Messages that go out together.
#[derive(Default)]
pub(super) struct Piece {
    bytes: Vec<u8>,
}

impl Piece {
    /// Adds a message.
    pub(super) fn add(
        &mut self,
        word: &str,
        position: Option<Position>,
        data: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        // JSON has its line breaks escaped, so the data is one line.
        let data = serde_json::to_vec(data)?;
        self.begin(word, position);
        self.bytes.extend_from_slice(&data);
        self.end();
        Ok(())
    }

    /// Adds a page of the index, whose rows are written already.
    pub(super) fn add_index(
        &mut self,
        position: Position,
        delta: &Delta,
    ) -> Result<(), serde_json::Error> {
        let gone = serde_json::to_vec(&delta.gone)?;
        self.begin("index", Some(position));
        self.bytes.extend_from_slice(b"{\"rows\":[");
        for (number, row) in delta.rows.iter().enumerate() {
            if number > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(row);
        }
        self.bytes.push(b']');
        if !delta.gone.is_empty() {
            self.bytes.extend_from_slice(b",\"gone\":");
            self.bytes.extend_from_slice(&gone);
        }
        let complete: &[u8] =
            if delta.is_complete { b",\"complete\":true}" } else { b",\"complete\":false}" };
        self.bytes.extend_from_slice(complete);
        self.end();
        Ok(())
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, if there are any.
    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        (!self.bytes.is_empty()).then_some(self.bytes)
    }

    fn begin(&mut self, word: &str, position: Option<Position>) {
        if let Some(position) = position {
            writeln!(self.bytes, "id: {position}").expect("writing to memory cannot fail");
        }
        self.bytes.extend_from_slice(b"event: ");
        self.bytes.extend_from_slice(word.as_bytes());
        self.bytes.extend_from_slice(b"\ndata: ");
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fleet_core::api::IndexPage;
    use fleet_core::id::Uid;

    use super::*;

    #[test]
    fn a_page_reads_as_the_type_that_readers_have() {
        let position = Position { instance: Uid::from_bytes([1; 16]), revision: 4, event: 2 };
        for gone in [vec![], vec![3, 9]] {
            let rows: Vec<Bytes> = Vec::new();
            let delta = Delta { rows, gone: gone.clone(), revision: 4, is_complete: true };
            let mut piece = Piece::default();
            piece.add_index(position, &delta).unwrap();
            let text = String::from_utf8(piece.into_bytes().unwrap()).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "id: 01010101-0101-0101-0101-010101010101-4-2");
            assert_eq!(lines[1], "event: index");
            let page: IndexPage =
                serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!((page.gone, page.complete), (gone, true));
            assert!(text.ends_with("\n\n"));
        }
    }

    #[test]
    fn t21_hostile_text_stays_inside_its_line() {
        let mut piece = Piece::default();
        piece.add("event", None, &"a\n\nevent: x\r\n\0\u{2028}").unwrap();
        let text = String::from_utf8(piece.into_bytes().unwrap()).unwrap();
        assert_eq!(text.matches(['\n', '\r']).count(), 3, "{text:?}");
    }
}
