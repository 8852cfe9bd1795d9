//! Devices come into the fleet by the keyboard alone.

use super::{Console, SOON, Server, WIDE, XTERM, desk_and_plant, start_devices};

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
