//! Keys in the console: made, shown once, used, replaced and revoked, at a real server.

use std::fs;

use data_encoding::BASE64;

use super::super::secrets::{Canary, assert_silent, files};
use super::{Console, ESC, LOW, SOON, Said, Server, WIDE, XTERM, ours, text};
use crate::lab::{Host, Lab};

/// A console of whoever has this key.
#[track_caller]
fn console_with(server: &Server<'_>, key: &str, size: (u16, u16)) -> Console {
    let command = server.host.command(&super::program("fleet-tui"));
    let env = [XTERM.as_slice(), &[("FLEETD_API_KEY", key)]].concat();
    Console::start_as(server, &command, &env, size)
}

/// The key that is shown now, in one line.
#[track_caller]
fn shown_key(console: &Console) -> String {
    console.pty.wait_for("It is shown this once", SOON);
    // Keys of the keyboard hold when somebody can have seen it.
    console.pty.wait_for("y copy · Esc close and forget", SOON);
    let text = console.pty.text();
    let mut words = text.lines().flat_map(str::split_whitespace);
    let key = words.find(|word| word.starts_with("flt_") && word.contains("@FD1-"));
    key.unwrap_or_else(|| panic!("no key in {text}")).to_owned()
}

#[track_caller]
fn whoami(host: &Host, server: &Server<'_>, key: &str, code: i32) -> Said {
    let mut command = ours(host, "fleets");
    command.args(["keys", "whoami", "-o", "json"]).env("FLEETD_SERVER", server.url());
    Said::of(command.env("FLEETD_API_KEY", key)).exits(code)
}

#[test]
fn t22_a_key_that_the_console_makes_is_on_no_screen_after_its_dialog_nor_in_any_log() {
    let mut lab = Lab::new();
    let desk = lab.host("desk", &[]);
    let server = Server::start_told(&desk, &["--debug"]);
    let mut console = Console::start(&server, &["--debug"], &XTERM, WIDE);
    console.pty.wait_for("admin.key (admin)", SOON);
    console.press("8", "1 of 1 keys are good");

    // The server's no stands at its place; then it is better.
    console.press("o", "New key");
    console.press("night shift\t\t\t", "[operator]");
    console.press("cpu>5\t\t\r", "cpu changes with how a device is doing");
    console.press("\x15site=lyon\t\t\r", "The new key night shift");
    let key = shown_key(&console);
    let canary = [Canary::of_key("the new key", &key)];
    let before = console.pty.shown().bytes.len();
    console.press("y", "copied (OSC 52)");
    let copy = console.pty.shown().bytes[before..].to_vec();
    let sent = format!("\x1b]52;c;{}\x07", BASE64.encode(key.as_bytes()));
    assert!(copy.windows(sent.len()).any(|part| part == sent.as_bytes()), "it is copied whole");
    console.press_away(ESC, "It is shown this once");
    console.pty.wait_for("2 of 2 keys are good", SOON);
    console.pty.wait_for("night shift", SOON);
    let after = console.pty.shown().bytes.len();
    for keys in ["!", ESC, "\r", ESC, "\x0c", "6", "8"] {
        console.pty.press(keys);
    }
    console.press("?", "Keys here");
    console.press_away(ESC, "Keys here");
    assert_silent(&canary, "the screen", &console.pty.shown().bytes[after..]);
    assert_silent(&canary, "the screen", console.pty.text().as_bytes());

    // It is good, and is what was asked for.
    let me: serde_json::Value = whoami(&desk, &server, &key, 0).json();
    let me = &me[0];
    assert_eq!((&me["label"], &me["scope"]), (&"night shift".into(), &"site=lyon".into()));
    console.quit();

    super::super::terminate(&desk, server.pid.get());
    let folder = desk.path("x").parent().expect("a folder").to_owned();
    let all = files(&folder);
    let log = all.iter().find(|file| file.ends_with("fleetd/console/console.log"));
    assert!(log.is_some(), "the console has logged: {all:#?}");
    let admin = fs::read(server.key_file()).expect("the admin key");
    let admin = Canary::of_key("the admin key", &String::from_utf8_lossy(&admin));
    for file in all {
        let bytes = fs::read(&file).expect("a file");
        assert_silent(&canary, &file.display().to_string(), &bytes);
        let is_there = admin.is_in(&bytes);
        assert_eq!(is_there, file == server.key_file(), "what is there is found: {file:?}");
    }
}

#[test]
fn a_key_is_replaced_and_revoked_and_its_console_is_denied_within_seconds() {
    let mut lab = Lab::new();
    let desk = lab.host("desk", &[]);
    let server = Server::start(&desk);
    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    console.press("8", "1 of 1 keys are good");
    console.press("o", "New key");
    console.press("wall\t\t\t\t\t\r", "The new key wall");
    let old = shown_key(&console);
    console.press(ESC, "Not copied: Esc once more");
    console.press_away(ESC, "It is shown this once");

    // Its own console says who it is, and sees no keys.
    let mut other = console_with(&server, &old, LOW);
    other.pty.wait_for("wall (operator)", SOON);
    other.press("8", "that takes the role admin");

    console.press("/wall\r", "filter wall");
    console.waits_for_cursor_on("wall");
    console.press("xk", "Rotate wall");
    console.press("\t\r", "The successor of wall");
    let new = shown_key(&console);
    assert_ne!(old, new);
    console.press_away("y\x1b", "It is shown this once");
    console.pty.wait_for("rotating", SOON);
    for key in [&old, &new] {
        whoami(&desk, &server, key, 0);
    }

    // Only by its id.
    console.waits_for_cursor_on("rotating");
    let id = old.get(7..17).expect("a key's id").to_owned();
    console.press("xv", "Revoke wall");
    console.press("y\r", "locked until that matches");
    console.press(&format!("\x15{id}\r"), "revoked wall");
    console.waits("the key to be shown as revoked", |shown| text(shown).contains("⊗ revoked"));
    other.pty.wait_for("DENIED", SOON);
    whoami(&desk, &server, &old, 4);
    whoami(&desk, &server, &new, 0);
    other.quit();
    console.quit();
}

#[test]
fn a_scope_that_shows_no_device_is_said_to_and_a_viewer_reads_logs() {
    let (_lab, desk, plant) = super::desk_and_plant();
    let site = super::Site::start(&desk, &plant, 1);
    let make = |args: &[&str]| {
        let said = site.server.fleets(&[&["keys", "create"], args, &["-o", "name"]].concat());
        said.exits(0).stdout.trim().to_owned()
    };
    let scoped = make(&["--label", "lyon", "--scope", "site=lyon"]);
    let console = console_with(&site.server, &scoped, WIDE);
    console.pty.wait_for("The key's scope shows no device: site=lyon", SOON);
    console.pty.wait_for("lyon (operator) scope: site=lyon", SOON);
    console.quit();

    let viewer = make(&["--role", "viewer", "--label", "wall"]);
    let mut console = console_with(&site.server, &viewer, WIDE);
    console.pty.wait_for("read-only   wall (viewer)", SOON);
    console.pty.wait_for(&site.ids[0], SOON);
    console.press("x", "its lines, as they come");
    console.press("l", "INFO");
    console.quit();
}
