//! Doors for a fuzzer, see [`fleet_core::fuzz`]. What they check is beside what they check it of.

use fleet_core::fuzz::Target;

use crate::{http, ops, series, store};

/// Those of this package.
pub const TARGETS: &[Target] = &[
    ("chunk", series::fuzz::chunk),
    ("table", series::fuzz::any_table),
    ("wal", series::fuzz::forged),
    ("wal-damage", series::fuzz::damaged),
    ("record", series::fuzz::record),
    ("influx", ops::check::lines_of_any_bytes),
    ("posts", http::posts::check::posts_of_any_bytes),
    ("rows", store::check_row),
    ("revoked", store::revoked::check::list_of_any_bytes),
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
