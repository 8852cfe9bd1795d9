//! Frames against a terminal: an emulator must show what was painted.

mod budget;
mod emulator;
mod frames;
