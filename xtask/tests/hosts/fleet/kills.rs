//! The promise about data: what the server acknowledged is stored, once, however often either
//! side is killed without a word.
//!
//! The ledger is the agents' own log: each line `acknowledged … at=…` is a report that must be
//! found in the store afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::{Agent, COME_BACK, SOON, Said, Server, now_millis};
use crate::lab::{Lab, wait_for};

/// Kills unless `FLEETD_TEST_KILLS` says otherwise.
const KILLS: u32 = 50;
/// The latest moment of a kill after something was acknowledged.
const MOMENT_MILLIS_MAX: u64 = 400;
/// Kills of a server that seals, unless `FLEETD_TEST_KILLS` says otherwise.
const SEALING_KILLS: u32 = 25;
/// The latest moment of such a kill after a post was begun.
const SEALING_MILLIS_MAX: u64 = 800;
/// Kills while a backup is taken, unless `FLEETD_TEST_KILLS` says otherwise.
const BACKUP_KILLS: u32 = 16;
/// Posts that are in those backups.
const POSTS_BACKED_UP: usize = 8;
/// Devices that are posted for together, and reports of each: more than wait to be sealed.
const POSTED_DEVICES: usize = 10;
const POSTED_REPORTS: usize = 600;

#[test]
fn acknowledged_reports_survive_kills_of_both_sides() {
    let kills = rounds(KILLS);
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let hosts = ["cam-1", "cam-2", "cam-3"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agents: Vec<Agent<'_>> = hosts.iter().map(Agent::start).collect();
    server.configure(&["cam-1", "cam-2", "cam-3"]);

    let mut moment = 7_u64;
    for round in 0..kills {
        let agent = &agents[round as usize % agents.len()];
        let before = agent.acknowledged().len();
        wait_for("one more acknowledged report", COME_BACK, || {
            (agent.acknowledged().len() > before).then_some(())
        });
        // Not a wait: this chooses where in its work the victim is hit.
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_millis((moment >> 33) % MOMENT_MILLIS_MAX));
        // The server, both, or the agent.
        let (hits_server, hits_agent) = (round % 5 == 4, round % 10 != 4);
        if hits_server {
            server.kill();
        }
        if hits_agent {
            agent.kill();
        }
        if hits_server {
            server.start_again();
        }
        if hits_agent {
            agent.start_again();
        }
    }

    let end = now_millis();
    for agent in &agents {
        server.stores_after(&agent.id, end);
        let (ledger, stored) = (agent.acknowledged(), server.stored(&agent.id));
        assert!(!ledger.is_empty(), "the log of {} has no acknowledgements", agent.id);
        assert_eq!(breach(&ledger, &stored), None, "{}", agent.id);
    }
}

#[test]
fn acknowledged_posts_survive_kills_of_a_server_that_seals_them() {
    let kills = rounds(SEALING_KILLS);
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let server = Server::start(&desk);
    let first_at = now_millis() - 3_600_000;
    let mut moment = 5_u64;
    for round in 0..kills as usize {
        fs::write(desk.path("lines"), lines(first_at, round)).expect("a file");
        let mut command = post(&server);
        let posting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let posting = posting.expect("curl");
        // Not a wait: this chooses where in its work the victim is hit.
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_millis((moment >> 33) % SEALING_MILLIS_MAX));
        server.kill();
        let answer = posting.wait_with_output().expect("it ends");
        server.start_again();
        // Who got no answer sends again, and what was stored all the same is there once.
        if !answer.stdout.ends_with(b"204") {
            wait_for("a post to be acknowledged", SOON, || {
                Said::of(&mut post(&server)).stdout.ends_with("204").then_some(())
            });
        }
    }

    let files = fs::read_dir(desk.path("server/telemetry")).expect("the folder of telemetry");
    let files: BTreeSet<String> = files
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    let has_chunks = files.iter().any(|name| name.starts_with("chunks-"));
    let has_first_log =
        files.iter().any(|name| name.starts_with("wal-") && name.ends_with("-0000000000000001"));
    assert!(has_chunks && !has_first_log, "nothing was sealed and let go of: {files:?}");
    let stored = posted(&server, &desk.path("export.sqlite"));
    assert_eq!(stored.len(), POSTED_DEVICES);
    let all: Vec<i64> = (0..i64::from(kills) * POSTED_REPORTS as i64).collect();
    for (device, numbers) in stored {
        assert_eq!(breach(&all, &numbers), None, "{device}");
        assert_eq!(numbers.len(), all.len(), "{device} has what nobody sent");
    }
}

