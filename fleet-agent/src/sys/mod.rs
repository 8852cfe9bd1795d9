//! This machine as its files show it: where they are ([`SysRoot`]) and what they say ([`host`]).

pub mod host;
mod root;

pub use root::SysRoot;
