//! Whole programs on several hosts: a server, agents and an operator who uses `fleets`, with real
//! neighbours, real networks and real faults.
//!
//! Each test builds its own lab. Programs are those that cargo built beside this suite, run with
//! their usual ports, because each host has ports of its own.

mod bad_disk;
mod ballast;
mod batches;
mod browser;
mod claims;
mod clocks;
mod console;
mod doctor;
mod doubles;
mod export;
mod flood;
mod full_disk;
mod hostile;
mod images;
mod kills;
mod life;
mod logs;
mod manager;
mod moves;
mod new_keys;
mod packages;
mod page;
mod ports;
mod prometheus;
mod proofs;
mod proxy;
mod refusals;
mod secrets;
mod senders;
mod small_disk;
mod spool;
mod stalls;
mod strangers;
mod tls;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fleet_core::api::{Device, DeviceStatus, Discovered, MetricPoint};
use fleet_core::time::{Clock as _, SystemClock};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lab::{Host, wait_for};

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// How long an agent may take to come back: its back-off, and a round trip that timed out.
pub(crate) const COME_BACK: Duration = Duration::from_secs(90);
/// A metric of every report.
const METRIC: &str = "uptime_seconds";
/// Reports that a query returns at most.
const QUERY_LIMIT: &str = "10000";

/// One of our programs, beside the executable of xtask.
pub(crate) fn program(name: &str) -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name(name);
    assert!(path.is_file(), "{} is not built; cargo build --workspace does that", path.display());
    path.to_str().expect("a plain path").to_owned()
}

/// A command of ours on a host, that takes nothing from this process' environment.
fn ours(host: &Host, name: &str) -> Command {
    ours_as(host, &program(name))
}

fn ours_as(host: &Host, program: &str) -> Command {
    let mut command = host.command(program);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("FLEETD_") {
            command.env_remove(variable);
        }
    }
    // Nobody's own configuration or keys have a say.
    command.env("HOME", host.path("home")).env("XDG_STATE_HOME", host.path("state"));
    command.env("XDG_CONFIG_HOME", host.path("config"));
    command.env("FLEETD_SERVER_CONFIG", empty_file(host)).env("NO_COLOR", "1");
    command
}

fn empty_file(host: &Host) -> PathBuf {
    let path = host.path("empty.yaml");
    fs::write(&path, "").expect("an empty file");
    path
}

/// Asks a program to end, and waits until it has.
#[track_caller]
fn terminate(host: &Host, pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).expect("a program that runs");
    wait_for("a program to end after SIGTERM", SOON, || (!is_running(pid)).then_some(()));
    host.kill(pid);
}

/// Whether a program that was started here has not ended.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("a program that starts");
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
        }
    }

    /// Fails unless it ended so; the text of both streams is shown then.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Fails unless stderr has all these words.
    #[track_caller]
    fn explains(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "not said: {word:?} in {self:#?}");
        }
        self
    }

    #[track_caller]
    fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A server on a host, and the operator who sits there.
struct Server<'a> {
    host: &'a Host,
    /// The operator's certificate and its key, if it has one.
    certificate: Option<[PathBuf; 2]>,
    /// What comes before the program.
    wrapper: Vec<String>,
    /// What else it is told.
    args: Vec<String>,
    pid: Cell<u32>,
    starts: Cell<u32>,
}

impl<'a> Server<'a> {
    #[track_caller]
    fn start(host: &'a Host) -> Self {
        Self::start_with(host, None)
    }

    #[track_caller]
    fn start_with(host: &'a Host, certificate: Option<[PathBuf; 2]>) -> Self {
        Self::start_as(host, certificate, Vec::new())
    }

    /// A server in another program's hands.
    #[track_caller]
    fn start_wrapped(host: &'a Host, wrapper: Vec<String>) -> Self {
        Self::start_as(host, None, wrapper)
    }

    /// A server that is told more than where its data is.
    #[track_caller]
    fn start_told(host: &'a Host, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let server = Self { args, ..Self::idle(host) };
        server.start_again();
        server
    }

    #[track_caller]
    fn start_as(host: &'a Host, certificate: Option<[PathBuf; 2]>, wrapper: Vec<String>) -> Self {
        let server = Self { certificate, wrapper, ..Self::idle(host) };
        server.start_again();
        server
    }

