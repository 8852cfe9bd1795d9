//! The spool against a disk that loses, tears and fails.
