//! Commands by counted effects: single promises here, all that may happen in [`crash`].

mod crash;

use fleet_core::disk::sim::{Dice, Fault, SimDisk};
use fleet_core::identity::PrivateKey;
use fleet_core::limits::COMMAND_BYTES_MAX;
use fleet_core::wire::{CommandOrder, Outcome, Progress};
use std::time::Duration;

use super::world::{EPOCH, Rest, World, order};
use crate::config::CommandPolicy;
use crate::journal::{CommandId, LIVE_MAX};

const ID: CommandId = [7; 16];
const DAY: Duration = Duration::from_secs(24 * 3600);

fn world() -> World {
    let mut world = World::new(Dice::new(1), SimDisk::new(1), CommandPolicy::any());
    world.commands.connected();
    world.hear(true);
    world
}

/// The server hears, without having what it hears on its disk.
fn heard(world: &mut World) -> Vec<Progress> {
    let before = world.heard.len();
    world.hear(false);
    world.heard[before..].iter().map(|(_, progress)| progress.clone()).collect()
}

fn outcome(world: &mut World, id: CommandId) -> (Outcome, String) {
    world.settle();
    world.hear(true);
    let result = world.outcomes.get(&id).expect("it is over");
    (result.outcome, result.detail.clone())
}

#[test]
fn an_order_is_accepted_begun_and_over() {
    let mut world = world();
    world.commands.order(order(ID, "collect"));
    assert_eq!(heard(&mut world), [Progress::Accepted]);
    world.outside().is_endless = true;
    assert_eq!(world.settle(), Rest::InEffect);
    assert_eq!(heard(&mut world), [Progress::Running]);
    // The same order again, and a new link, change nothing.
    world.commands.order(order(ID, "collect"));
    assert_eq!(heard(&mut world), [Progress::Running]);
    world.commands.disconnected();
    world.commands.connected();
    assert_eq!(heard(&mut world), [Progress::Running]);
    world.outside().is_endless = false;
    world.kill();
    world.commands.connected();
    world.settle();
    let told = heard(&mut world);
    assert!(matches!(&told[..], [.., Progress::Done(done)] if done.outcome == Outcome::Succeeded));

    // It is said again at each link, until the server has it.
    world.commands.connected();
    assert_eq!(heard(&mut world).len(), 1);
    world.commands.noted(ID);
    world.commands.connected();
    assert_eq!(heard(&mut world), []);
    // Whoever asks still gets the answer.
    world.commands.order(order(ID, "collect"));
    assert!(matches!(&heard(&mut world)[..], [Progress::Done(_)]));
}