    /// A server that does not run yet.
    fn idle(host: &'a Host) -> Self {
        let (args, wrapper) = (Vec::new(), Vec::new());
        let (pid, starts) = (Cell::new(0), Cell::new(0));
        Self { host, certificate: None, wrapper, args, pid, starts }
    }

    #[track_caller]
    fn start_again(&self) {
        self.starts.set(self.starts.get() + 1);
        fs::create_dir_all(self.host.path("server")).expect("a folder");
        let mut command = match self.wrapper.as_slice() {
            [] => ours(self.host, "fleets"),
            [first, rest @ ..] => {
                let mut command = ours_as(self.host, first);
                command.args(rest).arg(program("fleets"));
                command
            }
        };
        command.arg("server").arg("--database").arg(self.host.path("server/fleet.db"));
        command.args(&self.args);
        if let Some([certificate, key]) = &self.certificate {
            command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
        }
        self.pid.set(self.host.start(&self.log_name(), &mut command));
        wait_for("the server to answer", SOON, || {
            let log = || self.host.log(&self.log_name());
            assert!(is_running(self.pid.get()), "the server ended by itself: {}", log());
            let health = format!("{}://localhost:8080/health", self.scheme());
            let said = Said::of(self.host.command("curl").args(["-sk", "-m2", &health]));
            said.stdout.contains("ok").then_some(())
        });
    }

    fn log_name(&self) -> String {
        format!("server-{}", self.starts.get())
    }

    fn kill(&self) {
        self.host.kill(self.pid.get());
    }

    fn key_file(&self) -> PathBuf {
        self.host.path("server/admin.key")
    }

    /// How keys and people name this server: `FD1-…`, the end of its key.
    #[track_caller]
    fn identity(&self) -> String {
        let key = fs::read_to_string(self.key_file()).expect("the admin key");
        let (_, identity) = key.trim().split_once('@').expect("a key that names its server");
        identity.to_owned()
    }

    fn url(&self) -> String {
        format!("{}://{}:8080", self.scheme(), self.host.address())
    }

    fn scheme(&self) -> &'static str {
        if self.certificate.is_some() { "https" } else { "http" }
    }

    /// A command of the operator, with the admin key at hand.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = ours(self.host, "fleets");
        command.args(args).env("FLEETD_SERVER", self.url());
        command.env("FLEETD_API_KEY_FILE", self.key_file());
        command
    }

    fn fleets(&self, args: &[&str]) -> Said {
        Said::of(&mut self.command(args))
    }

    #[track_caller]
    fn devices(&self) -> Vec<Device> {
        self.fleets(&["devices", "-o", "json"]).exits(0).json()
    }

    #[track_caller]
    fn device(&self, id: &str) -> Option<Device> {
        self.devices().into_iter().find(|device| device.id.as_str() == id)
    }

    /// Waits until `fleets discover` shows what is wanted.
    #[track_caller]
    fn sees(&self, what: &str, wanted: impl Fn(&[Discovered]) -> bool) {
        wait_for(what, SOON, || {
            let said = self.fleets(&["discover", "--timeout", "2s", "-o", "json"]);
            let seen: Vec<Discovered> = said.json();
            wanted(&seen).then_some(())
        });
    }

    #[track_caller]
    fn sees_devices(&self, ids: &[&str]) {
        self.sees(&format!("{ids:?} to be discovered"), |seen| {
            ids.iter().all(|id| seen.iter().any(|device| has_id(device, id)))
        });
    }

    /// Discovers and configures these, and waits until all are online with values.
    #[track_caller]
    fn configure(&self, ids: &[&str]) {
        self.sees_devices(ids);
        let list = ids.join(",");
        self.fleets(&["configure", "--auto", "--device", &list]).exits(0);
        self.shows_online(ids);
    }

    #[track_caller]
    fn shows_online(&self, ids: &[&str]) {
        for id in ids {
            wait_for(&format!("{id} to be online with values"), COME_BACK, || {
                let device = self.device(id)?;
                let has_value = device.latest?.metrics.contains_key(METRIC);
                (device.status == DeviceStatus::Online && has_value).then_some(())
            });
        }
    }

    /// When each stored report of a device was collected, in milliseconds, newest first.
    #[track_caller]
    fn stored(&self, id: &str) -> Vec<i64> {
        let query =
            ["telemetry", "query", "--device", id, "--metric", METRIC, "--limit", QUERY_LIMIT];
        let points: Vec<MetricPoint> = self.fleets(&[&query[..], &["-o", "json"]].concat()).json();
        points.iter().map(|point| point.timestamp.millis()).collect()
    }

    /// Waits until something is stored that was collected after `millis`.
    #[track_caller]
    fn stores_after(&self, id: &str, millis: i64) -> i64 {
        wait_for(&format!("a newer report of {id}"), COME_BACK, || {
            self.stored(id).into_iter().next().filter(|newest| *newest > millis)
        })
    }
}

