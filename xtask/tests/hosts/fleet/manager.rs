//! A service manager that is told, as systemd is, when a program serves, how it is, that it goes on
//! and that it ends; its credentials, and log files in its place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Agent, COME_BACK, SOON, Said, Server, is_running, ours, ours_as, program, terminate};
use crate::lab::{Faults, Host, Lab, wait_for};

/// Within what time a sign of life is wanted.
const WANTED: Duration = Duration::from_secs(6);
/// After so long without one a program has been given up. A server's store may take twice the time.
const GIVEN_UP: Duration = Duration::from_secs(8);
/// A disk that is slow, and one that hangs, in the words of `faults.c`.
const SLOW: &str = "slow 2000";
const HANGS: &str = "slow 600000";
/// Slow syncs that a program must live through.
const SLOW_SYNCS: u64 = 6;

/// The manager of one program.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn of(host: &Host) -> Self {
        let path = host.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(GIVEN_UP)).expect("a timeout");
        Self { socket, path }
    }

    /// What comes before a program that it starts.
    fn wrapper(&self) -> Vec<String> {
        let socket = format!("NOTIFY_SOCKET={}", self.path.display());
        vec!["env".to_owned(), socket, format!("WATCHDOG_USEC={}", WANTED.as_micros())]
    }

    /// What it is told next; nothing after [`GIVEN_UP`].
    fn hears(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits until it is told something, with signs of life all the while.
    #[track_caller]
    fn hears_at_last(&self, what: &str) {
        let began = Instant::now();
        loop {
            let Some(heard) = self.hears() else { panic!("not a word for {GIVEN_UP:?}: {what}") };
            if heard.contains(what) {
                return;
            }
            assert!(began.elapsed() < COME_BACK, "waited in vain for {what}");
        }
    }

    /// Waits until it hears no signs of life any more.
    #[track_caller]
    fn hears_no_more(&self) {
        let began = Instant::now();
        while self.hears().is_some() {
            assert!(began.elapsed() < SOON, "there are signs of life all the same");
        }
    }
}

/// Whether a port answers at once.
#[track_caller]
fn answers_at_once(host: &Host, port: u16) {
    let url = format!("http://localhost:{port}/health");
    let said = Said::of(host.command("curl").args(["-s", "-m5", &url]));
    assert!(said.stdout.contains("ok"), "{said:?}");
}

#[test]
fn a_manager_is_told_of_a_server_and_not_while_its_store_hangs() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = Faults::of(&desk, "server");
    let manager = Manager::of(&desk);
    let mut command = ours_as(&desk, "env");
    command.args(&manager.wrapper()[1..]).args(&disk.wrapper()[1..]).arg(program("fleets"));
    command.arg("server").arg("--database").arg(desk.path("server/fleet.db"));
    let pid = desk.start("server-1", &mut command);
    let ready = manager.hears().expect("the first word");
    assert_eq!(ready, "READY=1\nSTATUS=0 of 0 devices online");
    answers_at_once(&desk, 8080);
    let server = Server { pid: pid.into(), starts: 1.into(), ..Server::idle(&desk) };
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);
    manager.hears_at_last("STATUS=1 of 1 device online");

    disk.begin(SLOW);
    let wanted = disk.count() + SLOW_SYNCS;
    while disk.count() < wanted {
        manager.hears_at_last("WATCHDOG=1");
    }
    disk.begin(HANGS);
    let count = disk.count();
    wait_for("a sync that does not end", SOON, || (disk.count() > count).then_some(()));
    manager.hears_no_more();
    // It is there all the same, and says so.
    assert!(is_running(pid));
    answers_at_once(&desk, 8080);
    assert!(desk.log("server-1").contains("the store hangs"));
}

