//! The server's integration tests, in one program.

mod store_contract;
mod store_kit;
