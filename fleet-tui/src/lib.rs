//! `fleet-tui`: the operator's console.
//!
//! Everything that happens is an event; the state takes it and answers with effects; the view paints
//! what the state is. Only the terminal, the network and the effects touch the world.

pub mod terminal;
#[cfg(test)]
mod testing;
pub mod theme;
pub mod widgets;
