//! The first frames of a link. Their bytes never change: a release from years ago must be able
//! to say which versions it speaks, and be told that none will do.

use std::fmt;

use bincode::{Decode, Encode};

use super::Facts;
use crate::codec::Coded;
use crate::identity::{PrivateKey, PublicKey};
use crate::secret::hidden;

/// The agent's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Versions of the frames that the agent speaks, best first.
    pub versions: Vec<u16>,
    /// The agent's key.
    pub device_pub: [u8; 32],
    /// Fresh random bytes.
    pub nonce: [u8; 32],
}

impl Coded for Hello {
    const TAG: u8 = 1;
    const VERSION: u8 = 1;
}

/// The server's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Greeting {
    /// The link may go on.
    Welcome {
        /// The version that both will speak.
        version: u16,
        /// Fresh random bytes.
        nonce: [u8; 32],
        /// The server's key.
        server_pub: [u8; 32],
        /// The server's signature over the [`LinkContext`].
        signature: [u8; 64],
    },
    /// The link ends here.
    Refused {
        /// Why, for a program.
        reason: RefusedReason,
        /// Why, for a person.
        detail: String,
    },
}

impl Coded for Greeting {
    const TAG: u8 = 2;
    const VERSION: u8 = 1;
}

/// Why a server ends a link before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RefusedReason {
    /// No version that both speak.
    Version,
    /// The server is shutting down or has no room; try again later.
    Busy,
}

/// The agent's second frame.
#[derive(Clone, PartialEq, Encode, Decode)]
pub struct Proof {
    /// The agent's signature over the [`LinkContext`].
    pub signature: [u8; 64],
    /// The id that the device goes by.
    pub device_id: String,
    /// The text of an enrolment key from the device's own configuration file.
    pub enrol_key: Option<String>,
    /// What the device is.
    pub facts: Facts,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signature: _, device_id, enrol_key, facts } = self;
        f.debug_struct("Proof")
            .field("device_id", device_id)
            .field("enrol_key", &hidden(enrol_key.as_ref()))
            .field("facts", facts)
            .finish_non_exhaustive()
    }
}

impl Coded for Proof {
    const TAG: u8 = 3;
    const VERSION: u8 = 1;
}

/// What both signatures of a link cover.
pub struct LinkContext {
    /// The agent's key.
    pub device_pub: [u8; 32],
    /// The agent's nonce.
    pub device_nonce: [u8; 32],
    /// The server's key.
    pub server_pub: [u8; 32],
    /// The server's nonce.
    pub server_nonce: [u8; 32],
    /// What makes the signatures good for this connection alone.
    pub binding: Binding,
}

/// What a link's signatures are bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The exported secret of a TLS connection between the two.
    Exporter([u8; 32]),
    /// The name by which the agent calls the server, where a proxy ends TLS: neither end knows the
    /// other's connection, so an authority's certificate for that name has to do.
    Proxied {
        /// The name, in lower case.
        name: String,
    },
}

impl LinkContext {
    /// The server's signature, for [`Greeting::Welcome`].
    pub fn sign_as_server(&self, key: &PrivateKey) -> [u8; 64] {
        key.sign(&self.message(SERVER))
    }

    /// Whether the server signed.
    pub fn server_signed(&self, signature: &[u8; 64]) -> bool {
        PublicKey::from_bytes(self.server_pub).verify(&self.message(SERVER), signature)
    }

    /// The agent's signature, for [`Proof`].
    pub fn sign_as_device(&self, key: &PrivateKey) -> [u8; 64] {
        key.sign(&self.message(DEVICE))
    }

    /// Whether the agent signed.
    pub fn device_signed(&self, signature: &[u8; 64]) -> bool {
        PublicKey::from_bytes(self.device_pub).verify(&self.message(DEVICE), signature)
    }

    fn message(&self, purposes: Purposes) -> Vec<u8> {
        let (purpose, binding): (&[u8], &[u8]) = match &self.binding {
            Binding::Exporter(exporter) => (purposes.direct, exporter),
            Binding::Proxied { name } => (purposes.proxied, name.as_bytes()),
        };
        [
            purpose,
            &self.device_pub,
            &self.device_nonce,
            &self.server_pub,
            &self.server_nonce,
            binding,
        ]
        .concat()
    }
}

/// The first bytes of what one side signs. They tell the bindings apart, so that no signature for
/// one is good for the other.
#[derive(Clone, Copy)]
struct Purposes {
    direct: &'static [u8],
    proxied: &'static [u8],
}

const SERVER: Purposes =
    Purposes { direct: b"FleetD link v1 server\0", proxied: b"FleetD link v1 server, proxied\0" };
const DEVICE: Purposes =
    Purposes { direct: b"FleetD link v1 device\0", proxied: b"FleetD link v1 device, proxied\0" };
