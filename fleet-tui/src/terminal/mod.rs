//! The terminal: what it can do, how it is taken over and given back, how a frame gets there.
//!
//! [`caps`] tells what it can show; [`guard`] takes it over and gives it back; [`present`] brings
//! frames to it; [`input`] and [`watch`] bring what happens there.

pub mod caps;
mod cells;
mod decode;
pub mod guard;
pub mod input;
mod job;
mod paint;
mod panic;
mod pen;
pub mod present;
#[cfg(test)]
mod tests;
pub mod watch;
