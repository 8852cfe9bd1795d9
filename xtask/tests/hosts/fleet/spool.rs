//! Days without a server, in short: what the agent collects meanwhile is on its disk, whatever
//! happens to the agent, and reaches the server when that is back, behind what is collected then.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fleet_agent::queue::{self, Queue};
use fleet_agent::spool::SpoolSettings;
use fleet_agent::sys::SysRoot;
use fleet_core::api::{AgentInfo, Holes, QueueView};
use fleet_core::metric::Sample;
use fleet_core::time::{Clock as _, SystemClock, Timestamp};

use super::small_disk::SmallDisk;
use super::{Agent, COME_BACK, METRIC, SOON, Said, Server, now_millis, terminate};
use crate::lab::{Lab, wait_for};

/// Kills of the agent while its server is away, unless `FLEETD_TEST_KILLS` says otherwise.
const KILLS: u32 = 25;
/// The latest moment of a kill after something was collected.
const MOMENT_MILLIS_MAX: u64 = 400;
/// Reports that wait from before.
const BACKLOG: usize = 9_000;
/// Samples in each of them, so that it takes a while to hand them over.
const SAMPLES: usize = 40;
/// How long a new report may take while they are handed over.
const LIVE_MILLIS_MAX: i64 = 3_000;
/// Bytes of a small disk.
const SMALL_DISK: u64 = 4 * 1024 * 1024;

impl Agent<'_> {
    /// What waits, as the running agent says.
    fn queue(&self) -> Option<QueueView> {
        let said = Said::of(&mut self.command(&["status", "--json"]));
        let info: AgentInfo = serde_json::from_str(&said.stdout).ok()?;
        Some(info.queue)
    }

    /// When each report was collected, over all starts of the agent.
    fn collected(&self) -> Vec<i64> {
        let lines = self.lines_with("collected ");
        lines.iter().filter_map(|line| super::number_after(line, " at=")).collect()
    }

    fn lines_with(&self, words: &str) -> Vec<String> {
        let starts = 1..=self.starts.get();
        let logs: String = starts.map(|start| self.host.log(&format!("agent-{start}"))).collect();
        logs.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

#[test]
fn what_is_collected_without_a_server_survives_kills() {
    let kills = super::kills::rounds(KILLS);
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    server.kill();
    wait_for("the agent to miss its server", SOON, || {
        (Said::of(&mut agent.command(&["status"])).code == Some(7)).then_some(())
    });

    let mut moment = 11_u64;
    for _ in 0..kills {
        let before = agent.collected().len();
        wait_for("one more collected report", SOON, || {
            (agent.collected().len() > before).then_some(())
        });
        // Not a wait: this chooses where in its work the agent is hit.
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_millis((moment >> 33) % MOMENT_MILLIS_MAX));
        agent.kill();
        agent.start_again();
    }
    wait_for("the last agent to collect", SOON, || {
        agent.queue().filter(|queue| queue.waiting > u64::from(kills))
    });
    server.start_again();

    let end = now_millis();
    server.stores_after("cam", end);
    let all = || {
        let waiting = agent.queue()?.waiting;
        (waiting < 3).then_some(())
    };
    wait_for("all to be handed over", COME_BACK, all);
    let (stored, collected) = (server.stored("cam"), agent.collected());
    assert_eq!(super::kills::breach(&agent.acknowledged(), &stored), None);
    // More than is promised: a kill costs nothing of what was collected without a server.
    let collected: Vec<i64> = collected.into_iter().filter(|at| *at < end).collect();
    assert_eq!(super::kills::breach(&collected, &stored), None);
    let queue = agent.queue().expect("an agent that answers");
    assert_eq!((queue.holes, queue.unclean_ends), (Holes::default(), u64::from(kills)));
    let device = server.device("cam").expect("it is there");
    assert_eq!(device.missed_reports, 0);
}

