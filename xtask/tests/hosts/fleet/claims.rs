//! Who may have a device: the first server, and nobody who only says that he is the device. What a
//! claimer proves is in `proofs`.

use super::{Agent, SOON, Server};
use crate::lab::{Host, Lab, wait_for};

#[test]
fn t09_a_claimed_device_refuses_another_server() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [first, second, cam] = ["first", "second", "cam"].map(|name| lab.host(name, &[&lan]));
    let [first, second] = [Server::start(&first), Server::start(&second)];
    let _agent = Agent::start(&cam);
    first.configure(&["cam"]);

    // --auto leaves it alone; to name it is refused, with the server that has it.
    second.fleets(&["configure", "--auto", "--timeout", "3s"]).exits(0);
    for choice in [&["--auto"][..], &[]] {
        let args = [&["configure", "--device", "cam", "--timeout", "5s"], choice].concat();
        let said = second.fleets(&args).exits(3);
        assert!(said.stdout.contains(&first.identity()), "{said:#?}");
    }

    assert!(second.devices().is_empty());
    first.shows_online(&["cam"]);
}

#[test]
fn a_device_that_was_reset_can_be_claimed_anew() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [first, second, cam] = ["first", "second", "cam"].map(|name| lab.host(name, &[&lan]));
    let [first, second] = [Server::start(&first), Server::start(&second)];
    let agent = Agent::start(&cam);
    first.configure(&["cam"]);

    super::terminate(&cam, agent.pid.get());
    super::Said::of(&mut agent.command(&["reset"])).exits(0);
    agent.start_again();

    second.configure(&["cam"]);
}

#[test]
fn t01_the_same_id_with_another_key_is_a_conflict_and_never_configured() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, real, double] = ["desk", "real", "double"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agents = [Agent::start_as(&real, "cam"), Agent::start_as(&double, "cam")];
    server.sees("both to be shown in conflict", |seen| {
        seen.iter().filter(|device| super::has_id(device, "cam") && device.conflict).count() >= 2
    });

    let said = server.fleets(&["configure", "--auto", "--device", "cam", "--timeout", "5s"]);

    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(server.devices().is_empty());
}

#[test]
fn t01_a_wrong_fingerprint_is_never_configured() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    // A real agent answers on the port, but what is announced there names another key.
    let _agent = Agent::start_as(&cam, "honest");
    let forged = "fp=".to_owned() + FORGED;
    announce(&cam, "fleetd-forged", &["id=forged", "v=1", "st=unclaimed", "cm=open", &forged]);
    server.sees_devices(&["honest", "forged"]);

    let said = server.fleets(&["configure", "--auto", "--device", "forged", "--timeout", "5s"]);

    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(server.devices().is_empty());
}

#[test]
fn rejected_and_revoked_devices_stay_out() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);

    server.fleets(&["devices", "revoke", "cam", "--reason", "stolen"]).exits(0);
    super::terminate(&cam, agent.pid.get());
    agent.start_again();

    wait_for("the agent to hear that it is revoked", SOON, || {
        cam.log(&agent.log_name()).contains("revoked").then_some(())
    });
    let status = server.device("cam").expect("it is still listed").status;
    assert_eq!(status, fleet_core::api::DeviceStatus::Revoked);
}

/// A well-formed fingerprint of nobody's key.
const FORGED: &str = "aaaaaaaaaaaaaaaa";

/// Lets avahi on a host announce a device at the usual port, until the host ends.
#[track_caller]
fn announce(host: &Host, name: &str, txt: &[&str]) {
    host.avahi().publish(name, "_fleetd._tcp", 6789, txt);
}
