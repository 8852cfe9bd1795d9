//! Devices on which everything happens: thousands of short lives, each from a seed.

use std::collections::BTreeSet;

use fleet_core::disk::sim::Fault;

use super::super::{Lane, STREAMS_MAX, SpoolSettings};
use super::world::{Breach, World};

/// Scenarios unless `FLEETD_TEST_SPOOLS` says otherwise.
const SCENARIOS: u64 = 2_000;
/// What happens in each.
const STEPS: usize = 60;

/// What a scenario may bring besides reports, links, kills and power cuts.
#[derive(Clone, Copy, Default)]
struct Weather {
    /// Errors of the disk.
    faults: bool,
    /// Flipped bits.
    rot: bool,
    /// No room, by the owner's word or on the disk.
    narrow: bool,
    /// Clocks that a power cut sets back, and servers that change.
    odd: bool,
    /// A disk that says that it synced and did not.
    lies: bool,
}

fn scenarios() -> u64 {
    std::env::var("FLEETD_TEST_SPOOLS")
        .map_or(SCENARIOS, |text| text.parse().expect("FLEETD_TEST_SPOOLS is a number"))
}

/// Runs the scenarios of some seeds, and shows the first that breaks a promise.
fn run_all(weather: Weather, seeds: impl Iterator<Item = u64>) -> Option<String> {
    for seed in seeds {
        if let Err(breach) = run(seed, weather) {
            return Some(format!("seed {seed}: {breach}"));
        }
    }
    None
}

fn run(seed: u64, weather: Weather) -> Result<(), Breach> {
    let strict = seed.is_multiple_of(7);
    let bytes_max = if weather.narrow { 400 * 1024 } else { 64 * 1024 * 1024 };
    let mut world = World::new(seed, SpoolSettings { bytes_max, strict });
    world.disk.lie(weather.lies);
    let mut rotten = BTreeSet::new();
    let mut servers = 1;
    for _ in 0..STEPS {
        step(&mut world, weather, &mut rotten, &mut servers)?;
        if world.is_off() {
            world.power_cut(false);
        }
        let streams = world.spool.streams.iter().filter(|stream| stream.waiting() > 0).count();
        // What was removed may come back once, and is known to the server.
        if streams > 2 * STREAMS_MAX {
            return Err(format!("{streams} streams with data"));
        }
    }
    world.power_cut(false);
    world.drain()?;
    world.judge()
}

fn step(
    world: &mut World,
    weather: Weather,
    rotten: &mut BTreeSet<String>,
    servers: &mut u8,
) -> Result<(), Breach> {
    match world.dice.below(24) {
        0..8 => {
            let bytes = [20, 20, 200, 3_000][world.dice.below(4)];
            for _ in 0..=world.dice.below(12) {
                world.push(bytes);
            }
        }
        8..11 => {
            let millis = world.dice.below(9_000) as u64;
            world.pass(millis);
        }
        11..13 => world.connect(),
        13 => world.disconnect(),
        14..19 => {
            for lane in [Lane::Live, Lane::Backlog] {
                let is_acknowledged = !world.dice.one_in(4);
                world.send(lane, is_acknowledged)?;
            }
        }
        19 => world.kill(),
        20 => world.restart_cleanly(),
        21 => {
            let clock_is_lost = weather.odd && world.dice.one_in(2);
            world.power_cut(clock_is_lost);
        }
        22 => strike(world, weather),
        _ if weather.rot => world.rot(rotten),
        _ if weather.odd && world.dice.one_in(8) => {
            *servers += 1;
            world.move_away(*servers);
        }
        _ if weather.odd => world.clock_error = 0,
        _ => {}
    }
    Ok(())
}

/// Something goes wrong soon, or is right again.
fn strike(world: &mut World, weather: Weather) {
    let after = world.dice.below(12) as u64;
    if weather.narrow {
        let bytes = world.dice.below(300_000);
        let limit = world.dice.one_in(2).then_some(bytes);
        world.disk.limit(limit);
        world.free = world.dice.below(8_000_000) as u64;
    }
    if weather.faults {
        let faults = [Fault::Write, Fault::ShortWrite, Fault::Sync, Fault::Name, Fault::Power];
        let fault = faults[world.dice.below(faults.len())];
        world.disk.fail(fault, after);
    }
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
