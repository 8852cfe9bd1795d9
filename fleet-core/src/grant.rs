//! Grants: a server's signed word that one device key may join it.
//!
//! An operator's program asks its server for a grant, carries it to the device over TLS on the
//! agent's port, and the device then dials the server. Nothing in a grant is secret, and it is of
//! use to the one device whose key it names. Its time of expiry is for the server to judge: a
//! device's clock decides nothing.

use bincode::{Decode, Encode};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Coded};
use crate::id::Uid;
use crate::identity::{PrivateKey, PublicKey};
use crate::limits::{CLAIM_BYTES_MAX, GRANT_URLS_MAX, URL_BYTES_MAX};

/// What the server promises.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    /// The grant's own number, by which its progress is watched.
    pub uid: [u8; 16],
    /// The key of the device that may join.
    pub device_pub: [u8; 32],
    /// The id under which the device was seen.
    pub device_id: String,
    /// Where the device finds the server, best first.
    pub urls: Vec<String>,
    /// The server's key.
    pub server_pub: [u8; 32],
    /// When the server stops honouring it, in milliseconds since 1970.
    pub expires_millis: i64,
}

#[derive(Encode, Decode)]
struct Signed {
    grant: Grant,
    signature: [u8; 64],
}

impl Coded for Grant {
    const TAG: u8 = 10;
    const VERSION: u8 = 1;
}

impl Coded for Signed {
    const TAG: u8 = 11;
    const VERSION: u8 = 1;
}

const PURPOSE: &[u8] = b"FleetD grant v1\0";

impl Grant {
    /// The grant as text, signed by the server whose key it names.
    pub fn sign(self, server: &PrivateKey) -> Result<String, CodecError> {
        let signature = server.sign(&self.message()?);
        Ok(BASE64URL_NOPAD.encode(&codec::encode(&Signed { grant: self, signature })?))
    }

    /// Reads a grant and checks its signature against the key in it. Whether that is a server to
    /// trust is for the reader to decide.
    pub fn open(text: &str) -> Result<Self, GrantError> {
        if text.len() > CLAIM_BYTES_MAX {
            return Err(GrantError::Malformed);
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| GrantError::Malformed)?;
        let Signed { grant, signature } =
            codec::decode(&bytes).map_err(|_| GrantError::Malformed)?;
        let message = grant.message().map_err(|_| GrantError::Malformed)?;
        if !PublicKey::from_bytes(grant.server_pub).verify(&message, &signature) {
            return Err(GrantError::Signature);
        }
        let urls_fit = (1..=GRANT_URLS_MAX).contains(&grant.urls.len())
            && grant.urls.iter().all(|url| url.len() <= URL_BYTES_MAX);
        if urls_fit { Ok(grant) } else { Err(GrantError::Urls) }
    }

    /// The grant's number.
    pub fn uid(&self) -> Uid {
        Uid::from_bytes(self.uid)
    }

    fn message(&self) -> Result<Vec<u8>, CodecError> {
        Ok([PURPOSE, &codec::encode(self)?].concat())
    }
}

/// Why a text is no grant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GrantError {
    /// Not a grant of this release.
    #[error("not a grant that this release reads")]
    Malformed,
    /// Not signed by the key it names.
    #[error("the grant's signature is wrong")]
    Signature,
    /// No URL, too many, or overlong.
    #[error("the grant names no usable server URL")]
    Urls,
}

/// The body of `POST /v1/claim` on the agent's port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// The grant's text.
    pub grant: String,
    /// What a device in claim mode `code` or `key` asks for: [`crate::claim::ClaimSecret::prove`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// The agent's answer to a claim that it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimAccepted {
    /// The device's id.
    pub device_id: String,
    /// `claimed`, or `updated` when the device was this server's already.
    pub status: ClaimStatus,
}

/// What a claim changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimStatus {
    /// The device now belongs to the server.
    Claimed,
    /// It did before; its server's URLs were renewed.
    Updated,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(server: &PrivateKey) -> Grant {
        Grant {
            uid: [1; 16],
            device_pub: [2; 32],
            device_id: "rpi4-001".to_owned(),
            urls: vec!["http://10.0.0.1:8080".to_owned()],
            server_pub: server.public().bytes(),
            expires_millis: 1,
        }
    }

    #[test]
    fn a_grant_is_its_servers_word() {
        let server = PrivateKey::from_seed(&[7; 32]);
        let text = grant(&server).sign(&server).unwrap();
        assert_eq!(Grant::open(&text), Ok(grant(&server)));

        let forged = grant(&server).sign(&PrivateKey::from_seed(&[8; 32])).unwrap();
        assert_eq!(Grant::open(&forged), Err(GrantError::Signature));
        assert_eq!(Grant::open("AAAA"), Err(GrantError::Malformed));
        let without = Grant { urls: Vec::new(), ..grant(&server) }.sign(&server).unwrap();
        assert_eq!(Grant::open(&without), Err(GrantError::Urls));
    }
}
