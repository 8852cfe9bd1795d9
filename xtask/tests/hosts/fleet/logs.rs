//! Lines of devices' logs, from the machine to the operator's terminal: by real programs, with a
//! `journalctl` that writes what a test wants, and in a container with systemd by the real one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fleet_core::api::LogEntry;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hostile::assert_harmless;
use super::{Agent, COME_BACK, SOON, Server, is_running, program};
use crate::lab::{Host, Lab, wait_for};

/// Clears the screen, forges a line, turns text around.
const NASTY: &str = r"\u001b[2J\u009b31m\r\u202egnp";
const UNREACHABLE: i32 = 7;
const INTERRUPTED: i32 = 130;

/// A machine of made-up files, whose `journalctl` writes these lines of a script: of the past, and
/// as they come.
fn machine(host: &Host, past: &str, follow: &str) -> PathBuf {
    let root = host.path("root");
    let bin = root.join("usr/bin");
    fs::create_dir_all(&bin).expect("a folder");
    fs::create_dir_all(root.join("proc")).expect("a folder");
    fs::write(root.join("proc/uptime"), "100.00 100.00\n").expect("a file");
    let script = format!("#!/bin/sh\ncase \"$*\" in *--no-tail*) {follow};; *) {past};; esac\n");
    fs::write(bin.join("journalctl"), script).expect("a script");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bin.join("journalctl"), mode).expect("a script that can be run");
    root
}

/// What a script writes an entry by, whose time is when it does.
fn entry(text: &str) -> String {
    let fields = "\"PRIORITY\":\"4\",\"_SYSTEMD_UNIT\":\"cam.service\"";
    let entry = format!("{{\"__REALTIME_TIMESTAMP\":\"%s\",{fields},\"MESSAGE\":\"%s\"}}");
    format!("printf '{entry}\\n' \"$(/bin/date +%s%6N)\" '{text}'")
}

/// A program that follows lines, whose output is in a log of this name and in one beside it.
struct Follower<'a> {
    host: &'a Host,
    name: &'static str,
    child: std::process::Child,
}

impl<'a> Follower<'a> {
    fn start(server: &Server<'a>, name: &'static str, args: &[&str]) -> Self {
        let file = |end: &str| {
            let path = server.host.path(&format!("{name}.{end}"));
            fs::File::create(path).expect("a file")
        };
        let mut command = server.command(&[&["logs"], args, &["-f"]].concat());
        command.stdout(file("out")).stderr(file("err"));
        Self { host: server.host, name, child: command.spawn().expect("a program that starts") }
    }

    fn text(&self, end: &str) -> String {
        fs::read_to_string(self.host.path(&format!("{}.{end}", self.name))).unwrap_or_default()
    }

    #[track_caller]
    fn shows(&self, end: &str, words: &str) {
        let waits = format!("{words:?} in {}.{end}", self.name);
        wait_for(&waits, COME_BACK, || self.text(end).contains(words).then_some(()));
    }

    /// Ends it as Ctrl-C does, and gives its exit code.
    #[track_caller]
    fn interrupt(mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGINT).expect("a program that runs");
        let mut ended = || self.child.try_wait().expect("a child of ours");
        wait_for("a follower to end", SOON, &mut ended).code()
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[test]
fn lines_come_to_the_terminal_and_go_on_when_the_device_does() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let past = format!("{}; {}", entry("the past"), entry(NASTY));
    let said = cam.path("said");
    let follow = format!(
        "while :; do if [ -e {said} ]; then {}; /bin/rm {said}; fi; /bin/sleep 0.05; done",
        entry("something new"),
        said = said.display(),
    );
    let mut agent = Agent::idle(&cam, "cam");
    agent.sysroot = Some(machine(&cam, &past, &follow));
    agent.start_again();
    server.configure(&["cam"]);

    let once = server.fleets(&["logs", "cam", "-u", "cam", "-o", "json"]).exits(0);
    let lines: Vec<LogEntry> = once.json();
    let texts: Vec<&str> = lines.iter().map(|line| line.text.raw()).collect();
    assert_eq!(texts, ["the past", "\u{1b}[2J\u{9b}31m\r\u{202e}gnp"]);
    for format in ["table", "wide", "json", "jsonl", "csv", "name"] {
        assert_harmless(&server.fleets(&["logs", "cam", "-u", "cam", "-o", format]).exits(0));
    }
    let own = server.fleets(&["logs", "cam", "--grep", "connected", "-n", "1"]).exits(0);
    assert!(own.stdout.contains(" INFO  agent: connected"), "{own:?}");
    server.fleets(&["logs", "cam", "--grep", "nobody says this"]).exits(5);
    server.fleets(&["logs", "nobody"]).exits(5);

