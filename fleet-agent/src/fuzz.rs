//! Doors for a fuzzer, see [`fleet_core::fuzz`]. What they check is beside what they check it of.

use fleet_core::fuzz::Target;

use crate::{commands, logs, spool};

/// Those of this package.
pub const TARGETS: &[Target] = &[
    ("spool", spool::check::forged),
    ("spool-life", spool::check::any_life),
    ("journal", commands::check::forged),
    ("journal-life", commands::check::any_life),
    ("journald", logs::check::any_bytes),
];

#[cfg(test)]
mod tests {
    use fleet_core::fuzz::try_seeds;

    use super::*;

    #[test]
    fn seeds_hold() {
        try_seeds(TARGETS).unwrap();
    }
}