#[test]
fn new_reports_pass_by_those_of_days_without_a_server() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    terminate(&cam, agent.pid.get());
    let first = fill(&cam.path("agent"));

    agent.start_again();
    wait_for("the backlog to be handed over", COME_BACK, || {
        agent.queue().filter(|queue| queue.waiting < 3)
    });
    let stored = server.stored("cam");
    assert!(stored.contains(&first), "the oldest report was handed over");
    let log = agent.host.log(&agent.log_name());
    let connected = log.lines().find(|line| line.contains("connected ")).map(said_at);
    let connected = connected.expect("it was connected");
    let acknowledged: Vec<(i64, i64)> = log
        .lines()
        .filter(|line| line.contains("acknowledged "))
        .map(|line| (said_at(line), super::number_after(line, " at=").expect("a report's time")))
        .collect();
    let last_old = acknowledged.iter().rposition(|(_, at)| *at < connected).expect("a backlog");
    let waits = acknowledged[..last_old].iter().filter(|(_, at)| *at > connected);
    let waits: Vec<i64> = waits.map(|(said, at)| said - at).collect();
    assert!(!waits.is_empty(), "no new report passed by the old ones");
    assert!(waits.iter().all(|millis| *millis < LIVE_MILLIS_MAX), "{waits:?}");
    assert_eq!(server.device("cam").expect("it is there").missed_reports, 0);
}

/// When a line of a log was written.
fn said_at(line: &str) -> i64 {
    let (time, _) = line.split_once(' ').expect("a line begins with its time");
    time.parse::<Timestamp>().expect("a time").millis()
}

/// Leaves a backlog as an earlier run of the agent would have; says when the oldest of it was
/// collected.
fn fill(data: &Path) -> i64 {
    let clock = Arc::new(SystemClock);
    let spool = data.join(queue::FOLDER);
    let queue = Queue::open(spool, SpoolSettings::default(), &SysRoot::real(), clock.clone());
    let queue = queue.expect("a spool");
    let ago = Duration::from_secs(1_000);
    let first = clock.now().minus(ago);
    for count in 0..BACKLOG {
        let after = Duration::from_millis(count as u64);
        let collected = Instant::now().checked_sub(ago).expect("a machine that is up") + after;
        let value = count as f64;
        let mut samples = vec![Sample::new(METRIC, value)];
        samples.extend((1..SAMPLES).map(|one| Sample::new(&format!("sensor_{one}"), value)));
        queue.push(first.plus(after), collected, samples).expect("a small report");
    }
    queue.close();
    assert_eq!(queue.view().waiting, BACKLOG as u64);
    first.millis()
}

#[test]
fn a_full_disk_stops_nothing_and_is_used_again_when_it_has_room() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = SmallDisk::mount(cam.path("agent"), SMALL_DISK);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    server.kill();
    wait_for("reports on the disk", SOON, || {
        agent.queue().filter(|queue| queue.waiting > 2 && queue.bytes > 0)
    });
    disk.fill();
    let full = wait_for("the agent to say that its disk is full", SOON, || {
        agent.queue().filter(|queue| queue.disk_error.is_some())
    });
    let said = Said::of(&mut agent.command(&["status"]));
    assert!(said.stdout.contains("No space left on device"), "{said:#?}");
    wait_for("reports in memory", SOON, || {
        agent.queue().filter(|queue| queue.waiting > full.waiting + 2)
    });

    // What waits reaches the server, and what is collected then.
    server.start_again();
    let end = now_millis();
    server.stores_after("cam", end);
    wait_for("all to be handed over", COME_BACK, || {
        agent.queue().filter(|queue| queue.waiting < 3)
    });
    let stored = server.stored("cam");
    let collected: Vec<i64> = agent.collected().into_iter().filter(|at| *at < end).collect();
    assert_eq!(super::kills::breach(&collected, &stored), None);

    server.kill();
    disk.empty();
    wait_for("the disk to be used again", SOON, || {
        agent.queue().filter(|queue| queue.disk_error.is_none() && queue.bytes > 0)
    });
    let warnings = agent.lines_with(" cannot keep reports on the disk; ");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(agent.is_running());
}
