//! Disks that fail: nothing is acknowledged that is not there afterwards, whatever the disk does, and
//! a disk that is slow holds up what it has to store and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fleet_core::api::{AgentInfo, KeyCreated, QueueView};

use super::{Agent, COME_BACK, SOON, Said, Server, now_millis, program};
use crate::lab::{Faults, Lab, wait_for};

/// How long a sync takes on a slow disk.
const SLOW: &str = "slow 5000";
const SLOW_SYNC: Duration = Duration::from_secs(5);
/// The same where many follow each other.
const SLOWER: &str = "slow 1000";
/// How soon a server answers all the same what needs no disk.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How long a slow disk may take for whatever is to be stored: some syncs, one after the other.
const SLOW_CHANGE: Duration = Duration::from_secs(120);
/// How long an agent may not answer while its disk is slow. Who looks after it, as systemd does, must
/// not end it within half a minute.
const AGENT_SILENT_MAX: Duration = Duration::from_secs(25);
/// Syncs that must have been slow.
const SLOW_SYNCS: u64 = 4;
/// What goes wrong with a disk, in the words of `faults.c`.
const MODES: [&str; 4] = ["sync", "write", "torn", "short"];
/// How often each has to.
const FAULTS: u64 = 6;
/// Attempts to store something meanwhile, at most.
const ATTEMPTS_MAX: usize = 400;

/// Somebody who posts and makes keys, and remembers what was said to be stored.
struct Client<'a> {
    server: &'a Server<'a>,
    first_at: i64,
    next: i64,
    posted: Vec<i64>,
    keys: Vec<String>,
    /// The id of the key that was made last.
    newest: Option<String>,
    revoked: Vec<String>,
    refused: usize,
}

impl<'a> Client<'a> {
    fn of(server: &'a Server<'a>) -> Self {
        let first_at = now_millis() - 3_600_000;
        let (posted, keys, revoked) = (Vec::new(), Vec::new(), Vec::new());
        Self { server, first_at, next: 0, posted, keys, newest: None, revoked, refused: 0 }
    }

    /// A request with the admin key; its answer ends with its status.
    fn curl(&self, path: &str, more: &[&str]) -> Command {
        let key = fs::read_to_string(self.server.key_file()).expect("the admin key");
        let mut command = self.server.host.command("curl");
        let limit = format!("-m{}", SLOW_CHANGE.as_secs());
        command.args(["-s", &limit, "-w", "\n%{http_code}", "-H", "Expect:"]);
        command.args(["-H", &format!("Authorization: Bearer {}", key.trim())]).args(more);
        command.arg(format!("{}{path}", self.server.url()));
        command
    }

    fn post_of(&self, number: i64) -> Command {
        let at = self.first_at + number;
        let line = format!("posted,device_id=box number={number} {at}");
        self.curl("/api/v2/write?precision=ms", &["--data-binary", &line])
    }

    fn key_of(&self, label: &str) -> Command {
        let wish = format!("{{\"kind\":\"enrol\",\"label\":\"{label}\"}}");
        self.curl("/api/v1/keys", &["-H", "Content-Type: application/json", "-d", &wish])
    }

    /// Posts one value. Whether it was acknowledged.
    fn post(&mut self) -> bool {
        let number = self.next;
        self.next += 1;
        let is_stored = Said::of(&mut self.post_of(number)).stdout.ends_with("\n204");
        self.note(is_stored.then_some(number))
    }

    fn note(&mut self, posted: Option<i64>) -> bool {
        self.posted.extend(posted);
        self.refused += usize::from(posted.is_none());
        posted.is_some()
    }

    /// Makes a key. Whether that was acknowledged.
    fn make_key(&mut self) -> bool {
        let label = format!("key-{}", self.next);
        self.next += 1;
        let said = Said::of(&mut self.key_of(&label)).stdout;
        let made = said.strip_suffix("\n201");
        let is_made = made.is_some();
        if let Some(made) = made {
            let made: KeyCreated = serde_json::from_str(made).expect("a key");
            self.newest = Some(made.id);
            self.keys.push(label);
        } else {
            self.refused += 1;
        }
        is_made
    }

    fn revocation_of(&self, id: &str) -> Command {
        self.curl(&format!("/api/v1/keys/{id}"), &["-X", "DELETE"])
    }

