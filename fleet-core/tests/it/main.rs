//! What fleet-core promises to others: bytes on the link, JSON of the reference, pins that hold.

mod reference;
#[cfg(feature = "net")]
mod tls;
mod wire_v1;
