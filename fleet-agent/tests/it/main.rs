//! The agent's integration tests, one binary.

mod collect;
mod machine;
