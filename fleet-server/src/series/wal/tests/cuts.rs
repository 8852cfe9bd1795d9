//! Power cuts at any moment, also while the log is read after one; with and without a disk that
//! fails in between.

use fleet_core::disk::sim::SimDisk;

use super::owner::{Owner, Seen};

/// Power cuts unless `FLEETD_TEST_CUTS` says otherwise.
const CUTS: u64 = 500;
/// Power cuts that one disk goes through.
const CUTS_OF_A_DISK: u64 = 10;

/// Cuts the power as often as was asked for, and counts what happened.
fn cut(owner: impl Fn(SimDisk, u64) -> Owner) -> Seen {
    let cuts = std::env::var("FLEETD_TEST_CUTS")
        .map_or(CUTS, |text| text.parse().expect("FLEETD_TEST_CUTS is a number"));
    let mut all = Seen::default();
    for seed in 0..cuts.div_ceil(CUTS_OF_A_DISK) {
        let outcome = owner(SimDisk::new(seed), seed).live_through(CUTS_OF_A_DISK);
        let seen = outcome.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        all.cuts_of_openings += seen.cuts_of_openings;
        all.failures += seen.failures;
        all.torn += seen.torn;
    }
    all
}

#[test]
fn what_was_acknowledged_survives_any_power_cut() {
    let seen = cut(Owner::new);
    assert!(seen.cuts_of_openings > 20 && seen.torn > 0, "{seen:?}");
}

#[test]
fn what_was_acknowledged_survives_a_disk_that_fails() {
    let seen = cut(|disk, seed| Owner::new(disk, seed).with_failures());
    assert!(seen.failures > 200 && seen.torn > 0, "{seen:?}");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let is_found_out = |seed| {
        let disk = SimDisk::new(seed);
        disk.lie(true);
        Owner::new(disk, seed).live_through(CUTS_OF_A_DISK).is_err()
    };
    assert!((0..20).filter(|seed| is_found_out(*seed)).count() >= 15);
}
