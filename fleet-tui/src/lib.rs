//! `fleet-tui`: the operator's console.
//!
//! Everything that happens is an event; the state takes it and answers with effects; the view paints
//! what the state is. Only the terminal, the network and the effects touch the world.

pub mod cells;
pub mod cli;
pub mod clipboard;
pub mod console;
pub mod effect;
pub mod event;
pub mod frames;
pub mod help;
pub mod jump;
pub mod keys;
pub mod layout;
pub mod net;
pub mod pace;
pub mod perform;
pub mod sample;
pub mod start;
pub mod state;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod theme;
pub mod view;
pub mod widgets;
