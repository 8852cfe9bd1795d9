//! `fleet-tui`: the operator's console.

fn main() {}
