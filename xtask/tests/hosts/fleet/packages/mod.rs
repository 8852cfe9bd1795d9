//! What operators install: packages, on machines with a system of their own, from the first
//! installation to the last trace.

mod documents;
mod link;
mod machine;

use fleet_core::api::{Device, DeviceStatus};

use self::machine::Machine;
use super::{COME_BACK, SOON};
use crate::lab::{Lab, wait_for};

const SERVER: &str = "fleet-server.service";
const AGENT: &str = "fleetd-agent.service";

/// Installs packages of one of the two versions that the gate has made.
#[track_caller]
fn install(machine: &Machine<'_>, version: &str, packages: &[&str]) {
    for package in packages {
        let line = format!(
            "apt-get install -y --no-install-recommends /packages/{version}/{package}_*.deb"
        );
        machine.shell(&line);
    }
}

/// A device of the fleet, as the operator on the server's machine sees it.
#[track_caller]
fn device(desk: &Machine<'_>, id: &str) -> Option<Device> {
    let said = desk.said(&["fleets", "devices", "-o", "json"]).exits(0);
    let devices: Vec<Device> = said.json();
    devices.into_iter().find(|device| device.id.as_str() == id)
}

#[track_caller]
fn is_online(desk: &Machine<'_>, id: &str) {
    wait_for(&format!("{id} to be online"), COME_BACK, || {
        (device(desk, id)?.status == DeviceStatus::Online).then_some(())
    });
}

