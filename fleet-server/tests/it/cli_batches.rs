//! `fleets batch-command`, `batch-update` and `batch` as an operator uses them, with devices that
//! do what they are told.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use fleet_core::wire::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::batches_kit::{Deeds, deeds, fleet, lives};
use crate::cli_kit::{Desk, Said};
use crate::server_kit::{Agent, wait_for};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_DONE: i32 = 3;
const NOTHING_FOUND: i32 = 5;
const CONFLICT: i32 = 6;
const INTERRUPTED: i32 = 130;

const RESTART_OFFLINE: [&str; 5] =
    ["batch-command", "--filter", "status=offline", "--command", "restart"];

async fn desk(count: u8, fail: &[u8]) -> (Desk, Deeds) {
    let (desk, deeds) = (Desk::new().await, Deeds::default());
    fleet(&desk.rig, count, fail, &deeds).await;
    (desk, deeds)
}

fn all<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["batch-command", "--all", "--command"], words].concat()
}

/// What a call of programs said, as JSON.
fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

/// The ids of the batches there are, newest first.
fn ids(desk: &Desk) -> Vec<String> {
    let listed = desk.fleets(&["batch", "list", "-o", "name"]);
    listed.out.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_are_offline_restart_when_they_come() {
    let desk = Desk::new().await;
    for (id, seed) in [("pump-1", 1), ("pump-2", 2)] {
        let mut agent = desk.rig.enrolled(id, seed).await;
        agent.report(1, &[1], 1.0).await;
    }
    desk.rig.clock.advance(Duration::from_secs(600));
    wait_for("two that are offline", async || {
        desk.fleets(&["devices", "--filter", "status=offline", "-o", "name"]).out.lines().count()
            == 2
    })
    .await;

    // As the reference has it: nobody is there to be asked, so nothing is done.
    desk.fleets(&RESTART_OFFLINE).refuses(
        USAGE,
        &[
            "both --yes and --expect are needed; 2 devices found, and nothing was done",
            "hint: give --yes --expect 2 if you mean them",
        ],
    );
    desk.fleets(&[&RESTART_OFFLINE[..], &["--yes"]].concat()).refuses(USAGE, &["--expect 2"]);
    desk.fleets(&[&RESTART_OFFLINE[..], &["--yes", "--expect", "3"]].concat())
        .refuses(CONFLICT, &["2 devices found, and 3 were expected", "nothing was done"]);
    assert_eq!(ids(&desk), [""; 0]);

    let call = [&RESTART_OFFLINE[..], &["--yes", "--expect", "2", "--reason", "4411"]].concat();
    let said = desk.fleets(&call).ends(NOT_DONE);
    assert!(
        said.err.contains("2 devices are not connected, and waited for until 2024-01-16T10:40:00Z"),
        "{said:#?}"
    );
    assert!(said.out.contains("pump-2     waiting  offline since 2024-01-15T10:30:0"), "{said:#?}");
    let id = ids(&desk).remove(0);
    let shown = desk.fleets(&["batch", "show", &id[28..]]).ends(0);
    for words in ["running", "status=offline", "4411", "2 waiting", "pump-1"] {
        assert!(shown.out.contains(words), "{words}: {shown:#?}");
    }

    let did = Deeds::default();
    for (id, seed) in [("pump-1", 1), ("pump-2", 2)] {
        lives(Agent::dial(&desk.rig, id, seed, None).await, Outcome::Succeeded, &did);
    }
    wait_for("both", async || {
        json(&desk.fleets(&["batch", "show", &id, "--json"]))["state"] == "done"
    })
    .await;
    assert_eq!(deeds(&did).values().sum::<usize>(), 2);
    assert_eq!(deeds(&did).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_what_would_be() {
    let (desk, deeds_done) = desk(3, &[]).await;
    let said = desk.fleets(&all(&["restart", "--dry-run", "--canary", "1"])).ends(0);
    assert_eq!(said.err, "");
    for line in [
        "restart on 3 devices\n",
        "  type:     3 raspberrypi\n",
        "  devices:  d00, d01, d02\n",
        "  how:      the first 1 alone, then 1 at once; pauses at 1 failure\n",
    ] {
        assert!(said.out.contains(line), "{line}: {said:#?}");
    }
    let shown = json(&desk.fleets(&all(&["restart", "--dry-run", "--json"])).ends(0));
    assert_eq!((&shown["window"], shown["devices"].as_array().unwrap().len()), (&1.into(), 3));
    assert!(deeds(&deeds_done).is_empty());
    assert_eq!(desk.fleets(&["batch", "list"]).code, Some(NOTHING_FOUND));
    let gone = ["batch-command", "--filter", "type=fridge", "--command", "restart", "--dry-run"];
    desk.fleets(&gone).refuses(NOTHING_FOUND, &["no device matches type=fridge"]);
    let bad = ["batch-command", "--filter", "cpu>", "--command", "restart"];
    desk.fleets(&bad).refuses(USAGE, &["--filter: ", "cpu>", "^"]);
    desk.fleets(&all(&["restrat"])).refuses(USAGE, &["did you mean restart?"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_say_how_it_went_and_failures_are_tried_again() {
    let (desk, did) = desk(4, &[1, 2]).await;
    let run = |more: &[&str]| {
        let words = [&["restart", "--yes", "--expect", "4", "--window", "1"], more].concat();
        desk.fleets(&all(&words))
    };
    let said = run(&["--max-fail", "4"]).ends(NOT_DONE);
    assert!(said.err.contains("✅ d00: succeeded: so it went\n"), "{said:#?}");
    assert!(said.err.contains("✗ d01: failed: so it went\n"), "{said:#?}");
    let summary = "of 4 devices 2 succeeded, 2 failed; `fleets batch retry ";
    assert!(said.err.contains(summary), "{said:#?}");
    let rows: Vec<_> =
        said.out.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    assert_eq!(
        rows[1..],
        [["d00", "succeeded"], ["d01", "failed"], ["d02", "failed"], ["d03", "succeeded"]]
    );

    let first = ids(&desk).remove(0);
    let failed = desk.fleets(&["batch", "show", &first, "--failed", "-o", "name"]).ends(0);
    assert_eq!(failed.out, "d01\nd02\n");
    let retry = |args: &[&str]| desk.fleets(&[&["batch", "retry", &first], args].concat());
    let asked = &["no terminal to ask on whether restart on 2 devices is retried", "give --yes"];
    retry(&[]).refuses(USAGE, asked);
    retry(&["--yes", "--expect", "3"]).refuses(CONFLICT, &["2 devices failed, and 3 were"]);
    let again = retry(&["--yes", "--expect", "2"]).ends(FAILED);
    assert!(again.err.contains("of 2 devices 2 failed"), "{again:#?}");

    let paused = run(&[]).ends(NOT_DONE);
    assert!(paused.err.contains("⏸ paused: 1 device failed, and it pauses at 1"), "{paused:#?}");
    let id = ids(&desk).remove(0);
    let told = desk.fleets(&["batch", "continue", &id]).ends(0);
    assert!(told.out.starts_with(&format!("{id} goes on: restart: of 4 devices")), "{told:#?}");
    wait_for("the next failure", async || {
        json(&desk.fleets(&["batch", "show", &id, "--json"]))["state"] == "paused"
    })
    .await;
    let told = desk.fleets(&["batch", "cancel", &id]).ends(0);
    let cancelled = format!("{id} cancelled: restart: no further device begins");
    assert!(told.out.starts_with(&cancelled), "{told:#?}");
    let whole = json(&run(&["--max-fail", "4", "-o", "json"]).ends(NOT_DONE));
    assert_eq!((&whole["state"], whole["devices"].as_array().unwrap().len()), (&"done".into(), 4));
    assert_eq!(ids(&desk).len(), 4);
    desk.fleets(&["batch", "pause", &first]).refuses(CONFLICT, &["the batch is over: done"]);
    // Two, and two again, and three until it was cancelled, and four.
    assert_eq!(deeds(&did)["d03"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_waiting_knows_how_to_find_it_again() {
    let desk = Desk::new().await;
    let _at_it = desk.rig.enrolled("pump-1", 1).await;
    let mut call = desk.command(&all(&["collect", "--yes", "--expect", "1"]));
    let child = call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    wait_for("the batch", async || !ids(&desk).is_empty()).await;
    // It has heard that the batch is there.
    tokio::time::sleep(Duration::from_millis(500)).await;
    kill(pid, Signal::SIGINT).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let said = Said::of(&output.await.unwrap()).ends(INTERRUPTED);
    let id = ids(&desk).remove(0);
    let hint = format!("hint: the batch goes on: `fleets batch show {id}`; `fleets batch cancel");
    assert!(said.err.contains(&hint), "{said:#?}");
    let no_wait = desk.fleets(&all(&["logs", "--yes", "--expect", "1", "--no-wait"])).ends(0);
    assert!(no_wait.out.contains(" begun: logs: of 1 device 1 waiting"), "{no_wait:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_come_from_a_file_or_standard_input() {
    let (desk, _did) = desk(2, &[]).await;
    let file = desk.path("update.json");
    std::fs::write(&file, r#"{"telemetry_interval": 30}"#).unwrap();
    let update = |config: &str, more: &[&str]| {
        let words = ["batch-update", "--filter", "type=raspberrypi", "--config", config];
        [&words[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let call = update(file.to_str().unwrap(), &["--yes", "--expect", "2"]);
    let call: Vec<_> = call.iter().map(String::as_str).collect();
    let said = desk.fleets(&call).ends(0);
    assert!(said.out.contains("d01        succeeded  the device has version 1"), "{said:#?}");
    let config = json(&desk.fleets(&["config", "get", "d01", "--json"]).ends(0));
    assert_eq!(config["config"], r#"{"telemetry":{"interval":30}}"#);

    let call = update("{\"telemetry_interval\": 20}", &["--dry-run"]);
    let call: Vec<_> = call.iter().map(String::as_str).collect();
    let dry = desk.fleets(&call).ends(0);
    assert!(dry.out.starts_with("configuration {\"telemetry_interval\":20} on 2"), "{dry:#?}");

    let call = update("-", &["--yes", "--expect", "2"]);
    let call: Vec<_> = call.iter().map(String::as_str).collect();
    let mut child = desk.command(&call);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let text = br#"{"telemetry": {"intervall": 5}}"#;
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    Said::of(&output.await.unwrap()).refuses(USAGE, &["config.telemetry.intervall: is not a key"]);
    let call = update("nowhere.json", &[]);
    let call: Vec<_> = call.iter().map(String::as_str).collect();
    desk.fleets(&call).refuses(USAGE, &["cannot read nowhere.json"]);
}
