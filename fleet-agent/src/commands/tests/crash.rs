//! The agent ends at every moment of every kind of command: no effect comes twice, and all of them
//! are over in the end.

use fleet_core::disk::sim::{Dice, SimDisk, image};
use fleet_core::fuzz::write_seed;
use proptest::prelude::*;

use super::super::check::{Cut, KINDS, any_life, forged, live};
use super::super::world::{World, order};
use crate::config::CommandPolicy;

/// Operations of the disk in the life of a command, and some more.
const OPERATIONS: u64 = 14;
/// Lives for each moment, unless `FLEETD_TEST_COMMANDS` says otherwise.
const LIVES: u64 = 40;

fn lives() -> u64 {
    std::env::var("FLEETD_TEST_COMMANDS")
        .map_or(LIVES, |text| text.parse().expect("FLEETD_TEST_COMMANDS is a number"))
}

/// Runs all lives, and shows the first that breaks a promise in a way that is looked for.
fn run_all(lies: bool, looked_for: &str) -> Option<String> {
    let cuts = (0..OPERATIONS).map(Cut::AtOperation).chain([Cut::InEffect, Cut::Never]);
    for cut in cuts {
        for (kind, (command, _)) in KINDS.iter().enumerate() {
            for seed in 0..lives() {
                if let Err(breach) = live(seed, kind, cut, lies)
                    && breach.contains(looked_for)
                {
                    return Some(format!("{command}, {cut:?}, seed {seed}: {breach}"));
                }
            }
        }
    }
    None
}

#[test]
fn no_effect_comes_twice_wherever_the_agent_ends() {
    assert_eq!(run_all(false, ""), None);
}

#[test]
fn a_disk_that_lies_about_syncing_is_found_out() {
    assert!(run_all(true, "effect 2 times").is_some());
}

#[test]
fn an_order_that_comes_ten_thousand_times_has_one_effect() {
    for (command, _) in KINDS {
        let mut world = World::new(Dice::new(1), SimDisk::new(1), CommandPolicy::any());
        for round in 0..10_000 {
            world.commands.connected();
            world.commands.order(order([1; 16], command));
            match round {
                100 | 5_000 => world.kill(),
                200 | 7_000 => world.power_cut(),
                _ => {}
            }
            if round % 10 == 0 {
                world.settle();
                let answers = round > 3_000;
                world.hear(answers);
            }
        }
        assert_eq!((world.effects(command), world.breach), (1, None), "{command}");
    }
}

proptest! {
    #[test]
    fn any_life_keeps_the_promises(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        any_life(&bytes);
    }

    #[test]
    fn the_disk_may_hold_anything(
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
        length in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = seed();
        for (at, byte) in &cuts {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        forged(&bytes);
    }
}

/// The files of a device with a command at each step.
fn seed() -> Vec<u8> {
    let mut world = World::new(Dice::new(1), SimDisk::new(1), CommandPolicy::any());
    world.commands.connected();
    world.commands.order(order([3; 16], "collect"));
    world.settle();
    world.hear(true);
    world.commands.order(order([5; 16], "exec a b"));
    world.settle();
    world.commands.cancel([9; 16]);
    world.commands.order(order([2; 16], "reboot"));
    world.settle();
    world.commands.order(order([0; 16], "restart"));
    image::of(&world.disk)
}

#[test]
#[ignore = "writes the seeds anew: cargo test -p fleet-agent --lib write_seeds -- --ignored"]
fn write_seeds() {
    let image = seed();
    write_seed("journal", "each-step", &image).unwrap();
    write_seed("journal", "torn", &image[..image.len() - 20]).unwrap();
    let mut damaged = image.clone();
    damaged[40] ^= 1;
    write_seed("journal", "damaged", &damaged).unwrap();
    for (seed, name) in [(1, "some"), (2, "other")] {
        let mut dice = Dice::new(seed);
        let bytes: Vec<u8> = (0..60).map(|_| dice.number() as u8).collect();
        write_seed("journal-life", name, &bytes).unwrap();
    }
}
