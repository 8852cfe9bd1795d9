//! Installing an agent with one line, on a machine that has nothing of FleetD.

use serde_json::Value;

use super::machine::Machine;
use super::{AGENT, SERVER, install, is_online};
use crate::fleet::SOON;
use crate::lab::{Lab, wait_for};

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
    // Who is not root is told to be, and not that a healthy agent has to be stopped.
    let said = shed.said(&["runuser", "-u", "nobody", "--", "fleetd", "doctor"]);
    assert!(said.stdout.contains("only root may ask it"), "{said:?}");
    assert!(!said.stdout.contains("restart fleetd-agent"), "{said:?}");
    assert!(!said.stdout.contains("end that program"), "{said:?}");
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

    // An agent that is there already, and whose key brought it nowhere, is given the new one.
    let used_up = shed.output(&["cat", "/etc/fleetd/config.yaml"]);
    barn.shell(&format!(
        "umask 077 && cat >/etc/fleetd/config.yaml <<'END'\n{used_up}device_id: barn\nEND"
    ));
    install(&barn, "new", &["fleetd"]);
    let before = barn.is_active(AGENT, "");
    barn.shell(&command);
    barn.is_active(AGENT, &before);
    is_online(&desk, "barn");
    let config = barn.shell("stat -c %a /etc/fleetd/config.yaml && cat /etc/fleetd/config.yaml");
    assert!(config.starts_with("600\n") && config.matches("api_key").count() == 1, "{config}");
}

#[test]
#[ignore = "boots systems in containers, as root: cargo xtask test packages"]
fn a_link_takes_no_device_out_of_its_fleet() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = ["desk", "other", "cam"].map(|name| lab.host(name, &[&lan]));
    let [desk, other, cam] = hosts.each_ref().map(Machine::start);
    for machine in [&desk, &other] {
        install(machine, "new", &["fleet-server"]);
        machine.is_active(SERVER, "");
    }
    cam.shell("mkdir -p /etc/fleetd && echo FLEETD_DEVICE_ID=cam >/etc/fleetd/env");
    install(&cam, "new", &["fleetd"]);
    let pid = cam.is_active(AGENT, "");
    wait_for("the device to be discovered", SOON, || {
        let seen = desk.output(&["fleets", "discover", "--timeout", "3s", "-o", "name"]);
        (seen.lines().count() == 1).then_some(())
    });
    desk.output(&["fleets", "configure", "--auto"]);
    is_online(&desk, "cam");
    for (server, code) in [(&other, 1), (&desk, 0)] {
        let call = ["fleets", "keys", "create", "--enrol", "--install-url", "-o", "json"];
        let made: Value = server.said(&call).exits(0).json();
        let command = made["install"]["command"].as_str().expect("a command");
        let said = cam.said(&["sh", "-c", &command.replace("sudo sh", "sh")]).exits(code);
        assert_eq!(said.stderr.contains("in another fleet"), code == 1, "{said:?}");
        cam.output(&["test", "!", "-e", "/etc/fleetd/config.yaml"]);
        assert_eq!(cam.is_active(AGENT, ""), pid);
    }
    is_online(&desk, "cam");
}

#[test]
#[ignore = "boots systems in containers, as root: cargo xtask test packages"]
fn a_key_file_that_is_not_the_services_stops_it_until_it_is() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let host = lab.host("desk", &[&lan]);
    let desk = Machine::start(&host);
    install(&desk, "new", &["fleet-server"]);
    desk.is_active(SERVER, "");
    desk.shell("chown root: /var/lib/fleetd/secret.key; systemctl restart fleet-server || true");
    wait_for("the server to be given up", SOON, || {
        (desk.unit(SERVER, "ActiveState") == "failed").then_some(())
    });
    assert_eq!(desk.unit(SERVER, "ExecMainStatus"), "78");
    desk.shell("echo FLEETD_KEEP=raw=2y >>/etc/fleetd/env");
    let said = desk.said(&["fleets", "doctor"]);
    assert!(said.stdout.contains("2y is not an age"), "{said:?}");
    desk.shell("sed -i /KEEP/d /etc/fleetd/env");
    let said = desk.said(&["fleets", "doctor"]);
    let fix = "sudo chown --reference=/var/lib/fleetd /var/lib/fleetd/secret.key";
    assert!(said.stdout.contains(fix), "{said:?}");
    desk.shell(&format!("{} && systemctl start fleet-server", fix.replace("sudo ", "")));
    desk.is_active(SERVER, "");
}
