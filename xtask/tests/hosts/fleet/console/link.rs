//! The link to the server: it goes and comes back, or was never there, and the console stays.

use std::fs;

use fleet_core::secret::{ApiKey, KeyKind};

use super::{Console, ESC, SOON, Server, Site, WIDE, XTERM, desk_and_plant, text};
use crate::lab::Lab;

#[test]
fn a_server_that_goes_and_comes_back_takes_nothing_along() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 3);
    let mut console = site.console(WIDE);
    console.press("g  ", "✓2 marked");
    console.press("/status=online\r", "3 of 3");

    site.server.kill();
    console.pty.wait_for("DISCONNECTED", SOON);
    console.pty.wait_for("data of", SOON);
    console.pty.wait_for("offline   read-only", SOON);
    for id in &site.ids {
        assert!(console.pty.text().contains(id), "what is known is still shown");
    }
    // Whatever might change something says why it cannot.
    console.press("x", "2 marked devices");
    console.press("d", "the server is away; your marks and filter are kept");
    console.press_away(ESC, "2 marked devices");

    site.server.start_again();
    console.press("\x12", "● live");
    console.waits("no banner", |shown| !text(shown).contains("DISCONNECTED"));
    console.pty.wait_for("✓2 marked", SOON);
    console.pty.wait_for("filter status=online", SOON);
    console.waits("all devices again", |shown| text(shown).contains("3 of 3"));
    console.quit();
}

#[test]
fn a_server_that_starts_later_is_found() {
    let mut lab = Lab::new();
    let desk = lab.host("desk", &[]);
    let server = Server::start(&desk);
    server.kill();
    let console = Console::start(&server, &[], &XTERM, WIDE);
    console.pty.wait_for("No answer yet from", SOON);
    console.pty.wait_for("refused", SOON);
    server.start_again();
    console.pty.wait_for("No devices yet.", SOON);
    console.quit();
}

#[test]
fn keys_that_may_not_see_the_fleet_are_told_so() {
    let mut lab = Lab::new();
    let desk = lab.host("desk", &[]);
    let server = Server::start(&desk);
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let key: ApiKey = key.trim().parse().expect("a key");
    let identity = key.server().expect("a key that names its server");
    let unknown = ApiKey::generate(KeyKind::Operator, identity).expect("a random key");
    let said = server.fleets(&["keys", "create", "--enrol"]).exits(0);
    let enrolment = said.stdout.split_whitespace().find(|word| word.starts_with("flt_en_"));
    let enrolment = enrolment.unwrap_or_else(|| panic!("no key: {said:#?}")).to_owned();

    for (name, key) in [("unknown", unknown.reveal().to_string()), ("enrolment", enrolment)] {
        let file = desk.path(name);
        fs::write(&file, key).expect("a key file");
        let path = format!("@{}", file.display());
        let console = Console::start(&server, &["--api-key", &path], &XTERM, WIDE);
        console.pty.wait_for("DENIED", SOON);
        console.pty.wait_for("it takes an operator's key", SOON);
        console.pty.wait_for("read-only", SOON);
        console.quit();
    }
}
