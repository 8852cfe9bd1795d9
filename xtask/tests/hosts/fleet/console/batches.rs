//! A batch from the console: begun for marked devices, seen there with each device's end and reason,
//! paused, continued, waited for and tried again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use fleet_core::api::{BatchMember, BatchState, BatchView, CommandView, MemberState};
use serde::Deserialize;

use super::{Console, ESC, Host, SOON, Server, WIDE, XTERM, desk_and_plant, ours, text, wait_for};
use crate::fleet::COME_BACK;

const BACKSPACE: &str = "\x7f";

/// A batch with its devices, as `-o json` has it.
#[derive(Deserialize)]
struct Whole {
    #[serde(flatten)]
    batch: BatchView,
    devices: Vec<BatchMember>,
}

/// Starts the agent of a device whose owner lets its server run `uptime`, or nothing.
fn start(host: &Host, id: &str, may_run: bool) -> u32 {
    let (data, root) = (host.path("agents").join(id), host.path("roots").join(id));
    let allowed = if may_run { "exec:\n  allow: [uptime]\n" } else { "" };
    let config = data.join("config.yaml");
    for (path, text) in [
        (&config, "telemetry:\n  interval: 1s\n"),
        (&root.join("etc/fleetd/policy.yaml"), allowed),
        (&root.join("etc/hostname"), id),
        (&root.join("proc/uptime"), "100.00 100.00\n"),
    ] {
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let program = root.join("usr/bin/uptime");
    fs::create_dir_all(root.join("usr/bin")).expect("a folder");
    fs::write(&program, "#!/bin/sh\necho up 1 minute\n").expect("a program");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("one that can be run");
    let mut command = ours(host, "fleetd");
    command.args(["agent", "--port", "0", "--device-id", id, "--sysroot"]).arg(root);
    command.arg("--data-dir").arg(&data).arg("--config").arg(&config);
    host.start(&format!("agent-{id}"), &mut command)
}

#[test]
fn a_batch_is_begun_seen_paused_continued_and_tried_again() {
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let ids = ["cam-1", "cam-2", "cam-3", "cam-4", "gate-1"];
    let pids = ids.map(|id| start(&plant, id, id != "cam-2"));
    server.configure(&ids);
    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    for id in ids {
        console.pty.wait_for(id, SOON);
    }
    plant.kill(pids[3]);

    // A filter is typed, what it shows is marked, and one of those is away.
    console.press("/cam\r", "filter cam  4 of 5");
    console.press("a", "✓4 marked");
    console.press("xe", "Each device's own policy decides");
    console.press("uptime -p\r", "Run a program on 4 devices");
    console.pty.wait_for("1 at once; pauses at 1 failure", SOON);
    console.press("y\r", "go on: y");
    console.press(&format!("{BACKSPACE}3\r"), "go on: 3");
    assert!(batches(&server).is_empty(), "nothing has begun");
    console.press(&format!("{BACKSPACE}4\r"), "4 shows how far it is");
    // The second one refuses, which is one failure too many.
    console.pty.wait_for("exec uptime -p on 4 devices paused", SOON);
    console.press_away(ESC, "4 devices paused");
    console.press("4", "1 going on");
    console.waits_for_cursor_on("! paused    exec uptime -p");
    console.press("\r", "Batch › exec uptime -p");
    console.waits("the device that refused, first, with its reason", |shown| {
        let (text, row) = (text(shown), super::cursor_row(shown).unwrap_or_default());
        row.contains("cam-2") && row.contains("✗ failed") && text.contains("policy does not let")
    });
    console.pty.wait_for("✗ 1 failed  · 2 waiting  ✓ 1 succeeded  of 4", SOON);

    // It goes on, and the one that is away is waited for.
    console.press("C", "Go on with 2 devices");
    console.press("2\r", "exec uptime -p goes on");
    console.pty.wait_for("✗ 1 failed  · 1 waiting  ✓ 2 succeeded  of 4", SOON);
    console.press("P", "! paused");
    // While it is paused, who comes back begins nothing.
    start(&plant, "cam-4", true);
    wait_for("cam-4 to be connected", COME_BACK, || {
        let said = server.fleets(&["devices", "--filter", "status=online", "-o", "name"]);
        said.stdout.contains("cam-4").then_some(())
    });
    assert_eq!(commands(&server, "cam-4"), 0);
    console.press("C", "Go on with 1 device");
    console.press("1\r", "exec uptime -p on 4 devices: 3 succeeded, 1 failed; 4 shows why");
    console.pty.wait_for("✗ 1 failed  ✓ 3 succeeded  of 4", SOON);
    console.press_away(ESC, "4 shows why");

    // Each did it once.
    let id = batches(&server).remove(0);
    let whole: Whole = server.fleets(&["batch", "show", &id, "--json"]).exits(0).json();
    assert_eq!(whole.batch.state, BatchState::Done);
    let succeeded = whole.devices.iter().filter(|it| it.state == MemberState::Succeeded);
    assert_eq!(succeeded.count(), 3);
    for id in ["cam-1", "cam-2", "cam-3", "cam-4"] {
        assert_eq!(commands(&server, id), 1, "{id}");
    }

    // A device of it is opened at its command.
    console.press("g\r", "Fleet › cam-2");
    console.waits("the cursor on the command", |shown| {
        text(shown).contains("Commands") && text(shown).contains("✗ failed    exec uptime -p")
    });
    console.press("\r", "exec uptime -p on cam-2");
    console.press_away(ESC, "no output");
    console.press(ESC, "Batch › exec uptime -p");
    // What failed is tried again, as a batch of its own.
    console.press("R", "Retry 1 device");
    console.press("1\r", "exec uptime -p on 1 device: 1 failed; 4 shows why");
    console.pty.wait_for(&format!("tries {id} again"), SOON);
    assert_eq!(batches(&server).len(), 2);
    assert_eq!(commands(&server, "cam-2"), 2);
    console.press_away(ESC, "4 shows why");
    console.press(ESC, "0 going on");
    console.quit();
}

/// The numbers of the batches that the server knows, newest first.
fn batches(server: &Server<'_>) -> Vec<String> {
    let said = server.fleets(&["batch", "list", "-o", "name"]);
    said.stdout.lines().map(str::to_owned).collect()
}

/// How many commands a device was given.
fn commands(server: &Server<'_>, device: &str) -> usize {
    let said = server.fleets(&["command", "list", "--device", device, "--json"]);
    if said.stdout.is_empty() {
        return 0;
    }
    said.json::<Vec<CommandView>>().len()
}