    let people = Follower::start(&server, "people", &["cam", "-u", "cam", "-n", "1"]);
    let scripts =
        Follower::start(&server, "scripts", &["cam", "-u", "cam", "-n", "1", "-o", "json"]);
    people.shows("out", "WARN  cam.service: \\u{1b}[2J");
    let speak = || {
        fs::write(&said, "").expect("a file");
        wait_for("a word to be heard", SOON, || (!said.exists()).then_some(()));
    };
    speak();
    people.shows("out", "something new");
    scripts.shows("out", "\"text\":\"something new");

    // The agent is killed while it is followed, and comes back.
    agent.kill();
    people.shows("err", "cam is not connected any more; this waits for it");
    let old = server.fleets(&["logs", "cam", "-u", "cam"]).exits(0);
    old.explains(&["cam is not connected; these lines were seen until"]);
    agent.start_again();
    people.shows("err", "cam is connected; its lines go on");
    let before = people.text("out").matches("something new").count();
    speak();
    wait_for("lines after the agent came back", SOON, || {
        (people.text("out").matches("something new").count() > before).then_some(())
    });
    assert!(!people.text("out").contains(['\u{1b}', '\u{9b}', '\r']), "{}", people.text("out"));
    for line in scripts.text("out").lines() {
        serde_json::from_str::<LogEntry>(line).expect("each line is JSON");
    }
    assert_eq!(people.interrupt(), Some(INTERRUPTED));
    assert_eq!(scripts.interrupt(), Some(INTERRUPTED));

    // Nobody reads on, which is no error.
    let fleets = server.command(&["logs", "cam", "-f"]);
    let line = format!(
        "{} logs cam -f | /usr/bin/head -n 1 >/dev/null; echo \"${{PIPESTATUS[0]}}\"",
        program("fleets")
    );
    let mut shell = server.host.command("bash");
    shell
        .args(["-c", &line])
        .envs(fleets.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");

    // A server that goes is waited for; one that is away from the start is not.
    let left = Follower::start(&server, "left", &["cam"]);
    left.shows("out", " agent: ");
    server.kill();
    left.shows("err", "the server is away: ");
    server.fleets(&["logs", "cam", "-f"]).exits(UNREACHABLE);
    server.start_again();
    left.shows("err", "the server is back; lines go on");
    assert_eq!(left.interrupt(), Some(INTERRUPTED));
}

#[test]
fn a_flood_is_cut_down_and_counted_and_a_policy_is_obeyed() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, own] = ["desk", "cam", "own"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let mut agent = Agent::idle(&cam, "cam");
    // A message of a megabyte, and lines as fast as a machine writes them.
    let long = "printf '{\"MESSAGE\":\"%01000000d\"}\\n' 0";
    let flood = "exec /usr/bin/yes '{\"MESSAGE\":\"flood\"}'";
    agent.sysroot = Some(machine(&cam, long, flood));
    agent.start_again();
    let mut private = Agent::idle(&own, "own");
    let root = machine(&own, &entry("secret"), "exit 0");
    fs::create_dir_all(root.join("etc/fleetd")).expect("a folder");
    fs::write(root.join("etc/fleetd/policy.yaml"), "commands: [restart]\n").expect("a policy");
    private.sysroot = Some(root);
    private.start_again();
    server.configure(&["cam", "own"]);

    let said = server.fleets(&["logs", "cam", "-u", "x", "-o", "json"]);
    assert_eq!(said.code, Some(5), "what is too long is left out: {said:?}");
    said.explains(&["1 line is left out here", "no such lines"]);
    let follower = Follower::start(&server, "flood", &["cam", "-u", "x"]);
    follower.shows("err", " lines are left out here: too many at once");
    // The device still does what matters more.
    let newest = server.stored("cam").into_iter().next().unwrap_or_default();
    server.stores_after("cam", newest);
    server.fleets(&["command", "run", "cam", "collect", "--wait", "30s"]).exits(0);
    assert_eq!(follower.interrupt(), Some(INTERRUPTED));

    for args in [&["logs", "own"][..], &["logs", "own", "-f"], &["logs", "own", "-u", "x"]] {
        let said = server.fleets(args).exits(1).explains(&["does not let its server use logs"]);
        assert_eq!(said.stdout, "");
    }
}

/// Where a container's parts lie.
struct Container<'a> {
    host: &'a Host,
    pid: u32,
}

