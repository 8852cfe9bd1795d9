//! This machine as its files show it: where they are ([`SysRoot`]) and what they say ([`host`]); and
//! how other programs on it are run ([`process`]).

pub mod host;
pub mod process;
mod root;

pub use root::SysRoot;
