//! The terminal is taken over and comes back as it was, whatever happens.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios};
use tempfile::TempDir;
use xtask::pty::{Pty, SOON, Shown};

use crate::program;

const SIZE: (u16, u16) = (80, 24);
const XTERM: [(&str, &str); 2] = [("TERM", "xterm-256color"), ("LANG", "C.UTF-8")];
/// How long a program may outlive its terminal: half a second, a look each quarter, and a busy machine.
const GONE: Duration = Duration::from_secs(3);
const SUSPEND: &str = "\x1a";
const SHELL: &str = "set -m; \"$@\"; echo the shell; read -r; fg > /dev/null";
/// What gives the terminal back; anything after it is the shell's.
const GIVE_BACK: &str = "\x1b[?2026l\x1b[?1000l\x1b[?1006l\x1b[?2004l\x1b[?1004l\x1b[r\x1b[0m\x1b[?25h\
                         \x1b[?1049l\x1b[23;2t";

/// The example on a terminal, ready.
struct Example {
    pty: Pty,
    before: Termios,
    reports: TempDir,
}

impl Example {
    fn start(env: &[(&str, &str)]) -> Self {
        Self::start_as(&program::command(), env)
    }

    /// The example, which does not hear SIGHUP.
    fn start_deaf() -> Self {
        let program = program::command();
        let mut command = Command::new("env");
        command.arg("--block-signal=HUP").arg(program.get_program()).args(program.get_args());
        Self::start_as(&command, &XTERM)
    }

    /// The example as a job of a shell, which says when it has the terminal again, and calls the job
    /// back after a line.
    fn start_as_job() -> Self {
        let program = program::command();
        let mut shell = Command::new("bash");
        shell.args(["-c", SHELL, "bash"]).arg(program.get_program()).args(program.get_args());
        Self::start_as(&shell, &XTERM)
    }

    fn start_as(command: &Command, env: &[(&str, &str)]) -> Self {
        let reports = tempfile::tempdir().expect("a folder");
        // A terminal as it is before anything is started on it.
        let before = Pty::start(&Command::new("true"), &[], SIZE).modes();
        let mut env: Vec<_> = env.iter().map(|(name, value)| (*name, OsStr::new(value))).collect();
        env.push((program::REPORTS, reports.path().as_os_str()));
        let pty = Pty::start(command, &env, SIZE);
        pty.wait_for("ready", SOON);
        Self { pty, before, reports }
    }

    #[track_caller]
    fn assert_taken(&self) {
        assert!(!self.pty.modes().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO));
        assert!(self.pty.shown().emulator.screen().alternate_screen());
        assert!(self.pty.shown().emulator.screen().bracketed_paste());
    }

    #[track_caller]
    fn assert_given_back(&self) {
        assert_eq!(self.pty.modes(), self.before);
        let shown = self.pty.shown();
        let screen = shown.emulator.screen();
        assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor());
        assert!(String::from_utf8_lossy(&shown.bytes).contains(GIVE_BACK));
    }

    /// What came after the terminal was given back.
    fn last_words(&self) -> String {
        let bytes = self.pty.shown().bytes.clone();
        let text = String::from_utf8_lossy(&bytes);
        text.rsplit(GIVE_BACK).next().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn ends(&mut self, code: i32) {
        assert_eq!(self.pty.wait_for_end(SOON).code(), Some(code), "{}", self.pty.text());
    }
}

#[test]
fn after_the_end_everything_is_as_before() {
    let mut example = Example::start(&XTERM);
    example.assert_taken();
    example.pty.press("q");
    example.ends(0);
    example.assert_given_back();
    assert_eq!(example.last_words(), "");
}

#[test]
fn a_panic_gives_the_terminal_back_and_leaves_a_report() {
    for (key, words) in [("p", "asked for ("), ("t", "asked for in a task (")] {
        let mut example = Example::start(&XTERM);
        example.pty.press(key);
        example.ends(101);
        example.assert_given_back();
        let said = example.last_words();
        assert!(said.starts_with(&format!("fleet-tui: internal error: {words}")), "{said:?}");
        assert_eq!(said.lines().count(), 2, "{said:?}");
        let path = example.reports.path().join("fleet-tui-panic.txt");
        assert!(said.contains(path.to_str().unwrap()), "{said:?}");
        let report = fs::read_to_string(&path).unwrap();
        assert!(report.contains(words) && report.contains("program.rs"), "{report}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn signals_end_it_in_order() {
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 143),
    ] {
        let mut example = Example::start(&XTERM);
        example.pty.signal(signal);
        example.ends(code);
        example.assert_given_back();
    }
}

#[test]
fn a_program_that_hears_nothing_is_ended_all_the_same() {
    let mut example = Example::start(&XTERM);
    example.pty.press("w");
    example.pty.signal(Signal::SIGTERM);
    example.ends(143);
    example.assert_given_back();
}

