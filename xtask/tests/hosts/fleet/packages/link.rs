//! Installing an agent with one line, on a machine that has nothing of FleetD.

use serde_json::Value;

use super::machine::Machine;
use super::{AGENT, SERVER, install, is_online};
use crate::lab::Lab;

#[test]
#[ignore = "boots systems in containers, as root: cargo xtask test packages"]
fn a_link_brings_a_machine_into_the_fleet_and_no_more_than_it_may() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = ["desk", "shed", "barn"].map(|name| lab.host(name, &[&lan]));
    let [desk, shed, barn] = hosts.each_ref().map(Machine::start);
    install(&desk, "new", &["fleet-server"]);
    desk.is_active(SERVER, "");
    let call = ["fleets", "keys", "create", "--enrol", "--install-url", "-o", "json"];
    let made: Value = desk.said(&call).exits(0).json();
    let command = made["install"]["command"].as_str().expect("a command");
    // Whoever is in a container is root already.
    let command = command.replace("sudo sh", "sh");

    shed.shell("mkdir -p /etc/fleetd && echo FLEETD_DEVICE_ID=shed >/etc/fleetd/env");
    let told = shed.shell(&command);
    assert!(told.contains("link"), "{told}");
    shed.is_active(AGENT, "");
    is_online(&desk, "shed");
    assert_eq!(shed.shell("stat -c %a /etc/fleetd/config.yaml").trim(), "600");
    // Once more does no harm, while the link has not expired; but it is for one device.
    let again = shed.said(&["sh", "-c", &command]).exits(1);
    assert!(again.stderr.contains("as many devices as it may"), "{again:?}");
    let other = barn.said(&["sh", "-c", &command]).exits(1);
    assert!(other.stderr.contains("as many devices as it may"), "{other:?}");
    barn.output(&["test", "!", "-e", "/usr/bin/fleetd"]);

    // What the machine's owner wrote is left alone.
    let made: Value = desk.said(&call).exits(0).json();
    let command = made["install"]["command"].as_str().expect("a command");
    let command = command.replace("sudo sh", "sh");
    barn.shell("mkdir -p /etc/fleetd && echo 'device_name: Barn' >/etc/fleetd/config.yaml");
    let other = barn.said(&["sh", "-c", &command]).exits(1);
    assert!(other.stderr.contains("config.yaml already"), "{other:?}");
    barn.output(&["test", "!", "-e", "/usr/bin/fleetd"]);
    // A package that is not the one of the script is not installed.
    barn.shell("rm /etc/fleetd/config.yaml");
    let broken = command.replace(" | sh", " | sed 's/sum=.../sum=000/' | sh");
    let other = barn.said(&["sh", "-c", &broken]).exits(1);
    assert!(other.stderr.contains("nothing was installed"), "{other:?}");
    barn.output(&[
        "test",
        "!",
        "-e",
        "/etc/fleetd/config.yaml",
        "-a",
        "!",
        "-e",
        "/usr/bin/fleetd",
    ]);
}