#[test]
fn backups_are_whole_or_none_whoever_is_killed_meanwhile() {
    let kills = rounds(BACKUP_KILLS);
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let server = Server::start(&desk);
    let first_at = now_millis() - 3_600_000;
    let (mut moment, mut whole, mut cut) = (3_u64, 0, 0);
    let path = desk.path("first.backup");
    let begun = Instant::now();
    server.fleets(&["backup", "create", "--out", path.to_str().expect("a plain path")]).exits(0);
    // How long one takes on this machine, of what is there so far.
    let mut took = begun.elapsed();
    for round in 0..kills as usize {
        // So that a backup takes a while, and what was acknowledged can be counted in it.
        if round < POSTS_BACKED_UP {
            fs::write(desk.path("lines"), lines(first_at, round)).expect("a file");
            let said = Said::of(&mut post(&server)).exits(0);
            assert!(said.stdout.ends_with("204"), "{said:?}");
        }
        let posted = (POSTED_DEVICES * POSTED_REPORTS * (round + 1).min(POSTS_BACKED_UP)) as u64;
        let file = desk.path(&format!("{round}.backup"));
        let path = file.to_str().expect("a plain path");
        let mut command = server.command(&["backup", "create", "--out", path]);
        let begun = Instant::now();
        let taking = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut taking = taking.expect("a program that starts");
        // Not a wait: this chooses where in its work the victim is hit.
        // Now and then it is hit when all is done.
        if round % 8 >= 6 {
            wait_for("a whole backup", SOON, || file.exists().then_some(()));
            took = begun.elapsed();
        } else {
            moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let part = (moment >> 33) % 100;
            thread::sleep(took * u32::try_from(part).expect("a percentage") / 100);
        }
        if round % 2 == 0 {
            server.kill();
        } else {
            taking.kill().expect("it is ours");
        }
        let taken = taking.wait_with_output().expect("it ends");
        if round % 2 == 0 {
            server.start_again();
        }
        if file.exists() {
            let said = server.fleets(&["backup", "verify", path, "-o", "json"]).exits(0);
            let reports = said.json::<serde_json::Value>()["reports"].as_u64();
            assert!(reports.is_some_and(|reports| reports >= posted), "{reports:?} of {posted}");
            fs::remove_file(&file).expect("it is there");
            whole += 1;
        } else {
            assert!(!taken.status.success(), "{taken:?}");
            cut += 1;
        }
        // What is left has the name of no backup, and the next one of its name clears it.
        let _left = fs::remove_file(file.with_extension("backup.part"));
    }
    println!("{whole} whole backups, {cut} that were cut off");
    assert!(cut > 0, "nothing was hit in the middle");
    assert!(whole > 0 || kills < 7, "nothing was hit at the end");
    let file = desk.path("last.backup");
    let path = file.to_str().expect("a plain path");
    server.fleets(&["backup", "create", "--out", path]).exits(0);
    let said = server.fleets(&["backup", "verify", path, "-o", "json"]).exits(0);
    let posts = (kills as usize).min(POSTS_BACKED_UP);
    let posted = (POSTED_DEVICES * POSTED_REPORTS * posts) as u64;
    assert_eq!(said.json::<serde_json::Value>()["reports"].as_u64(), Some(posted));
}

/// Reports of all devices, numbered on from round to round.
fn lines(first_at: i64, round: usize) -> String {
    let mut lines = String::new();
    for number in round * POSTED_REPORTS..(round + 1) * POSTED_REPORTS {
        let at = first_at + number as i64;
        for device in 0..POSTED_DEVICES {
            writeln!(
                lines,
                "posted,device_id=box-{device} number={number},load={}.5,heat={device}.25 {at}",
                number * 7 % 100
            )
            .expect("memory takes all");
        }
    }
    lines
}

fn post(server: &Server<'_>) -> std::process::Command {
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let mut command = server.host.command("curl");
    command.args(["-s", "-m60", "-w", "%{http_code}", "-H", "Expect:"]);
    command.args(["-H", &format!("Authorization: Bearer {}", key.trim())]);
    command.args(["--data-binary", &format!("@{}", server.host.path("lines").display())]);
    command.arg(format!("{}/api/v2/write?precision=ms", server.url()));
    command
}

/// The numbers that are stored of each device.
#[track_caller]
fn posted(server: &Server<'_>, database: &Path) -> BTreeMap<String, Vec<i64>> {
    let out = database.to_str().expect("a plain path");
    server.fleets(&["export", "sqlite", "--out", out]).exits(0);
    let sql = "SELECT device_id || ' ' || CAST(value AS INTEGER) FROM telemetry \
               WHERE metric_name = 'posted_number'";
    let said = Said::of(server.host.command("sqlite3").arg("-batch").arg(database).arg(sql));
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in said.exits(0).stdout.lines() {
        let (device, number) = line.split_once(' ').expect("two columns");
        found.entry(device.to_owned()).or_default().push(number.parse().expect("a number"));
    }
    found
}

#[test]
fn a_lost_and_a_doubled_report_would_be_noticed() {
    assert_eq!(breach(&[1, 2], &[3, 2, 1]), None);
    assert!(breach(&[1, 2], &[3, 1]).is_some_and(|breach| breach.contains("lost")));
    assert!(breach(&[1, 2], &[2, 2, 1]).is_some_and(|breach| breach.contains("twice")));
}

/// How often to kill: as asked for, or so often.
pub(super) fn rounds(usual: u32) -> u32 {
    std::env::var("FLEETD_TEST_KILLS")
        .map_or(usual, |text| text.parse().expect("FLEETD_TEST_KILLS is a number"))
}

/// How what is stored breaks the promise that the ledger records.
pub(super) fn breach(ledger: &[i64], stored: &[i64]) -> Option<String> {
    let unique: BTreeSet<i64> = stored.iter().copied().collect();
    if unique.len() < stored.len() {
        return Some(format!("{} reports are there twice", stored.len() - unique.len()));
    }
    let lost: Vec<&i64> = ledger.iter().filter(|at| !unique.contains(at)).collect();
    (!lost.is_empty()).then(|| format!("lost {lost:?} of {} acknowledged reports", ledger.len()))
}
