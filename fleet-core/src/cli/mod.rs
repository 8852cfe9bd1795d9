//! What the programs of an operator have in common on the command line: how they find their server
//! and key, how they write results, how they end, and the whole of `discover` and `configure`.
//!
//! Results go to stdout and everything else to stderr, both through [`output::Output`]; each end has
//! an exit code of its own.

/// Set for `fleets` where the account of a jump box asks for it, who starts no servers there.
pub const JUMP_BOX: &str = "FLEETD_JUMP_BOX";

pub mod args;
pub mod argv;
pub mod choice;
pub mod configure;
pub mod csv;
pub mod discover;
pub mod doctor;
pub mod each;
pub mod failure;
pub mod listed;
pub mod output;
mod plan;
pub mod prompt;
mod secrets;
pub mod session;
pub mod table;
pub mod testing;
