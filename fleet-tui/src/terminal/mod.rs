//! The terminal: what it can do, how it is taken over and given back, how a frame gets there.

pub mod caps;
mod cells;
mod paint;
mod pen;
pub mod present;
#[cfg(test)]
mod tests;
