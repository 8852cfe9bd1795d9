//! A device that was copied with its key, and devices that come before and after an operator's word.

use std::fs;

use fleet_core::api::{DeviceStatus, EventView};
use serde_json::Value;

use super::{Agent, COME_BACK, SOON, Said, Server, terminate};
use crate::lab::{Lab, wait_for};

#[track_caller]
fn told(server: &Server<'_>, kind: &str) -> Vec<EventView> {
    // Of none it is said that there is nothing, by its exit code too.
    server.fleets(&["events", "--kind", kind, "-o", "json"]).json()
}

#[test]
fn t05_a_copied_device_is_noticed_and_a_new_key_ends_it() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, real, copy] = ["desk", "real", "copy"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let original = Agent::start_as(&real, "cam");
    server.configure(&["cam"]);

    // It goes away and comes back more often than a device that is there twice would.
    for _ in 0..5 {
        original.kill();
        original.start_again();
        let newest = super::now_millis();
        server.stores_after("cam", newest);
    }
    assert!(told(&server, "device.double_suspected").is_empty());

    terminate(&real, original.pid.get());
    let copied =
        Said::of(copy.command("cp").arg("-a").arg(real.path("agent")).arg(copy.path("agent")));
    copied.exits(0);
    original.start_again();
    let double = Agent::start_as(&copy, "cam");
    let [event] = wait_for("the double to be told", COME_BACK, || {
        <[EventView; 1]>::try_from(told(&server, "device.double_suspected")).ok()
    });
    let text = event.text.to_string();
    for host in [&real, &copy] {
        assert!(text.contains(&host.address().to_string()), "{text}");
    }
    let shown = server.fleets(&["devices", "get", "cam"]).exits(0);
    assert!(shown.stdout.contains("perhaps, since "), "{shown:#?}");
    let listed = server.fleets(&["devices", "list", "--columns", "device,why"]).exits(0);
    assert!(listed.stdout.contains("may be there twice"), "{listed:#?}");

    // One of the two gets a new key, and the other has none any more.
    double.kill();
    server.shows_online(&["cam"]);
    server.fleets(&["command", "run", "cam", "rotate-key"]).exits(0);
    wait_for("the double to be forgotten", COME_BACK, || {
        server.device("cam").filter(|device| device.double.is_none())
    });
    double.start_again();
    wait_for("the copy to be refused", SOON, || {
        copy.log(&double.log_name()).contains("replaced by a newer one").then_some(())
    });
}

#[test]
fn a_device_whose_key_was_vouched_for_is_in_at_once_and_only_once() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, one, two] = ["desk", "one", "two"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let told_their_server = |host| {
        let mut agent = Agent::idle(host, "some-name");
        agent.endpoint = Some(server.url());
        agent
    };
    let [one, two] = [told_their_server(&one), told_their_server(&two)];
    // The devices make their keys when they are made, long before they are put up.
    let keys = [&one, &two].map(|agent| {
        let away = Agent::idle(agent.host, "some-name");
        away.starts.set(10);
        away.start_again();
        let known = wait_for("the device's key", SOON, || {
            let said = Said::of(&mut away.command(&["info", "--json"]));
            let info: Value = serde_json::from_str(&said.stdout).ok()?;
            info["fingerprint"].as_str().map(str::to_owned)
        });
        terminate(agent.host, away.pid.get());
        known
    });
    let table = desk.path("devices.csv");
    let rows =
        format!("fingerprint,device_id,name,tags\n{},door-1,Front door,\"eu, door\"\n", keys[0]);
    fs::write(&table, rows).expect("a table");
    let table = table.to_str().expect("a plain path");
    server.fleets(&["devices", "preauthorize", "--csv", table]).exits(0);
    server.fleets(&["devices", "preauthorize", "--csv", table]).exits(6);

    one.start_again();
    two.start_again();
    server.shows_online(&["door-1"]);
    let device = server.device("door-1").expect("it is there");
    assert_eq!(device.name.to_string(), "Front door");
    assert_eq!(device.metadata["tags"], "eu door");
    let enrolled = told(&server, "device.enrolled");
    assert!(enrolled[0].actor.to_string().starts_with("operator:"), "{enrolled:?}");
    let pending = wait_for("the other device to ask", SOON, || server.device("some-name"));
    assert_eq!(pending.status, DeviceStatus::Pending);
    let left: Vec<Value> = server.fleets(&["devices", "preauthorized", "-o", "json"]).json();
    assert!(left.is_empty(), "it is used up: {left:?}");

    // Who has come is judged, not vouched for.
    let late = ["devices", "preauthorize", "--fingerprint", &keys[1]];
    let said = server.fleets(&late);
    assert!(said.code != Some(0) && said.stderr.contains("has this key already"), "{said:#?}");
}
