//! Exports in the hands of other programs, and on bad days.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Agent, COME_BACK, METRIC, SOON, Said, Server, now_millis, ours_as, program};
use crate::lab::{Host, Lab, wait_for};

/// Samples of one request.
const POSTED_TOGETHER: usize = 20_000;
const DAY_MILLIS: i64 = 86_400_000;

/// Posts samples of a metric, one a millisecond from `first` on, as a third party does; returns
/// when the server has acknowledged them.
#[track_caller]
fn post(server: &Server<'_>, device: &str, metric: &str, first: i64, count: usize) {
    let mut body = String::new();
    for number in 0..count {
        let time = fleet_core::time::Timestamp::from_millis(first + number as i64);
        writeln!(
            body,
            "{{\"device_id\":\"{device}\",\"metric_name\":\"{metric}\",\"value\":{number},\
             \"timestamp\":\"{time}\"}}"
        )
        .expect("memory takes all");
    }
    let file = server.host.path("body.ndjson");
    fs::write(&file, body).expect("a file");
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let said = Said::of(
        server
            .host
            .command("curl")
            .args(["-s", "-m60", "-w", "%{http_code}", "-H", "Content-Type: application/x-ndjson"])
            .args(["-H", &format!("Authorization: Bearer {}", key.trim())])
            .args(["--data-binary", &format!("@{}", file.display())])
            .arg(format!("{}/api/v1/telemetry", server.url())),
    )
    .exits(0);
    assert!(said.stdout.ends_with("201"), "{said:#?}");
}

/// What Debian's program says to a query.
#[track_caller]
fn sqlite3(host: &Host, database: &Path, sql: &str) -> String {
    let said = Said::of(host.command("sqlite3").arg("-batch").arg(database).arg(sql)).exits(0);
    assert_eq!(said.stderr, "", "{sql}");
    said.stdout.trim().to_owned()
}

#[test]
fn another_program_counts_what_was_acknowledged_and_removes_what_is_old() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let posted = 2_500;
    post(&server, "cam", "posted", now_millis() - 60_000, posted);
    post(&server, "cam", "old", now_millis() - 40 * DAY_MILLIS, 300);
    server.stores_after("cam", now_millis());
    agent.kill();
    let ledger = agent.acknowledged();

    let database = desk.path("export.sqlite");
    let out = database.to_str().expect("a plain path");
    server
        .fleets(&["export", "sqlite", "--out", out])
        .exits(0)
        .explains(&["devices 1", "telemetry"]);

    let ask = |sql: &str| sqlite3(&desk, &database, sql);
    assert_eq!(
        ask("SELECT COUNT(*) FROM telemetry WHERE metric_name = 'posted'"),
        posted.to_string()
    );
    let times = ask(&format!(
        "SELECT strftime('%s', timestamp) || substr(timestamp, 21) FROM telemetry \
         WHERE metric_name = '{METRIC}' AND device_id = 'cam'"
    ));
    let mut found: BTreeMap<i64, usize> = BTreeMap::new();
    for time in times.lines() {
        *found.entry(time.parse().expect("milliseconds")).or_default() += 1;
    }
    assert!(!ledger.is_empty());
    for at in &ledger {
        assert_eq!(found.get(at), Some(&1), "{at} of {} acknowledged reports", ledger.len());
    }
    // One may have been stored whose acknowledgement did not reach the agent any more.
    assert!(found.len() <= ledger.len() + 1, "{} rows, {} reports", found.len(), ledger.len());

    let lines = server.fleets(&["export", "csv", "--table", "telemetry", "--out", "-"]).exits(0);
    let all = lines.stdout.lines().count() - 1;
    assert_eq!(ask("SELECT COUNT(*) FROM telemetry;"), all.to_string());
    let clean = "DELETE FROM telemetry WHERE timestamp < datetime('now', '-30 days');";
    assert_eq!(ask(&format!("{clean} SELECT changes();")), "300");
    assert_eq!(ask("SELECT COUNT(*) FROM telemetry;"), (all - 300).to_string());
    let plan = ask(&format!("EXPLAIN QUERY PLAN {clean}"));
    assert!(plan.contains("telemetry_by_time"), "{plan}");
    assert_eq!(ask("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_full_disk_and_a_killed_server_leave_no_export() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);
    for round in 0..8 {
        let first = now_millis() - DAY_MILLIS + round * POSTED_TOGETHER as i64;
        post(&server, "cam", "posted", first, POSTED_TOGETHER);
    }

    let small = desk.path("small");
    fs::create_dir_all(&small).expect("a folder");
    for form in ["sqlite", "csv", "ndjson"] {
        let said = export_onto(&server, &small, "3M", form).exits(1);
        let said = said.explains(&["cannot write", "o space left on device"]);
        assert_eq!(said.stdout, "", "nothing is left");
        let said = export_onto(&server, &small, "300M", form).exits(0);
        assert_eq!(said.stdout, "export\n", "with room it is there");
    }

    let folder = desk.path("out");
    fs::create_dir_all(&folder).expect("a folder");
    let out = folder.join("export.sqlite");
    let mut command = server.command(&["export", "sqlite", "--out", out.to_str().expect("a path")]);
    let export = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = Pid::from_raw(export.id().cast_signed());
    let part = folder.join("export.sqlite.part");
    let begun = || fs::metadata(&part).is_ok_and(|part| part.len() > 0).then_some(());
    look_closely("the export to begin", begun);
    kill(pid, Signal::SIGSTOP).expect("it runs");
    server.kill();
    kill(pid, Signal::SIGCONT).expect("it is there");
    let output = export.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{told}");
    assert!(told.contains("broke off"), "{told}");
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
    server.start_again();
    wait_for("the export of the server that is back", COME_BACK, || {
        let said = server.fleets(&["export", "sqlite", "--out", out.to_str().expect("a path")]);
        (said.code == Some(0)).then_some(())
    });
}

/// Exports onto a disk of a size, and lists then what is on it.
fn export_onto(server: &Server<'_>, folder: &Path, size: &str, form: &str) -> Said {
    let script = "mount -t tmpfs -o size=$1 tmpfs $2 || exit 99
        $3 export $4 --out $2/export; code=$?; ls -A $2; exit $code";
    // What a program on a host mounts, it mounts for itself.
    let mut command = ours_as(server.host, "sh");
    command.env("FLEETD_SERVER", server.url()).env("FLEETD_API_KEY_FILE", server.key_file());
    command.args(["-c", script, "sh", size]).arg(folder).arg(program("fleets")).arg(form);
    Said::of(&mut command)
}

/// Waits for something that does not last long.
#[track_caller]
fn look_closely(what: &str, mut look: impl FnMut() -> Option<()>) {
    let started = Instant::now();
    while look().is_none() {
        assert!(started.elapsed() < SOON, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
