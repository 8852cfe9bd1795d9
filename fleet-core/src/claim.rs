//! What a claimer proves to a device whose policy asks for more than being near: that it knows the
//! device's code, or the key that the device's owner put on all of them.
//!
//! The secret itself is never sent. A [proof](ClaimSecret::prove) is its MAC over one TLS connection,
//! both keys and the grant: whoever reads one can use it nowhere else, and a hundred random bits
//! cannot be guessed from it.

use std::fmt;
use std::str::FromStr;

use data_encoding::{
    BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, DecodeError, HEXLOWER_PERMISSIVE,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::api::ClaimMode;

/// Characters of a code, five random bits each.
const CODE_CHARS: usize = 20;
/// Crockford's base32: nothing in it looks like something else in it.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters between dashes.
const CODE_GROUP: usize = 5;
/// Bytes of a claim key.
const KEY_BYTES_MIN: usize = 32;
const KEY_BYTES_MAX: usize = 256;

/// What one device has its claimer know; made on the device, and good for one claim.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimCode(Zeroizing<String>);

impl ClaimCode {
    /// A new one from the system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = Zeroizing::new([0; CODE_CHARS]);
        getrandom::fill(random.as_mut_slice())?;
        let chars = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
        Ok(Self(Zeroizing::new(chars.collect())))
    }

    /// The code as people read it: `7KQ2M-3XAPN-5W2ZN-0B4CD`.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CODE_CHARS + CODE_CHARS / CODE_GROUP));
        for (place, char) in self.0.chars().enumerate() {
            if place > 0 && place % CODE_GROUP == 0 {
                text.push('-');
            }
            text.push(char);
        }
        text
    }
}

impl fmt::Debug for ClaimCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimCode(hidden)")
    }
}

/// Why a text is no claim code.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClaimCodeError {
    /// Too short or too long.
    #[error("a claim code has {CODE_CHARS} characters, and this has {0}")]
    Length(usize),
    /// A character that no code has.
    #[error("a claim code has digits and letters without U, and this has {0:?}")]
    Character(char),
}

impl FromStr for ClaimCode {
    type Err = ClaimCodeError;

    /// Case and dashes do not matter, nor does what is easily taken for something else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut code = Zeroizing::new(String::with_capacity(CODE_CHARS));
        let mut count = 0;
        for char in text.chars().filter(|char| *char != '-' && !char.is_whitespace()) {
            let plain = match char.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            if !ALPHABET.iter().any(|known| char::from(*known) == plain) {
                return Err(ClaimCodeError::Character(char));
            }
            count += 1;
            if count <= CODE_CHARS {
                code.push(plain);
            }
        }
        if count == CODE_CHARS { Ok(Self(code)) } else { Err(ClaimCodeError::Length(count)) }
    }
}

/// What an owner put on all of his devices before they were given away.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimKey(hidden)")
    }
}

/// Why a text is no claim key. Never contains the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClaimKeyError {
    /// More lines than one, or none.
    #[error("not one line of hex or base64")]
    Line,
    /// Not what it should be.
    #[error("neither hex nor base64")]
    Text,
    /// Too short or too long.
    #[error("a claim key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, and this has {0}")]
    Length(usize),
}

impl FromStr for ClaimKey {
    type Err = ClaimKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(ClaimKeyError::Line);
        }
        let bytes = decode(text.as_bytes()).map_err(|_| ClaimKeyError::Text)?;
        if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(ClaimKeyError::Length(bytes.len()))
        }
    }
}

/// What could be hex is hex: as base64 it would have more bytes, but no more of them random.
fn decode(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let codings = [&BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD];
    let first = HEXLOWER_PERMISSIVE.decode(text);
    codings
        .into_iter()
        .fold(first, |decoded, coding| decoded.or_else(|_| coding.decode(text)))
        .map(Zeroizing::new)
}

/// What a claimer knows of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimSecret {
    /// Its code.
    Code(ClaimCode),
    /// The key that its owner put on all devices.
    Key(ClaimKey),
}

/// What a proof is about, so that it is good for nothing else.
#[derive(Clone, Copy, Debug)]
pub struct ClaimContext<'a> {
    /// The secret of the TLS connection that carries it.
    pub exporter: [u8; 32],
    /// The device's key.
    pub device_pub: [u8; 32],
    /// The key of the server that the device is to belong to.
    pub server_pub: [u8; 32],
    /// The grant's text.
    pub grant: &'a str,
}

impl ClaimSecret {
    /// Which policy asks for it.
    pub fn mode(&self) -> ClaimMode {
        match self {
            Self::Code(_) => ClaimMode::Code,
            Self::Key(_) => ClaimMode::Key,
        }
    }

    /// The proof, as text.
    pub fn prove(&self, context: &ClaimContext<'_>) -> String {
        BASE64URL_NOPAD.encode(&self.mac(context).finalize().into_bytes())
    }

    /// Whether a text is the proof, in a time that tells nothing.
    pub fn is_proven(&self, context: &ClaimContext<'_>, proof: &str) -> bool {
        let proof = BASE64URL_NOPAD.decode(proof.as_bytes());
        proof.is_ok_and(|proof| self.mac(context).verify_slice(&proof).is_ok())
    }

