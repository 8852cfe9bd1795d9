//! A real device's configuration: changed, looked at version by version, had back and undone.

use fleet_core::api::ConfigView;

use super::super::Agent;
use super::{Console, ESC, SOON, Server, WIDE, XTERM, desk_and_plant};

/// Takes away what stands in a field.
const CLEAR: &str = "\x15";

#[test]
fn a_configuration_is_changed_undone_and_had_back() {
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let _agent = Agent::start(&plant);
    server.configure(&["plant"]);
    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    console.pty.wait_for("plant", SOON);

    console.press("\r\t", "Fleet › plant");
    console.pty.wait_for("none: the device goes by its own", SOON);
    console.press("xi", "the rest of the configuration stays");
    console.press(&format!("{CLEAR}2s\r"), "a report every 2s");
    console.press("y", "plant configured");
    console.pty.wait_for("desired r1 · reported r1", SOON);
    console.press("u", "undo: none; there was no configuration before");

    console.press("xi", "the rest of the configuration stays");
    console.press(&format!("{CLEAR}5s\r"), "a report every 5s");
    console.press("y", "plant configured (u undoes)");
    console.pty.wait_for("desired r2 · reported r2", SOON);
    console.press("u", "configuration as at r1, as a new version");
    console.press("y", "desired r3 · reported r3");
    assert_eq!(interval(&server), (3, r#"{"telemetry":{"interval":2}}"#.to_owned()));

    // Each version says what it changed, and any of them can be had again.
    console.press("\r", "telemetry.interval 2 → 5");
    console.press("D", "Versions of plant, back to");
    console.press("b", "r2 again:");
    console.press("y", "desired r4 · reported r4");
    assert_eq!(interval(&server), (4, r#"{"telemetry":{"interval":5}}"#.to_owned()));
    console.press(&format!("{ESC}{ESC}"), "1 device ");
    console.quit();
}

/// The version of the device's configuration, and what it says.
fn interval(server: &Server<'_>) -> (u64, String) {
    let said = server.fleets(&["config", "get", "plant", "--json"]).exits(0);
    let view: ConfigView = said.json();
    (view.version, view.config)
}
