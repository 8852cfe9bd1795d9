//! The same thing done to many devices, as somebody at a desk has it done: five agents, of which two
//! are away, and do it when they come back.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use fleet_core::api::{BatchMember, BatchState, BatchView, ConfigView, EventView, MemberState};
use fleet_core::id::DeviceId;
use serde::Deserialize;
use xtask::pty::Pty;

use super::{Agent, COME_BACK, SOON, Server, ours, program};
use crate::lab::{Host, Lab, wait_for};

/// How long a device is silent before it is offline, and a busy machine.
const SILENT: Duration = Duration::from_secs(150);
const NOT_DONE: i32 = 3;

/// A batch with its devices, as `-o json` has it.
#[derive(Deserialize)]
struct Whole {
    #[serde(flatten)]
    batch: BatchView,
    devices: Vec<BatchMember>,
}

#[test]
fn many_devices_are_told_at_once_and_those_that_are_away_do_it_later() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let names = ["pi-1", "pi-2", "pi-3", "pc-1", "pc-2"];
    let hosts = names.map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let folder = desk.path("work");
    fs::create_dir_all(&folder).expect("a folder");
    let mut agents: Vec<Agent<'_>> =
        hosts.iter().map(|host| Agent::idle(host, host.name())).collect();
    for agent in &mut agents {
        if agent.id.starts_with("pi") {
            agent.sysroot = Some(raspberry_pi(agent.host));
        }
        agent.start_again();
    }
    server.configure(&names);
    agents[1].kill();
    agents[2].kill();
    wait_for("two to be offline", SILENT, || {
        let said = server.fleets(&["devices", "--filter", "status=offline", "-o", "name"]);
        (said.stdout == "pi-2\npi-3\n").then_some(())
    });

    // As the reference has them.
    let restart = "fleets batch-command --filter \"status=offline\" --command \"restart\"";
    let (shown, code) = typed(&server, restart, "2");
    assert_eq!(code, Some(NOT_DONE), "{shown}");
    for words in ["restart on 2 devices", "2 offline", "pi-2, pi-3", "2 not connected"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let update = r#"{"telemetry_interval": 2}"#;
    fs::write(folder.join("update.json"), update).expect("a file");
    let update = "fleets batch-update --filter \"type=raspberrypi\" --config update.json";
    let (shown, code) = typed(&server, update, "3");
    assert_eq!(code, Some(NOT_DONE), "{shown}");
    assert!(shown.contains("✅ pi-1: succeeded: the device has version 1"), "{shown}");
    assert!(shown.contains("2 devices are not connected"), "{shown}");

    let ids = server.fleets(&["batch", "list", "-o", "name"]).exits(0).stdout;
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 2);
    agents[1].start_again();
    agents[2].start_again();
    for id in &ids {
        let whole = wait_for("a batch that is done", COME_BACK, || {
            let whole: Whole = server.fleets(&["batch", "show", id, "--json"]).json();
            (whole.batch.state == BatchState::Done).then_some(whole)
        });
        for device in &whole.devices {
            assert_eq!(device.state, MemberState::Succeeded, "{device:?}");
        }
    }
    for id in ["pi-1", "pi-2", "pi-3"] {
        let config: ConfigView = server.fleets(&["config", "get", id, "--json"]).exits(0).json();
        assert_eq!(config.config, r#"{"telemetry":{"interval":2}}"#, "{id}");
        assert!(config.reported.is_some_and(|it| it.version == 1 && it.error.is_none()), "{id}");
    }
    // Each was restarted once, and nobody else was.
    let kind = ["events", "--kind", "command.succeeded", "-o", "json"];
    let events: Vec<EventView> = server.fleets(&kind).exits(0).json();
    let mut restarted: Vec<_> =
        events.iter().filter_map(|event| event.device_id.as_ref()).map(DeviceId::as_str).collect();
    restarted.sort_unstable();
    assert_eq!(restarted, ["pi-2", "pi-3"]);
    server.shows_online(&names);
}

/// Files of a machine whose board is a Raspberry Pi.
fn raspberry_pi(host: &Host) -> std::path::PathBuf {
    let root = host.path("root");
    for (file, text) in [
        ("etc/hostname", host.name()),
        ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4"),
        ("proc/uptime", "100.00 100.00\n"),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    root
}

/// What is seen when somebody types a line in a shell at the desk and then how many devices are
/// meant, and how that ends.
fn typed(server: &Server<'_>, line: &str, count: &str) -> (String, Option<i32>) {
    let fleets = program("fleets");
    let folder = fleets.trim_end_matches("fleets").to_owned();
    let mut shell = server.host.command("bash");
    let line = format!("PATH={folder}:$PATH; cd {}; {line}", server.host.path("work").display());
    shell.args(["-c", &line]);
    let mut env: Vec<(String, OsString)> = ours(server.host, "fleets")
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_string_lossy().into_owned(), value?.to_owned())))
        .collect();
    env.push(("FLEETD_SERVER".to_owned(), server.url().into()));
    env.push(("FLEETD_API_KEY_FILE".to_owned(), server.key_file().into()));
    env.push(("TERM".to_owned(), "xterm-256color".into()));
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_os_str())).collect();
    let mut pty = Pty::start(&shell, &env, (160, 60));
    pty.wait_for("Type the number of devices to go on:", SOON);
    pty.press(&format!("{count}\n"));
    let status = pty.wait_for_end(SOON);
    (pty.text(), status.code())
}
