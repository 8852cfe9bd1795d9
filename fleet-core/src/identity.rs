//! Who is who: ed25519 keys of the server and of devices, and the short texts by which people
//! and key texts refer to them.
//!
//! A server is known by its identity `FD1-XXXX-XXXX-XXXX-XXXX`, a device by its fingerprint of
//! sixteen lower-case characters: both are the first 80 bits of the SHA-256 of the public key.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A private key. Has no `Debug`; it shows itself to nobody.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// A new one from the system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::from_seed(&seed))
    }

    /// The key that grows from a stored seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What to store, in a place nobody else can read.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message whose first bytes say what it is for.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// A public key; base64url in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From bytes that came over a link or from a store. Whether it is a point on the curve
    /// shows when a signature is checked.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// Whether the key's owner signed this message.
    pub fn verify(self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }

    /// The identity of a server with this key.
    pub fn identity(self) -> ServerIdentity {
        ServerIdentity(self.digest())
    }

    /// The fingerprint of a device with this key: sixteen lower-case characters.
    pub fn fingerprint(self) -> Fingerprint {
        Fingerprint(self.digest())
    }

    fn digest(self) -> [u8; 10] {
        let hash = Sha256::digest(self.0);
        let mut digest = [0; 10];
        digest.copy_from_slice(&hash[..10]);
        digest
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A text that is no key, identity or fingerprint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not a public key.
    #[error("not a public key")]
    Key,
    /// Not a server identity.
    #[error("not a server identity like FD1-7KQ2-M3XA-PL5W-2ZNO")]
    Server,
    /// Not a fingerprint.
    #[error("not a device fingerprint (sixteen of a-z and 2-7)")]
    Fingerprint,
}

impl TryFrom<String> for PublicKey {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| IdentityError::Key)?;
        Ok(Self(bytes.try_into().map_err(|_| IdentityError::Key)?))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// A server, as people and key texts name it: `FD1-7KQ2-M3XA-PL5W-2ZNO`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerIdentity([u8; 10]);

impl fmt::Display for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE32_NOPAD.encode(&self.0);
        f.pad(&format!("FD1-{}-{}-{}-{}", &text[..4], &text[4..8], &text[8..12], &text[12..]))
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ServerIdentity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("FD1-").ok_or(IdentityError::Server)?;
        let letters: String = rest.chars().filter(|c| *c != '-').collect();
        let bytes = BASE32_NOPAD.decode(letters.as_bytes()).map_err(|_| IdentityError::Server)?;
        Ok(Self(bytes.try_into().map_err(|_| IdentityError::Server)?))
    }
}

impl TryFrom<String> for ServerIdentity {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServerIdentity> for String {
    fn from(identity: ServerIdentity) -> Self {
        identity.to_string()
    }
}

/// A device's key, as people compare it: `k3xq2mzz7abcd2ef`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 10]);

impl Fingerprint {
    /// The first six characters, as they mark a name.
    pub fn short(self) -> String {
        self.to_string().chars().take(6).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        let bytes =
            BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| IdentityError::Fingerprint)?;
        Ok(Self(bytes.try_into().map_err(|_| IdentityError::Fingerprint)?))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_key_read_back() {
        let key = PrivateKey::from_seed(&[7; 32]).public();
        let identity = key.identity();
        assert!(identity.to_string().starts_with("FD1-"));
        assert_eq!(identity.to_string().parse(), Ok(identity));
        assert_eq!(key.fingerprint().to_string().parse(), Ok(key.fingerprint()));
        assert_eq!(PublicKey::try_from(key.to_string()), Ok(key));
        for bad in
            ["", "FD1", "FD1-", "FD1-AAAA", "FD2-AAAA-AAAA-AAAA-AAAA", "FD1-0000-0000-0000-0000"]
        {
            assert_eq!(bad.parse::<ServerIdentity>(), Err(IdentityError::Server), "{bad}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let signature = key.sign(b"message");
        assert!(key.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"massage", &signature));
        assert!(!PrivateKey::from_seed(&[8; 32]).public().verify(b"message", &signature));
        // A point of small order would accept forged signatures; strict checking does not.
        assert!(!PublicKey::from_bytes([0; 32]).verify(b"message", &[0; 64]));
    }
}
