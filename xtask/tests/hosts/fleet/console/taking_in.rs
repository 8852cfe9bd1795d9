//! Devices come into the fleet by the keyboard alone.

use super::{Console, SOON, Server, WIDE, XTERM, desk_and_plant, start_devices, text};

#[test]
fn a_device_that_waits_is_accepted() {
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    console.pty.wait_for("No devices yet.", SOON);

    let settings = format!("api_endpoint: {}\n", server.url());
    let (_world, ids) = start_devices(&plant, 1, &settings);
    console.pty.wait_for("7 Pending 1", SOON);
    console.press("7", &ids[0]);
    console.press("x", "accept");
    console.press("a", "Accept rpi4-001");
    // Neither the key that opened it nor Enter alone agrees.
    console.press_away("\r", "Accept rpi4-001");
    console.press("xa", "Accept rpi4-001");
    console.press("y", "accepted");
    console.press("1", "1 online");
    console.quit();
    server.shows_online(&[&ids[0]]);
}

#[test]
fn devices_are_discovered_and_configured() {
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let (_world, ids) = start_devices(&plant, 3, "");
    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    console.pty.wait_for("No devices yet.", SOON);
    console.press("5", "3 found");
    console.waits("all three as new", |shown| text(shown).matches(" new ").count() == 3);

    console.press("g  ", "2 marked");
    console.press("xc", "Configure 2 devices");
    // Enter alone agrees to nothing.
    console.press_away("\r", "Configure 2 devices");
    console.press("xc", "Configure 2 devices");
    console.press("y", "Progress");
    console.waits("both to be configured", |shown| text(shown).contains("✓ 2 configured"));
    console.pty.wait_for("online ✓", SOON);
    console.press("1", "2 online");
    console.quit();

    let in_fleet: Vec<String> =
        server.devices().iter().map(|device| device.id.to_string()).collect();
    assert_eq!(in_fleet.len(), 2, "{in_fleet:?} of {ids:?}");
    let in_fleet: Vec<&str> = in_fleet.iter().map(String::as_str).collect();
    server.shows_online(&in_fleet);
}