#[test]
#[ignore = "boots systems in containers, as root: cargo xtask test packages"]
fn packages_bring_a_fleet_that_lives_until_it_is_purged() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = ["desk", "cam", "pump", "gate"].map(|name| lab.host(name, &[&lan]));
    let [desk, cam, pump, gate] = hosts.each_ref().map(Machine::start);
    let devices = [&cam, &pump, &gate];
    desk.shell("mkdir /etc/credstore && echo a secret >/etc/credstore/fleetd-secret-key");
    gate.shell(
        "mkdir -p /etc/fleetd && echo 'exec: {allow: [df, touch]}' >/etc/fleetd/policy.yaml",
    );
    desk.shell("useradd --groups adm ada");
    let before = desk.files();

    // Installed, they run, and will after the next boot.
    install(&desk, "old", &["fleet-server", "fleet-tui"]);
    for (machine, id) in devices.iter().zip(["cam", "pump", "gate"]) {
        machine.shell(&format!(
            "mkdir -p /etc/fleetd && echo FLEETD_DEVICE_ID={id} >>/etc/fleetd/env"
        ));
        install(machine, "old", &["fleetd"]);
        machine.is_active(AGENT, "");
        assert_eq!(machine.unit("fleetd", "Id"), AGENT);
        assert_eq!(machine.unit(AGENT, "UnitFileState"), "enabled");
    }
    let first = desk.is_active(SERVER, "");
    assert_eq!(desk.unit(SERVER, "UnitFileState"), "enabled");
    let journal = desk.output(&["journalctl", "--no-pager", "-u", "fleet-server"]);
    assert!(journal.contains("admin key  /var/lib/fleetd/admin.key"), "{journal}");
    let journal = cam.output(&["journalctl", "--no-pager", "-u", "fleetd-agent"]);
    assert!(journal.contains("cam"), "{journal}");
    for (machine, unit) in [(&desk, SERVER), (&cam, AGENT)] {
        machine.output(&["systemd-analyze", "security", "--no-pager", "--threshold=30", unit]);
    }

    // Who may read what: logs are for adm, keys for root.
    for (machine, log, mode) in [
        (&desk, "/var/log/fleetd/server.log", "fleet-server adm 640"),
        (&cam, "/var/log/fleetd/agent.log", "root adm 640"),
    ] {
        let mode_there = machine.output(&["stat", "-L", "-c", "%U %G %a", log]);
        assert_eq!(mode_there.trim(), mode);
        assert!(!machine.output(&["tail", "-n", "1", log]).is_empty());
    }
    desk.output(&["runuser", "-u", "ada", "--", "tail", "/var/log/fleetd/server.log"]);
    let said = desk.said(&["runuser", "-u", "ada", "--", "fleets", "devices"]);
    said.explains(&["/var/lib/fleetd/admin.key cannot be read"]);
    desk.output(&["test", "!", "-e", "/var/lib/fleetd/secret.key"]);

    // The way of the quick start.
    wait_for("all devices to be discovered", SOON, || {
        let seen = desk.output(&["fleets", "discover", "--timeout", "3s", "-o", "name"]);
        (seen.lines().count() == devices.len()).then_some(())
    });
    desk.output(&["fleets", "configure", "--auto"]);
    for id in ["cam", "pump", "gate"] {
        is_online(&desk, id);
    }

    // What the sandbox must leave to an agent: services, the journal, and the machine's own end.
    cam.output(&["systemctl", "start", "systemd-tmpfiles-clean.timer"]);
    let since = cam.unit("systemd-tmpfiles-clean.timer", "ActiveEnterTimestampMonotonic");
    let restart = ["command", "run", "cam", "--yes", "restart", "systemd-tmpfiles-clean.timer"];
    desk.output(&[&["fleets"], &restart[..]].concat());
    assert_ne!(cam.unit("systemd-tmpfiles-clean.timer", "ActiveEnterTimestampMonotonic"), since);
    let lines = desk.output(&["fleets", "logs", "cam", "-u", "systemd-tmpfiles-clean.timer"]);
    assert!(lines.contains("Started"), "{lines}");
    desk.output(&["fleets", "command", "run", "cam", "--yes", "--no-wait", "reboot"]);
    cam.reboots();
    cam.is_active(AGENT, "");
    is_online(&desk, "cam");

    let exec = |argv: &[&str]| {
        let run = ["fleets", "command", "run", "gate", "--yes", "exec", "--"];
        desk.said(&[&run[..], argv].concat())
    };
    assert!(exec(&["df", "/"]).exits(0).stdout.contains("overlay"));
    assert!(exec(&["touch", "/usr/bin/x"]).exits(1).stdout.contains("Read-only file system"));

    // Killed, it begins again; stuck, it is killed.
    let pid = pump.is_active(AGENT, "");
    pump.shell(&format!("kill -KILL {pid}"));
    pump.is_active(AGENT, &pid);
    is_online(&desk, "pump");
    gate.shell(
        "mkdir /etc/systemd/system/fleetd-agent.service.d && \
         printf '[Service]\\nWatchdogSec=2\\n' >/etc/systemd/system/fleetd-agent.service.d/test.conf && \
         systemctl daemon-reload && systemctl restart fleetd",
    );
    let pid = gate.is_active(AGENT, "");
    gate.shell(&format!("kill -STOP {pid}"));
    gate.is_active(AGENT, &pid);
    let journal = gate.output(&["journalctl", "--no-pager", "-u", "fleetd-agent"]);
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    is_online(&desk, "gate");
    wait_for("systemd to know how the server is", SOON, || {
        (desk.unit(SERVER, "StatusText") == "3 of 3 devices online").then_some(())
    });

    // An upgrade restarts what runs and keeps what there is.
    let key = desk.output(&["cat", "/var/lib/fleetd/admin.key"]);
    let uid = device(&desk, "cam").expect("a device").uid;
    install(&desk, "new", &["fleet-server", "fleet-tui"]);
    desk.is_active(SERVER, &first);
    let pid = cam.is_active(AGENT, "");
    install(&cam, "new", &["fleetd"]);
    cam.is_active(AGENT, &pid);
    assert_eq!(desk.output(&["cat", "/var/lib/fleetd/admin.key"]), key);
    assert_eq!(device(&desk, "cam").expect("the same device").uid, uid);
    is_online(&desk, "cam");

    // What root restores is the service's.
    desk.shell(
        "fleets backup create --out /srv/fleet.backup && systemctl stop fleet-server && \
         mv /var/lib/fleetd /srv/old && fleets backup restore /srv/fleet.backup --old /srv/old \
         --database /var/lib/fleetd/fleet.db && systemctl start fleet-server && \
         rm -r /srv/old /srv/fleet.backup",
    );
    is_online(&desk, "cam");
    assert_eq!(device(&desk, "cam").expect("the same device").uid, uid);

    // Removed, it rests; what is there stays, until it is purged.
    pump.output(&["apt-get", "remove", "-y", "fleetd"]);
    assert_eq!(pump.unit(AGENT, "ActiveState"), "inactive");
    pump.output(&["test", "-d", "/var/lib/fleetd-agent"]);

    // Each package's purge takes its own, and the last takes all.
    desk.shell("echo 'device_name: Desk' >/etc/fleetd/config.yaml");
    install(&desk, "new", &["fleetd"]);
    desk.output(&["apt-get", "purge", "-y", "fleet-server", "fleet-tui"]);
    desk.output(&["test", "-e", "/etc/fleetd/env", "-a", "-e", "/etc/fleetd/config.yaml"]);
    desk.is_active(AGENT, "");
    desk.output(&["apt-get", "purge", "-y", "fleetd"]);
    let after = desk.files();
    let left: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(left.is_empty(), "left behind, or missing: {left:#?}");
}
