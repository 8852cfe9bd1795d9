//! What makes a link unguessable.

use data_encoding::BASE64URL_NOPAD;
use fleet_core::identity::ServerIdentity;
use fleet_core::secret::{ApiKey, KeyKind};
use zeroize::Zeroizing;

const BYTES: usize = 32;

/// A seed of an enrolment key, as the last part of a link has it.
pub(crate) struct Token(Zeroizing<[u8; BYTES]>);

impl Token {
    /// A new one.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; BYTES]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self(seed))
    }

    /// The one in a link, if it has the shape of one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// Its text.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(self.0.as_slice()))
    }

    /// The enrolment key that follows from it.
    pub(crate) fn key(&self, server: ServerIdentity) -> ApiKey {
        ApiKey::derive(KeyKind::Enrol, &self.0, server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let token = Token::generate().unwrap();
        let text = token.text();
        assert_eq!(Token::parse(&text).unwrap().text(), text);
        for wrong in ["", "x", "../../etc/passwd", &text[1..], &format!("{}A", *text)] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }
}