impl<'a> Container<'a> {
    /// Starts this machine's own system once more, with nothing of its configuration: a journal, the
    /// agent, and a unit that says what it finds in a file.
    fn start(host: &'a Host) -> Self {
        let units = host.path("units");
        let (agent, speak) = (host.path("agent"), host.path("speak"));
        for folder in [&units, &agent, &speak] {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::write(agent.join("agent.yaml"), "telemetry:\n  interval: 1s\n").expect("a file");
        let head = "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n";
        let speaker = "while :; do if [ -e /speak/word ]; then cat /speak/word; rm /speak/word; fi; \
                       sleep 0.05; done";
        for (unit, text) in [
            (
                "test.target",
                "Wants=systemd-journald.service speaker.service fleetd.service\n".to_owned(),
            ),
            ("speaker.service", format!("[Service]\nExecStart=/bin/sh -c '{speaker}'\n")),
            (
                "fleetd.service",
                format!(
                    "[Service]\nEnvironment=FLEETD_DEVICE_ID={}\nExecStart=/opt/fleetd agent \
                     --config /agent/agent.yaml --data-dir /agent\n",
                    host.name()
                ),
            ),
        ] {
            fs::write(units.join(unit), format!("{head}{text}")).expect("a unit");
        }
        let bind = |from: &Path, to: &str| format!("--bind={}:{to}", from.display());
        let mut command = host.command("unshare");
        // A command on a host has a `/sys` of its own, without groups of processes.
        let enter = "mount -t tmpfs tmpfs /run && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
                     exec systemd-nspawn --quiet --volatile=yes -D / --register=no --keep-unit \
                     --console=pipe \"$@\" --boot systemd.unit=test.target";
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["--", "sh", "-c", enter, "sh", "--machine", host.name()]);
        command.arg(format!("--bind-ro={}:/opt/fleetd", program("fleetd")));
        command.args([bind(&units, "/etc/systemd/system"), bind(&agent, "/agent")]);
        command.arg(bind(&speak, "/speak")).stdin(Stdio::null());
        let pid = host.start("container", &mut command);
        Self { host, pid }
    }

    /// Has the unit say something.
    #[track_caller]
    fn says(&self, text: &[u8]) {
        let word = self.host.path("speak").join("word");
        let whole = word.with_extension("new");
        fs::write(&whole, text).expect("a file");
        fs::rename(&whole, &word).expect("a file");
        wait_for("the unit to say it", SOON, || {
            let log = || self.host.log("container");
            assert!(is_running(self.pid), "the container ended by itself: {}", log());
            (!word.exists()).then_some(())
        });
    }
}

#[test]
#[ignore = "starts a system in a container, as root: cargo xtask test systemd"]
fn a_units_lines_come_out_of_a_real_journal_in_a_container() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let container = Container::start(&cam);
    container.says(b"it runs\n");
    server.configure(&["cam"]);
    container.says(b"before\n");
    let lines = |args: &[&str]| {
        let said = server.fleets(&[&["logs", "cam", "-o", "json"], args].concat());
        let lines: Vec<LogEntry> = if said.code == Some(0) { said.json() } else { Vec::new() };
        lines
    };
    wait_for("a line of the past", SOON, || {
        let found = lines(&["-u", "speaker", "--grep", "before"]);
        found.first().map(|line| assert_eq!(line.unit.raw(), "speaker.service"))
    });
    let follower =
        Follower::start(&server, "speaker", &["cam", "-u", "speaker", "-n", "1", "--since", "1h"]);
    follower.shows("out", " INFO  speaker.service: before");
    container.says(b"what is new\n");
    follower.shows("out", " INFO  speaker.service: what is new");
    container.says(b"\xff\xfe is no text, \x1b[2J\n");
    follower.shows("out", "\u{fffd}\u{fffd} is no text, \\u{1b}[2J");
    container.says(format!("{}\n<3>it is broken\n", "x".repeat(20_000)).as_bytes());
    follower.shows("out", " ERROR speaker.service: it is broken");
    assert!(follower.text("out").contains("x… [cut]"));
    assert_eq!(follower.text("out").matches("before").count(), 1, "nothing comes twice");
    assert_eq!(follower.interrupt(), Some(INTERRUPTED));

    let broken = lines(&["-u", "speaker", "--level", "error", "-n", "1"]);
    assert_eq!(broken.len(), 1);
    let since = broken.first().expect("one").timestamp.to_string();
    let found = lines(&["-u", "speaker", "--since", &since]);
    assert_eq!(found.last().expect("one").text.raw(), "it is broken");
    let last = lines(&["-u", "speaker", "--since", "1h", "-n", "1"]);
    assert_eq!(last, broken);
    assert!(found.len() < lines(&["-u", "speaker"]).len());
    // What systemd itself says of a unit, and the agent's own unit.
    assert!(!lines(&["-u", "speaker", "--grep", "Started speaker.service"]).is_empty());
    assert!(!lines(&["-u", "fleetd", "--grep", "connected"]).is_empty());
    let nobody = server.fleets(&["logs", "cam", "-u", "nobody"]).exits(5);
    nobody.explains(&["no such lines"]);
}
