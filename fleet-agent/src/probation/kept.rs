//! The places of the server that were good, in a file of their own: where a device finds its server
//! is not lost with the configurations that said so, and needs nobody who understands the rest of them.

use std::io;

use bincode::{Decode, Encode};
use fleet_core::codec::Coded;
use fleet_core::disk::Disk;
use fleet_core::identity::PublicKey;
use fleet_core::url::ServerUrl;

use super::places;
use super::record::Record;
use crate::sealed;

/// The file, beside the record.
const FILE: &str = "places";
/// Places that are kept. An older one makes way.
const PLACES_MAX: usize = 4;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Kept {
    /// The server whose places they are.
    server_pub: [u8; 32],
    /// As its configurations said, the latest first.
    urls: Vec<String>,
}

impl Coded for Kept {
    const TAG: u8 = 74;
    const VERSION: u8 = 1;
}

impl Kept {
    /// Nothing yet, of a server.
    pub(super) fn of(server: PublicKey) -> Self {
        Self { server_pub: server.bytes(), urls: Vec::new() }
    }

    /// Whether they are this server's.
    pub(super) fn is_from(&self, server: PublicKey) -> bool {
        self.server_pub == server.bytes()
    }

    /// The same under a record: the place that is good by it is the first. One that names none leads
    /// back to where the server was before, and one that knows of nothing good changes nothing.
    pub(super) fn under(&self, record: &Record) -> Self {
        let Some(good) = &record.good else { return self.clone() };
        let Some(place) = places::of(good) else { return Self { urls: Vec::new(), ..*self } };
        let place = place.to_string();
        let others = self.urls.iter().filter(|url| **url != place).cloned();
        let urls = std::iter::once(place.clone()).chain(others).take(PLACES_MAX).collect();
        Self { urls, ..*self }
    }

    /// As URLs.
    pub(super) fn urls(&self) -> Vec<ServerUrl> {
        self.urls.iter().filter_map(|url| url.parse().ok()).collect()
    }
}

/// Reads what is kept, if there is anything.
pub(super) fn load(disk: &dyn Disk) -> io::Result<Option<Kept>> {
    sealed::load(disk, FILE)
}

/// Keeps places. After an error the disk has these or the ones before.
pub(super) fn save(disk: &dyn Disk, kept: &Kept) -> io::Result<()> {
    sealed::save(disk, FILE, kept)
}

/// Removes what is kept. Says whether there was anything.
pub(super) fn clear(disk: &dyn Disk) -> io::Result<bool> {
    sealed::clear(disk, FILE)
}
