//! The terminal is taken over and comes back as it was, also from the real program.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::termios::LocalFlags;

use super::{Console, LOW, SOON, Server, Site, WIDE, XTERM, desk_and_plant, program, text};
use crate::lab::Lab;

/// How long a console may outlive its terminal: half a second, a look each quarter, a busy machine.
const GONE: Duration = Duration::from_secs(3);
const SUSPEND: &str = "\x1a";

#[test]
fn suspended_it_leaves_the_terminal_to_its_shell_and_comes_back() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 2);
    // It calls its job back after a line.
    let shell = "set -m; \"$@\"; echo the shell; read -r; fg > /dev/null";
    let mut command = desk.command("bash");
    command.args(["-c", shell, "bash", &program("fleet-tui")]);
    let mut console = Console::start_as(&site.server, &command, &XTERM, LOW);
    console.pty.wait_for("rpi4-001", SOON);
    console.press("/pi", "/pi");

    console.press(SUSPEND, "the shell");
    console.assert_given_back();
    assert!(!text(&console.pty.shown()).contains("rpi4-001"), "the shell's screen is its own");

    console.press("\n", "/pi");
    console.pty.wait_for("rpi4-001", SOON);
    assert!(console.pty.shown().emulator.screen().alternate_screen());
    assert!(!console.pty.modes().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO));
    console.quit();
}

#[test]
fn without_a_shell_that_could_call_it_back_it_does_not_stop() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 1);
    let mut console = site.console(LOW);
    console.press(SUSPEND, "not suspended: there is no shell");
    console.press("/x86", "/x86");
    console.quit();
}

#[test]
fn signals_end_it_in_order() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 1);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut console = site.console(LOW);
        console.pty.signal(signal);
        console.ends(code);
    }
}

#[test]
fn it_does_not_outlive_its_terminal() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 1);
    // The usual end is a signal; under nohup and the like there is none.
    let mut deaf = desk.command("env");
    deaf.args(["--ignore-signal=HUP", &program("fleet-tui")]);
    let deaf = Console::start_as(&site.server, &deaf, &XTERM, LOW);
    deaf.pty.wait_for("rpi4-001", SOON);
    for mut console in [site.console(LOW), deaf] {
        console.pty.close_terminal();
        assert_eq!(console.pty.wait_for_end(GONE).code(), Some(129));
    }
}

#[test]
fn without_colours_the_cursor_is_seen_all_the_same() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 2);
    let env = [XTERM.as_slice(), &[("NO_COLOR", "1")]].concat();
    let console = Console::start(&site.server, &[], &env, WIDE);
    console.waits("a row in reverse", |shown| {
        let screen = shown.emulator.screen();
        let id = screen.rows(0, u16::MAX).position(|row| row.contains('›') && row.contains("-00"));
        let cell = id.and_then(|row| screen.cell(u16::try_from(row).ok()?, 10));
        cell.is_some_and(vt100::Cell::inverse)
    });
    let shown = console.pty.shown();
    let screen = shown.emulator.screen();
    let cells = (0..WIDE.1).flat_map(|y| (0..WIDE.0).map(move |x| (y, x)));
    for (y, x) in cells {
        let cell = screen.cell(y, x).expect("a cell of the screen");
        assert_eq!(cell.fgcolor(), vt100::Color::Default, "row {y}, column {x}");
    }
}

#[test]
fn pasted_text_presses_no_keys() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 2);
    let mut console = site.console(LOW);
    console.press("\x1b[200~xdq\x03\r\x1b[201~", "the pasted text was dropped");
    console.press("/", "/");
    console.press("\x1b[200~rpi\r4\x1b[201~", "/rpi");
    console.waits("one device", |shown| !text(shown).contains("jetson-002"));
    console.quit();
}

#[test]
fn a_tiny_terminal_still_tells_how_the_fleet_is() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 2);
    let mut console = Console::start(&site.server, &[], &XTERM, (20, 5));
    console.pty.wait_for("●2", SOON);
    console.pty.resize(WIDE);
    console.pty.wait_for("2 online", SOON);
    console.pty.resize((20, 5));
    console.pty.wait_for("●2", SOON);
    console.quit();
}

#[test]
fn a_terminal_that_can_do_nothing_is_refused_untouched() {
    let mut lab = Lab::new();
    let desk = lab.host("desk", &[]);
    let server = Server::start(&desk);
    for (term, named) in [("dumb", "dumb"), ("", "not set")] {
        let mut console = Console::start(&server, &[], &[("TERM", term)], LOW);
        console.ends(2);
        console.pty.wait_for(&format!("TERM is {named}"), SOON);
        assert!(!console.pty.shown().bytes.contains(&0x1b), "nothing that a terminal obeys");
    }
}
