//! FleetD's server, as a library that its program and its tests share.

pub mod store;
