//! Commands from the console: given in its menu, done by real agents, seen there to their end.

use super::super::Agent;
use super::{Console, ESC, SOON, Server, Site, WIDE, XTERM, desk_and_plant, text};

const BACKSPACE: &str = "\x7f";
const NOTHING_FOUND: i32 = 5;

#[test]
fn two_marked_devices_are_restarted_once_their_number_is_typed() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 3);
    let mut console = site.console(WIDE);

    console.pty.press("g");
    console.press("  ", "✓2 marked");
    console.press("x", "2 marked devices");
    console.press("s", "Restart the agent of 2 devices");
    // Neither the key that agrees elsewhere, nor Enter, nor another number.
    console.press("y\r", "go on: y");
    console.press(&format!("{BACKSPACE}3\r"), "go on: 3");
    site.server.fleets(&["command", "list"]).exits(NOTHING_FOUND);
    console.press(&format!("{BACKSPACE}2\r"), "restart on 2 devices: 2 succeeded");

    let given = given(&site.server);
    assert_eq!(given.len(), 2, "{given:?}");
    assert!(given.iter().all(|line| line.contains("succeeded")), "{given:?}");
    console.press_away(ESC, "marked");
    console.quit();
}

#[test]
fn a_devices_commands_are_followed_read_and_taken_back() {
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let agent = Agent::start(&plant);
    server.configure(&["plant"]);
    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    console.pty.wait_for("plant", SOON);

    // A log is shown as soon as it has come.
    console.press("xl", "logs on plant");
    console.pty.wait_for("✓ succeeded", SOON);
    console.pty.wait_for("waiting to be claimed", SOON);
    console.press_away(ESC, "output:");
    // What the device's owner has not allowed is not run.
    console.press("xe", "Each device's own policy decides");
    console.press("uptime -p", "sent as exec [\"uptime\", \"-p\"]");
    console.press("\r", "type the device's id");
    console.press("plant\r", "policy does not let its server run uptime");
    console.press_away(ESC, "no output");
    // Both are in the device's list, the newest first.
    console.press("\r\t\t", "Fleet › plant");
    console.waits("both commands", |shown| {
        let text = text(shown);
        let place = |words| text.find(words);
        place("✗ failed    exec").zip(place("✓ succeeded logs")).is_some_and(|(a, b)| a < b)
    });

    // What waits for a device that is away is taken back.
    agent.kill();
    console.press("xs", "Restart the agent of plant");
    console.press("y", "· queued    restart");
    console.press("K", "restart on plant is taken back");
    console.pty.wait_for("⊘ cancelled restart", SOON);
    let given = given(&server);
    assert!(given.iter().any(|line| line.contains("cancelled")), "{given:?}");
    console.quit();
}

/// The commands that the server knows, a line each.
fn given(server: &Server<'_>) -> Vec<String> {
    let said = server.fleets(&["command", "list", "--no-headers"]).exits(0);
    said.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
