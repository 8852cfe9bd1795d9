//! The console through a real ssh session: a person configures a device, and what went
//! over the line is counted.

#![expect(clippy::print_stderr, reason = "a test that cannot run here says so")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{
    Console, Host, SOON, Said, Server, WIDE, XTERM, desk_and_plant, environment, is_running,
    program, start_devices, wait_for,
};

const PORT: &str = "2222";
/// What the first picture may cost, and the whole session. Fleets of one are small; the budget of
/// a full screen is another test's.
const FIRST_BYTES_MAX: usize = 4 * 1024;
const SESSION_BYTES_MAX: usize = 24 * 1024;

#[test]
fn a_device_is_configured_over_ssh() {
    if !has_users() {
        return;
    }
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let sshd = Sshd::start(&desk, "");
    let (_world, ids) = start_devices(&plant, 1, "");

    let mut console = Console::start_as(&server, &sshd.session(&server), &XTERM, WIDE);
    console.pty.wait_for("No devices yet.", SOON);
    let first = console.pty.shown().bytes.len();
    assert!(first <= FIRST_BYTES_MAX, "first picture: {first} bytes");

    console.press("5", &ids[0]);
    console.pty.wait_for(" new ", SOON);
    console.press("xc", "Configure 1 device");
    console.press("y", "✓ 1 configured");
    console.press("1", "1 online");
    let all = console.pty.shown().bytes.len();
    assert!(all <= SESSION_BYTES_MAX, "whole session: {all} bytes");
    console.pty.press("\x03");
    assert_eq!(console.pty.wait_for_end(SOON).code(), Some(0));
    server.shows_online(&[&ids[0]]);
}

#[test]
fn an_account_of_a_jump_box_has_the_console_and_the_command_line_and_nothing_else() {
    if !has_users() {
        return;
    }
    let (_lab, desk, plant) = desk_and_plant();
    let server = Server::start(&desk);
    let set: Vec<String> = environment(&server)
        .iter()
        .map(|(name, value)| format!("\"{name}={}\"", value.to_string_lossy()))
        .collect();
    let forced = |more: &str| {
        let set = set.join(" ");
        format!("SetEnv LANG=C.UTF-8 {set}\nForceCommand {}{more}\n", program("fleet-tui"))
    };
    let sshd = Sshd::start(&desk, &forced(""));

    let mut console = Console::start_as(&server, &sshd.ask(&["-tt"], ""), &XTERM, WIDE);
    console.pty.wait_for("No devices yet.", SOON);
    console.pty.press("\x03");
    assert_eq!(console.pty.wait_for_end(SOON).code(), Some(0));

    let asked = |line: &str| Said::of(&mut sshd.ask(&["-T"], line));
    for line in ["keys whoami -o name", "fleets keys whoami -o name", "'keys' \"whoami\" -o name"] {
        let said = asked(line).exits(0);
        assert_eq!(said.stdout.trim().len(), 10, "{said:?}");
    }
    asked("devices --filter 'status=offline and type=raspberrypi'").exits(5);
    // Neither a shell's signs nor other programs get anybody anywhere.
    for line in
        ["keys whoami; id", "keys whoami && id", "sh -c id", "$(id)", "/bin/sh", "scp -t /tmp"]
    {
        let said = asked(line).exits(2);
        assert!(said.stdout.is_empty() && !said.stderr.contains("uid="), "{line}: {said:?}");
    }
    for line in ["server --port 9999", "fleets --log-level info server"] {
        asked(line).exits(2).explains(&["no server is started from here"]);
    }
    let said = asked("keys 'whoami").exits(2);
    assert!(said.stderr.contains("inside of quotes"), "{said:?}");

    let sshd = Sshd::start(&plant, &forced(" --read-only"));
    let said = Said::of(&mut sshd.ask(&["-T"], "devices")).exits(2);
    assert!(said.stderr.contains("for the console alone"), "{said:?}");
}

/// An ssh server changes users, and here there may be one only. Unattended runs have all.
fn has_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("a map of users");
    let has_many = map.split_whitespace().nth(2).is_some_and(|count| count != "1");
    let is_strict = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(has_many || !is_strict, "sshd needs more than one user");
    if !has_many {
        eprintln!("not run: sshd needs more than one user, so run this suite as root");
    }
    has_many
}

/// An ssh server with keys, port and configuration of its own.
struct Sshd<'a> {
    host: &'a Host,
}

impl<'a> Sshd<'a> {
    #[track_caller]
    fn start(host: &'a Host, more: &str) -> Self {
        let sshd = Self { host };
        for name in ["host-key", "user-key"] {
            let mut command = host.command("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(sshd.path(name));
            Said::of(&mut command).exits(0);
        }
        let key = fs::read_to_string(sshd.path("host-key.pub")).expect("the host's key");
        let known = format!("[{}]:{PORT} {key}", host.address());
        fs::write(sshd.path("known-hosts"), known).expect("a file");
        let config = format!(
            "Port {PORT}\nListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             UsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n\
             PrintMotd no\nPrintLastLog no\n{more}",
            host.address(),
            sshd.path("host-key").display(),
            sshd.path("user-key.pub").display(),
        );
        fs::write(sshd.path("config"), config).expect("a file");
        // Where it gives up its rights; made by its package at the machine's start.
        fs::create_dir_all("/run/sshd").expect("a folder");
        // It starts itself again for each session, so it wants its whole path.
        let mut command = host.command("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(sshd.path("config"));
        let pid = host.start("sshd", &mut command);
        wait_for("sshd to listen", SOON, || {
            assert!(is_running(pid), "sshd ended by itself: {}", host.log("sshd"));
            host.log("sshd").contains("Server listening").then_some(())
        });
        sshd
    }

    /// A session with the console in it.
    fn session(&self, server: &Server<'_>) -> Command {
        let mut words = vec!["exec env LANG=C.UTF-8".to_owned()];
        words.extend(
            environment(server)
                .iter()
                .map(|(name, value)| format!("{name}='{}'", value.to_string_lossy())),
        );
        words.push(program("fleet-tui"));
        self.ask(&["-tt"], &words.join(" "))
    }

    /// A session in which somebody asks for something.
    fn ask(&self, options: &[&str], line: &str) -> Command {
        let mut command = self.host.command("ssh");
        command.args(["-F", "/dev/null", "-o", "LogLevel=ERROR", "-o"]);
        command.arg(format!("UserKnownHostsFile={}", self.path("known-hosts").display()));
        command.args(options).args(["-o", "IdentitiesOnly=yes", "-i"]).arg(self.path("user-key"));
        command.args(["-p", PORT, &format!("root@{}", self.host.address())]);
        command.args((!line.is_empty()).then_some(line));
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.path(&format!("ssh-{name}"))
    }
}
