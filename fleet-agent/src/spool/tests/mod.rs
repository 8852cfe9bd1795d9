//! The spool against a disk that loses, tears and fails: single promises here, whole lives in
//! [`scenarios`].

mod scenarios;

use std::collections::BTreeSet;

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::{Dice, Fault, image};
use fleet_core::fuzz::write_seed;
use proptest::prelude::*;

use super::segment::{self, Name, Record, Stamp};
use super::world::World;
use super::{
    Lane, MEMORY_BYTES_MAX, STREAMS_BEGUN_MAX, STREAMS_MAX, SYNC_BYTES, SYNC_EVERY, SpoolSettings,
    ledger,
};

/// Far more than one frame takes.
const BACKLOG: usize = 2_000;

fn world() -> World {
    World::new(Dice::new(7), SpoolSettings::default())
}

fn push(world: &mut World, count: usize) {
    for _ in 0..count {
        world.push(50);
    }
}

fn waiting(world: &World) -> u64 {
    world.spool.view(world.now()).waiting
}

fn segments(world: &World) -> Vec<Name> {
    let names = world.disk.names().unwrap();
    names.iter().filter_map(|name| Name::parse(name)).collect()
}

#[test]
fn a_device_that_is_connected_and_heard_writes_nothing() {
    let mut world = world();
    world.connect();
    for _ in 0..100 {
        world.push(500);
        assert!(world.send(Lane::Live, true).unwrap());
        world.pass(60_000);
    }
    world.restart_cleanly();
    assert_eq!((world.disk.steps(), waiting(&world)), (0, 0));
    assert!(world.disk.names().unwrap().is_empty());
}

#[test]
fn what_the_server_does_not_take_soon_is_synced() {
    let mut world = world();
    world.connect();
    world.push(500);
    assert!(world.send(Lane::Live, false).unwrap());
    world.pass(SYNC_EVERY - 1);
    assert_eq!(world.disk.steps(), 0);
    world.pass(1);
    world.power_cut(false);
    assert_eq!(waiting(&world), 1);
    // Much of it is synced at once.
    world.connect();
    while waiting(&world) as usize * 500 <= SYNC_BYTES {
        world.push(500);
    }
    world.power_cut(false);
    assert!(waiting(&world) as usize * 500 > SYNC_BYTES / 2);
}

#[test]
fn while_the_server_is_away_a_kill_costs_nothing() {
    let mut world = world();
    for _ in 0..50 {
        push(&mut world, 3);
        world.kill();
    }
    assert_eq!(waiting(&world), 150);
    assert_eq!(segments(&world).len(), 1, "all of it is one stream in one file");
    let view = world.spool.view(world.now());
    assert_eq!((view.holes, view.unclean_ends), (fleet_core::api::Holes::default(), 50));
    world.drain().unwrap();
    world.judge().unwrap();
    assert_eq!(world.server.missed, 0);
}

#[test]
fn strictly_a_power_cut_costs_nothing_either() {
    let settings = SpoolSettings { strict: true, ..SpoolSettings::default() };
    let mut world = World::new(Dice::new(7), settings);
    world.connect();
    push(&mut world, 5);
    world.power_cut(false);
    assert_eq!(waiting(&world), 5);
}

#[test]
fn new_reports_do_not_wait_for_old_ones() {
    let mut world = world();
    push(&mut world, BACKLOG);
    world.connect();
    let mut frames = 0;
    while waiting(&world) > 0 {
        let newest = world.push(50);
        assert!(world.send(Lane::Live, true).unwrap());
        assert!(world.server.has(newest), "a new report is in the next frame");
        world.send(Lane::Backlog, true).unwrap();
        frames += 1;
    }
    assert!(frames > 5, "the backlog took several frames");
    world.judge().unwrap();
}

#[test]
fn the_server_need_not_remember_more_streams_than_it_does() {
    let mut world = world();
    push(&mut world, BACKLOG);
    world.connect();
    // The backlog has begun, and then each run brings a stream of its own.
    assert!(world.send(Lane::Backlog, true).unwrap());
    for _ in 0..3 * STREAMS_BEGUN_MAX {
        world.kill();
        world.connect();
        world.push(50);
        world.send(Lane::Live, true).unwrap();
        assert!(world.spool.streams.len() <= STREAMS_MAX + 1);
    }
    world.drain().unwrap();
    assert_eq!(world.server.missed, 0, "a stream was forgotten and taken for a new one");
    world.judge().unwrap();
}