#[test]
fn one_after_the_other_in_the_order_in_which_they_came() {
    let mut world = world();
    for number in 0..5 {
        world.commands.order(order([number; 16], "collect"));
    }
    world.kill();
    world.commands.connected();
    world.settle();
    world.hear(true);
    let done = world.heard.iter().filter(|(_, progress)| matches!(progress, Progress::Done(_)));
    let order: Vec<u8> = done.map(|(id, _)| id[0]).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

#[test]
fn what_comes_too_late_is_not_done() {
    let mut world = world();
    world.commands.order(CommandOrder { expires_in_millis: 0, ..order(ID, "reboot") });
    assert_eq!(outcome(&mut world, ID).0, Outcome::Expired);

    let long = u64::try_from((8 * DAY).as_millis()).unwrap();
    world.commands.order(CommandOrder { expires_in_millis: long, ..order([6; 16], "reboot") });
    assert_eq!(outcome(&mut world, [6; 16]).0, Outcome::Failed);

    // The device's own time counts, whatever its clock says.
    world.commands.order(CommandOrder { expires_millis: EPOCH - 1, ..order([1; 16], "exec a") });
    assert_eq!(outcome(&mut world, [1; 16]).0, Outcome::Succeeded);
    world.outside().is_endless = true;
    world.commands.order(order([2; 16], "collect"));
    world.commands.order(order([3; 16], "reboot"));
    world.commands.order(order([4; 16], "reboot"));
    assert_eq!(world.settle(), Rest::InEffect);
    world.outside().wall += 999_999_999_999;
    world.hear(true);
    assert_eq!(world.effects("reboot"), 0);

    // After a restart there is the wall clock only, which was set forwards.
    world.kill();
    world.commands.connected();
    world.outside().is_endless = false;
    assert_eq!(outcome(&mut world, [2; 16]).0, Outcome::Unknown);
    assert_eq!(outcome(&mut world, [3; 16]).0, Outcome::Expired);
    // One that was set back says nothing.
    world.commands.order(order([5; 16], "reboot"));
    world.kill();
    world.commands.connected();
    world.outside().wall = 0;
    let (outcome, detail) = outcome(&mut world, [5; 16]);
    assert_eq!(outcome, Outcome::Expired);
    assert!(detail.contains("was set back"), "{detail}");
    assert_eq!(world.effects("reboot"), 0);
}

#[test]
fn what_waits_behind_another_may_come_too_late() {
    let mut world = world();
    world.commands.order(order(ID, "reboot"));
    let soon = CommandOrder { expires_in_millis: 60_000, ..order([1; 16], "collect") };
    world.commands.order(soon);
    assert_eq!(world.settle(), Rest::For(Some(Duration::from_secs(300))));
    world.pass(Duration::from_secs(301));
    assert_eq!(outcome(&mut world, [1; 16]).0, Outcome::Expired);
    assert_eq!(outcome(&mut world, ID), (Outcome::Failed, "the device has not rebooted".into()));
    assert_eq!(world.effects("collect"), 0);
}

#[test]
fn an_order_is_taken_back_before_it_came_and_not_after() {
    let mut world = world();
    world.commands.cancel(ID);
    assert_eq!(outcome(&mut world, ID).0, Outcome::Cancelled);
    world.power_cut();
    world.commands.connected();
    world.commands.order(order(ID, "reboot"));
    assert_eq!(outcome(&mut world, ID).0, Outcome::Cancelled);
    assert_eq!(world.effects("reboot"), 0);

    world.commands.order(order([1; 16], "collect"));
    heard(&mut world);
    world.commands.cancel([1; 16]);
    assert_eq!(heard(&mut world), [Progress::Accepted]);
    assert_eq!(outcome(&mut world, [1; 16]).0, Outcome::Succeeded);
}

#[test]
fn what_is_no_command_and_what_the_policy_forbids_fails_with_the_reason() {
    let mut world = World::new(Dice::new(1), SimDisk::new(1), CommandPolicy::default());
    world.commands.connected();
    let long = format!("exec {}", "x".repeat(COMMAND_BYTES_MAX));
    for (number, text, reason) in [
        (1, "restrat", "this agent: there is no command restrat; there are restart,"),
        (2, "exec ls -l", "this device's policy does not let its server run ls like this; listing"),
        (3, &long, "this agent: a command has at most"),
    ] {
        world.commands.order(order([number; 16], text));
        let (outcome, detail) = outcome(&mut world, [number; 16]);
        assert_eq!(outcome, Outcome::Failed);
        assert!(detail.starts_with(reason), "{detail}");
    }
    assert!(world.outside().effects.is_empty());
}

#[test]
fn a_server_that_gives_too_much_must_ask_again() {
    let mut world = world();
    world.outside().is_endless = true;
    let id = |number: usize| [u8::try_from(number).unwrap(); 16];
    for number in 0..LIVE_MAX + 5 {
        world.commands.order(order(id(number), "collect"));
        world.settle();
    }
    world.hear(true);
    let accepted = world.heard.iter().filter(|(_, progress)| *progress == Progress::Accepted);
    assert_eq!(accepted.count(), LIVE_MAX);
    world.outside().is_endless = false;
    world.kill();
    world.commands.connected();
    world.settle();
    world.hear(true);
    world.commands.order(order(id(LIVE_MAX), "collect"));
    assert_eq!(outcome(&mut world, id(LIVE_MAX)).0, Outcome::Succeeded);
}

#[test]
fn what_the_disk_does_not_take_is_not_begun() {
    let mut world = world();
    world.disk.limit(Some(0));
    world.commands.order(order(ID, "exec a"));
    world.settle();
    assert_eq!((heard(&mut world), world.effects("exec a")), (vec![], 0));
    // The server asks again.
    world.disk.limit(None);
    world.commands.order(order(ID, "exec a"));
    for fault in [Fault::Write, Fault::Sync, Fault::ShortWrite] {
        world.disk.fail(fault, 0);
        let rest = world.settle();
        assert_eq!((rest, world.effects("exec a")), (Rest::For(Some(Duration::from_secs(5))), 0));
    }
    world.settle();
    assert!(matches!(heard(&mut world).last(), Some(Progress::Done(_))));

    // What another run left is taken up when there is room to write it anew.
    let bytes = world.disk.contents("journal").unwrap().len();
    world.disk.limit(Some(bytes));
    world.kill();
    world.commands.connected();
    assert_eq!(world.settle(), Rest::For(Some(Duration::from_secs(5))));
    world.commands.order(order([2; 16], "collect"));
    assert_eq!(heard(&mut world), []);
    world.disk.limit(None);
    world.settle();
    assert!(matches!(&heard(&mut world)[..], [Progress::Done(_)]));
    world.commands.noted(ID);
    assert_eq!(world.effects("exec a"), 1);

    // What is over is not said before it is written down.
    world.commands.order(order([1; 16], "exec b"));
    world.disk.fail(Fault::Sync, 1);
    world.disk.fail(Fault::Name, 0);
    world.settle();
    assert_eq!(heard(&mut world), [Progress::Accepted, Progress::Running]);
    assert_eq!(outcome(&mut world, [1; 16]).0, Outcome::Succeeded);
    assert_eq!(world.effects("exec b"), 1);
}

#[test]
fn nothing_of_another_server_is_done_or_told() {
    for changes_alone in [false, true] {
        let mut world = world();
        world.commands.order(order(ID, "exec a"));
        world.settle();
        world.outside().is_endless = true;
        world.commands.order(order([1; 16], "collect"));
        world.commands.order(order([2; 16], "exec b"));
        assert_eq!(world.settle(), Rest::InEffect);
        world.server = PrivateKey::from_seed(&[2; 32]).public().identity();
        if changes_alone {
            // As when the device's own file names another one.
            world.kill();
        } else {
            world.commands.forget();
            world.commands.order(order([3; 16], "exec c"));
            world.commands.serve(world.server);
        }
        world.outside().is_endless = false;
        world.heard.clear();
        world.commands.connected();
        world.settle();
        world.power_cut();
        world.commands.connected();
        world.settle();
        world.hear(true);
        assert_eq!(world.heard, []);
        assert_eq!((world.effects("exec b"), world.effects("exec c")), (0, 0));
        world.commands.order(order(ID, "exec d"));
        world.outcomes.clear();
        assert_eq!(outcome(&mut world, ID).0, Outcome::Succeeded);
    }
}

#[test]
fn a_reboot_is_one_if_the_boot_is_another() {
    for reboots in [true, false] {
        let mut world = world();
        world.commands.order(order(ID, "reboot"));
        world.settle();
        if reboots {
            world.power_cut();
        } else {
            world.pass(Duration::from_secs(60));
            world.kill();
        }
        world.commands.connected();
        if !reboots {
            assert_eq!(world.settle(), Rest::For(Some(Duration::from_secs(240))));
            world.pass(Duration::from_secs(240));
        }
        let expected = if reboots { Outcome::Succeeded } else { Outcome::Failed };
        assert_eq!(outcome(&mut world, ID).0, expected);
        assert_eq!(world.effects("reboot"), 1);
    }
}

#[test]
fn an_agent_that_began_anew_says_so() {
    let mut world = world();
    world.commands.order(order(ID, "restart"));
    assert_eq!(world.settle(), Rest::For(Some(Duration::from_secs(300))));
    assert_eq!(heard(&mut world), [Progress::Accepted, Progress::Running]);
    world.kill();
    world.commands.connected();
    assert_eq!(outcome(&mut world, ID), (Outcome::Succeeded, "the agent began anew".to_owned()));
}

#[test]
fn what_ends_the_agent_each_time_is_given_up() {
    let mut world = world();
    world.outside().is_endless = true;
    world.commands.order(order(ID, "restart nginx"));
    for _ in 0..5 {
        world.settle();
        world.kill();
    }
    world.commands.connected();
    assert_eq!(outcome(&mut world, ID).0, Outcome::Unknown);
    assert_eq!(world.effects("restart nginx.service"), 2);
}

#[test]
fn a_month_later_nothing_is_done() {
    let mut world = world();
    world.commands.order(order(ID, "reboot"));
    world.outside().wall += i64::try_from((30 * DAY).as_millis()).unwrap();
    world.power_cut();
    world.commands.connected();
    assert_eq!(outcome(&mut world, ID).0, Outcome::Expired);
    assert_eq!(world.effects("reboot"), 0);
}

#[test]
fn what_waited_through_another_boot_is_done_when_it_is_asked_for_again() {
    let mut world = world();
    world.commands.order(order(ID, "reboot"));
    world.hear(true);
    // The device lies in a drawer, and its clock goes on as if no time had passed.
    world.power_cut();
    world.commands.connected();
    assert_eq!(world.settle(), Rest::For(None));
    assert_eq!(world.effects("reboot"), 0);
    assert_eq!(heard(&mut world), [Progress::Accepted]);
    world.commands.order(order(ID, "reboot"));
    world.settle();
    assert_eq!(world.effects("reboot"), 1);

    // Another one is asked for too late.
    let other = [8; 16];
    world.power_cut();
    world.commands.order(order(other, "restart"));
    world.power_cut();
    world.commands.connected();
    world.commands.order(CommandOrder { expires_in_millis: 0, ..order(other, "restart") });
    assert_eq!(outcome(&mut world, other).0, Outcome::Expired);
    assert_eq!(world.effects("restart"), 0);
}
