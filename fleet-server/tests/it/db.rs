//! Keeping less: pruning and compacting a server's telemetry while it serves.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli_kit::Desk;
use crate::export_kit::fill;

/// Reports of a device, one a second.
const REPORTS: i64 = 4_000;
/// Those from before this are removed: nine of ten.
const BEFORE: &str = "2024-01-11T20:06:40Z";
const KEPT: u64 = 400;

fn said(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn reports(desk: &Desk) -> u64 {
    let view = desk.rig.ask("GET", "/api/v1/db", None).await.expect(200);
    view["telemetry"]["reports"].as_u64().unwrap()
}

/// Values of one metric, oldest first.
async fn values(desk: &Desk) -> Vec<f64> {
    let path = "/api/v1/telemetry/metrics?device_id=much&metric=metric_3&limit=10000";
    let points = desk.rig.ask("GET", path, None).await.expect(200);
    let value = |point: &Value| point["value"].as_f64().unwrap();
    points.as_array().unwrap().iter().rev().map(value).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pruned_is_gone_and_compacting_gives_its_room_back() {
    let mut desk = Desk::new().await;
    desk.restart(async |database| fill(database, REPORTS).await).await;
    assert_eq!(reports(&desk).await, REPORTS as u64);

    let refused = desk.fleets(&["db", "prune", "--before", BEFORE]);
    refused.refuses(2, &["whether to remove telemetry", "--yes"]);
    let ahead = json!({"before": "2024-01-15T10:30:01Z"});
    let told = desk.rig.ask("POST", "/api/v1/db/prune", Some(ahead)).await.problem(422);
    assert_eq!(told, "before: is in the future");
    let typo = json!({"befor": BEFORE});
    let told = desk.rig.ask("POST", "/api/v1/db/prune", Some(typo)).await.problem(422);
    assert!(told.contains("befor"), "{told}");
    assert_eq!(values(&desk).await.len(), REPORTS as usize, "nothing is gone yet");

    let args = ["db", "prune", "--before", BEFORE, "--yes", "--json"];
    let pruned = said(&desk.fleets(&args).ends(0).out);
    let rows = pruned["rows"].as_u64().unwrap();
    // What shares a chunk with what is kept is hidden, and stays for now.
    assert!((3_000..=3_600).contains(&rows), "{pruned}");
    assert_eq!(reports(&desk).await, REPORTS as u64 - rows);
    let left: Vec<f64> = (REPORTS - KEPT as i64..REPORTS).map(|number| number as f64).collect();
    assert_eq!(values(&desk).await, left);

    let compacted = said(&desk.fleets(&["db", "compact", "--json"]).ends(0).out);
    let bytes = |of: &Value, name: &str| of[name].as_u64().unwrap();
    let (before, after) = (bytes(&compacted, "bytes_before"), bytes(&compacted, "bytes_after"));
    assert_eq!(before, bytes(&pruned, "bytes_after"));
    assert!(after < before, "{compacted}");
    let view = desk.rig.ask("GET", "/api/v1/db", None).await.expect(200);
    assert_eq!(view["telemetry"]["bytes"], after);
    assert_eq!(values(&desk).await, left);
    // Once more there is nothing to do.
    let again = said(&desk.fleets(&args).ends(0).out);
    assert_eq!(again["rows"], 0);
    let again = said(&desk.fleets(&["db", "compact", "--json"]).ends(0).out);
    assert_eq!(bytes(&again, "bytes_after"), after);

    let events = desk.rig.ask("GET", "/api/v1/events?kind=db.pruned", None).await.expect(200);
    let told = format!("telemetry from before {BEFORE}: {rows} rows");
    let events = events.as_array().unwrap();
    assert_eq!((events.len(), &events[1]["text"]), (2, &Value::from(told)), "{events:?}");
    assert!(events[1]["actor"].as_str().unwrap().starts_with("operator:"));
    // And so it stays.
    desk.restart(async |_| {}).await;
    assert_eq!(values(&desk).await, left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_time_goes_what_is_not_to_be_kept() {
    let mut desk = Desk::new().await;
    desk.restart(async |database| fill(database, REPORTS).await).await;
    assert_eq!(reports(&desk).await, REPORTS as u64);
    // The values are older than two days; by the minute they are kept.
    let pruned = desk.rig.ask("POST", "/api/v1/db/prune", None).await.expect(200);
    assert_eq!(pruned["rows"], REPORTS, "{pruned}");
    let again = desk.rig.ask("POST", "/api/v1/db/prune", Some(json!({}))).await.expect(200);
    assert_eq!(again["rows"], 0, "{again}");
    let view = desk.rig.ask("GET", "/api/v1/db", None).await.expect(200);
    assert_eq!(view["telemetry"]["reports"], 0);
    let minutes = &view["telemetry"]["tiers"][1];
    assert_eq!((&minutes["resolution"], &minutes["rows"]), (&json!("1m"), &json!(68)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_found_by_reading_all_of_it_and_told_everywhere() {
    let mut desk = Desk::new().await;
    desk.restart(async |database| fill(database, REPORTS).await).await;
    // What is in the log alone is not read.
    desk.rig.ask("POST", "/api/v1/db/prune", Some(json!({"before": BEFORE}))).await.expect(200);
    let checked = said(&desk.fleets(&["db", "check", "--json"]).ends(0).out);
    assert!(checked["rows"].as_u64() > Some(10), "{checked}");
    assert!(checked["reports"].as_u64() >= Some(KEPT), "{checked}");
    assert_eq!(checked.get("damage"), None, "{checked}");
    desk.rig.ask("GET", "/health/ready", None).await.expect(200);

    desk.restart(async |database| flip_a_bit(database)).await;
    desk.rig.ask("GET", "/health/ready", None).await.expect(200);
    let told = desk.fleets(&["db", "check"]).ends(1).out;
    assert!(told.contains("Damage:   telemetry is damaged: the chunk at"), "{told}");
    let ready = desk.rig.ask("GET", "/health/ready", None).await.expect(503);
    assert_eq!(ready["status"], "degraded");
    assert!(ready["reason"].as_str().unwrap().contains("the chunk at"), "{ready}");
    // It is an event once, however often it is found.
    desk.fleets(&["db", "check"]).ends(1);
    let events = desk.rig.ask("GET", "/api/v1/events?kind=db.damaged", None).await.expect(200);
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events[0]["actor"], "server");
}

/// Changes one bit of the last chunk of the newest file.
fn flip_a_bit(database: &Path) {
    let folder = database.with_file_name("telemetry");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_chunks = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with("chunks-")
            && fs::metadata(path).unwrap().len() > 100
    };
    let path = files.filter(is_chunks).max().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.len() - 8;
    bytes[place] ^= 4;
    fs::write(&path, bytes).unwrap();
}
