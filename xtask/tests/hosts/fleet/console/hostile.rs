//! Text from devices on its way to the console's terminal: whatever they say of themselves, and
//! whatever is noted of them, no byte of it acts on the terminal.

use std::fs;

use super::{Console, ESC, Host, SOON, Server, WIDE, XTERM, desk_and_plant, start_device};

/// Writes the clipboard, clears the screen, sets the title, colours by one byte, turns text around.
/// The letters between tell that it was shown.
const NASTY: &str = "A\u{1b}]52;c;RVZJTA==\u{7}B\u{1b}[2JC\u{1b}]0;owned\u{7}D\u{9b}31mE\u{202e}F";
/// What would act, of that; the console itself writes none of these.
const HARMFUL: [&str; 5] = ["\u{1b}]52;", "\u{1b}[2JC", "\u{1b}]0;", "\u{9b}", "\u{202e}"];
/// What is seen of it.
const SHOWN: &str = "RVZJTA==";

#[test]
fn t20_what_a_device_says_never_reaches_the_terminal_raw() {
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    start_nasty_device(&plant);
    server.configure(&["cam"]);
    let (note, key) = (format!("note={NASTY}"), "site=\u{1b}]52;c;RVZJTA==\u{7}");
    server.fleets(&["devices", "set", "cam", "--name", NASTY, &note, key]).exits(0);

    let mut console = Console::start(&server, &[], &XTERM, WIDE);
    console.pty.wait_for("cam", SOON);
    // Through every screen, pane and menu that shows something of a device.
    console.press("y", SHOWN);
    console.press_away(ESC, "Copy of cam");
    console.press("xn", SHOWN);
    console.press_away(ESC, "Name cam");
    console.press("/note~RVZJ\r", "1 of 1");
    console.press_away(ESC, "1 of 1");
    console.press("\r", "Fleet › cam");
    console.pty.wait_for(SHOWN, SOON);
    // Each pane by itself.
    console.press_away("\r", "┌ Config");
    for pane in ["Config", "Commands", "History", "Logs", "Facts"] {
        console.press("\t", &format!("┌ {pane} "));
    }
    console.press("6", "› Events");
    console.pty.wait_for("configured", SOON);
    console.press(":device c", "cam");
    console.press_away(ESC, "device c");
    assert_harmless(&console);
    console.quit();
}

#[track_caller]
fn assert_harmless(console: &Console) {
    let shown = console.pty.shown();
    let all = String::from_utf8_lossy(&shown.bytes);
    assert!(all.contains(SHOWN), "it is shown at all");
    for harmful in HARMFUL {
        assert!(!all.contains(harmful), "{harmful:?} came out");
    }
}

fn start_nasty_device(host: &Host) {
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
    start_device(host, "cam", &root, "");
}
