//! `fleets config` as an operator uses it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli_kit::{Desk, Said};
use crate::server_kit::wait_for;

const USAGE: i32 = 2;
const NOTHING_FOUND: i32 = 5;
const CONFLICT: i32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_is_listed_compared_and_gone_back_to() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    let set =
        |args: &[&str]| desk.fleets(&[&["config", "set", "pump-1", "--no-wait"], args].concat());
    desk.fleets(&["config", "history", "pump-1"]).refuses(NOTHING_FOUND, &["no versions"]);
    set(&["telemetry_interval=30", "--comment", "slower"]).ends(0);
    set(&["--config", "{\"telemetry\": {\"interval\": 10, \"metrics\": [\"cpu_usage\"]}}"]).ends(0);
    set(&["telemetry.metrics-", "--expected-version", "1"]).refuses(CONFLICT, &["at version 2"]);
    set(&["--config", "{\"telemetry\": {\"intervall\": 10}}"]).refuses(USAGE, &["intervall"]);

    let history = desk.fleets(&["config", "history", "pump-1"]).ends(0).out;
    let lines: Vec<_> = history.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("      2") && lines[2].contains("slower"));
    let first = desk.fleets(&["config", "get", "pump-1", "--version", "1", "--json"]).ends(0).out;
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["document"], json!({"telemetry": {"interval": 30}}));
    let missing = desk.fleets(&["config", "get", "pump-1", "--version", "7"]);
    missing.refuses(NOTHING_FOUND, &["pump-1 has no version 7", "config history"]);

    // The device has said nothing yet, so all is to come.
    let csv = |args: &[&str]| {
        let args = [&["config", "diff", "pump-1", "-o", "csv", "--no-headers"], args].concat();
        desk.fleets(&args).ends(0).out
    };
    assert_eq!(
        csv(&[]),
        "telemetry.interval,unset,10\ntelemetry.metrics,unset,\"[\"\"cpu_usage\"\"]\"\n"
    );
    let changed = "telemetry.interval,30,10\ntelemetry.metrics,unset,\"[\"\"cpu_usage\"\"]\"\n";
    assert_eq!(csv(&["1"]), changed);
    assert!(csv(&["2", "1"]).starts_with("telemetry.interval,10,30\n"));
    let same = desk.fleets(&["config", "diff", "pump-1", "2", "2"]).ends(0);
    assert_eq!((same.out.as_str(), same.err.as_str()), ("", "versions 2 and 2 say the same\n"));

    let back = |args: &[&str]| {
        desk.fleets(&[&["config", "rollback", "pump-1", "--no-wait"], args].concat())
    };
    back(&["--to", "1"]).refuses(USAGE, &["no terminal", "--yes"]);
    let dry = back(&["--to", "1", "--dry-run"]).ends(0);
    assert_eq!(
        dry.out,
        "pump-1 at version 2 would get a new version:\n  telemetry.interval 10 → 30\n  \
         telemetry.metrics [\"cpu_usage\"] → unset, or what its layers say\n"
    );
    let dry = set(&["telemetry.interval=10s", "--dry-run"]).ends(0);
    assert_eq!(dry.out, "pump-1 at version 2 says so already\n");
    let dry = set(&["telemetry.interval=5s", "--dry-run", "-o", "csv", "--no-headers"]).ends(0);
    assert_eq!(dry.out, "telemetry.interval,10,5\n");
    back(&["--to", "9", "--yes"]).refuses(NOTHING_FOUND, &["no version 9"]);
    back(&["--to", "1", "--yes", "--expected-version", "1"]).refuses(CONFLICT, &["at version 2"]);
    let said = back(&["--to", "1", "--yes"]).ends(0);
    assert!(said.out.contains("version 3 is stored"), "{said:?}");
    let said = back(&["--to", "1", "--yes"]).ends(0);
    assert!(said.out.contains("as version 1 says already"), "{said:?}");
    let history = desk.fleets(&["config", "history", "pump-1", "--limit", "1"]).ends(0).out;
    assert!(history.contains("as version 1"), "{history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_that_is_away_shall_be_takes_effect_when_it_comes() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    desk.agents.clear();
    desk.rig.clock.advance(Duration::from_secs(600));
    wait_for("a device that is offline", async || {
        let found = ["devices", "--filter", "status=offline", "-o", "name"];
        desk.fleets(&found).out == "pump-1\n"
    })
    .await;
    let said = desk.fleets(&["config", "set", "pump-1", "--no-wait", "telemetry.interval=5s"]);
    let stored = "⏳ version 1 is stored; pump-1 is offline: it takes effect when that comes\n";
    assert_eq!(said.ends(0).out, stored);
    let key = format!("@{}", desk.key_file());
    let server = ["devices", "tag", "--server", &desk.url, "--api-key", &key, "pump-1"];
    let tag = |tag: &str| desk.bare(&[&server[..], &[tag]].concat()).ends(0).out;
    assert_eq!(tag("-nothere"), "unchanged pump-1\n");
    assert_eq!(tag("+canary"), "updated pump-1\n");
    assert_eq!(tag("+canary"), "unchanged pump-1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_are_changed_by_those_who_know_for_how_many() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    desk.add("pump-2", 20.0, "eu-west").await;
    desk.fleets(&["config", "layers"]).refuses(NOTHING_FOUND, &["no layers"]);
    let fleet = |args: &[&str]| {
        desk.fleets(
            &[&["config", "set", "--layer", "fleet", "telemetry.interval=60s"], args].concat(),
        )
    };
    let dry = fleet(&["--dry-run"]).ends(0);
    assert_eq!(
        dry.out,
        "layer fleet at version 0, of 2 devices: 2 devices would get a new version\n  \
         telemetry.interval unset → 60\n  devices: pump-1, pump-2\n"
    );
    fleet(&[]).refuses(USAGE, &["no terminal", "2 devices would get", "--yes --expect 2"]);
    fleet(&["--yes"]).refuses(USAGE, &["--yes --expect 2"]);
    fleet(&["--yes", "--expect", "3"]).refuses(CONFLICT, &["2 devices would get a new version"]);
    let said = fleet(&["--yes", "--expect", "2", "--comment", "calm"]).ends(0);
    assert_eq!(said.out, "layer fleet has version 1; 2 devices follow it\n");
    let same = fleet(&[]).ends(0);
    assert_eq!(same.out, "layer fleet has version 1; 0 devices follow it\n", "nobody is asked");

    // Options first: what begins with a minus behind the device is a tag.
    let key = format!("@{}", desk.key_file());
    let server = ["devices", "tag", "--server", &desk.url, "--api-key", &key];
    let tag = |words: &[&str]| {
        Said::of(&desk.bare_command(&[&server[..], words].concat()).output().unwrap())
    };
    tag(&["pump-1", "+canary", "-eu-west"]).ends(0);
    tag(&["pump-1", "canary"]).refuses(USAGE, &["+TAG or -TAG"]);
    let listed = desk.fleets(&["devices", "--filter", "tag:canary", "-o", "name"]).ends(0);
    assert_eq!(listed.out, "pump-1\n");

    desk.fleets(&["config", "set", "pump-1", "telemetry.interval=5s", "--no-wait"]).ends(0);
    let get = |id: &str| {
        let shown = desk.fleets(&["config", "get", id, "--json"]).ends(0).out;
        serde_json::from_str::<Value>(&shown).unwrap()
    };
    assert_eq!(get("pump-1")["provenance"], json!({"telemetry.interval": "device"}));
    desk.fleets(&["config", "unset", "pump-1", "telemetry.metrics"])
        .refuses(NOTHING_FOUND, &["does not say anything of telemetry.metrics itself"]);
    desk.fleets(&["config", "unset", "pump-1", "telemetry.interval", "--no-wait"]).ends(0);
    let shown = get("pump-1");
    assert_eq!(shown["config"], "{\"telemetry\":{\"interval\":60}}");
    assert_eq!(
        (&shown["own"], &shown["provenance"]["telemetry.interval"]),
        (&json!("{}"), &json!("fleet"))
    );

    let layers = desk.fleets(&["config", "layers", "-o", "csv", "--no-headers"]).ends(0).out;
    assert!(layers.starts_with("fleet,1,2,"), "{layers}");
    let tagged = ["config", "set", "--layer", "tag:canary", "telemetry.interval=10s"];
    let said = desk.fleets(&[&tagged[..], &["--yes", "--expect", "1"]].concat()).ends(0);
    assert_eq!(said.out, "layer tag:canary has version 1; 1 device follows it\n");
    let back = ["config", "rollback", "--layer", "tag:canary", "--to", "4"];
    desk.fleets(&back).refuses(NOTHING_FOUND, &["layer tag:canary has no version 4"]);
    let empty = ["config", "unset", "--layer", "tag:canary", "telemetry.interval"];
    desk.fleets(&[&empty[..], &["--yes", "--expect", "1"]].concat()).ends(0);
    let diff = ["config", "diff", "--layer", "tag:canary", "-o", "csv", "--no-headers"];
    assert_eq!(desk.fleets(&diff).ends(0).out, "telemetry.interval,10,unset\n");
    let back = ["config", "rollback", "--layer", "tag:canary", "--to", "1"];
    desk.fleets(&[&back[..], &["--yes", "--expect", "1"]].concat()).ends(0);
    let history =
        desk.fleets(&["config", "history", "--layer", "tag:canary", "-o", "name"]).ends(0);
    assert_eq!(history.out, "3\n2\n1\n");
    desk.fleets(&["config", "get", "--layer", "tag:"]).refuses(USAGE, &["there is no such layer"]);
}
