//! Power cuts that hit the database, the log and the chunks at the same moment.

use crate::cuts_kit::{Lies, Owner, Seen};

/// Power cuts unless `FLEETD_TEST_CUTS` says otherwise.
const CUTS: u64 = 500;
/// Power cuts that one disk goes through.
const CUTS_OF_A_DISK: u64 = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test]
async fn what_was_acknowledged_survives_cuts_of_everything_at_once() {
    let mut seeds = 0..number("FLEETD_TEST_CUTS").unwrap_or(CUTS).div_ceil(CUTS_OF_A_DISK);
    if let Some(seed) = number("FLEETD_TEST_SEED") {
        seeds = seed..seed + 1;
    }
    let is_all = seeds.end - seeds.start >= CUTS / CUTS_OF_A_DISK;
    let mut all = Seen::default();
    for seed in seeds {
        let outcome = Owner::new(seed, Lies::Nothing).live_through(CUTS_OF_A_DISK).await;
        all.add(outcome.unwrap_or_else(|fault| panic!("FLEETD_TEST_SEED={seed}: {fault}")));
    }
    let happened = [all.cuts_of_openings, all.found, all.unfound, all.seals, all.kept];
    let happened =
        happened.into_iter().chain([all.floods, all.compacted_bytes, all.purged, all.acknowledged]);
    let happened = happened.chain([all.repeated, all.commands]);
    assert!(!is_all || happened.into_iter().all(|count| count > 20), "{all:?}");
}

#[tokio::test]
async fn disks_that_lie_are_found_out() {
    for lies in [Lies::Everything, Lies::Database] {
        let mut found = Vec::new();
        for seed in 0..20 {
            let outcome = Owner::new(seed, lies).live_through(CUTS_OF_A_DISK).await;
            found.extend(outcome.err());
        }
        let losses = found.iter().filter(|fault| fault.contains("lost")).count();
        assert!(found.len() >= 15 && losses > 0, "{lies:?}: {found:#?}");
    }
}
