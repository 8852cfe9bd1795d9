//! Keys of devices that take each other's place, while either side is killed without a word; and
//! somebody who has one of them.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use fleet_core::api::CommandState;
use serde_json::Value;

use super::kills::rounds;
use super::{Agent, COME_BACK, Said, Server};
use crate::lab::{Lab, wait_for};

/// Kills unless `FLEETD_TEST_KILLS` says otherwise.
const KILLS: u32 = 12;
/// Former keys of a device that a server calls so, at least; older ones are a stranger's.
const REMEMBERED: u32 = 12;
/// The latest moment of a kill after the order was given: a change of keys is over by then.
const MOMENT_MILLIS_MAX: u64 = 1_500;

#[test]
fn keys_change_once_each_whoever_is_killed_and_former_ones_open_nothing() {
    let kills = rounds(KILLS);
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let thief = lab.host("thief", &[&lan]);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let uid = server.device("cam").expect("it is there").uid;
    let [from, to] = [&cam, &thief].map(|host| host.path("agent"));

    let mut keys = BTreeSet::from([fingerprint(&server)]);
    let mut moment = 11_u64;
    for round in 0..kills {
        if round == kills.saturating_sub(REMEMBERED) {
            Said::of(std::process::Command::new("cp").arg("-a").args([&from, &to])).exits(0);
        }
        let give = ["command", "run", "cam", "rotate-key", "--no-wait", "-o", "name"];
        let id = server.fleets(&give).exits(0).stdout.trim().to_owned();
        // Not a wait: this chooses where in its work the victim is hit.
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_millis((moment >> 33) % MOMENT_MILLIS_MAX));
        if round % 3 == 2 {
            server.kill();
            server.start_again();
        } else {
            agent.kill();
            agent.start_again();
        }
        let view = wait_for("the command to be over", COME_BACK, || {
            let view: Value = server.fleets(&["command", "show", &id, "-o", "json"]).json();
            let state = view["state"].as_str().and_then(CommandState::from_word);
            state.is_some_and(CommandState::is_over).then_some(view)
        });
        assert_eq!(view["state"], "succeeded", "{view:#}");
        assert!(keys.insert(fingerprint(&server)), "it is a key that the device had: {keys:?}");
    }
    let more = (kills + 1).to_string();
    let list = ["events", "--kind", "device.rekeyed", "--limit", &more, "-o", "json"];
    let changes = server.fleets(&list).exits(0);
    assert_eq!(changes.json::<Vec<Value>>().len(), kills as usize);

    let copy = Agent::idle(&thief, "cam");
    copy.start_again();
    wait_for("the copy to be told", COME_BACK, || {
        let log = thief.log("agent-1");
        log.contains("was replaced by a newer one of the device cam").then_some(())
    });
    let before = server.stores_after("cam", 0);
    server.stores_after("cam", before);
    let devices = server.devices();
    assert_eq!((devices.len(), &devices[0].uid), (1, &uid));
}

#[track_caller]
fn fingerprint(server: &Server<'_>) -> String {
    let device = server.device("cam").expect("it is there");
    device.fingerprint.expect("an agent has a key").to_string()
}
