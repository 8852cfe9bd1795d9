//! The console on a terminal.

mod program;
mod terminal;
