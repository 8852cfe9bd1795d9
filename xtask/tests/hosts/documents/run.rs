//! How a command of a document is run: to its end, on a terminal where somebody is asked, until it
//! serves, or until it has said something.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use xtask::pty::Pty;

use super::system::{Kept, System};
use crate::fleet::{SOON, Said};
use crate::lab::wait_for;

/// How long one command may take: some wait for devices.
const COMMAND: Duration = Duration::from_secs(90);
const TERMINAL: (u16, u16) = (120, 35);
/// What a shell says of a program that `^C` has ended, and what ours say.
const INTERRUPTED: i32 = 130;
/// Where each listens.
const PORTS: [(&str, &str); 2] = [("server", "8080"), ("agent", "6789")];

/// What a command is, by how it looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes the shell for those after it.
    Setting,
    /// Serves until it is ended.
    Service(&'static str),
    /// Carries a file to another host.
    Copy,
    /// Tells until `^C`.
    Following,
    /// Ends by itself.
    Plain,
}

pub(super) fn kind(command: &str) -> Kind {
    let is_variable = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        })
    };
    let bare = command.split(" #").next().unwrap_or_default();
    let is_before = |word: &&str| *word == "sudo" || is_variable(word);
    let mut words = bare.split_whitespace().skip_while(is_before);
    let program = words.next().unwrap_or_default().trim_start_matches("./");
    let rest: Vec<&str> = words.collect();
    match (program, rest.first().copied().unwrap_or_default()) {
        ("cd" | "export", _) => Kind::Setting,
        ("scp", _) => Kind::Copy,
        ("fleets", "server") => Kind::Service("server"),
        ("fleetd", "agent") => Kind::Service("agent"),
        ("ping", _) if !rest.contains(&"-c") => Kind::Following,
        ("tail" | "journalctl" | "fleets", _) if rest.contains(&"-f") => Kind::Following,
        _ if is_setting(bare) => Kind::Setting,
        _ => Kind::Plain,
    }
}

/// Whether it is `name='…'` or `name="…"` and nothing else.
fn is_setting(command: &str) -> bool {
    let Some((name, value)) = command.split_once('=') else { return false };
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase());
    let quote = value.chars().next().filter(|first| ['\'', '"'].contains(first));
    is_name && quote.is_some_and(|quote| value.trim_end().ends_with(quote))
}

impl System<'_> {
    /// Starts a program and waits until it serves.
    #[track_caller]
    pub(super) fn serve(&self, what: &str, command: &str, lines: &str) -> Kept {
        let (_, usual) = PORTS.iter().find(|(name, _)| *name == what).expect("a service");
        let mut words = command.split_whitespace();
        let port = words.find(|word| *word == "--port").and_then(|_| words.next());
        let scheme = if command.contains("--tls-cert") { "https" } else { "http" };
        let health = format!("{scheme}://localhost:{}/health", port.unwrap_or(usual));
        let mut kept = self.keep(&format!("{what}.log"), lines);
        wait_for(&format!("{command} to serve"), SOON, || {
            let ended = kept.ended();
            assert!(ended.is_none(), "{command} ended by itself: {ended:?}\n{}", kept.log());
            let said = self.said(&format!("curl -sk -m2 {health}"));
            said.stdout.contains("ok").then_some(())
        });
        kept
    }

    /// Lets a program tell something, and interrupts it.
    #[track_caller]
    pub(super) fn follow(&self, command: &str, lines: &str) {
        let mut kept = self.keep("followed.log", lines);
        wait_for(&format!("{command} to tell something"), SOON, || {
            let ended = kept.ended();
            assert!(ended.is_none(), "{command} ended by itself: {ended:?}\n{}", kept.log());
            kept.log().contains('\n').then_some(())
        });
        let log = kept.log();
        let code = kept.end(Signal::SIGINT);
        assert!([0, INTERRUPTED].contains(&code), "{command} ended with {code}: {log}");
    }

    /// Runs a program to its end.
    #[track_caller]
    pub(super) fn run(&self, lines: &str) -> Said {
        let command = self.shell(lines);
        let mut timed = Command::new("timeout");
        timed.arg(COMMAND.as_secs().to_string()).arg(command.get_program());
        Said::of(timed.args(command.get_args()).stdin(Stdio::null()))
    }

    /// Runs a program on a terminal, where `answer` says what to press at what is seen; its exit code
    /// and all that was seen last.
    #[track_caller]
    pub(super) fn run_on_terminal(&self, lines: &str) -> (Option<i32>, String) {
        let mut pty = Pty::start(&self.shell(lines), &[], TERMINAL);
        let deadline = Instant::now() + COMMAND;
        let mut answered_at = 0;
        loop {
            if let Some(status) = pty.try_end() {
                return (status.code(), pty.text());
            }
            assert!(Instant::now() < deadline, "it still runs: {lines}\n{}", pty.text());
            let came = pty.shown().bytes.len();
            let pressed = if came > answered_at { answer(&pty) } else { None };
            match pressed {
                Some(keys) => {
                    answered_at = came;
                    pty.press(&keys);
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// What a person presses who sees this; nothing where nobody is asked.
fn answer(pty: &Pty) -> Option<String> {
    let shown = pty.shown();
    let screen = shown.emulator.screen();
    let text = screen.contents();
    if screen.alternate_screen() {
        // The console, once it has its list.
        return text.contains("rpi4-001").then(|| "\x03".to_owned());
    }
    let line = text.lines().rfind(|line| !line.trim().is_empty())?.trim_end();
    if text.contains("Which devices would you like to configure?") {
        return Some(" \r".to_owned());
    }
    if line.ends_with("[y/N]") {
        return Some("y\r".to_owned());
    }
    if line.ends_with("Type its id to go on:") {
        return Some("rpi4-001\r".to_owned());
    }
    if line.ends_with("Type the number of devices to go on:") {
        let words: Vec<&str> = text.split_whitespace().collect();
        let told =
            words.windows(2).rfind(|pair| pair[1].starts_with("device") && is_number(pair[0]));
        return told.map(|pair| format!("{}\r", pair[0]));
    }
    None
}

fn is_number(word: &str) -> bool {
    word.parse::<u32>().is_ok()
}

#[test]
fn a_command_is_known_by_how_it_looks() {
    for (command, wanted) in [
        ("./fleets server --port 1", Kind::Service("server")),
        ("FLEETD_LOG_LEVEL=debug ./fleetd agent", Kind::Service("agent")),
        ("./fleets logs a -u nginx -f   # until ^C", Kind::Following),
        ("ping device-hostname", Kind::Following),
        ("lines='a b=1'", Kind::Setting),
        ("./fleets devices --filter 'a=1'", Kind::Plain),
        ("./fleets config set a b=1", Kind::Plain),
    ] {
        assert_eq!(kind(command), wanted, "{command}");
    }
}
