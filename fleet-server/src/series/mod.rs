//! Time series: what devices measured, kept small. Pure arithmetic; files are somebody else's.
//!
//! ```text
//! number → varint
//! ```

pub mod number;
pub mod varint;
