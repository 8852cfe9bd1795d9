//! Transports that agent, server and operator programs share.
//!
//! Our own programs always speak TLS 1.3 to each other, pinned to a key ([`tls`]); both of our
//! ports also answer plain HTTP for curl and third parties, told apart by the first byte
//! ([`accept`]). A proxy in front of a server needs an authority's word ([`authorities`]). What an
//! address is for that somebody else names is in [`address`].

pub mod accept;
pub mod address;
pub mod authorities;
pub mod backoff;
pub mod http;
mod log_file;
pub mod logging;
pub mod notify;
pub mod shutdown;
pub mod socket;
pub mod tls;

pub use crate::url;