    /// Revokes the key that was made last, unless that was done. Whether that was acknowledged.
    fn revoke(&mut self) -> bool {
        let Some(id) = self.newest.clone() else { return false };
        let is_revoked = Said::of(&mut self.revocation_of(&id)).stdout.ends_with("\n200");
        if is_revoked {
            self.newest = None;
            self.revoked.push(id);
        } else {
            self.refused += 1;
        }
        is_revoked
    }

    /// Fails unless all is there that was acknowledged, and nothing twice.
    #[track_caller]
    fn is_right(&self) {
        let metric = ["telemetry", "query", "--device", "box", "--metric", "posted_number"];
        let query = [&metric[..], &["--limit", "10000", "-o", "json"]].concat();
        let points: Vec<fleet_core::api::MetricPoint> = self.server.fleets(&query).exits(0).json();
        let stored: Vec<i64> = points.iter().map(|point| point.value as i64).collect();
        assert_eq!(super::kills::breach(&self.posted, &stored), None);
        let keys: Vec<fleet_core::api::KeyView> =
            self.server.fleets(&["keys", "list", "-o", "json"]).exits(0).json();
        let labels: BTreeSet<&str> = keys.iter().map(|key| key.label.raw()).collect();
        let lost: Vec<_> =
            self.keys.iter().filter(|label| !labels.contains(label.as_str())).collect();
        assert!(lost.is_empty(), "lost {lost:?} of {} keys", self.keys.len());
        for id in &self.revoked {
            let key = keys.iter().find(|key| key.id == *id);
            assert!(key.is_some_and(|key| key.revoked_at.is_some()), "{id}: {key:?}");
        }
    }
}

/// What a server says at an address that needs no key, and how long that takes.
fn health(server: &Server<'_>, path: &str) -> (String, Duration) {
    let began = Instant::now();
    let url = format!("http://localhost:8080{path}");
    let limit = format!("-m{}", SOON.as_secs());
    let said = Said::of(server.host.command("curl").args(["-s", &limit, &url]));
    (said.stdout, began.elapsed())
}

fn begin(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl")
}

fn ended(child: &mut Option<Child>) -> Option<String> {
    child.as_mut()?.try_wait().expect("it is ours")?;
    let output = child.take()?.wait_with_output().expect("it has ended");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn f06_a_sync_of_five_seconds_holds_up_what_it_is_for_and_nothing_else() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = Faults::of(&desk, "server");
    let server = Server::start_wrapped(&desk, disk.wrapper());
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let mut client = Client::of(&server);
    assert!(client.post() && client.make_key());
    let links = || agent.host.log(&agent.log_name()).matches("connected ").count();
    let (links_before, acknowledged_before) = (links(), agent.acknowledged().len());

    disk.begin(SLOW);
    let began = Instant::now();
    let mut post = Some(begin(client.post_of(100)));
    let revoked = client.newest.take().expect("a key");
    let mut revocation = Some(begin(client.revocation_of(&revoked)));
    let (mut slowest, mut posted_after) = (Duration::ZERO, None);
    while posted_after.is_none() || revocation.is_some() || disk.count() < SLOW_SYNCS {
        assert!(began.elapsed() < COME_BACK, "{posted_after:?} {} syncs", disk.count());
        for path in ["/health", "/health/ready"] {
            let (said, took) = health(&server, path);
            assert!(said.contains("\"ok\""), "{path} after {:?}: {said}", began.elapsed());
            slowest = slowest.max(took);
        }
        if let Some(said) = ended(&mut post) {
            assert!(said.ends_with("\n204"), "{said}");
            posted_after = Some(began.elapsed());
        }
        if let Some(said) = ended(&mut revocation) {
            assert!(said.ends_with("\n200"), "{said}");
            client.revoked.push(revoked.clone());
        }
    }
    assert!(slowest < AT_ONCE, "{slowest:?} for what needs no disk");
    // It was as slow as it should be, and nobody was told before it was done.
    assert!(posted_after.is_some_and(|after| after >= SLOW_SYNC), "{posted_after:?}");
    client.note(Some(100));
    wait_for("acknowledgements on a slow disk", COME_BACK, || {
        (agent.acknowledged().len() > acknowledged_before + 1).then_some(())
    });
    // Some syncs, one after the other, and it is done.
    disk.begin(SLOWER);
    let asked = Instant::now();
    assert!(client.make_key());
    let made_after = asked.elapsed();
    assert_eq!(links(), links_before, "the device's link was given up");
    assert_eq!(server.starts.get(), 1);
    println!("slowest health {slowest:?}, post {posted_after:?}, key {made_after:?}");

    disk.begin(SLOW);
    let count = disk.count();
    wait_for("one more slow sync", SOON, || (disk.count() > count).then_some(()));
    // In the middle of a sync.
    server.kill();
    disk.end();
    server.start_again();
    server.stores_after("cam", now_millis());
    assert_eq!(super::kills::breach(&agent.acknowledged(), &server.stored("cam")), None);
    client.is_right();
}

