//! Devices on which everything happens: thousands of short lives, each from a seed.

use fleet_core::disk::sim::Dice;

use super::super::check::{Weather, live};

/// Scenarios unless `FLEETD_TEST_SPOOLS` says otherwise.
const SCENARIOS: u64 = 2_000;

fn scenarios() -> u64 {
    std::env::var("FLEETD_TEST_SPOOLS")
        .map_or(SCENARIOS, |text| text.parse().expect("FLEETD_TEST_SPOOLS is a number"))
}

/// Runs the scenarios of some seeds, and shows the first that breaks a promise.
fn run_all(weather: Weather, seeds: impl Iterator<Item = u64>) -> Option<String> {
    for seed in seeds {
        if let Err(breach) = live(Dice::new(seed), weather, seed.is_multiple_of(7)) {
            return Some(format!("seed {seed}: {breach}"));
        }
    }
    None
}

#[test]
fn nothing_that_was_synced_is_lost_in_kills_and_power_cuts() {
    let found = run_all(Weather::default(), 0..scenarios() / 5);
    assert_eq!(found, None);
}

#[test]
fn nothing_that_was_synced_is_lost_when_the_disk_fails() {
    let weather = Weather { faults: true, odd: true, ..Weather::default() };
    assert_eq!(run_all(weather, 10_000..10_000 + scenarios() / 5), None);
}

#[test]
fn what_has_no_room_is_counted() {
    let weather = Weather { faults: true, narrow: true, ..Weather::default() };
    assert_eq!(run_all(weather, 20_000..20_000 + scenarios() / 5), None);
}

#[test]
fn what_rots_is_counted() {
    let weather = Weather { rot: true, ..Weather::default() };
    assert_eq!(run_all(weather, 30_000..30_000 + scenarios() / 5), None);
}

#[test]
fn whatever_happens_together_is_counted() {
    let weather = Weather { faults: true, rot: true, narrow: true, odd: true, lies: false };
    assert_eq!(run_all(weather, 40_000..40_000 + scenarios() / 5), None);
}

#[test]
fn a_disk_that_lies_about_syncing_is_found_out() {
    let weather = Weather { lies: true, ..Weather::default() };
    let found = run_all(weather, 0..scenarios() / 5);
    assert!(found.is_some_and(|breach| breach.contains("lost")));
}
