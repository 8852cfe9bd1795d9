//! What must hold of commands, whatever is on the disk and whatever happens: for tests, and for the
//! fuzzer.

use std::time::Duration;

use fleet_core::disk::sim::{Dice, Fault, SimDisk, image};

use super::world::{Rest, World, order};
use crate::config::CommandPolicy;
use crate::journal::CommandId;

/// One command of each kind, and how often it may have its effect: those that do harm once, the
/// others twice where the agent was interrupted. A change of keys may be begun more often, since it
/// goes on where it was: that there is one is tested with it.
pub(super) const KINDS: [(&str, u32); 7] = [
    ("restart", 1),
    ("restart nginx.service", 2),
    ("reboot", 1),
    ("collect", 2),
    ("logs", 2),
    ("exec a b", 1),
    ("rotate-key", 12),
];

/// How long a device is looked after until all must be over.
const ROUNDS: usize = 40;

/// The door of the fuzz target `journal`: files of any bytes, in which frames have the checksums
/// that belong to them (see [`image`]). The agent takes orders all the same, says the same of each
/// whenever it is asked, and all of them are over in the end.
pub(crate) fn forged(bytes: &[u8]) {
    let mut world = World::new(Dice::new(1), image::mended(bytes), CommandPolicy::any());
    round(&mut world, 0);
    world.power_cut();
    assert_eq!(see_through(&mut world), Ok(()));
}

/// The door of the fuzz target `journal-life`: the bytes decide what happens to a device.
pub(crate) fn any_life(bytes: &[u8]) {
    let [first, second, rest @ ..] = bytes else { return };
    let cut = match second {
        0..200 => Cut::AtOperation(u64::from(second % 16)),
        200..230 => Cut::InEffect,
        230.. => Cut::Never,
    };
    let disk = SimDisk::new(u64::from(*second));
    let world = World::new(Dice::loaded(rest), disk, CommandPolicy::any());
    assert_eq!(happen(world, usize::from(*first) % KINDS.len(), cut), Ok(()));
}

/// One device, one command of a kind, and the power going at one operation of the disk or in the
/// middle of the effect, and again by chance. An error says which promise was broken.
#[cfg(test)]
pub(super) fn live(seed: u64, kind: usize, cut: Cut, lies: bool) -> Result<(), String> {
    let disk = SimDisk::new(seed);
    disk.lie(lies);
    happen(World::new(Dice::new(seed), disk, CommandPolicy::any()), kind, cut)
}

fn happen(mut world: World, kind: usize, cut: Cut) -> Result<(), String> {
    match cut {
        Cut::AtOperation(after) => world.disk.fail(Fault::Power, after),
        Cut::InEffect => world.outside().is_endless = true,
        Cut::Never => {}
    }
    round(&mut world, kind);
    world.outside().is_endless = false;
    if world.dice.one_in(2) && !world.is_off() {
        world.kill();
    } else {
        world.power_cut();
    }
    let again = world.dice.below(12) as u64;
    world.disk.fail(Fault::Power, again);
    round(&mut world, kind);
    world.power_cut();
    let seen = see_through(&mut world);
    for (command, most) in KINDS {
        let done = world.effects(command);
        if done > most {
            return Err(format!("{command} had its effect {done} times"));
        }
    }
    seen
}

/// When the power goes first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// At the operation of the disk after so many.
    AtOperation(u64),
    /// In the middle of the effect.
    InEffect,
    /// After all else.
    Never,
}

/// A link comes up, the server says what it has to say, and the device does what it can.
fn round(world: &mut World, kind: usize) {
    world.commands.connected();
    say(world, kind);
    let answers = !world.dice.one_in(4);
    world.hear(answers);
    let rest = world.settle();
    world.hear(answers);
    if rest != Rest::InEffect {
        world.commands.disconnected();
    }
}

/// Goes on until the server knows of all commands, with a disk that works.
fn see_through(world: &mut World) -> Result<(), String> {
    world.disk.repair();
    for _ in 0..ROUNDS {
        for kind in 0..KINDS.len() {
            world.commands.connected();
            say(world, kind);
            let rest = world.settle();
            world.hear(true);
            if let Rest::For(Some(rest)) = rest {
                // What was asked for comes, or does not.
                match world.dice.below(3) {
                    0 => world.power_cut(),
                    1 => world.kill(),
                    _ => world.pass(rest + Duration::from_millis(1)),
                }
            }
        }
    }
    if let Some(breach) = world.breach.take() {
        return Err(breach);
    }
    let is_open = |kind: &usize| !world.outcomes.contains_key(&id(*kind));
    match (0..KINDS.len()).find(is_open) {
        Some(kind) => Err(format!("{} is not over", KINDS[kind].0)),
        None => Ok(()),
    }
}

/// The server says an order again as long as it does not know what became of it.
fn say(world: &mut World, kind: usize) {
    if !world.outcomes.contains_key(&id(kind)) {
        world.commands.order(order(id(kind), KINDS[kind].0));
    }
}

fn id(kind: usize) -> CommandId {
    [u8::try_from(kind).expect("there are few kinds"); 16]
}
