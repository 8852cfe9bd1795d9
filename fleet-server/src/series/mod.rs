//! The telemetry engine: what devices measured, in files of its own beside the database.

pub mod wal;