#[test]
fn the_oldest_give_way_to_the_quota() {
    let settings = SpoolSettings { bytes_max: 512 * 1024, ..SpoolSettings::default() };
    let mut world = World::new(Dice::new(7), settings);
    for _ in 0..40 {
        push(&mut world, 500);
        world.pass(1_000);
        assert!(world.spool.view(world.now()).bytes <= settings.bytes_max);
    }
    let view = world.spool.view(world.now());
    assert_eq!(view.waiting + view.holes.quota, 20_000);
    assert_eq!(view.dropped, view.holes.quota);
    assert!(view.waiting > 2_000, "{view:?}");
    world.pass(SYNC_EVERY);
    world.power_cut(false);
    assert_eq!(world.spool.view(world.now()).holes, view.holes);
    world.drain().unwrap();
    assert_eq!(world.server.missed, view.holes.quota);
    assert!(world.server.has(20_000) && !world.server.has(1));
}

#[test]
fn little_room_on_the_disk_is_shared() {
    for (mebibytes, share) in [(40, 4), (1, 1)] {
        let mut world = world();
        world.free = mebibytes * 1024 * 1024;
        world.kill();
        for _ in 0..2_000 {
            world.push(3_000);
        }
        let bytes = world.spool.view(world.now()).bytes;
        let quota = share * 1024 * 1024;
        assert!((quota / 2..quota + quota / 8).contains(&bytes), "{bytes} of {quota}");
    }
}

#[test]
fn a_disk_without_room_holds_up_nothing() {
    let mut world = world();
    push(&mut world, BACKLOG);
    world.pass(SYNC_EVERY);
    world.disk.limit(Some(0));
    push(&mut world, 10);
    let view = world.spool.view(world.now());
    assert!(view.disk_error.is_some_and(|error| error.raw().contains("space")));
    assert_eq!(view.waiting, BACKLOG as u64 + 10);
    // What is there leaves all the same, and new reports do.
    world.connect();
    let newest = world.push(50);
    while world.send(Lane::Backlog, true).unwrap() {
        world.send(Lane::Live, true).unwrap();
    }
    world.send(Lane::Live, true).unwrap();
    assert!(world.server.has(newest) && waiting(&world) == 0);
    // The disk is used again as soon as it has room.
    world.disconnect();
    world.push(50);
    world.disk.limit(None);
    world.pass(20_000);
    assert_eq!(world.spool.view(world.now()).disk_error, None);
    world.power_cut(false);
    assert_eq!(waiting(&world), 1);
}

#[test]
fn a_disk_that_fails_leaves_the_newest_in_memory() {
    let mut world = world();
    push(&mut world, 10);
    world.pass(SYNC_EVERY);
    world.disk.fail(Fault::Write, 0);
    let bytes = 10_000;
    let count = 2 * MEMORY_BYTES_MAX / bytes;
    let mut newest = 0;
    for _ in 0..count {
        // Whenever it is tried.
        world.disk.fail(Fault::Write, 0);
        newest = world.push(bytes);
    }
    let view = world.spool.view(world.now());
    assert_eq!(view.waiting + view.holes.quota, 10 + count as u64);
    assert!(view.holes.quota > 0 && view.disk_error.is_some());
    let held: usize = world.spool.streams.iter().map(super::Stream::young_bytes).sum();
    assert!(held <= MEMORY_BYTES_MAX && held > MEMORY_BYTES_MAX / 2);
    world.drain().unwrap();
    world.judge().unwrap();
    assert!(world.server.has(newest));
}

#[test]
fn what_was_for_another_server_is_let_go_of() {
    let mut world = world();
    push(&mut world, 100);
    world.pass(SYNC_EVERY);
    world.move_away(2);
    assert_eq!(waiting(&world), 0);
    assert!(segments(&world).is_empty());
    push(&mut world, 3);
    world.drain().unwrap();
    assert_eq!(world.server.missed, 0);

    // Also if the device was given another one while the agent did not run.
    push(&mut world, 100);
    world.pass(SYNC_EVERY);
    world.change_server_unnoticed(3);
    world.kill();
    assert_eq!(waiting(&world), 0);
}

#[test]
fn files_of_others_are_left_alone() {
    let mut world = world();
    for name in ["notes.txt", "00000001-segment", ".hidden"] {
        world.disk.create(name).unwrap().write_at(b"mine", 0).unwrap();
    }
    push(&mut world, 10);
    world.kill();
    world.move_away(2);
    for name in ["notes.txt", "00000001-segment", ".hidden"] {
        assert_eq!(world.disk.contents(name).unwrap(), b"mine");
    }
}

