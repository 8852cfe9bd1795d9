//! What an operator's programs are made of: the server's typed client, discovery, and the claim of
//! a device. The command line, the console and the server's own `POST /discover` share it.
//!
//! Nothing here prints. A key goes to the one server that it names, inside TLS pinned to that
//! server, and never to a device.

pub mod audit;
pub mod batches;
pub mod browse;
pub mod claim;
pub mod client;
pub mod commands;
pub mod configs;
pub mod contexts;
pub mod database;
mod error;
pub mod exit;
pub mod export;
pub mod keyfile;
mod keys;
pub mod log_seam;
pub mod logs;
mod proof;
pub mod provision;
mod sse;
pub mod standing;
pub mod stream;

#[cfg(test)]
mod pretend;
