//! What the documents have operators run on machines with packages and systemd, run there: in the
//! order of the documents, from the first installation to the way back to an older release.

use std::fmt::Write as _;

use super::machine::Machine;
use super::{AGENT, SERVER, is_online};
use crate::documents::ON_SYSTEMD;
use crate::documents::block::{Block, Place, Step, blocks};
use crate::fleet::SOON;
use crate::lab::{Lab, wait_for};

/// Listens to a command that goes on until `^C`, and presses that.
const FOLLOWED: &str = "timeout --foreground --preserve-status -s INT 2";

#[test]
#[ignore = "boots systems in containers, as root: cargo xtask test packages"]
fn the_documents_commands_work_on_machines_with_systemd() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = ["your-server", "rpi4-001"].map(|name| lab.host(name, &[&lan]));
    let [server, device] = hosts.each_ref().map(Machine::start);
    for machine in [&server, &device] {
        // Where whoever reads the documents has put the packages, under the names that they have.
        machine.shell(
            "mkdir -p /nobody/older && cp /packages/new/*.deb /nobody/ && \
             cp /packages/old/fleet-server_*.deb /nobody/older/fleet-server_0.0.9_amd64.deb",
        );
    }
    device.shell("mkdir -p /etc/fleetd && echo FLEETD_DEVICE_ID=rpi4-001 >/etc/fleetd/env");
    // A service that has something to restart, and something to say.
    device.shell(
        "printf '[Service]\nExecStart=/bin/sh -c \"echo serves; exec sleep infinity\"\n' \
         >/etc/systemd/system/nginx.service && systemctl start nginx",
    );
    for name in ON_SYSTEMD {
        for block in blocks(name).iter().filter(|block| block.on_systemd) {
            let machine = match block.place {
                Place::Server => &server,
                Place::Device | Place::Devices => &device,
                Place::Operator => panic!("{}: operators have no machine here", block.origin),
            };
            take(block, machine);
            settles(block, &server, &device);
        }
    }
}

/// Runs a block in one shell, as somebody would type it.
#[track_caller]
fn take(block: &Block, machine: &Machine<'_>) {
    // Who is root already needs nobody's leave.
    let mut lines = "set -ex\ncd /nobody\nsudo() { \"$@\"; }\n".to_owned();
    for Step { text, .. } in block.steps() {
        let text = text.split(" #").next().unwrap_or_default().trim();
        if text.contains(" -f") {
            // It has to tell something, and to end by being interrupted.
            writeln!(lines, "told=$({FOLLOWED} {text}) || [ $? = 130 ]\n[ -n \"$told\" ]")
        } else {
            writeln!(lines, "{text}")
        }
        .expect("writing to a String cannot fail");
    }
    let said = machine.said(&["bash", "-c", &lines]);
    assert_eq!(said.code, Some(block.exits), "{}: {said:#?}", block.origin);
}

/// Waits for what a block has begun: machines that reboot, services that start, a device that comes.
#[track_caller]
fn settles(block: &Block, server: &Machine<'_>, device: &Machine<'_>) {
    let has = |text: &str| block.lines.iter().any(|line| line.contains(text));
    if has("reboot") {
        device.reboots();
    }
    if has("apt install ./fleetd_") {
        device.is_active(AGENT, "");
        wait_for("the device to be discovered, or to be known", SOON, || {
            let seen = server.said(&["fleets", "discover", "--timeout", "2s", "-o", "name"]);
            (seen.stdout.trim() == "rpi4-001").then_some(())
        });
    }
    if has("apt install ./fleet-server") || has("start fleet-server") {
        server.is_active(SERVER, "");
    }
    if has("configure --auto") || has("reboot") || has("start fleet-server") {
        is_online(server, "rpi4-001");
    }
}