#[test]
fn a_manager_is_told_of_an_agent_and_not_while_its_disk_hangs() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let disk = Faults::of(&cam, "agent");
    let manager = Manager::of(&cam);
    let wrapper = [&manager.wrapper()[..], &disk.wrapper()[1..], &[program("fleetd")]].concat();
    let agent = Agent { wrapper, ..Agent::idle(&cam, "cam") };
    agent.start_again();
    assert_eq!(manager.hears().expect("the first word"), "READY=1\nSTATUS=unclaimed");
    answers_at_once(&cam, 6789);
    server.configure(&["cam"]);
    manager.hears_at_last(&format!("STATUS=connected: {}", server.url()));
    // One that begins anew goes on, and says that it serves again.
    server.fleets(&["command", "run", "cam", "--yes", "restart"]).exits(0);
    let began = Instant::now();
    loop {
        let heard = manager.hears().expect("signs of life");
        assert!(!heard.contains("STOPPING"), "{heard}");
        if heard.contains("READY=1") {
            break;
        }
        assert!(began.elapsed() < COME_BACK, "it does not begin anew");
    }
    server.kill();
    manager.hears_at_last("STATUS=connecting");
    disk.begin(HANGS);
    manager.hears_no_more();
    assert!(agent.is_running());
}

#[test]
fn who_ends_says_so_and_what_it_said_is_in_its_file() {
    let mut lab = Lab::new();
    let desk = lab.host("desk", &[]);
    let manager = Manager::of(&desk);
    let log = desk.path("logs/server.log");
    let mut command = ours_as(&desk, "env");
    command.args(&manager.wrapper()[1..]).arg(program("fleets")).arg("server");
    command.arg("--database").arg(desk.path("server/fleet.db")).arg("--log-file").arg(&log);
    let pid = desk.start("server-1", &mut command);
    manager.hears_at_last("READY=1");
    let text = || fs::read_to_string(&log).unwrap_or_default();
    // It serves before it says so in its log.
    wait_for("the log to say where it is", SOON, || text().contains("is running at").then_some(()));
    let mode = fs::metadata(&log).expect("a log").permissions().mode() & 0o777;
    assert_eq!(mode, 0o640, "{mode:o}");
    // As a program does that turns logs over.
    fs::rename(&log, log.with_extension("1")).expect("a log");
    terminate(&desk, pid);
    manager.hears_at_last("STOPPING=1");
    assert!(text().contains("stopping") && !text().contains("is running at"), "{}", text());
    assert!(desk.log("server-1").contains("stopping"), "beside standard error");

    // Why it does not start is there, too; and a file that cannot be is told and stops nothing.
    let refused = |file: &str, database: &str| {
        let mut command = ours(&desk, "fleets");
        command.args(["server", "--log-file", file, "--database", database]);
        Said::of(&mut command)
    };
    let path = log.to_str().expect("a plain path");
    let said = refused(path, "postgres://somewhere/fleet").exits(78);
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert!(text().contains("names PostgreSQL"), "{}", text());
    let said = refused("/proc/nowhere/server.log", "postgres://somewhere/fleet").exits(78);
    said.explains(&["warning: the log file /proc/nowhere/server.log cannot be written"]);
}

#[test]
fn credentials_of_a_manager_are_used_where_nothing_else_is_told() {
    let mut lab = Lab::new();
    let desk = lab.host("desk", &[]);
    let folder = desk.path("credentials");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("fleetd-secret-key"), "what a service manager knows\n").expect("a file");
    let variable = format!("CREDENTIALS_DIRECTORY={}", folder.display());
    let wrapper = vec!["env".to_owned(), variable.clone()];
    let server = Server::start_wrapped(&desk, wrapper);
    assert!(!desk.path("server/secret.key").exists(), "it made a secret of its own");
    fs::rename(server.key_file(), folder.join("fleetd-api-key")).expect("the admin key");
    let list = |more: &[&str]| {
        let mut command = ours_as(&desk, "env");
        command.args(more).arg(program("fleets")).args(["devices", "-o", "json"]);
        Said::of(&mut command)
    };
    list(&[&variable]).exits(0);
    assert_ne!(list(&[]).code, Some(0));
}
