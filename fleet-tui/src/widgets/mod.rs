//! Things that several screens paint.
//!
//! Each is a function into a part of a buffer, with the theme and what the terminal can do. None
//! remembers anything, and each paints what fits, down to nothing.

pub mod bar;
pub mod chart;
pub mod dialog;
pub mod field;
pub mod menu;
pub mod panel;
pub mod scrollbar;
pub mod spark;
