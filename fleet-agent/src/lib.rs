//! FleetD's agent as a library, in reading order: what the machine is ([`sys`]), what it measures
//! ([`collect`]), what its owner wants ([`config`]).
//!
//! None of these talks to the network; each takes the machine's files from a [`sys::SysRoot`], so
//! that a test or a simulated device can bring its own.

pub mod collect;
pub mod config;
pub mod sys;
