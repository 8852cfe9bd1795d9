//! FleetD's server, as a library that its program and its tests share.
//!
//! ```text
//! http ─┬→ live ┐
//! link ─┼───────┼→ ops → store
//! tasks ┘───────┘           app wires all of them;  cli starts app, or is somebody else's client
//! ```
//!
//! `http` and `link` reach the store only through `ops`; `ops` knows neither of them. `page` is
//! what `http` answers to browsers.

pub mod app;
mod bell;
pub mod cli;
pub mod config;
mod discovery;
mod door;
mod http;
mod hub;
mod keyring;
mod link;
mod live;
mod ops;
mod page;
mod reach;
pub mod series;
pub mod store;
mod tasks;
mod watched;
