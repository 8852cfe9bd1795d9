//! Where configurations say that the server is.

use std::fmt;

use fleet_core::identity::PublicKey;
use fleet_core::url::ServerUrl;

use super::kept::Kept;
use super::record::{Record, Version};

/// Where a server is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The server whose word it is.
    pub(crate) server: PublicKey,
    /// As the configuration that is good says, and then those before it. Without a word of it, only where
    /// the server was before all of them.
    pub(crate) good: Vec<ServerUrl>,
    /// As the one says that is tried, if that is somewhere else.
    pub(crate) tried: Option<Tried>,
    /// Whether there is a link to where it is tried.
    pub(crate) is_reached: bool,
}

impl Default for Places {
    fn default() -> Self {
        let server = PublicKey::from_bytes([0; 32]);
        Self { server, good: Vec::new(), tried: None, is_reached: false }
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

/// Where the server is by what is tried, if that is another place than what is good.
pub(super) fn tried(record: &Record, kept: &Kept) -> Option<Tried> {
    let trying = record.trying.as_ref()?;
    let (wanted, good) = (of(&trying.version), kept.under(record).urls().into_iter().next());
    (wanted != good).then(|| wanted.map_or(Tried::Own, Tried::Url))
}

/// Where it is by a version, also if this release does not understand the rest of that.
pub(super) fn of(version: &Version) -> Option<ServerUrl> {
    let document: serde_json::Value = serde_json::from_str(&version.document).ok()?;
    document.get("server_url")?.as_str()?.parse().ok()
}
