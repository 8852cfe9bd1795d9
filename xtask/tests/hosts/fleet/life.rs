//! The ordinary life of a fleet: found, configured, reporting, restarted, cut off, gone.

use fleet_core::api::DeviceStatus;

use super::{Agent, SOON, Said, Server, has_id, now_millis, ours, terminate};
use crate::lab::{Lab, wait_for};

/// Between two reports of the same agent, with 10 % jitter and a busy machine.
const GAP_MILLIS_MAX: i64 = 3_500;

#[test]
fn devices_are_found_configured_and_report() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let [one, two] = ["cam-001", "cam-002"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agents = [Agent::start(&one), Agent::start(&two)];

    server.sees_devices(&["cam-001", "cam-002"]);
    let said = server.fleets(&["configure", "--auto"]).exits(0);
    for id in ["cam-001", "cam-002"] {
        let line = format!("Successfully configured fleetd-{id}._fleetd._tcp.local.");
        assert!(said.stdout.contains(&line), "{said:#?}");
    }
    server.shows_online(&["cam-001", "cam-002"]);

    let health = format!("http://{}:6789/health", one.address());
    let said = Said::of(desk.command("curl").args(["-s", "-m5", &health])).exits(0);
    assert!(said.stdout.contains("ok"), "{said:#?}");
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let before = server.device("cam").expect("it is there").uid;

    let said = server.fleets(&["configure", "--auto", "--timeout", "3s"]).exits(0);

    assert!(!said.stdout.contains("Successfully"), "{said:#?}");
    assert_eq!(server.device("cam").expect("it is there").uid, before);
}

#[test]
fn avahi_resolves_ours_and_hears_their_goodbye() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let watcher = lab.host("watcher", &[&lan]);
    let hosts = ["cam-001", "cam-002", "cam-003"].map(|name| lab.host(name, &[&lan]));
    let avahi = watcher.avahi();
    let agents: Vec<Agent<'_>> = hosts.iter().map(Agent::start).collect();

    wait_for("avahi to resolve all three", SOON, || {
        let seen = avahi.browse("_fleetd._tcp");
        let resolved = |agent: &&Agent<'_>| {
            seen.iter().any(|line| {
                line.name == format!("fleetd-{}", agent.id)
                    && line.port == 6789
                    && line.txt.contains(&format!("\"id={}\"", agent.id))
                    && line.address == agent.host.address().to_string()
            })
        };
        (agents.iter().filter(resolved).count() == agents.len()).then_some(())
    });

    terminate(agents[0].host, agents[0].pid.get());
    wait_for("avahi to forget the one that said goodbye", SOON, || {
        let names = avahi.cached("_fleetd._tcp");
        (names == ["fleetd-cam-002", "fleetd-cam-003"]).then_some(())
    });
}

#[test]
fn a_device_that_comes_later_is_shown_while_somebody_looks() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let mut look = ours(&desk, "fleets");
    look.args(["discover", "--timeout", "60s", "--count", "1", "-o", "json"]);
    let pid = desk.start("look", &mut look);

    let _agent = Agent::start(&cam);

    wait_for("the device to be shown", SOON, || desk.log("look").contains("cam").then_some(()));
    desk.kill(pid);
}

#[test]
fn a_restart_of_the_server_loses_nothing() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let first = server.stores_after("cam", 0);
    let before = server.stores_after("cam", first);

    terminate(&desk, server.pid.get());
    server.start_again();

    let after = server.stores_after("cam", before);
    server.stores_after("cam", after + GAP_MILLIS_MAX);
    server.shows_online(&["cam"]);
    assert_no_gap(&server.stored("cam"));
}

#[test]
fn a_restart_of_the_agent_keeps_who_it_is() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let uid = server.device("cam").expect("it is there").uid;
    let before = server.stores_after("cam", 0);

    terminate(&cam, agent.pid.get());
    agent.start_again();

    server.stores_after("cam", before);
    assert_eq!(server.device("cam").expect("it is there").uid, uid);
    assert_eq!(server.devices().len(), 1);
}

#[test]
fn what_is_collected_while_the_network_is_away_arrives_later() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let before = server.stores_after("cam", 0);

    cam.ip(&["link", "set", "eth0", "down"]);
    // The desk has a clock of the same machine: several reports fall into the cut.
    wait_for("the newest report to be old", SOON, || {
        let newest = server.stored("cam").into_iter().next()?;
        (now_millis() - newest > 2 * GAP_MILLIS_MAX).then_some(())
    });
    cam.ip(&["link", "set", "eth0", "up"]);
    let cut_ended = now_millis();

    server.stores_after("cam", cut_ended);
    assert!(before < cut_ended);
    assert_no_gap(&server.stored("cam"));
}

#[test]
fn the_agents_own_commands_say_how_it_is() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.sees_devices(&["cam"]);
    Said::of(&mut agent.command(&["status"])).exits(5);
    let said = Said::of(&mut agent.command(&["info"])).exits(0);
    assert!(said.stdout.contains("cam"), "{said:#?}");

    server.configure(&["cam"]);
    Said::of(&mut agent.command(&["status"])).exits(0);

    server.kill();
    wait_for("the agent to miss its server", SOON, || {
        (Said::of(&mut agent.command(&["status"])).code == Some(7)).then_some(())
    });
}

#[test]
fn one_device_is_looked_for_by_one_who_has_no_server() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let _agent = Agent::start(&cam);
    wait_for("the device to be discovered", SOON, || {
        let mut look = ours(&desk, "fleets");
        let said = Said::of(look.args(["discover", "--timeout", "2s", "--json"]));
        let seen: Vec<fleet_core::api::Discovered> = said.json();
        seen.iter().any(|device| has_id(device, "cam")).then_some(())
    });
}

/// Fails if a report is missing among these times, newest first.
#[track_caller]
fn assert_no_gap(times: &[i64]) {
    assert!(times.len() > 3, "too few reports to judge: {times:?}");
    for pair in times.windows(2) {
        assert!(pair[0] - pair[1] <= GAP_MILLIS_MAX, "a gap at {pair:?} in {times:?}");
    }
}

#[test]
fn a_device_that_was_deleted_by_mistake_is_had_back_and_comes_by_itself() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let before = server.device("cam").expect("it is there").uid;
    server.fleets(&["devices", "tag", "cam", "+canary"]).exits(0);
    wait_for("a value", SOON, || (!server.stored("cam").is_empty()).then_some(()));
    let first = server.stored("cam")[0];

    let said = server.fleets(&["devices", "delete", "cam", "--yes"]).exits(0);
    assert!(said.stderr.contains("`fleets devices restore cam` has it back"), "{said:#?}");
    wait_for("its agent to ask anew", SOON, || {
        server.device("cam").filter(|device| device.status == DeviceStatus::Pending)
    });
    server.fleets(&["devices", "restore", "cam"]).exits(0);

    server.shows_online(&["cam"]);
    let device = server.device("cam").expect("it is there");
    assert_eq!((device.uid, server.devices().len()), (before, 1));
    assert_eq!(device.metadata["tags"], "canary");
    assert!(server.stored("cam").contains(&first), "what was measured before is there");
    server.stores_after("cam", now_millis());
    assert!(agent.is_running());
}
