//! What the device keeps of configurations: the one that was good, the one that is tried, and the one
//! that was given up. All of it is one file, which is replaced as a whole with each step, so a power
//! cut at any moment leaves what was before the step or what is after it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bincode::{Decode, Encode};
use fleet_core::api::ConfigDocument;
use fleet_core::codec::Coded;
use fleet_core::disk::{Disk, Folder};
use fleet_core::identity::PublicKey;

use super::kept;
use crate::sealed;

/// The folder in the agent's own.
pub const FOLDER: &str = "configuration";
/// In how many runs of the agent a configuration may be tried, not counting those that ended as they were
/// told to: once it was interrupted for some other reason, most likely; twice it was because of it.
const STARTS_MAX: u8 = 2;
/// The file.
const FILE: &str = "record";

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Record {
    /// The server whose word all of it is.
    pub(super) server_pub: [u8; 32],
    /// What worked last.
    pub(super) good: Option<Version>,
    /// What has to show that it works.
    pub(super) trying: Option<Trying>,
    /// What did not, if it is newer than what worked.
    pub(super) given_up: Option<GivenUp>,
}

/// A configuration whose signature was checked when it came.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Version {
    /// Its number at the server.
    pub(super) number: u64,
    /// The JSON document.
    pub(super) document: String,
    /// When it was applied, by the device's clock.
    pub(super) at_millis: i64,
}

/// A configuration that is tried.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Trying {
    pub(super) version: Version,
    /// In how many runs of the agent it was tried.
    pub(super) starts: u8,
}

/// A configuration that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct GivenUp {
    pub(super) version: u64,
    pub(super) at_millis: i64,
    /// Why, in words.
    pub(super) why: String,
}

impl Coded for Record {
    const TAG: u8 = 72;
    const VERSION: u8 = 1;
}

impl Version {
    /// What it says; nothing if this release does not understand it.
    pub(super) fn read(&self) -> ConfigDocument {
        let value = serde_json::from_str(&self.document).ok();
        value.and_then(|value| ConfigDocument::from_json(&value).ok()).unwrap_or_default()
    }
}

impl Record {
    /// Nothing yet, of a server.
    pub(super) fn of(server: PublicKey) -> Self {
        Self { server_pub: server.bytes(), ..Self::default() }
    }

    /// Whether it is this server's word.
    pub(super) fn is_from(&self, server: PublicKey) -> bool {
        self.server_pub == server.bytes()
    }

    /// The newest version that is known of; 0 if there is none.
    pub(super) fn newest(&self) -> u64 {
        let good = self.good.as_ref().map(|good| good.number);
        let trying = self.trying.as_ref().map(|trying| trying.version.number);
        let given_up = self.given_up.as_ref().map(|given_up| given_up.version);
        good.max(trying).max(given_up).unwrap_or(0)
    }

    /// The same with a version that is tried from now on. One that was tried makes way for it.
    pub(super) fn begin(&self, version: Version) -> Self {
        let trying = Some(Trying { version, starts: 1 });
        Self { trying, given_up: None, ..self.clone() }
    }

    /// The same once what is tried has shown that it works.
    pub(super) fn prove(&self) -> Self {
        let good = self.trying.clone().map(|trying| trying.version).or(self.good.clone());
        Self { good, trying: None, given_up: None, ..self.clone() }
    }

    /// The same once what is tried is given up.
    pub(super) fn give_up(&self, why: String, at_millis: i64) -> Self {
        let version = self.trying.as_ref().map(|trying| trying.version.number);
        let given_up = version.map(|version| GivenUp { version, at_millis, why });
        Self { trying: None, given_up, ..self.clone() }
    }

    /// The same when the agent begins: what is tried is tried once more, or not any more.
    pub(super) fn start(&self, at_millis: i64) -> Self {
        match &self.trying {
            Some(trying) if trying.starts >= STARTS_MAX => {
                self.give_up("the agent ended twice while it was tried".to_owned(), at_millis)
            }
            Some(trying) => {
                let trying = Trying { starts: trying.starts + 1, ..trying.clone() };
                Self { trying: Some(trying), ..self.clone() }
            }
            None => self.clone(),
        }
    }

    /// The same when the agent ends because it was told to, which says nothing about what is tried.
    pub(super) fn stop(&self) -> Self {
        let trying = self.trying.clone();
        let trying =
            trying.map(|trying| Trying { starts: trying.starts.saturating_sub(1), ..trying });
        Self { trying, ..self.clone() }
    }
}

/// Reads what is kept, if there is anything.
pub(super) fn load(disk: &dyn Disk) -> io::Result<Option<Record>> {
    sealed::load(disk, FILE)
}

/// Keeps a record. After an error the disk has this one or the one before.
pub(super) fn save(disk: &dyn Disk, record: &Record) -> io::Result<()> {
    sealed::save(disk, FILE, record)
}

/// Removes what is kept, the places that were good too. Says whether there was anything.
pub(super) fn clear_all(disk: &dyn Disk) -> io::Result<bool> {
    let had_places = kept::clear(disk)?;
    Ok(sealed::clear(disk, FILE)? || had_places)
}

/// Removes what an agent that does not run has kept. Says whether there was anything.
pub fn erase(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    clear_all(&Folder::open(path)?)
}

/// Opens the disk, whenever it is needed.
pub(super) type Ground = Box<dyn Fn() -> io::Result<Arc<dyn Disk>> + Send + Sync>;
