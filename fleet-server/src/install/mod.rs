//! Installing agents with one line: an operator makes an enrolment key with a link, and whoever
//! fetches the link gets a script that installs the agent's package from this server and leaves the
//! key and the server's identity where the agent finds them.
//!
//! Nothing of a link is stored: its [`Token`] is a seed, and the enrolment key follows from it. So a
//! link lasts as long as its key, and whoever revokes the key ends both.

pub(crate) mod packages;
mod script;
mod token;

use data_encoding::BASE64;
use fleet_core::identity::PublicKey;
use fleet_core::net::tls;
use fleet_core::net::url::ServerUrl;
use ring::digest;

pub(crate) use packages::{Package, Packages};
pub(crate) use script::{Script, refusal};
pub(crate) use token::Token;

/// Why `curl` may believe that it speaks with this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It holds this key: the hash of its public half, as `--pinnedpubkey` takes it.
    Pin(String),
    /// An authority of the system vouches for its name, as for any other site.
    System,
}

impl Trust {
    /// In the one key that our own programs pin.
    pub(crate) fn identity(key: PublicKey) -> Self {
        Self::key(&tls::public_key_info(key))
    }

    /// In whoever holds a key, by the public half as certificates have it.
    pub(crate) fn key(info: &[u8]) -> Self {
        Self::Pin(BASE64.encode(digest::digest(&digest::SHA256, info).as_ref()))
    }

    /// The options of `curl` that insist on it. Both kinds fail closed: `-k` leaves the judgement to
    /// the pin, which is still made.
    fn curl(&self) -> String {
        match self {
            Self::Pin(hash) => format!("-sSk --pinnedpubkey 'sha256//{hash}'"),
            Self::System => "-sS".to_owned(),
        }
    }
}

/// Where a script is fetched from. Whatever the server's URL is, it speaks TLS there.
pub(crate) fn url(server: &ServerUrl, token: &str) -> String {
    format!("{}/install/{token}", server.clone().secure())
}

/// What to run on a device.
pub(crate) fn command(url: &str, trust: &Trust) -> String {
    format!("curl {} '{url}' | sudo sh", trust.curl())
}
