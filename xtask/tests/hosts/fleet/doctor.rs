//! Doctors on a fleet that is well, and on one in which things are broken, one after the other: the
//! step that is about it fails, says what mends it, and nothing else fails by it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::{Agent, COME_BACK, SOON, Said, Server, ours, ours_as, wait_for};
use crate::lab::{Host, Lab};

/// A step of a report.
#[derive(Clone, Debug, Deserialize)]
struct Step {
    group: String,
    check: String,
    outcome: String,
    detail: String,
    fix: Option<String>,
}

/// What a doctor found.
#[derive(Debug)]
struct Found {
    said: Said,
    steps: Vec<Step>,
}

impl Found {
    fn of(command: &mut Command) -> Self {
        let said = Said::of(command);
        let steps = said.json();
        Self { said, steps }
    }

    /// Fails unless all is well.
    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.said.code, Some(0), "{self:#?}");
        self.fails(&[]);
        for step in &self.steps {
            let is_fine = step.outcome == "ok" || step.outcome == "not_applicable";
            assert!(is_fine, "{step:?}");
        }
    }

    /// Fails unless these steps have failed and no others.
    #[track_caller]
    fn fails(&self, steps: &[(&str, &str)]) {
        let failed: Vec<(&str, &str)> = self
            .steps
            .iter()
            .filter(|step| step.outcome == "failed")
            .map(|step| (step.group.as_str(), step.check.as_str()))
            .collect();
        assert_eq!(failed, steps, "{self:#?}");
    }

    /// Fails unless a step says this, and that this mends it.
    #[track_caller]
    fn proposes(&self, check: &str, detail: &str, fix: &str) {
        let steps: Vec<&Step> = self.steps.iter().filter(|step| step.check == check).collect();
        let has = |step: &&Step| {
            step.detail.contains(detail) && step.fix.as_ref().is_some_and(|it| it.contains(fix))
        };
        assert!(steps.iter().any(has), "not {detail:?} with {fix:?}: {steps:#?}");
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.said.code, Some(code), "{self:#?}");
        self
    }
}

fn of_server(server: &Server<'_>, more: &[&str]) -> Found {
    let args = [&["doctor", "-o", "json"], more].concat();
    let mut command = server.command(&args);
    command.env("FLEETD_DATABASE", server.host.path("server/fleet.db"));
    Found::of(&mut command)
}

fn of_agent(agent: &Agent<'_>) -> Found {
    Found::of(&mut agent.command(&["doctor", "--json"]))
}

/// Makes a server's folder as a server makes it.
fn make_folder(host: &Host) {
    fs::create_dir_all(host.path("server")).expect("a folder");
    set_mode(&host.path("server"), 0o700);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file");
}

/// Keeps packets for a port from coming in, or no more.
#[track_caller]
fn wall(host: &Host, deed: &str, protocol: &str, port: &str) {
    let rule = [deed, "INPUT", "-p", protocol, "--dport", port, "-j", "DROP"];
    host.output("iptables", &rule);
    let v6 = host.command("ip6tables").args(rule).output().expect("ip6tables");
    assert!(v6.status.success(), "{v6:?}");
}

#[test]
fn a_fleet_that_is_well_passes_and_a_person_can_read_it() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    make_folder(&desk);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    of_server(&server, &[]).is_well();
    of_server(&server, &["cam"]).is_well();
    of_agent(&agent).is_well();

    let mut command = server.command(&["doctor", "--debug"]);
    let said = Said::of(command.env("FLEETD_DATABASE", desk.path("server/fleet.db"))).exits(0);
    for line in ["Server\n", "\nDevice cam\n", "\n  ok       multicast ", " ok\n"] {
        assert!(said.stdout.contains(line), "{line:?} in {}", said.stdout);
    }
    assert!(said.stderr.contains("DEBUG"), "{}", said.stderr);
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let secret = key.split('@').next().unwrap_or_default();
    assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret));
    let said = Said::of(&mut agent.command(&["doctor"])).exits(0);
    assert!(said.stdout.contains("\n  ok       link "), "{}", said.stdout);

    // One that nobody has claimed is no fault, only unfinished.
    let new = lab.host("new", &[&lan]);
    let fresh = Agent::start(&new);
    server.sees_devices(&["new"]);
    let found = of_server(&server, &["new"]).ends_with(0);
    found.fails(&[]);
    found.proposes("claim", "unclaimed", "fleets configure --device new");
    let found = of_agent(&fresh).ends_with(0);
    found.proposes("server", "waits to be claimed", "fleets configure");
    of_server(&server, &["nobody"]).ends_with(1).fails(&[("Device nobody", "known")]);
    set_mode(&desk.path("server"), 0o777);
    set_mode(&server.key_file(), 0o644);
    let found = of_server(&server, &["cam"]).ends_with(1);
    found.fails(&[("This machine", "folder"), ("This machine", "key files")]);
    found.proposes("folder", "open to others", "sudo chmod 0770");
    found.proposes("key files", "admin.key", "sudo chmod 600");
}