fn has_id(seen: &Discovered, id: &str) -> bool {
    seen.device_id.as_ref().is_some_and(|seen| seen.as_str() == id)
}

/// An agent on a host.
struct Agent<'a> {
    host: &'a Host,
    id: String,
    /// A made-up machine instead of the real one.
    sysroot: Option<PathBuf>,
    /// The program and what comes before it.
    wrapper: Vec<String>,
    /// The server that its own file names.
    endpoint: Option<String>,
    pid: Cell<u32>,
    starts: Cell<u32>,
}

impl<'a> Agent<'a> {
    /// Starts the agent of a host, with the host's name as its id.
    #[track_caller]
    fn start(host: &'a Host) -> Self {
        Self::start_as(host, host.name())
    }

    #[track_caller]
    fn start_as(host: &'a Host, id: &str) -> Self {
        let agent = Self::idle(host, id);
        agent.start_again();
        agent
    }

    /// An agent that does not run yet.
    fn idle(host: &'a Host, id: &str) -> Self {
        Self {
            host,
            id: id.to_owned(),
            sysroot: None,
            wrapper: vec![program("fleetd")],
            endpoint: None,
            pid: Cell::new(0),
            starts: Cell::new(0),
        }
    }

    #[track_caller]
    fn start_again(&self) {
        self.starts.set(self.starts.get() + 1);
        let mut command = self.command(&["agent"]);
        command.env("FLEETD_LOG_LEVEL", "debug");
        self.pid.set(self.host.start(&self.log_name(), &mut command));
    }

    /// A command of the agent's program for this agent's data.
    fn command(&self, args: &[&str]) -> Command {
        let [first, rest @ ..] = self.wrapper.as_slice() else { panic!("no program") };
        let mut command = ours_as(self.host, first);
        command.args(rest).args(args);
        self.complete(&mut command);
        command
    }

    /// Adds where the agent's data and configuration lie.
    fn complete(&self, command: &mut Command) {
        let config = self.host.path("agent.yaml");
        let server = self.endpoint.as_ref().map(|url| format!("api_endpoint: {url}\n"));
        let text = format!("{}telemetry:\n  interval: 1s\n", server.unwrap_or_default());
        fs::write(&config, text).expect("a configuration");
        fs::create_dir_all(self.host.path("agent")).expect("a folder");
        command.arg("--config").arg(config).arg("--data-dir").arg(self.host.path("agent"));
        // By the environment, which commands other than `agent` have no use for.
        command.env("FLEETD_DEVICE_ID", &self.id);
        if let Some(sysroot) = &self.sysroot {
            command.arg("--sysroot").arg(sysroot);
        }
    }

    fn log_name(&self) -> String {
        format!("agent-{}", self.starts.get())
    }

    fn kill(&self) {
        self.host.kill(self.pid.get());
    }

    fn is_running(&self) -> bool {
        is_running(self.pid.get())
    }

    /// When each report was collected that the server has acknowledged, by this agent's log over
    /// all its starts.
    fn acknowledged(&self) -> Vec<i64> {
        let starts = 1..=self.starts.get();
        let logs: String = starts.map(|start| self.host.log(&format!("agent-{start}"))).collect();
        let lines = logs.lines().filter(|line| line.contains("acknowledged "));
        lines.filter_map(|line| number_after(line, " at=")).collect()
    }
}

fn now_millis() -> i64 {
    SystemClock.now().millis()
}

fn number_after(line: &str, key: &str) -> Option<i64> {
    let (_, rest) = line.split_once(key)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
