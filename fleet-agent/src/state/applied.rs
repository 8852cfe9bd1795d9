//! The last configuration that the device took from its server, kept so that it holds after a
//! restart and without the server.

use bincode::{Decode, Encode};
use fleet_core::api::ConfigDocument;
use fleet_core::codec::Coded;
use fleet_core::identity::PublicKey;

use super::folder::{Folder, StateError};

/// The file that holds it.
pub const APPLIED_FILE: &str = "applied-config";

/// A configuration whose signature was checked when it came.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Applied {
    /// The server that signed it.
    pub server_pub: [u8; 32],
    /// Its number there.
    pub version: u64,
    /// The JSON document.
    pub document: String,
    /// When it was applied, by the device's clock.
    pub at_millis: i64,
}

impl Coded for Applied {
    const TAG: u8 = 42;
    const VERSION: u8 = 1;
}

impl Applied {
    /// What was kept, if anything usable was. A server sends its configuration again to whoever
    /// says that it has none, so a damaged file costs nothing but a line in the log.
    pub fn load(folder: &Folder) -> Option<Self> {
        match folder.load(APPLIED_FILE) {
            Ok(applied) => applied,
            Err(error) => {
                let error = fleet_core::Chain(&error);
                tracing::warn!(%error, "doing without the last configuration from the server");
                None
            }
        }
    }

    /// Keeps it.
    pub fn store(&self, folder: &Folder) -> Result<(), StateError> {
        folder.store(APPLIED_FILE, self)
    }

    /// Whether it is this server's word.
    pub fn is_from(&self, server: PublicKey) -> bool {
        self.server_pub == server.bytes()
    }

    /// What it says; nothing if this release does not understand it.
    pub fn read(&self) -> ConfigDocument {
        let value = serde_json::from_str(&self.document).ok();
        value.and_then(|value| ConfigDocument::from_json(&value).ok()).unwrap_or_default()
    }
}