#[test]
fn f06_a_disk_that_fails_is_never_said_to_have_stored_what_it_has_not() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = Faults::of(&desk, "server");
    let server = Server::start_wrapped(&desk, disk.wrapper());
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let mut client = Client::of(&server);
    for mode in MODES {
        let (before, refused) = (disk.count(), client.refused);
        disk.begin(mode);
        let mut attempts = 0;
        while disk.count() < before + FAULTS || attempts < 10 {
            attempts += 1;
            assert!(attempts < ATTEMPTS_MAX, "{mode}: {} faults", disk.count() - before);
            client.post();
            client.make_key();
            client.revoke();
            let (said, took) = health(&server, "/health");
            assert!(said.contains("ok") && took < AT_ONCE, "{mode}: {said} after {took:?}");
        }
        // A write that says how far it came is no failure.
        assert_eq!(client.refused > refused, mode != "short", "{mode}: {}", client.refused);
        if mode == "torn" {
            // In the middle of it.
            server.kill();
            disk.end();
            server.start_again();
        }
        disk.end();
        wait_for("a server that is well again by itself", SOON, || {
            let is_ready = health(&server, "/health/ready").0.contains("\"ok\"");
            (is_ready && client.post() && client.make_key() && client.revoke()).then_some(())
        });
        client.is_right();
    }
    server.kill();
    server.start_again();
    server.stores_after("cam", now_millis());
    assert_eq!(super::kills::breach(&agent.acknowledged(), &server.stored("cam")), None);
    client.is_right();
    assert_eq!(server.starts.get(), 3);
}

fn queue(agent: &Agent<'_>) -> Option<QueueView> {
    let said = Said::of(&mut agent.command(&["status", "--json"]));
    let info: AgentInfo = serde_json::from_str(&said.stdout).ok()?;
    Some(info.queue)
}

#[test]
fn f06_an_agent_bears_a_disk_that_is_slow_or_fails() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = Faults::of(&cam, "agent");
    let server = Server::start(&desk);
    let mut wrapper = disk.wrapper();
    wrapper.push(program("fleetd"));
    let agent = Agent { wrapper, ..Agent::idle(&cam, "cam") };
    agent.start_again();
    server.configure(&["cam"]);
    server.kill();
    wait_for("reports on the disk", COME_BACK, || {
        queue(&agent).filter(|queue| queue.waiting > 2 && queue.bytes > 0)
    });

    let mut longest = Duration::ZERO;
    let is_well = || queue(&agent).filter(|queue| queue.disk_error.is_none() && queue.bytes > 0);
    for mode in [SLOW].into_iter().chain(MODES) {
        let wanted = disk.count() + SLOW_SYNCS;
        disk.begin(mode);
        wait_for(&format!("faults of the kind {mode:?}"), COME_BACK, || {
            let began = Instant::now();
            let url = "http://localhost:6789/health";
            let limit = format!("-m{}", SOON.as_secs());
            let said = Said::of(cam.command("curl").args(["-s", &limit, url]));
            assert!(said.stdout.contains("ok"), "{mode}: {said:?}");
            longest = longest.max(began.elapsed());
            (disk.count() >= wanted).then_some(())
        });
        disk.end();
        wait_for(&format!("the disk to be used again after {mode:?}"), COME_BACK, is_well);
    }
    assert!(longest < AGENT_SILENT_MAX, "{longest:?} without an answer");
    println!("longest silence of the agent {longest:?}");
    assert!(agent.is_running() && agent.starts.get() == 1);

    // Also when it ends in the middle of it.
    disk.begin("torn");
    let wanted = disk.count() + 1;
    wait_for("one more fault", SOON, || (disk.count() >= wanted).then_some(()));
    agent.kill();
    disk.end();
    agent.start_again();
    server.start_again();
    let end = now_millis();
    server.stores_after("cam", end);
    wait_for("all to be handed over", COME_BACK, || {
        queue(&agent).filter(|queue| queue.waiting < 3)
    });
    assert_eq!(super::kills::breach(&agent.acknowledged(), &server.stored("cam")), None);
}
