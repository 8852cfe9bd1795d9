//! A server whose disk fills up: it takes no more telemetry, says so, and does all the rest; and it
//! takes telemetry again by itself when there is room.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use fleet_core::time::Timestamp;

use super::small_disk::SmallDisk;
use super::{Agent, COME_BACK, SOON, Said, Server, now_millis};
use crate::lab::{Lab, wait_for};

/// Bytes of the server's disk.
const DISK: u64 = 24 * 1024 * 1024;
/// What another program has of it.
const TAKEN: u64 = 15 * 1024 * 1024;
/// Samples of one request.
const POSTED_TOGETHER: usize = 10_000;
/// Requests after which the disk must have been full.
const POSTS_MAX: usize = 200;
/// How soon telemetry is taken again, at the latest.
const AGAIN: Duration = Duration::from_secs(10);

/// How a server answered a post.
#[derive(Debug)]
struct Answer {
    code: u16,
    retry_after: Option<u64>,
    body: String,
}

/// Somebody who posts numbered samples and knows which were acknowledged.
struct Poster<'a> {
    server: &'a Server<'a>,
    first_at: i64,
    next: usize,
    acknowledged: Vec<Range<usize>>,
}

impl Poster<'_> {
    #[track_caller]
    fn post(&mut self, count: usize) -> Answer {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        let mut body = String::new();
        for number in numbers.clone() {
            let time = Timestamp::from_millis(self.first_at + number as i64);
            writeln!(
                body,
                "{{\"device_id\":\"cam\",\"metric_name\":\"posted\",\"value\":{number},\
                 \"timestamp\":\"{time}\"}}"
            )
            .expect("memory takes all");
        }
        let host = self.server.host;
        let file = host.path("body.ndjson");
        fs::write(&file, body).expect("a file");
        let key = fs::read_to_string(self.server.key_file()).expect("the admin key");
        let said = Said::of(
            host.command("curl")
                .args(["-s", "-m60", "-i", "-H", "Content-Type: application/x-ndjson"])
                .args(["-H", "Expect:", "-H", &format!("Authorization: Bearer {}", key.trim())])
                .args(["--data-binary", &format!("@{}", file.display())])
                .arg(format!("{}/api/v1/telemetry", self.server.url())),
        )
        .exits(0);
        let answer = Answer::read(&said.stdout);
        if answer.code == 201 {
            self.acknowledged.push(numbers);
        }
        answer
    }

    /// Posts until it is refused.
    #[track_caller]
    fn fill(&mut self) -> Answer {
        for _ in 0..POSTS_MAX {
            let answer = self.post(POSTED_TOGETHER);
            if answer.code != 201 {
                return answer;
            }
        }
        panic!("the disk should be full");
    }
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        let retry_after = lines.find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("retry-after").then(|| value.parse().expect("seconds"))
        });
        Self { code: status.parse().expect("a number"), retry_after, body: body.to_owned() }
    }

    #[track_caller]
    fn is_refused_for_want_of_room(&self) {
        assert_eq!((self.code, self.retry_after.is_some()), (503, true), "{self:#?}");
        assert!(self.body.contains("the disk is almost full"), "{self:#?}");
    }
}

/// What a server says about itself.
fn readiness(server: &Server<'_>) -> String {
    let url = "http://localhost:8080/health/ready";
    Said::of(server.host.command("curl").args(["-s", "-m5", url])).stdout
}

/// Fails unless everything but telemetry works.
#[track_caller]
fn works(server: &Server<'_>, name: &str) {
    let ready = readiness(server);
    assert!(ready.contains("degraded") && ready.contains("the disk is almost full"), "{ready}");
    assert!(server.device("cam").is_some_and(|cam| cam.latest.is_some()));
    assert!(!server.stored("cam").is_empty());
    server.fleets(&["keys", "create", "--enrol", "--label", name]).exits(0);
}

#[track_caller]
fn taken_again(poster: &mut Poster<'_>) {
    wait_for("telemetry to be taken again", AGAIN, || (poster.post(10).code == 201).then_some(()));
    wait_for("a server that is well", SOON, || {
        readiness(poster.server).contains("ok").then_some(())
    });
}

#[test]
fn a_full_disk_stops_telemetry_and_nothing_else_and_loses_nothing() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = SmallDisk::mount(desk.path("server"), DISK);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    disk.take(TAKEN);
    let first_at = now_millis() - 3_600_000;
    let mut poster = Poster { server: &server, first_at, next: 0, acknowledged: Vec::new() };
    poster.fill().is_refused_for_want_of_room();
    assert!(poster.acknowledged.len() > 2, "{:?}", poster.acknowledged);
    works(&server, "while there is little room");
    disk.empty();
    taken_again(&mut poster);

    // Nobody but us keeps to the floor.
    disk.fill();
    wait_for("telemetry to be refused", SOON, || {
        let answer = poster.post(10);
        (answer.code == 503 && answer.retry_after.is_some()).then_some(())
    });
    wait_for("the server to say that its disk is full", SOON, || {
        readiness(&server).contains("the disk is almost full").then_some(())
    });
    assert!(server.device("cam").is_some_and(|cam| cam.latest.is_some()));
    assert!(!server.stored("cam").is_empty());
    disk.empty();
    taken_again(&mut poster);

    // What the agent kept meanwhile comes too.
    server.stores_after("cam", now_millis());
    wait_for("all to be handed over", COME_BACK, || {
        let said = Said::of(&mut agent.command(&["status", "--json"]));
        let info: fleet_core::api::AgentInfo = serde_json::from_str(&said.stdout).ok()?;
        (info.queue.waiting < 3).then_some(())
    });
    let ledger = agent.acknowledged();
    assert_eq!(super::kills::breach(&ledger, &server.stored("cam")), None);
    assert_eq!(server.device("cam").expect("it is there").missed_reports, 0);
    assert!(agent.is_running());
    let stored = posted(&server, &desk.path("export.sqlite"));
    for numbers in &poster.acknowledged {
        let of_it = stored.iter().filter(|number| numbers.contains(number)).count();
        assert_eq!(of_it, numbers.len(), "of {numbers:?}");
    }
    let mut unique = stored.clone();
    unique.dedup();
    assert_eq!(unique.len(), stored.len(), "a sample is there twice");
    assert_eq!(server.starts.get(), 1);
}

/// The numbers that are stored, in order.
#[track_caller]
fn posted(server: &Server<'_>, database: &Path) -> Vec<usize> {
    let out = database.to_str().expect("a plain path");
    server.fleets(&["export", "sqlite", "--out", out]).exits(0);
    let sql =
        "SELECT CAST(value AS INTEGER) FROM telemetry WHERE metric_name = 'posted' ORDER BY 1";
    let said = Said::of(server.host.command("sqlite3").arg("-batch").arg(database).arg(sql));
    said.exits(0).stdout.lines().map(|line| line.parse().expect("a number")).collect()
}
