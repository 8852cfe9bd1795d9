//! The log of a real agent, as it comes.

use super::super::{Agent, COME_BACK};
use super::{Console, ESC, SOON, Server, WIDE, XTERM, desk_and_plant};

#[test]
fn lines_come_are_chosen_and_go_on_when_the_device_is_back() {
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let agent = Agent::start(&plant);
    server.configure(&["plant"]);
    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    console.pty.wait_for("plant", SOON);

    console.press("\r", "Fleet › plant");
    console.press("\t\t\t\t", "agent · follow ●");
    console.pty.wait_for("waiting to be claimed", SOON);
    // Lines of before are read at rest.
    console.press("F", "stopped (F follows)");
    console.press("F", "follow ●");
    // The device looks for the words, so that no other lines come.
    console.press("/to be claimed\r", "\"to be claimed\" · follow ●");
    console.pty.wait_for("waiting to be claimed", SOON);
    console.press("fe", "agent · from error on · \"to be claimed\" · follow ●");
    console.pty.wait_for("no lines yet", SOON);
    console.press("fu", "unit=");
    console.press("nginx\r", "nginx.service · from error on · \"to be claimed\"");
    console.press("fa", "agent · from error on · \"to be claimed\"");
    console.press("ft", "waiting to be claimed");

    agent.kill();
    console.pty.wait_for("the device is away", SOON);
    agent.start_again();
    console
        .pty
        .wait_until("lines again", COME_BACK, |shown| super::text(shown).contains("follow ●"));
    console.press(ESC, "1 device ");
    console.quit();
}
