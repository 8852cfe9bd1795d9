//! The console as people use it: the real program on a real terminal, at a real server whose devices
//! report. Keys go in, and what the terminal then shows is looked at.

mod auto;
mod batches;
mod commands;
mod config;
mod hostile;
mod keys;
mod link;
mod logs;
mod session;
mod ssh;
mod taking_in;
mod terminal;
mod tmux;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::termios::Termios;
use xtask::fleet::sysroot::{Kind, World};
use xtask::pty::{Pty, Shown};

use super::{Host, SOON, Said, Server, is_running, ours, program, wait_for};
use crate::lab::Lab;

/// Sizes that the console is made for.
const WIDE: (u16, u16) = (120, 35);
const LOW: (u16, u16) = (80, 24);
pub(super) const XTERM: [(&str, &str); 2] = [("TERM", "xterm-256color"), ("LANG", "C.UTF-8")];
const ESC: &str = "\x1b";

/// A desk with a server, and a plant with devices beside it.
fn desk_and_plant() -> (Lab, Host, Host) {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, plant] = ["desk", "plant"].map(|name| lab.host(name, &[&lan]));
    (lab, desk, plant)
}

/// A server whose devices report, each second.
struct Site<'a> {
    server: Server<'a>,
    ids: Vec<String>,
    _world: World,
}

impl<'a> Site<'a> {
    /// A site with so many devices, all online.
    #[track_caller]
    fn start(desk: &'a Host, plant: &Host, devices: usize) -> Self {
        let server = Server::start(desk);
        let (world, ids) = start_devices(plant, devices, "");
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        server.configure(&names);
        Self { server, ids, _world: world }
    }

    /// A console on a terminal, that shows all devices.
    #[track_caller]
    fn console(&self, size: (u16, u16)) -> Console {
        let console = Console::start(&self.server, &[], &XTERM, size);
        for id in &self.ids {
            console.pty.wait_for(id, SOON);
        }
        console
    }
}

/// Starts made-up machines with an agent for each, all on one host; `settings` are lines of their
/// configuration files.
#[track_caller]
fn start_devices(host: &Host, count: usize, settings: &str) -> (World, Vec<String>) {
    let mut world = World::new();
    let mut ids = Vec::new();
    for number in 1..=count {
        let kind = Kind::of(number);
        let id = format!("{}-{number:03}", kind.name);
        let root = host.path("roots").join(&id);
        world.add(kind, number, &id, root.clone()).expect("a made-up machine");
        start_device(host, &id, &root, settings);
        ids.push(id);
    }
    world.start().expect("a world that moves");
    (world, ids)
}

fn start_device(host: &Host, id: &str, root: &Path, settings: &str) {
    let data = host.path("agents").join(id);
    fs::create_dir_all(&data).expect("a folder");
    let config = data.join("config.yaml");
    fs::write(&config, format!("{settings}telemetry:\n  interval: 1s\n")).expect("a configuration");
    let mut command = ours(host, "fleetd");
    command.args(["agent", "--port", "0", "--device-id", id, "--sysroot"]).arg(root);
    command.arg("--data-dir").arg(&data).arg("--config").arg(&config);
    host.start(&format!("agent-{id}"), &mut command);
}

/// A console on a terminal.
pub(super) struct Console {
    pty: Pty,
    /// How the terminal was before.
    before: Termios,
}

impl Console {
    /// Starts a console of the operator at the server's host.
    #[track_caller]
    fn start(server: &Server<'_>, args: &[&str], env: &[(&str, &str)], size: (u16, u16)) -> Self {
        let mut command = server.host.command(&program("fleet-tui"));
        command.args(args);
        Self::start_as(server, &command, env, size)
    }

    /// Starts whatever command leads to a console.
    #[track_caller]
    pub(super) fn start_as(
        server: &Server<'_>,
        command: &Command,
        env: &[(&str, &str)],
        size: (u16, u16),
    ) -> Self {
        let before = Pty::start(&Command::new("true"), &[], size).modes();
        let mut all = environment(server);
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), value.into())));
        let all: Vec<_> =
            all.iter().map(|(name, value)| (name.as_str(), value.as_os_str())).collect();
        Self { pty: Pty::start(command, &all, size), before }
    }

    /// Presses keys, then waits until a text is seen.
    #[track_caller]
    fn press(&mut self, keys: &str, seen: &str) {
        self.pty.press(keys);
        self.pty.wait_for(seen, SOON);
    }

    /// Presses keys, then waits until a text is not seen any more.
    #[track_caller]
    fn press_away(&mut self, keys: &str, gone: &str) {
        self.pty.press(keys);
        self.waits(&format!("no {gone:?}"), |shown| !text(shown).contains(gone));
    }

    #[track_caller]
    pub(super) fn waits(&self, what: &str, is_so: impl Fn(&Shown) -> bool) {
        self.pty.wait_until(what, SOON, is_so);
    }

    /// Waits until the cursor of the list is on a row with this text.
    #[track_caller]
    fn waits_for_cursor_on(&self, text: &str) {
        self.waits(&format!("the cursor on {text}"), |shown| {
            cursor_row(shown).is_some_and(|row| row.contains(text))
        });
    }

    /// Ends it with the keys for that, and looks whether the terminal is as it was.
    #[track_caller]
    pub(super) fn quit(mut self) {
        self.pty.press("\x03");
        self.ends(0);
    }

    #[track_caller]
    fn ends(&mut self, code: i32) {
        let status = self.pty.wait_for_end(SOON);
        assert_eq!(status.code(), Some(code), "{}", self.pty.text());
        self.assert_given_back();
    }

    #[track_caller]
    fn assert_given_back(&self) {
        assert_eq!(self.pty.modes(), self.before);
        let shown = self.pty.shown();
        let screen = shown.emulator.screen();
        assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor());
    }
}

/// What an operator's programs need, with nothing of this process' own.
fn environment(server: &Server<'_>) -> Vec<(String, OsString)> {
    let command = ours(server.host, "fleet-tui");
    let own = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let mut all: Vec<(String, OsString)> = own
        .filter(|(name, _)| *name != "NO_COLOR")
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_owned()))
        .collect();
    all.push(("FLEETD_SERVER".to_owned(), server.url().into()));
    all.push(("FLEETD_API_KEY_FILE".to_owned(), server.key_file().into()));
    all
}

pub(super) fn text(shown: &Shown) -> String {
    shown.emulator.screen().contents()
}

/// The row that the list's cursor is on; its sign stands in the first columns.
fn cursor_row(shown: &Shown) -> Option<String> {
    let rows = shown.emulator.screen().rows(0, u16::MAX);
    rows.skip(1).find(|row| row.chars().take(3).any(|c| c == '›'))
}
