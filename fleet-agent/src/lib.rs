//! FleetD's agent as a library, in reading order: what the machine is ([`sys`]), what it measures
//! ([`collect`]), what its owner wants ([`config`]); who the device is ([`identity`]) and whom it
//! belongs to ([`state`]); what it asks others ([`probe`]); what it says to anybody ([`control`],
//! [`announce`]) and to its server ([`telemetry`], [`spool`], [`queue`], [`link`]); what that has it
//! be ([`probation`]) and do ([`commands`], [`journal`]) and reads of it ([`logs`]); and the program
//! around it all ([`settings`], [`log_tail`], [`app`], [`running`], [`cli`]).
//!
//! The first three talk to no network; each takes the machine's files from a [`sys::SysRoot`], so
//! that a test or a simulated device can bring its own.

pub mod announce;
pub mod app;
pub mod cli;
pub mod collect;
pub mod commands;
pub mod config;
pub mod control;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod identity;
pub mod journal;
pub mod link;
pub mod log_tail;
pub mod logs;
pub mod new_key;
pub mod paths;
pub mod probation;
pub mod probe;
pub mod queue;
pub mod running;
mod sealed;
pub mod settings;
pub mod spool;
pub mod state;
pub mod sys;
pub mod telemetry;
