//! Where configurations say that the server is.

use std::fmt;

use fleet_core::identity::PublicKey;
use fleet_core::url::ServerUrl;

use super::record::{Record, Version};

/// Where a server is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The server whose word it is.
    pub(crate) server: PublicKey,
    /// As the configuration that is good says. Without a word of it, only where it was before.
    pub(crate) good: Option<ServerUrl>,
    /// As the one says that is tried, if that is somewhere else.
    pub(crate) tried: Option<Tried>,
    /// Whether there is a link to where it is tried.
    pub(crate) is_reached: bool,
}

impl Default for Places {
    fn default() -> Self {
        let server = PublicKey::from_bytes([0; 32]);
        Self { server, good: None, tried: None, is_reached: false }
    }
}

impl Places {
    /// The place to look for beside the one that is kept.
    pub(crate) fn sought(&self) -> Option<&Tried> {
        self.tried.as_ref().filter(|_| !self.is_reached)
    }
}

/// A place that is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// This one.
    Url(ServerUrl),
    /// Where the server is as long as no configuration says something else.
    Own,
}

impl Tried {
    /// As URLs.
    pub(crate) fn urls(&self, own: impl FnOnce() -> Vec<ServerUrl>) -> Vec<ServerUrl> {
        match self {
            Self::Url(url) => vec![url.clone()],
            Self::Own => own(),
        }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Own => f.write_str("the place where it was before"),
        }
    }
}

/// Where the server is by what is good.
pub(super) fn good(record: &Record) -> Option<ServerUrl> {
    record.good.as_ref().and_then(of)
}

/// Where it is by what is tried, if that is another place.
pub(super) fn tried(record: &Record) -> Option<Tried> {
    let wanted = record.trying.as_ref().and_then(|trying| of(&trying.version));
    (wanted != good(record)).then(|| wanted.map_or(Tried::Own, Tried::Url))
}

fn of(version: &Version) -> Option<ServerUrl> {
    version.read().server_url
}
