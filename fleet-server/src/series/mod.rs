//! Time series: what devices measured, kept small. Pure arithmetic; files are somebody else's.
//!
//! ```text
//! chunk → number → varint
//! ```

pub mod chunk;
pub mod number;
pub mod varint;
