//! Calling URLs that somebody else chose, as receivers of webhooks will be: nothing that can be
//! written into a URL, a name's records or an answer makes this server knock where it must not.
//!
//! - A URL is `http` or `https`, without a user, and its host is plainly a name or plainly an address
//!   ([`target`]). What some programs would take for an address and others for a name is neither.
//! - A name is looked up once, and the connection goes to the very addresses that were judged. One
//!   that must not be called spoils them all: an honest name leads inside by none, and whoever mixes
//!   them hopes that one of them is tried.
//! - Hosts of the internet are called, and of those on networks that [`Rules`] allow, private ones
//!   and this host's own. All other [kinds](fleet_core::net::address::Kind) of addresses never are,
//!   nor is a port that this server listens on. Of an address with another inside, both are judged.
//! - TLS is 1.3, for the host's name, by the word of the system's authorities.
//! - No answer leads anywhere else: a redirection is a status like any other. Of an answer, the
//!   status is all that is kept, so nobody can read through this server what it can reach.
//! - All of it has bounds, and errors name host, port and reason; never the rest of a URL, which may
//!   be a secret, and nothing that was answered.

mod exchange;
mod names;
mod rules;
mod target;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::net::authorities::Authorities;
use hyper::StatusCode;
use tokio::time::timeout;

pub use self::exchange::{ANSWER_BYTES_MAX, ExchangeError, HEADERS_MAX, REQUEST_BYTES_MAX};
pub use self::names::{Resolver, SystemResolver};
pub use self::rules::{Denial, Rules};
pub use self::target::{Target, TargetError};

/// How long it may take until a connection is there, with looking up its name and TLS.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long all of it may take.
pub const TOTAL: Duration = Duration::from_secs(10);
/// Addresses of one name: so many that the last of them is still tried in time. Who has more is no
/// receiver of webhooks.
const ADDRESSES_MAX: usize = 16;

/// The client.
#[derive(Clone)]
pub struct Outbound {
    rules: Rules,
    resolver: Arc<dyn Resolver>,
    authorities: Authorities,
}

/// Why nothing was sent, or no answer came.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The name has no address.
    #[error("cannot find the host {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The name has more addresses than anybody should.
    #[error("{host} has more than {ADDRESSES_MAX} addresses")]
    Many {
        /// The name.
        host: String,
    },
    /// It leads where this server does not go.
    #[error("{peer} is not called")]
    Denied {
        /// Where.
        peer: String,
        /// Why.
        source: Denial,
    },
    /// The request is none, nobody answers, or the answer is none.
    #[error("{peer}")]
    Exchange {
        /// Where.
        peer: String,
        /// Why.
        source: ExchangeError,
    },
    /// The time is up.
    #[error("{peer} has not answered within {TOTAL:?}")]
    Late {
        /// Where.
        peer: String,
    },
}

impl Outbound {
    /// A client that keeps to these rules and asks the system for names.
    pub fn new(rules: Rules, authorities: Authorities) -> Self {
        Self::with_resolver(rules, authorities, Arc::new(SystemResolver::default()))
    }

    /// One that asks somebody else for names.
    pub fn with_resolver(
        rules: Rules,
        authorities: Authorities,
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        Self { rules, resolver, authorities }
    }

    /// Sends a body, at most [`REQUEST_BYTES_MAX`] of it, with up to [`HEADERS_MAX`] headers of the
    /// caller's, and waits for the whole answer, of which the status is what remains.
    pub async fn post(
        &self,
        target: &Target,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<StatusCode, OutboundError> {
        let peer = || target.peer();
        let exchange = async {
            let failed = |source| OutboundError::Exchange { peer: peer(), source };
            let request = exchange::request(target, headers, body).map_err(failed)?;
            let connect = async {
                let addresses = self.addresses(target).await?;
                exchange::connect(target, &addresses, &self.authorities).await.map_err(failed)
            };
            let stream = timeout(CONNECT, connect).await;
            let stream = stream.unwrap_or_else(|_| Err(failed(ExchangeError::Unconnected)))?;
            exchange::ask(stream, request).await.map_err(failed)
        };
        let asked = timeout(TOTAL, exchange).await;
        asked.unwrap_or_else(|_| Err(OutboundError::Late { peer: peer() }))
    }

    /// Where to connect to: every address has been judged, and each may be called.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, OutboundError> {
        let resolve = |source| OutboundError::Resolve { host: target.host().to_owned(), source };
        let addresses = match target.address() {
            Some(address) => vec![address],
            None => self.resolver.addresses(target.host()).await.map_err(resolve)?,
        };
        if addresses.is_empty() {
            return Err(resolve(io::ErrorKind::NotFound.into()));
        }
        if addresses.len() > ADDRESSES_MAX {
            return Err(OutboundError::Many { host: target.host().to_owned() });
        }
        let judged = addresses.into_iter().map(|address| {
            let address = SocketAddr::new(address.to_canonical(), target.port());
            let denied = |source| OutboundError::Denied { peer: target.peer(), source };
            self.rules.judge(address).map(|()| address).map_err(denied)
        });
        judged.collect()
    }
}
