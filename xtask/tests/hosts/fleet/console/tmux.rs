//! The console inside tmux, under the terminals that people meet: text is seen, keys work, and the
//! end leaves the shell's screen.

use std::ffi::OsString;
use std::process::Command;

use super::{Host, LOW, SOON, Said, Site, desk_and_plant, environment, program, wait_for};

#[test]
fn it_works_under_the_usual_terminals() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 3);
    for term in ["tmux-256color", "screen", "linux", "xterm-mono"] {
        let tmux = Tmux::start(&desk, term, environment(&site.server));
        tmux.waits_for(&site.ids[0]);
        tmux.waits_for("Fleet");
        tmux.press(&["/", "x", "8", "6", "Enter"]);
        tmux.waits_until("one device", |text| {
            text.contains("x86-003") && !text.contains(&site.ids[0])
        });
        tmux.press(&["Enter"]);
        tmux.waits_for("CPU %");
        tmux.press(&["Escape"]);
        tmux.waits_until("the fleet", |text| !text.contains("CPU %"));
        tmux.press(&["C-c"]);
        tmux.waits_for("ended with 0");
        tmux.assert_restored(term);
    }
}

#[test]
fn a_terminal_that_can_do_nothing_gets_one_sentence() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 1);
    let tmux = Tmux::start(&desk, "dumb", environment(&site.server));
    tmux.waits_for("TERM is dumb");
    tmux.waits_for("ended with 2");
    tmux.assert_restored("dumb");
}

/// A tmux server of its own with one window, in which the console runs under some `TERM`.
struct Tmux<'a> {
    host: &'a Host,
    socket: String,
    env: Vec<(String, OsString)>,
}

impl<'a> Tmux<'a> {
    fn start(host: &'a Host, term: &str, env: Vec<(String, OsString)>) -> Self {
        let socket = host.path(&format!("tmux-{term}")).to_string_lossy().into_owned();
        let tmux = Self { host, socket, env };
        let (columns, rows) = (LOW.0.to_string(), LOW.1.to_string());
        let line = format!(
            "echo shell; TERM={term} {}; echo ended with $?; exec cat",
            program("fleet-tui")
        );
        let size = ["new-session", "-d", "-x", &columns, "-y", &rows];
        Said::of(tmux.command(&size).args(["sh", "-c", &line])).exits(0);
        tmux
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command("tmux");
        command.args(["-u", "-f", "/dev/null", "-S", &self.socket]).args(args);
        command.env("TERM", "xterm-256color").env("LANG", "C.UTF-8").env_remove("TMUX");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn press(&self, keys: &[&str]) {
        Said::of(self.command(&["send-keys"]).args(keys)).exits(0);
    }

    fn text(&self) -> String {
        Said::of(&mut self.command(&["capture-pane", "-p"])).exits(0).stdout
    }

    #[track_caller]
    fn waits_for(&self, seen: &str) {
        self.waits_until(seen, |text| text.contains(seen));
    }

    #[track_caller]
    fn waits_until(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        wait_for(&format!("{what} in tmux"), SOON, || is_so(&self.text()).then_some(()));
    }

    /// The shell's screen is back, with the cursor.
    #[track_caller]
    fn assert_restored(&self, term: &str) {
        let text = self.text();
        assert!(text.starts_with("shell\n"), "{term}: {text}");
        let format = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}";
        let said = Said::of(&mut self.command(&["display-message", "-p", format])).exits(0);
        assert_eq!(said.stdout.trim(), "0 1 0", "{term}");
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        // It fails only when tmux has ended.
        let _ = self.command(&["kill-server"]).output();
    }
}
