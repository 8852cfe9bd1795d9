//! How the server's private key is sealed: a secret, stretched if it is short enough to guess,
//! through HKDF to a key for AES-256-GCM. What stands beside the ciphertext is covered by it.

use argon2::Argon2;
use bincode::{Decode, Encode};
use data_encoding::BASE64URL_NOPAD;
use fleet_core::codec::{self, Coded};
use fleet_core::identity::PrivateKey;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use super::KeyringError;

/// A secret shorter than this is worth a warning.
pub(super) const WEAK_BYTES: usize = 16;
/// A secret shorter than this is stretched.
const STRONG_BYTES: usize = 32;

const PURPOSE: &[u8] = b"FleetD srv.key v1";

/// What the key is sealed with.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// 256 new random bits, as text.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self(Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_slice()).into_bytes())))
    }

    /// A secret that somebody chose.
    pub(super) fn from_text(text: &[u8]) -> Self {
        Self(Zeroizing::new(text.to_vec()))
    }

    /// The text for its file.
    pub(super) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}\n", String::from_utf8_lossy(&self.0)))
    }

    fn key(&self, salt: &[u8]) -> Result<LessSafeKey, KeyringError> {
        let mut stretched = Zeroizing::new([0; 32]);
        let material = if self.0.len() < STRONG_BYTES {
            Argon2::default()
                .hash_password_into(&self.0, salt, stretched.as_mut_slice())
                .map_err(|_| KeyringError::Make("the secret key cannot be stretched"))?;
            stretched.as_slice()
        } else {
            self.0.as_slice()
        };
        let prk = Salt::new(HKDF_SHA256, salt).extract(material);
        let okm = prk
            .expand(&[PURPOSE], &AES_256_GCM)
            .map_err(|_| KeyringError::Make("the secret key cannot be expanded"))?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

/// The contents of `srv.key`.
#[derive(Encode, Decode)]
pub(super) struct SealedKey {
    database: String,
    salt: [u8; 16],
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

impl Coded for SealedKey {
    const TAG: u8 = 60;
    const VERSION: u8 = 1;
}

impl SealedKey {
    pub(super) fn seal(
        key: &PrivateKey,
        database: &str,
        secret: &Secret,
    ) -> Result<Self, KeyringError> {
        let mut salt = [0; 16];
        let mut nonce = [0; NONCE_LEN];
        let filled = getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut nonce));
        filled.map_err(|_| KeyringError::Make("the system gives no random numbers"))?;
        // Sealed where it stands, so that no copy of the key stays behind.
        let mut sealed = Zeroizing::new(key.seed().to_vec());
        let tag = secret
            .key(&salt)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(database.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| KeyringError::Make("the server's key cannot be sealed"))?;
        let sealed = [sealed.as_slice(), tag.as_ref()].concat();
        Ok(Self { database: database.to_owned(), salt, nonce, sealed })
    }

    /// The key; nothing if the secret is another, or the file was altered.
    pub(super) fn open(&self, secret: &Secret) -> Result<Option<PrivateKey>, KeyringError> {
        let mut bytes = Zeroizing::new(self.sealed.clone());
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let aad = Aad::from(self.database.as_bytes());
        let Ok(seed) = secret.key(&self.salt)?.open_in_place(nonce, aad, &mut bytes) else {
            return Ok(None);
        };
        let seed: Option<&[u8; 32]> = (&*seed).try_into().ok();
        Ok(seed.map(PrivateKey::from_seed))
    }

    /// The name of the database that the key belongs to.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, KeyringError> {
        codec::encode(self).map_err(|_| KeyringError::Make("the server's key cannot be written"))
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_opens_the_key() {
        let key = PrivateKey::from_seed(&[3; 32]);
        for secret in ["short", "0123456789012345678901234567890123456789"] {
            let secret = Secret::from_text(secret.as_bytes());
            let sealed = SealedKey::seal(&key, "fleet.db", &secret).unwrap();
            let mut read = SealedKey::decode(&sealed.encode().unwrap()).unwrap();
            assert_eq!(read.open(&secret).unwrap().unwrap().public(), key.public());
            assert!(read.open(&Secret::from_text(b"Short")).unwrap().is_none());
            read.database = "other.db".to_owned();
            assert!(read.open(&secret).unwrap().is_none());
        }
        assert!(SealedKey::decode(b"garbage").is_none());
    }
}
