//! What fleet-core promises to others: bytes on the link, JSON of the reference, pins that hold.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;
#[cfg(feature = "net")]
mod tls;
mod wire_v1;
