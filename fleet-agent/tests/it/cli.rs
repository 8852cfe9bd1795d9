//! The program itself: its words, exit codes, and how it ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use fleet_core::api::AgentInfo;
use fleet_core::grant::ClaimRequest;
use fleet_core::limits::JSON_BYTES_MAX;
use fleet_core::net::http;
use fleet_core::net::tls::Pin;
use fleet_core::wire::{Outcome, Progress, Standing};
use http_body_util::Full;
use hyper::Request;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::server::{Server, UID};
use crate::within::until;

/// A machine for the program, and at most one agent running on it.
struct Machine {
    folder: TempDir,
}

struct Agent(Child);

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/fleetd")).unwrap();
        Self { folder }
    }

    fn configure(&self, yaml: &str) {
        fs::write(self.folder.path().join("etc/fleetd/config.yaml"), yaml).unwrap();
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// What the last agent had to say.
    fn log_file(&self) -> std::path::PathBuf {
        self.folder.path().join("agent.log")
    }

    fn fleetd(&self, command: &str) -> Command {
        let mut fleetd = Command::new(env!("CARGO_BIN_EXE_fleetd"));
        fleetd
            .env_clear()
            .arg(command)
            .arg("--sysroot")
            .arg(self.folder.path())
            .arg("--data-dir")
            .arg(self.data_dir());
        fleetd
    }

    fn run(&self, command: &str) -> Output {
        self.fleetd(command).output().unwrap()
    }

    /// An agent that never gets as far as running.
    fn refused(&self) -> (Option<i32>, String) {
        let output = self.fleetd("agent").args(["--port", "0"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    async fn agent(&self) -> Agent {
        self.agent_on("lo").await
    }

    async fn agent_on(&self, interface: &str) -> Agent {
        let mut agent = self.fleetd("agent");
        agent.args(["--port", "0", "--bind", "127.0.0.1", "--interface", interface]);
        let log = fs::File::create(self.log_file()).unwrap();
        let agent = Agent(agent.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let note = self.data_dir().join("agent.json");
        until("the agent's note", || note.exists()).await;
        agent
    }

    fn status(&self) -> (Option<i32>, String) {
        let output = self.run("status");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    async fn status_becomes(&self, code: i32) {
        until("the status", || self.status().0 == Some(code)).await;
    }

    fn info(&self) -> AgentInfo {
        let output = self.fleetd("info").arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Agent {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.0.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn what_cannot_be_followed_ends_in_one_sentence() {
    let machine = Machine::new();
    machine.configure("device_nmae: x\n");
    let (code, stderr) = machine.refused();
    assert_eq!(code, Some(78));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("did you mean device_name?"), "{stderr}");

    machine.configure("api_endpoint: http://a:1/path\n");
    assert_eq!(machine.refused().0, Some(78));
    machine.configure("telemetry:\n  metrics: [nonsense]\n");
    assert_eq!(machine.refused().0, Some(78));
    machine.configure("");
    fs::write(machine.folder.path().join("etc/fleetd/policy.yaml"), "claim: maybe\n").unwrap();
    assert_eq!(machine.refused().0, Some(78));
    fs::remove_file(machine.folder.path().join("etc/fleetd/policy.yaml")).unwrap();

    let missing = machine.fleetd("agent").args(["--config", "/nonexistent"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(78));
    assert_eq!(machine.run("nonsense").status.code(), Some(2));
    let port = machine.fleetd("agent").env("FLEETD_AGENT_PORT", "abc").output().unwrap();
    assert_eq!(port.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&port.stderr).contains("FLEETD_AGENT_PORT"));

    fs::write(machine.data_dir(), "in the way").unwrap();
    let (code, stderr) = machine.refused();
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot use the data folder"), "{stderr}");
}

#[tokio::test]
async fn a_device_tells_how_it_stands() {
    let machine = Machine::new();
    machine.configure("device_name: RPi 4\ndevice_type: raspberrypi\ntelemetry:\n  interval: 1s\n");
    assert_eq!(machine.status().0, Some(1));
    assert_eq!(machine.run("info").status.code(), Some(1));

    let agent = machine.agent().await;
    let (code, text) = machine.status();
    assert_eq!(code, Some(5), "{text}");
    let info = machine.info();
    assert_eq!(info.device_id.as_str(), "rpi-4");
    let server = Server::start(7).await;
    claim(&machine.data_dir(), &server).await;
    let mut link = server.link().await;
    link.activate().await;
    machine.status_becomes(0).await;
    drop(link);
    let server = server.stop();
    machine.status_becomes(7).await;
    until("reports to wait", || machine.status().1.contains(" reports wait, the oldest for "))
        .await;
    let server = server.start_again().await;
    let mut link = server.link().await;
    link.activate().await;
    machine.status_becomes(0).await;
    drop(link);

    assert_eq!(agent.end(Signal::SIGTERM).code(), Some(0));
    let text = String::from_utf8(machine.run("info").stdout).unwrap();
    assert!(text.contains("not running"), "{text}");
    assert!(text.contains("raspberrypi"), "{text}");
    assert!(text.contains(&server.key.public().identity().to_string()), "{text}");

    assert_eq!(machine.run("reset").status.code(), Some(0));
    let agent = machine.agent().await;
    assert_eq!(machine.status().0, Some(5));
    let again = machine.info();
    assert_eq!((&again.device_id, again.fingerprint), (&info.device_id, info.fingerprint));
    drop(agent);
}

#[tokio::test]
async fn a_running_agent_forgets_its_server_when_told() {
    let machine = Machine::new();
    let agent = machine.agent().await;
    let server = Server::start(7).await;
    claim(&machine.data_dir(), &server).await;
    let mut link = server.link().await;
    link.activate().await;
    machine.status_becomes(0).await;
    let own = machine.info().device_id;

    let reset = machine.run("reset");
    let said = String::from_utf8(reset.stdout).unwrap();
    assert_eq!(reset.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&reset.stderr));
    assert!(said.contains("has forgotten its server. It can be claimed anew."), "{said}");
    assert_eq!(machine.status().0, Some(5));
    let info = machine.info();
    assert_eq!((info.server, info.device_id), (None, own));
    assert!(!machine.data_dir().join("claim").exists());
    while link.next().await.is_some() {}

    // Another server may have it now, at once and with reports that count from one.
    let other = Server::start(8).await;
    claim(&machine.data_dir(), &other).await;
    let mut link = other.link().await;
    link.activate().await;
    assert_eq!(link.samples().await.reports[0].seq, 1);
    drop(link);
    assert_eq!(agent.end(Signal::SIGTERM).code(), Some(0));
}

#[tokio::test]
async fn an_agent_that_its_server_restarts_begins_anew_in_the_same_process() {
    let machine = Machine::new();
    let agent = machine.agent().await;
    let server = Server::start(7).await;
    claim(&machine.data_dir(), &server).await;
    let mut link = server.link().await;
    link.activate().await;
    let before = machine.info();
    link.order(&server, 1, &["restart"]).await;
    assert_eq!(link.news().await, (1, Progress::Accepted));
    assert_eq!(link.news().await, (1, Progress::Running));
    // It says goodbye, and is back.
    while link.next().await.is_some() {}
    let mut link = server.link().await;
    link.activate().await;
    let done = link.result(1).await;
    assert_eq!((done.outcome, done.detail.as_str()), (Outcome::Succeeded, "the agent began anew"));
    link.note(1).await;
    machine.status_becomes(0).await;
    let info = machine.info();
    assert_eq!(info.fingerprint, before.fingerprint);
    let note = fs::read(machine.data_dir().join("agent.json")).unwrap();
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
    assert_eq!(note["pid"], agent.0.id());

    // Its log is its own; what came before is another run's.
    link.order(&server, 2, &["logs", "-n", "1000"]).await;
    let log = link.result(2).await;
    let text = String::from_utf8(log.output).unwrap();
    assert!(text.contains("looks for its server") && text.contains("connected"), "{text}");
    assert!(!text.contains("begins anew"), "{text}");
    assert!(log.detail.starts_with("the last "), "{}", log.detail);
    link.note(2).await;
    drop(link);
    assert_eq!(agent.end(Signal::SIGTERM).code(), Some(0));
    assert!(!machine.data_dir().join("agent.json").exists());
}

#[tokio::test]
async fn what_ran_when_the_agent_was_killed_is_not_run_again() {
    let machine = Machine::new();
    let root = machine.folder.path();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    // It ends with this test, whose folder is removed; nobody else ends what a killed agent began.
    let script = "echo run >> runs; while [ -e runs ]; do /bin/sleep 0.1; done";
    crate::process::add(root, "long", script);
    fs::write(root.join("etc/fleetd/policy.yaml"), "exec: {allow: [long]}\n").unwrap();
    let agent = machine.agent().await;
    let server = Server::start(7).await;
    claim(&machine.data_dir(), &server).await;
    let mut link = server.link().await;
    link.activate().await;
    link.order(&server, 1, &["exec", "long"]).await;
    let runs = || fs::read_to_string(root.join("runs")).unwrap_or_default();
    until("the program's begin", || runs() == "run\n").await;
    drop(link);
    assert_eq!(agent.end(Signal::SIGKILL).code(), None);

    fs::remove_file(machine.data_dir().join("agent.json")).unwrap();
    let agent = machine.agent().await;
    let mut link = server.link().await;
    link.activate().await;
    link.order(&server, 1, &["exec", "long"]).await;
    let done = link.result(1).await;
    assert_eq!(done.outcome, Outcome::Unknown);
    assert_eq!(done.detail, "interrupted: the agent ended while it ran");
    assert_eq!(runs(), "run\n");
    drop(link);
    assert_eq!(agent.end(Signal::SIGTERM).code(), Some(0));
}

#[tokio::test]
async fn a_reset_empties_the_journal_of_an_agent_that_does_not_run() {
    let machine = Machine::new();
    let agent = machine.agent().await;
    let server = Server::start(7).await;
    claim(&machine.data_dir(), &server).await;
    let mut link = server.link().await;
    link.activate().await;
    link.order(&server, 1, &["collect"]).await;
    link.result(1).await;
    drop(link);
    assert_eq!(agent.end(Signal::SIGTERM).code(), Some(0));
    let journal = machine.data_dir().join("journal");
    assert!(fs::read_dir(&journal).unwrap().count() > 0);
    assert_eq!(machine.run("reset").status.code(), Some(0));
    assert_eq!(fs::read_dir(&journal).unwrap().count(), 0);
}

#[tokio::test]
async fn a_reset_empties_the_spool_of_an_agent_that_does_not_run() {
    let machine = Machine::new();
    let agent = machine.agent().await;
    let server = Server::start(7).await;
    claim(&machine.data_dir(), &server).await;
    drop(server);
    until("a report to wait", || machine.info().queue.waiting > 0).await;
    assert_eq!(agent.end(Signal::SIGTERM).code(), Some(0));
    let spool = machine.data_dir().join("spool");
    fs::write(spool.join("notes.txt"), "mine").unwrap();
    assert!(fs::read_dir(&spool).unwrap().count() > 1);
    assert_eq!(machine.run("reset").status.code(), Some(0));
    let left: Vec<_> =
        fs::read_dir(&spool).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
}

#[tokio::test]
async fn a_policy_without_claims_is_told() {
    let machine = Machine::new();
    let policy = machine.folder.path().join("etc/fleetd/policy.yaml");
    fs::write(policy, "claim: disabled\n").unwrap();
    let _agent = machine.agent().await;
    let (code, text) = machine.status();
    assert_eq!(code, Some(5));
    assert!(text.contains("disabled by policy.yaml"), "{text}");
}

#[tokio::test]
async fn a_server_in_the_file_is_gone_back_to() {
    let machine = Machine::new();
    let server = Server::start(7).await;
    machine.configure(&format!("api_endpoint: {}\n", server.url()));
    let _agent = machine.agent().await;
    let mut link = server.link().await;
    link.activate().await;
    machine.status_becomes(0).await;
    let reset = machine.run("reset");
    let said = String::from_utf8(reset.stdout).unwrap();
    assert_eq!(reset.status.code(), Some(0), "{said}");
    assert!(said.contains("it will go back there"), "{said}");
    let mut link = server.link().await;
    link.activate().await;
    machine.status_becomes(0).await;
}

#[tokio::test]
async fn a_device_goes_by_the_id_that_its_server_gave() {
    let machine = Machine::new();
    machine.configure("device_name: renamed-77\n");
    let agent = machine.agent().await;
    let server = Server::start(7).await;
    claim(&machine.data_dir(), &server).await;
    let given = || Standing::Active { uid: UID, device_id: "rpi4-001".to_owned() };
    let mut link = server.link().await;
    assert_eq!(link.proof.device_id, "renamed-77");
    link.stand(given()).await;
    machine.status_becomes(0).await;
    assert_eq!(machine.info().device_id.as_str(), "rpi4-001");
    drop(link);
    assert_eq!(agent.end(Signal::SIGTERM).code(), Some(0));

    let told = "asked for renamed-77; its server knows it as rpi4-001";
    let text = || String::from_utf8(machine.run("info").stdout).unwrap();
    assert!(text().contains("not running") && text().contains(told), "{}", text());
    let _agent = machine.agent().await;
    let log = || fs::read_to_string(machine.log_file()).unwrap();
    until("a warning", || log().contains("asked=renamed-77 known_as=rpi4-001")).await;
    until("the running agent", || text().contains("running (process")).await;
    assert!(text().contains(told), "{}", text());
    assert_eq!(server.link().await.proof.device_id, "rpi4-001");
}

#[tokio::test]
async fn a_killed_agent_is_not_taken_for_a_running_one() {
    let machine = Machine::new();
    let agent = machine.agent().await;
    // Until it is waited for, there is still a process of that number.
    agent.signal(Signal::SIGKILL);
    let info = || machine.run("info");
    until("its end", || String::from_utf8_lossy(&info().stdout).contains("not running")).await;
    assert_eq!(info().status.code(), Some(0));
    let status = machine.run("status");
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stderr).contains("is not running"));
    drop(agent);
    assert!(machine.data_dir().join("agent.json").exists());
    assert_eq!(machine.status().0, Some(1));
    assert!(String::from_utf8(machine.run("info").stdout).unwrap().contains("not running"));
    assert_eq!(machine.run("reset").status.code(), Some(0));
    drop(machine.agent().await);
}

#[tokio::test]
async fn what_cannot_be_measured_is_told() {
    let machine = Machine::new();
    let _agent = machine.agent().await;
    let log = || fs::read_to_string(machine.log_file()).unwrap();
    until("the failing collector's name", || log().contains("collector cpu")).await;
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_told() {
    let machine = Machine::new();
    let _agent = machine.agent_on("nosuch0").await;
    let log = || fs::read_to_string(machine.log_file()).unwrap();
    until("the interface's name", || log().contains("nosuch0")).await;
}

async fn claim(data_dir: &Path, server: &Server) {
    let note = fs::read(data_dir.join("agent.json")).unwrap();
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
    let port = u16::try_from(note["port"].as_u64().unwrap()).unwrap();
    let address = ([127, 0, 0, 1], port).into();
    let stream = http::connect_address(address, "agent", Pin::Unknown).await.unwrap();
    let device = fleet_core::net::tls::peer_key(stream.get_ref().1).unwrap();
    let grant = server.grant(device).sign(&server.key).unwrap();
    let body = serde_json::to_vec(&ClaimRequest { grant, proof: None }).unwrap();
    let request = Request::post("/v1/claim").body(Full::new(body.into())).unwrap();
    let answer = http::send(stream, "agent", request, JSON_BYTES_MAX, http::REQUEST);
    assert_eq!(Box::pin(answer).await.unwrap().status, 200);
}