#[test]
fn one_rotten_record_costs_one_record() {
    for seed in 0..40_u64 {
        let mut world = World::new(Dice::new(seed), SpoolSettings::default());
        push(&mut world, 40);
        world.pass(SYNC_EVERY);
        let mut rotten = BTreeSet::new();
        world.rot(&mut rotten);
        if seed.is_multiple_of(2) {
            world.kill();
        }
        world.drain().unwrap();
        let holes = world.spool.view(world.now()).holes;
        let lost = (1..=40).filter(|value| !world.server.has(*value)).count() as u64;
        assert_eq!((lost, holes.damaged + holes.power_cut), (1, 1), "seed {seed}");
        // It is not counted again.
        world.kill();
        assert_eq!(world.spool.view(world.now()).holes, holes, "seed {seed}");
    }
}

proptest! {
    #[test]
    fn files_may_hold_anything(
        ledger in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
        length in any::<proptest::sample::Index>(),
    ) {
        let mut world = world();
        push(&mut world, 20);
        world.pass(SYNC_EVERY);
        world.connect();
        world.send(Lane::Live, false).unwrap();
        world.kill();
        for name in segments(&world) {
            world.disk.rot(&name.to_string(), |bytes| {
                for (at, byte) in &cuts {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                bytes.truncate(length.index(bytes.len() + 1));
            });
        }
        world.disk.rot(ledger::FILE, |bytes| *bytes = ledger.clone());
        world.kill();
        push(&mut world, 5);
        // What a ledger of garbage counts is garbage, but nothing of it stops the agent.
        world.drain().unwrap();
        prop_assert_eq!(waiting(&world), 0);
    }
}

#[test]
fn a_segment_under_another_name_stands_in_nobodys_way() {
    for is_later in [true, false] {
        let mut world = world();
        push(&mut world, 3);
        world.pass(SYNC_EVERY);
        let name = segments(&world)[0];
        let mut bytes = world.disk.contents(&name.to_string()).unwrap();
        // With fewer records, so that it matters which of them is taken for the other.
        bytes.truncate(bytes.len() / 2);
        let generation = if is_later { name.generation + 2 } else { name.generation - 1 };
        let other = Name { generation, ..name }.to_string();
        world.disk.create(&other).unwrap().write_at(&bytes, 0).unwrap();
        world.kill();
        push(&mut world, 2);
        world.pass(SYNC_EVERY);
        world.drain().unwrap();
        world.judge().unwrap();
        let mut all = world.collected.iter();
        assert!(all.all(|one| world.server.has(one.value)), "all of it arrives");
        assert_eq!(world.disk.contents(&other), Some(bytes), "it is not ours");
    }
}

#[test]
fn what_nobody_understands_is_counted_and_holds_nobody_up() {
    let mut world = world();
    for generation in 1..=4 {
        let stream = [generation as u8; 16];
        let stamp = Stamp { at_millis: 0, boot: [9; 16], up_millis: 1 };
        let packed = Box::new([0xff; 4]);
        let record = Record { seq: 1, acked: 0, synced: 0, server: None, stamp, packed };
        let mut bytes = Vec::new();
        segment::put(&mut bytes, record).unwrap();
        let name = Name { generation, stream, first: 1 }.to_string();
        world.disk.create(&name).unwrap().write_at(&bytes, 0).unwrap();
    }
    world.kill();
    let newest = world.push(50);
    world.drain().unwrap();
    world.judge().unwrap();
    assert!(world.server.has(newest));
    assert_eq!(world.spool.view(world.now()).holes.damaged, 4);
}

#[test]
#[ignore = "writes the seeds anew: cargo test -p fleet-agent --lib write_seeds -- --ignored"]
fn write_seeds() {
    let mut world = world();
    push(&mut world, 4);
    world.pass(SYNC_EVERY);
    world.connect();
    world.send(Lane::Live, true).unwrap();
    push(&mut world, 1);
    world.disconnect();
    world.kill();
    push(&mut world, 2);
    world.pass(SYNC_EVERY);
    let image = image::of(&world.disk);
    assert!(image.len() < 8_000, "{}", image.len());
    write_seed("spool", "two-streams", &image).unwrap();
    write_seed("spool", "torn", &image[..image.len() - 60]).unwrap();
    for (seed, name) in [(1, "some"), (2, "other")] {
        let mut dice = Dice::new(seed);
        let bytes: Vec<u8> = (0..200).map(|_| dice.number() as u8).collect();
        write_seed("spool-life", name, &bytes).unwrap();
    }
}
