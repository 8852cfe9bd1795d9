//! The console on a terminal.

mod program;
mod pty;
mod terminal;
