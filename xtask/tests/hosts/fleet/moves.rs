//! A server that says that it is somewhere else: to a place that there is, and to places where nobody
//! or somebody else is.

use std::thread;
use std::time::Duration;

use fleet_core::api::{ConfigState, ConfigView};
use serde_json::Value;

use super::kills::rounds;
use super::{Agent, COME_BACK, Server};
use crate::lab::{Host, Lab, wait_for};

/// A minute in which a place has to be reached, and as much again for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(120);
/// Kills unless `FLEETD_TEST_KILLS` says otherwise.
const KILLS: u32 = 9;
/// The latest moment of a kill after the place was set: a move is over by then.
const MOMENT_MILLIS_MAX: u64 = 1_500;
/// A second address of the server's host.
const SECOND: &str = "10.77.1.200";
/// An address that takes packets and answers none.
const SILENT: &str = "10.77.1.201";

impl Server<'_> {
    #[track_caller]
    fn config(&self, id: &str) -> ConfigView {
        self.fleets(&["config", "get", id, "-o", "json"]).exits(0).json()
    }

    #[track_caller]
    fn sets_place(&self, id: &str, place: &str) {
        let change = format!("server_url=http://{place}:8080");
        self.fleets(&["config", "set", id, &change, "--no-wait"]).exits(0);
    }

    #[track_caller]
    fn config_becomes(&self, id: &str, state: ConfigState) -> ConfigView {
        wait_for(&format!("the configuration of {id} to be {}", state.word()), GIVEN_UP, || {
            Some(self.config(id)).filter(|view| view.state == Some(state))
        })
    }
}

/// Whether a host has a connection to the server's port at this address.
fn is_linked(host: &Host, address: &str) -> bool {
    let peer = format!("{address}:8080");
    host.output("ss", &["-Htn", "state", "established"]).contains(&peer)
}

fn give_second_address(desk: &Host) {
    desk.ip(&["address", "add", &format!("{SECOND}/24"), "dev", "eth0"]);
}

#[test]
fn a_device_moves_to_a_second_address_and_stays_there() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    give_second_address(&desk);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let uid = server.device("cam").expect("it is there").uid;

    server.sets_place("cam", SECOND);
    let view = server.config_becomes("cam", ConfigState::Applied);
    assert_eq!(view.server_url.map(|url| url.to_string()), Some(format!("http://{SECOND}:8080")));
    wait_for("the new place to be the only one", COME_BACK, || {
        let is_old = is_linked(&cam, &desk.address().to_string());
        (is_linked(&cam, SECOND) && !is_old).then_some(())
    });

    // Nothing is lost on the way, and it is the same device.
    let before = server.stores_after("cam", 0);
    agent.kill();
    agent.start_again();
    wait_for("the new place again", COME_BACK, || is_linked(&cam, SECOND).then_some(()));
    server.stores_after("cam", before);
    assert_eq!(server.device("cam").expect("it is there").uid, uid);
    assert_eq!(server.config("cam").state, Some(ConfigState::Applied));
}

#[test]
fn t33_a_move_comes_to_its_end_whoever_is_killed_in_the_middle() {
    let kills = rounds(KILLS);
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    give_second_address(&desk);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let places = [SECOND.to_owned(), desk.address().to_string()];
    let mut moment = 3_u64;
    for round in 0..kills {
        let place = &places[round as usize % places.len()];
        server.sets_place("cam", place);
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
        server.config_becomes("cam", ConfigState::Applied);
        wait_for("the place to be the one", COME_BACK, || is_linked(&cam, place).then_some(()));
    }
    let reverted = server.fleets(&["events", "--kind", "config.reverted", "-o", "json"]);
    assert_eq!(reverted.json::<Vec<Value>>().len(), 0);
}

#[test]
fn t33_a_place_that_is_none_is_given_up_while_the_server_goes_on() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let stranger = lab.host("stranger", &[&lan]);
    let empty = lab.host("empty", &[&lan]);
    let cams = ["silent", "refused", "stranger-s", "killed"].map(|name| lab.host(name, &[&lan]));
    for cam in &cams {
        // Somebody is said to be there, so packets leave, and are never heard of again.
        let there = ["lladdr", "02:00:00:00:00:c9", "dev", "eth0", "nud", "permanent"];
        cam.ip(&[&["neigh", "add", SILENT][..], &there].concat());
    }
    let server = Server::start(&desk);
    let other = Server::start(&stranger);
    let agents = cams.each_ref().map(Agent::start);
    let ids = ["silent", "refused", "stranger-s", "killed"];
    server.configure(&ids);

    let places = [
        SILENT.to_owned(),
        empty.address().to_string(),
        stranger.address().to_string(),
        SILENT.to_owned(),
    ];
    for (id, place) in ids.iter().zip(&places) {
        server.sets_place(id, place);
    }
    server.config_becomes("killed", ConfigState::Trying);
    agents[3].kill();
    agents[3].start_again();
    // They go on reporting to the server that they have.
    let before = ids.map(|id| server.stores_after(id, 0));
    for (id, before) in ids.iter().zip(before) {
        server.stores_after(id, before);
    }
    for (id, place) in ids.iter().zip(&places) {
        let view = server.config_becomes(id, ConfigState::Reverted);
        let why = view.reported.and_then(|reported| reported.error).expect("a reason").to_string();
        assert!(why.contains(&format!("was not reached at http://{place}:8080")), "{id}: {why}");
        let words = match *id {
            "refused" => "refused",
            "stranger-s" => "another server",
            _ => "in time",
        };
        assert!(why.contains(words), "{id}: {why}");
    }
    for cam in &cams {
        assert!(is_linked(cam, &desk.address().to_string()), "{} is elsewhere", cam.name());
    }
    assert_eq!(
        other.fleets(&["devices", "-o", "json"]).exits(0).json::<Value>(),
        Value::from(Vec::<Value>::new())
    );
    let events = server.fleets(&["events", "--kind", "config.reverted", "-o", "json"]).exits(0);
    assert_eq!(events.json::<Vec<Value>>().len(), ids.len());
}