#[test]
fn what_is_broken_on_the_way_to_a_server_is_the_step_that_fails() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    make_folder(&desk);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);

    let found = of_server(&server, &["--server", "http://nobody.invalid:8080"]).ends_with(7);
    found.fails(&[("Server", "address")]);
    found.proposes("address", "nobody.invalid", "getent ahosts nobody.invalid");
    let wrong = format!("http://{}:8081", desk.address());
    let found = of_server(&server, &["--server", &wrong]).ends_with(7);
    found.fails(&[("Server", "port")]);
    found.proposes("port", "refused", "systemctl start fleet-server");

    // Another server's key, and none.
    let elsewhere = lab.host("elsewhere", &[&lan]);
    let other = Server::start(&elsewhere);
    let key = format!("@{}", other.key_file().display());
    let found = of_server(&server, &["--api-key", &key]).ends_with(7);
    found.fails(&[("Server", "identity")]);
    found.proposes("identity", "another server answers", "fleets context set");
    let mut command = ours(&desk, "fleets");
    command.args(["doctor", "-o", "json", "--server", &server.url()]);
    let found = Found::of(&mut command).ends_with(1);
    found.fails(&[("Server", "key")]);
    found.proposes("key", "no key to the server", "--api-key @FILE");
    let found = of_server(&server, &["--api-key", "@/no/such.key"]);
    found.proposes("key", "/no/such.key", "fleets keys create");
    let seen = found.steps.iter().find(|step| step.check == "identity").expect("a step");
    assert!(seen.outcome == "warning" && seen.detail.contains(&server.identity()), "{seen:?}");

    // A clock that is years off, on this machine.
    let mut command = ours_as(&desk, "env");
    command.env("FLEETD_API_KEY_FILE", server.key_file());
    let words = ["FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "2020-01-01 00:00:00"];
    let program = super::program("fleets");
    command.args(words).args([&program, "doctor", "-o", "json", "--server", &server.url()]);
    let found = Found::of(&mut command).ends_with(1);
    found.fails(&[("Server", "clock")]);
    found.proposes("clock", "behind the server's", "timedatectl set-ntp true");

    // At another server the device is somebody else's.
    let found = of_server(&other, &["cam"]).ends_with(1);
    found.fails(&[("Device cam", "claim"), ("Device cam", "known")]);
    found.proposes("claim", &server.identity(), "sudo fleetd reset");
    // Who did not ask for it is not told to take it.
    of_server(&other, &[]).fails(&[]);

    server.kill();
    let found = of_server(&server, &[]).ends_with(7);
    found.fails(&[("Server", "port")]);
    wait_for("the agent to notice", COME_BACK, || {
        let found = of_agent(&agent);
        let failed =
            found.steps.iter().any(|step| step.check == "link" && step.outcome == "failed");
        failed.then(|| {
            found.fails(&[("Server", "port"), ("Server", "link")]);
            found.ends_with(7)
        })
    });
}

#[test]
fn what_is_broken_on_a_device_is_the_step_that_fails() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    make_folder(&desk);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);

    // What comes in for mDNS is dropped: nobody is heard, and the rule is named.
    wall(&cam, "-I", "udp", "5353");
    let found = of_agent(&agent).ends_with(1);
    found.proposes("multicast", "nothing comes back", "sudo ufw allow 5353/udp");
    found.proposes("firewall", "DROP", "sudo iptables -D INPUT -p udp -m udp --dport 5353 -j DROP");
    found.proposes("announced", "nobody hears", "5353/udp");
    wall(&cam, "-D", "udp", "5353");
    wait_for("the device to be heard again", SOON, || {
        (of_agent(&agent).said.code == Some(0)).then_some(())
    });
    // The agent's port is shut: seen, but not reached.
    wall(&cam, "-I", "tcp", "6789");
    let found = of_server(&server, &["cam"]).ends_with(1);
    found.fails(&[("Device cam", "agent port")]);
    found.proposes("agent port", "10.77.", "sudo ufw allow 6789/tcp");
    wall(&cam, "-D", "tcp", "6789");

    // A mistake in its file, with its place.
    let config = cam.path("agent.yaml");
    let mut command = agent.command(&["doctor", "--json"]);
    fs::write(&config, "telemetry:\n  intervall: 5s\n").expect("a file");
    let found = Found::of(&mut command).ends_with(1);
    found.fails(&[("This device", "settings")]);
    found.proposes("settings", "line 2, column 3", "sudoedit");

    agent.kill();
    let found = of_agent(&agent).ends_with(1);
    found.fails(&[("This device", "agent")]);
    found.proposes("agent", "not running", "systemctl start fleetd-agent");
    // Somebody else has its port.
    let mut thief = cam.command("python3");
    let pid = cam.start("thief", thief.args(["-m", "http.server", "6789"]));
    wait_for("the thief to listen", SOON, || {
        let found = of_agent(&agent);
        found.steps.iter().any(|step| step.check == "agent port" && step.outcome == "failed").then(
            || {
                found.proposes("agent port", "python3", "ss -tlpn");
            },
        )
    });
    cam.kill(pid);
    // Its key is damaged, and its folder is everybody's.
    let folder: PathBuf = cam.path("agent");
    let key = folder.join("device.key");
    let good = fs::read(&key).expect("a key");
    fs::write(&key, "nonsense").expect("a file");
    let found = of_agent(&agent).ends_with(1);
    found.fails(&[("This device", "key"), ("This device", "agent")]);
    fs::write(&key, good).expect("a file");
    set_mode(&folder, 0o777);
    let found = of_agent(&agent).ends_with(1);
    found.fails(&[("This device", "folder"), ("This device", "agent")]);
    found.proposes("folder", "open to others", "sudo chmod 0755");
}
