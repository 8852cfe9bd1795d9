//! The console on a terminal.

mod pty;
mod terminal;