#[test]
fn suspended_it_leaves_the_terminal_to_its_shell_and_comes_back() {
    for how in [SUSPEND, ""] {
        let mut example = Example::start_as_job();
        match how {
            "" => kill(example.pty.foreground(), Signal::SIGTSTP).expect("a program"),
            key => example.pty.press(key),
        }
        example.pty.wait_until("the usual screen", SOON, |shown| {
            !shown.emulator.screen().alternate_screen()
        });
        example.pty.wait_for("the shell", SOON);
        example.assert_given_back();
        example.pty.press("\n");
        example.pty.wait_for("continued", SOON);
        example.pty.wait_for("ready", SOON);
        example.assert_taken();
        example.pty.press("q");
        example.ends(0);
        example.assert_given_back();
    }
}

#[test]
fn without_a_shell_that_could_call_it_back_it_does_not_stop() {
    for how in [SUSPEND, ""] {
        let mut example = Example::start(&XTERM);
        match how {
            "" => example.pty.signal(Signal::SIGTSTP),
            key => example.pty.press(key),
        }
        example.pty.wait_for("not suspended", SOON);
        example.assert_taken();
        example.pty.press("q");
        example.ends(0);
        example.assert_given_back();
    }
}

#[test]
fn stopped_from_outside_it_takes_the_terminal_again() {
    let mut example = Example::start(&XTERM);
    example.pty.signal(Signal::SIGSTOP);
    example.pty.wait_until_stopped();
    let frames = example.pty.shown().bytes.len();
    example.pty.signal(Signal::SIGCONT);
    example.pty.wait_for("continued", SOON);
    let again = String::from_utf8_lossy(&example.pty.shown().bytes[frames..]).into_owned();
    assert!(again.contains("\x1b[?1049h") && again.contains("ready"), "{again:?}");
    example.pty.press("q");
    example.ends(0);
    example.assert_given_back();
}

#[test]
fn it_does_not_outlive_its_terminal() {
    // Once told by a signal, once not even that.
    for mut example in [Example::start(&XTERM), Example::start_deaf()] {
        example.pty.close_terminal();
        assert_eq!(example.pty.wait_for_end(GONE).code(), Some(129));
    }
}

#[test]
fn a_program_that_hears_nothing_does_not_outlive_its_terminal_either() {
    let mut example = Example::start_deaf();
    example.pty.press("w");
    example.pty.close_terminal();
    assert_eq!(example.pty.wait_for_end(GONE).code(), Some(129));
}

#[test]
fn it_ends_although_its_terminal_takes_nothing() {
    /// Frames that are more than a terminal keeps, and keys that are less.
    const KEYS: usize = 3_000;
    let keys: String = "abcdefg".chars().cycle().take(KEYS).collect();
    let mut example = Example::start(&XTERM);
    example.pty.stick();
    example.pty.press(&keys);
    example.pty.wait_until_stuck();
    example.pty.signal(Signal::SIGTERM);
    example.ends(143);
    assert_eq!(example.pty.modes(), example.before);
}

#[test]
fn pasted_text_presses_no_keys() {
    let mut example = Example::start(&XTERM);
    example.pty.press("\x1b[200~qqpt\x1a\x1b[201~");
    example.pty.wait_for("pasted 5 bytes", SOON);
    example.pty.press("x");
    example.pty.wait_for("key Char('x')", SOON);
    example.pty.press("q");
    example.ends(0);
}

#[test]
fn another_size_is_painted_while_keys_come() {
    let mut example = Example::start(&XTERM);
    for size in [(100, 30), (20, 5), (80, 24)] {
        example.pty.resize(size);
        example.pty.press("k");
        example.pty.wait_for(&format!("size {}x{}", size.0, size.1), SOON);
    }
}

#[test]
fn the_selected_row_is_reversed_without_colours_too() {
    let env = [XTERM.as_slice(), &[("NO_COLOR", "1")]].concat();
    let example = Example::start(&env);
    let is_reversed = |shown: &Shown| shown.emulator.screen().cell(0, 0).unwrap().inverse();
    example.pty.wait_until("a reversed row", SOON, is_reversed);
}

#[test]
fn what_is_no_terminal_is_refused_in_one_sentence() {
    let mut command = program::command();
    command.env(program::REPORTS, "/nonexistent").env("TERM", "xterm").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("not a terminal") && said.contains("fleets devices"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_terminal_without_a_cursor_is_refused_untouched() {
    for (env, name) in [([("TERM", "dumb")].as_slice(), "dumb"), (&[], "not set")] {
        let mut env: Vec<_> = env.iter().map(|(name, value)| (*name, OsStr::new(value))).collect();
        env.push((program::REPORTS, OsStr::new("/nonexistent")));
        let mut pty = Pty::start(&program::command(), &env, SIZE);
        assert_eq!(pty.wait_for_end(SOON).code(), Some(2));
        let text = pty.text();
        assert!(text.contains(&format!("TERM is {name}")), "{text}");
        assert!(!pty.shown().bytes.contains(&0x1b));
    }
}