    fn mac(&self, context: &ClaimContext<'_>) -> Hmac<Sha256> {
        let (purpose, secret): (&[u8], &[u8]) = match self {
            Self::Code(code) => (b"FleetD claim by code v1\0", code.0.as_bytes()),
            Self::Key(key) => (b"FleetD claim by key v1\0", &key.0),
        };
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(purpose);
        mac.update(&context.exporter);
        mac.update(&context.device_pub);
        mac.update(&context.server_pub);
        mac.update(&Sha256::digest(context.grant));
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: ClaimContext<'static> =
        ClaimContext { exporter: [1; 32], device_pub: [2; 32], server_pub: [3; 32], grant: "g" };

    fn code(text: &str) -> ClaimSecret {
        ClaimSecret::Code(text.parse().unwrap())
    }

    fn key(text: &str) -> ClaimSecret {
        ClaimSecret::Key(text.parse().unwrap())
    }

    #[test]
    fn a_code_reads_back_however_it_is_typed() {
        let code = ClaimCode::generate().unwrap();
        let shown = code.reveal();
        assert_eq!((shown.len(), shown.matches('-').count()), (23, 3));
        assert_eq!(shown.parse(), Ok(code.clone()));
        assert_eq!(shown.to_lowercase().replace('-', " ").parse(), Ok(code.clone()));
        assert!(!format!("{code:?}").contains(shown.as_str()));
        assert_ne!(ClaimCode::generate().unwrap(), code);

        let plain: ClaimCode = "01010-1AAAA-AAAAA-AAAAA".parse().unwrap();
        for text in ["o1oio1aaaaaaaaaaaaaa", " OLOI0-laaaa AAAAA--aaaaa\n"] {
            assert_eq!(text.parse(), Ok(plain.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_no_code_is_told_before_it_is_tried() {
        for (text, wrong) in [
            ("", ClaimCodeError::Length(0)),
            ("0101011AAAAAAAAAAAA", ClaimCodeError::Length(19)),
            ("0101011AAAAAAAAAAAAAA", ClaimCodeError::Length(21)),
            ("01010-1AAAA-AAAAA-AAAAU", ClaimCodeError::Character('U')),
            ("01010-1AAAA-AAAAA-AAAA\u{1b}", ClaimCodeError::Character('\u{1b}')),
        ] {
            assert_eq!(text.parse::<ClaimCode>(), Err(wrong), "{text:?}");
        }
        let huge = "A".repeat(100_000);
        assert_eq!(huge.parse::<ClaimCode>(), Err(ClaimCodeError::Length(100_000)));
    }

    #[test]
    fn a_key_is_a_line_of_hex_or_base64() {
        let bytes: Vec<u8> = (200..240).collect();
        let texts = [
            HEXLOWER_PERMISSIVE.encode(&bytes),
            HEXLOWER_PERMISSIVE.encode(&bytes).to_uppercase(),
            BASE64.encode(&bytes),
            BASE64_NOPAD.encode(&bytes),
            format!(" {}\r\n", BASE64URL.encode(&bytes)),
            BASE64URL_NOPAD.encode(&bytes),
        ];
        for text in texts {
            assert_eq!(text.parse(), Ok(ClaimKey(Zeroizing::new(bytes.clone()))), "{text}");
        }
        let short = HEXLOWER_PERMISSIVE.encode(&bytes[..31]);
        for (text, wrong) in [
            ("", ClaimKeyError::Line),
            ("aa\nbb", ClaimKeyError::Line),
            ("correct-horse!", ClaimKeyError::Text),
            (short.as_str(), ClaimKeyError::Length(31)),
        ] {
            assert_eq!(text.parse::<ClaimKey>(), Err(wrong), "{text:?}");
        }
    }

    #[test]
    fn a_proof_holds_for_its_secret_and_its_connection_only() {
        let hex = "00".repeat(32);
        for (secret, other) in [
            (code("01010-1AAAA-AAAAA-AAAAA"), code("01010-1AAAA-AAAAA-AAAAB")),
            (key(&hex), key(&"01".repeat(32))),
        ] {
            let proof = secret.prove(&CONTEXT);
            assert!(secret.is_proven(&CONTEXT, &proof));
            assert!(!other.is_proven(&CONTEXT, &proof));
            for elsewhere in [
                ClaimContext { exporter: [9; 32], ..CONTEXT },
                ClaimContext { device_pub: [9; 32], ..CONTEXT },
                ClaimContext { server_pub: [9; 32], ..CONTEXT },
                ClaimContext { grant: "h", ..CONTEXT },
            ] {
                assert!(!secret.is_proven(&elsewhere, &proof), "{elsewhere:?}");
            }
            for nonsense in ["", "AAAA", &proof[1..], &format!("{proof}AAAA"), "\u{e9}"] {
                assert!(!secret.is_proven(&CONTEXT, nonsense), "{nonsense}");
            }
        }
        // The same bytes as another kind of secret prove nothing.
        let text = "01010".repeat(4);
        let as_key = ClaimSecret::Key(ClaimKey(Zeroizing::new(text.as_bytes().to_vec())));
        assert!(!code(&text).is_proven(&CONTEXT, &as_key.prove(&CONTEXT)));
    }

    #[test]
    fn a_proof_is_the_mac_that_is_documented() {
        // Reckoned with Python's hmac and hashlib.
        let proof = code("01010-1AAAA-AAAAA-AAAAA").prove(&CONTEXT);
        assert_eq!(proof, "7n4lHCDYCc8-Ygeq6jG5z6oUfl3VXDPOaOzrgJBgG7w");
    }
}
