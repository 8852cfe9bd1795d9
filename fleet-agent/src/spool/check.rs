//! What must hold of a spool, whatever is on its disk and whatever happens: for tests, and for the
//! fuzzer.

use std::collections::{BTreeSet, HashMap};

use fleet_core::disk::sim::{Dice, Fault, image};
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;

use super::world::{Breach, EPOCH, SimGround, World, identity};
use super::{Lane, Moment, STREAMS_MAX, SYNC_EVERY, Spool, SpoolSettings};

/// What happens in each life.
const STEPS: usize = 60;

/// Rounds in which a fuzzer's spool hands over what it has.
const ROUNDS: usize = 500;

/// The door of the fuzz target `spool`: files of any bytes, in which frames have the checksums that
/// belong to them (see [`image`]). The agent starts all the same, takes new reports, and what it
/// finds is handed over or given up, each number once.
pub(crate) fn forged(image: &[u8]) {
    let mut disk = image::mended(image);
    for boot in 1..=2_u64 {
        // Each image has other names for new streams, or a fuzzer comes to know them.
        let names = image.iter().fold(boot, |sum, byte| sum.wrapping_mul(257) ^ u64::from(*byte));
        let dice = Dice::new(names);
        let ground = SimGround { disk: disk.clone(), dice, free: u64::MAX / 4 };
        let moment = |up_millis: u64| Moment {
            wall: Timestamp::from_millis(EPOCH + up_millis as i64),
            up_millis,
        };
        let now = moment(0);
        let settings = SpoolSettings::default();
        let opened = Spool::open(Box::new(ground), settings, [boot as u8; 16], now);
        let mut spool = opened.expect("the dice make names");
        spool.serve(identity(1), now);
        let sample = vec![Sample::new("new", 1.0)];
        let newest = spool.push(now.wall, 0, sample.clone(), now).expect("it is small");
        let mut last = HashMap::new();
        let mut is_new_sent = false;
        let mut rounds = 0;
        while rounds < ROUNDS && (rounds == 0 || spool.view(now).waiting > 0) {
            rounds += 1;
            let now = moment(rounds as u64 * SYNC_EVERY);
            spool.tick(now);
            spool.connected(now);
            for lane in [Lane::Live, Lane::Backlog] {
                let Some(samples) = spool.take(lane, now) else { continue };
                let last = last.entry(samples.stream).or_insert(0);
                for report in &samples.reports {
                    assert!(report.seq > *last, "number {} after {last}", report.seq);
                    *last = report.seq;
                    is_new_sent |= report.seq == newest && report.samples == sample;
                }
                spool.acknowledge(samples.stream, *last, now);
            }
        }
        assert_eq!(spool.view(now).waiting, 0, "this does not end");
        assert!(is_new_sent, "what was collected now was not handed over");
        spool.close(now);
        disk = disk.power_cut();
    }
}

/// The door of the fuzz target `spool-life`: the bytes decide what happens to a device.
pub(crate) fn any_life(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let has = |bit: u8| first & 1 << bit != 0;
    let weather = Weather { faults: has(0), rot: has(1), narrow: has(2), odd: has(3), lies: false };
    assert_eq!(live(Dice::loaded(rest), weather, has(4)), Ok(()));
}

/// What a scenario may bring besides reports, links, kills and power cuts.
#[derive(Clone, Copy, Default)]
pub(super) struct Weather {
    /// Errors of the disk.
    pub(super) faults: bool,
    /// Flipped bits.
    pub(super) rot: bool,
    /// No room, by the owner's word or on the disk.
    pub(super) narrow: bool,
    /// Clocks that a power cut sets back, and servers that change.
    pub(super) odd: bool,
    /// A disk that says that it synced and did not.
    pub(super) lies: bool,
}

/// One life. An error says which promise was broken.
pub(super) fn live(dice: Dice, weather: Weather, strict: bool) -> Result<(), Breach> {
    let bytes_max = if weather.narrow { 400 * 1024 } else { 64 * 1024 * 1024 };
    let mut world = World::new(dice, SpoolSettings { bytes_max, strict });
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
