//! FleetD's server, as a library that its program and its tests share.
//!
//! ```text
//! http ─┬→ live ┐
//! link ─┼───────┼→ ops → store
//! tasks ┘───────┘           app wires all of them;  cli starts app, or is somebody else's client
//! ```
//!
//! `logs` stands between `link` and those who read lines of devices' logs. `http` and `link` reach the store only through `ops`; `ops` knows neither of them. `page` is
//! what `http` answers to browsers. `export` and `backup` stand between `ops` and `store`: rows as
//! lines, and all there is as it is; and the files of either. `install` makes of an enrolment key what
//! a device installs its agent by.

pub mod app;
mod backup;
mod bell;
pub mod certificate;
pub mod cli;
pub mod config;
mod discovery;
mod door;
mod export;
mod exposition;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod http;
mod hub;
mod influx;
mod install;
mod keyring;
mod labels;
mod link;
mod live;
mod logs;
mod meters;
mod ops;
pub mod outbound;
mod page;
mod place;
pub mod proxies;
mod reach;
pub mod series;
pub mod store;
mod tasks;
mod underway;
pub mod user;
mod watchdog;
mod watched;
