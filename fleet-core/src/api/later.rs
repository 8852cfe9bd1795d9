//! Words of a later release. A client that is older than its server shows them as they are, rather
//! than fail at a whole list for one of them.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};

use crate::untrusted::escaped;

/// Bytes of such a word; what is longer is cut.
const BYTES_MAX: usize = 40;

/// A word that this release does not know. Safe to show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaterWord {
    bytes: [u8; BYTES_MAX],
    len: u8,
}

impl LaterWord {
    /// The word that a text is.
    pub fn new(text: &str) -> Self {
        let text = escaped(text);
        let end = (0..=BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        let text = &text.as_bytes()[..end.unwrap_or_default()];
        let mut bytes = [0; BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Self { bytes, len: text.len() as u8 }
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for LaterWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Reads one of some words; `read` takes every text.
pub(super) fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: fn(&str) -> T,
) -> Result<T, D::Error> {
    struct Word<T>(fn(&str) -> T);

    impl<T> Visitor<'_> for Word<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a word")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            Ok((self.0)(text))
        }
    }

    deserializer.deserialize_str(Word(read))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::api::{DeviceStatus, EventKind};

    #[test]
    fn a_word_is_kept_as_it_is_but_for_what_could_do_harm() {
        for (text, shown) in [
            ("updating", "updating"),
            ("", ""),
            ("a\u{1b}[2J", r"a\u{1b}[2J"),
            (&"ä".repeat(30), &"ä".repeat(20)),
            (&"x".repeat(39), &"x".repeat(39)),
        ] {
            assert_eq!(LaterWord::new(text).as_str(), shown);
        }
    }

    #[test]
    fn what_only_a_later_release_knows_is_read_and_written_as_it_is() {
        let status: DeviceStatus = serde_json::from_value(json!("updating")).unwrap();
        assert_eq!((status.word(), status.is_heard()), ("updating", false));
        assert_eq!(serde_json::to_value(status).unwrap(), json!("updating"));
        let kind: EventKind = serde_json::from_value(json!("ota.done")).unwrap();
        assert_eq!(kind.word(), "ota.done");
        assert_eq!(serde_json::to_value(kind).unwrap(), json!("ota.done"));
        let counts = json!({"online": 3, "updating": 1});
        let read: BTreeMap<DeviceStatus, u32> = serde_json::from_value(counts.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), counts);
        // Another release's word is no licence for anything else.
        assert!(serde_json::from_value::<DeviceStatus>(json!(7)).is_err());
        assert!(serde_json::from_value::<EventKind>(json!(null)).is_err());
    }
}
