//! Text from strangers on its way to an operator's terminal: whatever a neighbour announces or a
//! device says of itself, the bytes that `fleets` prints cannot act on a terminal.

use std::fs;

use super::{Agent, Said, Server, program};
use crate::lab::Lab;

/// Clears the screen, sets the window's title, forges a line, turns text around.
const NASTY: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\nforged\r\u{202e}gnp";

#[test]
fn t20_what_neighbours_announce_cannot_act_on_a_terminal() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, stranger] = ["desk", "cam", "stranger"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    let avahi = stranger.avahi();
    let txt = ["id=cam-666", &format!("v={NASTY}"), &format!("{NASTY}=x"), "fp=\u{1b}c", "st=\n"];
    avahi.publish("\u{1b}[31mfleetd-evil\u{7}", "_fleetd._tcp", 6789, &txt);
    server.sees("the stranger to be shown", |seen| seen.len() >= 2);

    for format in ["table", "json", "jsonl", "csv", "name"] {
        let said = server.fleets(&["discover", "--timeout", "3s", "-o", format]);
        assert_harmless(&said);
    }
    assert_harmless_on_terminal(&server, "discover --timeout 3s");
    let said = server.fleets(&["configure", "--auto", "--timeout", "5s"]);
    assert_harmless(&said);
    let ids: Vec<String> = server.devices().iter().map(|device| device.id.to_string()).collect();
    assert_eq!(ids, ["cam"], "only the real device is one");
}

#[test]
fn t20_what_a_device_says_of_itself_cannot_act_on_a_terminal() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agent = start_with_nasty_facts(&cam);
    server.configure(&["cam"]);
    let note = format!("note={NASTY}");
    server.fleets(&["devices", "set", "cam", "--name", NASTY, &note]);

    for format in ["table", "json", "jsonl", "csv", "name"] {
        assert_harmless(&server.fleets(&["devices", "-o", format]));
        assert_harmless(&server.fleets(&["devices", "get", "cam", "-o", format]));
    }
    assert_harmless_on_terminal(&server, "devices");
    assert_harmless_on_terminal(&server, "devices get cam");
    for log in [desk.log(&server.log_name()), cam.log(&agent.log_name())] {
        assert_harmless(&Said { code: None, stdout: String::new(), stderr: log });
    }
}

/// An agent whose machine has nasty names in its files.
fn start_with_nasty_facts(host: &crate::lab::Host) -> Agent<'_> {
    let root = host.path("root");
    for (file, text) in [
        ("etc/hostname", NASTY.to_owned()),
        ("etc/os-release", format!("PRETTY_NAME=\"{NASTY}\"")),
        ("proc/device-tree/model", NASTY.to_owned()),
        ("proc/sys/kernel/osrelease", NASTY.to_owned()),
        ("proc/uptime", "100.00 100.00\n".to_owned()),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let mut agent = Agent::idle(host, host.name());
    agent.sysroot = Some(root);
    agent.start_again();
    agent
}

/// Fails if a stream has a character that a terminal would obey, or that reorders text.
#[track_caller]
pub(super) fn assert_harmless(said: &Said) {
    // A line of CSV ends in CR and LF (RFC 4180).
    for text in [said.stdout.replace("\r\n", "\n"), said.stderr.clone()] {
        let found = text.chars().find(|c| is_harmful(*c));
        assert_eq!(found, None, "{said:#?}");
    }
}

/// The same on a terminal, where colours and other marks of ours are welcome.
#[track_caller]
fn assert_harmless_on_terminal(server: &Server<'_>, words: &str) {
    let line = format!("{} {words}", program("fleets"));
    let mut command = server.command(&[]);
    let mut on_terminal = server.host.command("script");
    on_terminal.args(["-qec", &line, "/dev/null"]);
    for (variable, value) in command.env("TERM", "xterm").env_remove("NO_COLOR").get_envs() {
        match value {
            Some(value) => on_terminal.env(variable, value),
            None => on_terminal.env_remove(variable),
        };
    }
    let mut said = Said::of(&mut on_terminal);
    assert!(said.stdout.contains('\u{1b}'), "a terminal gets colours: {said:#?}");
    for mark in OUR_MARKS {
        said.stdout = said.stdout.replace(mark, "");
    }
    assert_harmless(&said);
}

/// What `fleets` itself sends to a terminal: colours, and nothing that moves or clears.
const OUR_MARKS: [&str; 9] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[2m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[36m",
    "\u{1b}[39m",
    "\u{1b}[90m",
];

fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}
