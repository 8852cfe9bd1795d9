//! A configuration's row.

use bincode::{Decode, Encode};
use fleet_core::time::Timestamp;

use crate::store::{ConfigVersion, NewConfig};

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct ConfigRow {
    document: String,
    author: String,
    at_millis: i64,
    comment: Option<String>,
    server_url: Option<String>,
}

/// What of a device's configuration is its own.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct OwnConfigRow {
    pub(in crate::store::redb) document: String,
}

impl ConfigRow {
    pub(in crate::store::redb) fn into_version(self, version: u64) -> ConfigVersion {
        ConfigVersion {
            version,
            config: NewConfig {
                document: self.document,
                own: None,
                author: self.author,
                at: Timestamp::from_millis(self.at_millis),
                comment: self.comment,
                server_url: self.server_url,
            },
        }
    }
}

impl From<NewConfig> for ConfigRow {
    fn from(config: NewConfig) -> Self {
        Self {
            document: config.document,
            author: config.author,
            at_millis: config.at.millis(),
            comment: config.comment,
            server_url: config.server_url,
        }
    }
}
