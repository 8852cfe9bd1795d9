//! `fleets config` as an operator uses it.

use serde_json::{Value, json};

use crate::cli_kit::Desk;

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
    back(&["--to", "9", "--yes"]).refuses(NOTHING_FOUND, &["no version 9"]);
    back(&["--to", "1", "--yes", "--expected-version", "1"]).refuses(CONFLICT, &["at version 2"]);
    let said = back(&["--to", "1", "--yes"]).ends(0);
    assert!(said.out.contains("version 3 is stored"), "{said:?}");
    let said = back(&["--to", "1", "--yes"]).ends(0);
    assert!(said.out.contains("as version 1 says already"), "{said:?}");
    let history = desk.fleets(&["config", "history", "pump-1", "--limit", "1"]).ends(0).out;
    assert!(history.contains("as version 1"), "{history}");
}
