//! Multicast DNS and DNS-SD (RFC 6762, RFC 6763): how devices say that they are there, and how
//! operators' tools find them, on every usable link and in both address families at once.
//!
//! | module | what it knows |
//! |---|---|
//! | [`responder`] | the handle and the task that announce one service |
//! | `authority`, `site` | what we claim on each link: probing, announcing, answering, conflicts |
//! | `records` | the records of a service, and the names they stand under |
//! | [`browser`] | the handle and the task that look for services |
//! | `instance` | what the browser shows |
//! | `cache`, `claim`, `budget` | what others claim, bounded, one variant for each host that claims it |
//! | `links`, `socket`, `interfaces` | which links there are, and the sockets on them |
//! | `packet` | bytes to packets and back |
//!
//! `authority` and `cache` with their parts do no input or output and read no clock: packets and times go in,
//! packets come out, so their tests need no network.
//!
//! What is heard here is a hint, never a proof: anybody on the link may say anything. Text is
//! [`Untrusted`](crate::untrusted::Untrusted), every collection has a bound, and an address may
//! be connected to only when it is [`sourced`](Address::sourced).

mod authority;
pub mod browser;
mod budget;
mod cache;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;
mod claim;
mod echo;
mod instance;
mod interfaces;
mod links;
mod packet;
mod records;
pub mod responder;
mod site;
mod socket;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::net::shutdown::Tasks;

pub use self::browser::{Browser, browse};
pub use self::echo::{Echo, echoes};
pub use self::instance::{Address, Event, Instance, Text};
pub use self::interfaces::{Interface, interfaces};
pub use self::responder::Responder;

/// Where to listen and speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The interfaces by name. None named: every one that is up and can multicast; `lo` only
    /// when it is named or when there is no other.
    pub interfaces: Vec<String>,
    /// Announce this address only, and send from it. Several devices simulated on one machine
    /// each use their own `127.0.0.N`.
    pub address: Option<IpAddr>,
}

/// A service to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The instance's own name, at most 63 bytes: `fleetd-rpi4-001`.
    pub instance: String,
    /// Such as `_fleetd._tcp`.
    pub service_type: String,
    /// The host's name without `.local`.
    pub host: String,
    /// The host's name if another host has the first one.
    pub host_alternative: String,
    /// The TCP port.
    pub port: u16,
    /// What the TXT record says, in this order.
    pub txt: Vec<(String, String)>,
}

/// How often the machine's links and addresses are looked at again.
const RESCAN_INTERVAL: Duration = Duration::from_secs(5);

/// Starts a task that ends with its handle.
fn spawn(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(Tasks::default().spawn(name, task))
}

/// A name that nobody else has.
fn random_word() -> String {
    let mut random = [0; 8];
    // Without randomness two hosts that ask at one moment may hear each other.
    let _unknown = getrandom::fill(&mut random);
    format!("fleetd-{:x}", u64::from_le_bytes(random))
}

/// A random duration between two others, so that hosts do not all speak at the same moment.
fn jitter(from: Duration, to: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the delay is only less well spread.
    let share = getrandom::fill(&mut random).map_or(0, |()| u32::from(u16::from_le_bytes(random)));
    from + to.saturating_sub(from) * share / u32::from(u16::MAX)
}
