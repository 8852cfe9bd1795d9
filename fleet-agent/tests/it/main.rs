//! The agent's integration tests, one binary.
#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it where it stands")]

mod agent;
mod announce;
mod claims;
mod cli;
mod collect;
mod commands;
mod control;
mod evil_server;
mod link;
mod logs;
mod machine;
mod moves;
mod new_keys;
mod probes;
mod process;
mod server;
mod spool;
mod within;
