//! What a browser shows of the hosts that it hears: hints, all of it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::untrusted::Untrusted;

/// What the browser tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An instance that can be shown: its port, its text and at least one address are known.
    Found(Instance),
    /// Something about it has changed; a second address family has answered, for example.
    Updated(Instance),
    /// It has said goodbye, or has not been heard for as long as its records live.
    Lost(Instance),
}

/// One host's claim to be an instance of the service.
///
/// Two instances of the same `name` are two hosts that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Stays the same from `Found` to `Lost`.
    pub key: u64,
    /// The instance's name, such as `fleetd-rpi4-001`.
    pub name: Untrusted,
    /// The host it runs on, such as `rpi4.local`.
    pub host: Untrusted,
    /// The TCP port.
    pub port: u16,
    /// The TXT record's attributes in their order.
    pub txt: Text,
    /// Where it says it can be reached, sorted.
    pub addresses: Vec<Address>,
}

/// Attributes of a TXT record, each with its value. Shared by all who hold the same.
pub type Text = Arc<[(Untrusted, Untrusted)]>;

/// An address that a host claims to have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The interface that heard it: the scope of an IPv6 link-local address.
    pub interface_index: u32,
    /// Whether a packet that came from this very address claimed it. Connect to no other.
    pub sourced: bool,
}
