//! Tests that need several hosts: network namespaces joined by bridges, with real peers in them.
//!
//! They need what `ip netns` needs: root, or a user namespace of one's own. `cargo xtask test`
//! makes one; by hand it is `unshare -Urnm sh -c 'mount -t tmpfs tmpfs /run && cargo test …'`.
//! Without it they fail and say what is missing.

mod documents;
mod fleet;
mod lab;
mod mdns;
