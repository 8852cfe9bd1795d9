//! Who a server is, and how it proves that to a program which reaches it through a proxy.
//!
//! Where TLS ends at the server, the handshake has proved it. Behind a proxy it signs a nonce of the
//! asking program's together with the name by which it was asked, so that whoever has a certificate
//! for another name cannot pass the proof on as theirs.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::identity::{PrivateKey, PublicKey, ServerIdentity};

/// The first bytes of what is signed.
const PURPOSE: &[u8] = b"FleetD identity v1 server, proxied\0";

/// `GET /identity`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The server's identity.
    pub identity: ServerIdentity,
    /// Its key.
    pub public_key: PublicKey,
    /// Its release.
    pub version: String,
    /// That the key is its own, to whoever sent a nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<IdentityProof>,
}

/// A server's proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentityProof {
    /// The name by which it was asked.
    pub name: String,
    /// Its signature over nonce and name, in base64url.
    pub signature: String,
}

impl IdentityProof {
    /// Whether the server with this key made it, for this nonce and name.
    pub fn holds(&self, nonce: &Nonce, name: &str, server: PublicKey) -> bool {
        let signature = BASE64URL_NOPAD.decode(self.signature.as_bytes()).ok();
        let signature = signature.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        signature.is_some_and(|signature| server.verify(&nonce.message(name), &signature))
    }
}

/// Fresh random bytes that a server is to sign; base64url in a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

/// A text that is no nonce.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not 32 bytes in base64url")]
pub struct NonceError;

impl Nonce {
    /// A new one from the system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The proof of the server with this key that was asked by this name.
    pub fn prove(&self, name: String, key: &PrivateKey) -> IdentityProof {
        let signature = BASE64URL_NOPAD.encode(&key.sign(&self.message(&name)));
        IdentityProof { name, signature }
    }

    fn message(&self, name: &str) -> Vec<u8> {
        [PURPOSE, &self.0, name.as_bytes()].concat()
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| NonceError)?;
        bytes.try_into().map(Self).map_err(|_| NonceError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_its_nonce_name_and_key_only() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let nonce = Nonce::generate().unwrap();
        assert_eq!(nonce.to_string().parse(), Ok(nonce.clone()));
        let proof = nonce.prove("fleet.example".to_owned(), &key);
        assert!(proof.holds(&nonce, "fleet.example", key.public()));
        assert!(!proof.holds(&nonce, "evil.example", key.public()));
        assert!(!proof.holds(&Nonce::generate().unwrap(), "fleet.example", key.public()));
        let other = PrivateKey::from_seed(&[8; 32]).public();
        assert!(!proof.holds(&nonce, "fleet.example", other));
        let broken = IdentityProof { signature: "x".to_owned(), ..proof };
        assert!(!broken.holds(&nonce, "fleet.example", key.public()));
        assert_eq!("AAAA".parse::<Nonce>(), Err(NonceError));
    }
}
