//! Exports of a server: what is in them, in each of their forms.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fleet_core::api::ExportTable;
use fleet_core::cli::testing::{HOSTILE, assert_harmless};
use fleet_core::metric::Sample;
use fleet_core::wire::{QueuedReport, Samples, ToAgent, ToServer};
use rusqlite::types::Value as Sql;
use serde_json::{Value, json};

use crate::cli_kit::Desk;
use crate::export_kit::{fill, rows, value};
use crate::server_kit::{Agent, key_id, wait_for};

/// Reports that [`report_on`] sends at most: their times must be believed, and differ.
const REPORTS_MAX: u64 = 9_000;

/// Sends reports until told to stop, and counts those that are acknowledged. The value of each is
/// its number.
async fn report_on(mut agent: Agent, acknowledged: &AtomicU64, stop: &AtomicBool) {
    for seq in 1..REPORTS_MAX {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let at_millis = 1_705_314_595_500 + i64::try_from(seq).unwrap();
        let samples = vec![Sample::new("cpu_usage", seq as f64)];
        let report = QueuedReport { seq, at_millis, age_millis: 0, samples };
        agent.say(&ToServer::Samples(Samples { stream: [1; 16], reports: vec![report] })).await;
        while !matches!(agent.next().await, ToAgent::Ack { seq: stored, .. } if stored == seq) {}
        acknowledged.store(seq, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_is_in_an_export_of_a_server_that_takes_in_more() {
    let mut desk = Desk::new().await;
    desk.restart(async |database| fill(database, 2_000).await).await;
    let agent = desk.rig.enrolled("busy", 1).await;
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let count = || acknowledged.load(Ordering::SeqCst);
    let exporting = async {
        for round in 0..5 {
            wait_for("more reports", async || count() > round * 20).await;
            let before = count();
            let path = desk.path(&format!("{round}.sqlite"));
            let mut command = desk.command(&["export", "sqlite", "--out", path.to_str().unwrap()]);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap());
            assert!(output.await.unwrap().status.success());
            let after = count();
            // Each once, from the first on, and none that was not sent.
            let values: Vec<f64> = rows(&path, "telemetry")
                .iter()
                .filter(|row| row[0] == Sql::Text("busy".to_owned()))
                .map(|row| if let Sql::Real(value) = row[3] { value } else { panic!("{row:?}") })
                .collect();
            let mut found: Vec<u64> = values.iter().map(|value| *value as u64).collect();
            found.sort_unstable();
            assert!(found.iter().copied().eq(1..=found.len() as u64), "{found:?}");
            let all = before..=after + 1;
            assert!(all.contains(&(found.len() as u64)), "{} of {all:?}", found.len());
            let sql = "SELECT COUNT(*) FROM telemetry WHERE device_id = 'much'";
            assert_eq!(value::<i64>(&path, sql), 20_000);
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(report_on(agent, &acknowledged, &stop), exporting);
}

/// A fleet with something in every table that can have something, and nothing moving.
async fn quiet() -> Desk {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west canary").await;
    desk.add("pump-2", 0.1 + 0.2, "eu-west").await;
    let sample = json!({"device_id": "pump-1", "metric_name": "io", "value": -1.5e-7,
        "timestamp": "2024-01-15T10:29:59.5Z", "metadata": {"disk": "sda", "n": 3}});
    desk.rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
    for interval in [30, 40] {
        let config =
            json!({"config": {"telemetry": {"interval": interval}}, "comment": "a, \"b\""});
        desk.rig.ask("POST", "/api/v1/config?device_id=pump-1", Some(config)).await.expect(200);
    }
    let wish = json!({"device_id": "pump-1", "command": "exec", "args": ["echo", "a, \"b\""]});
    desk.rig.ask("POST", "/api/v1/commands", Some(wish)).await.expect(201);
    desk.restart(async |database| fill(database, 300).await).await;
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_closed_database_gives_what_its_server_gave() {
    let mut desk = quiet().await;
    let out = |desk: &Desk, name: &str| desk.path(name).to_str().unwrap().to_owned();
    let forms = ["sqlite", "ndjson", "csv"];
    for form in forms {
        let said =
            desk.fleets(&["export", form, "--out", &out(&desk, &format!("on.{form}"))]).ends(0);
        assert!(said.out.is_empty(), "{said:#?}");
        let counts = "devices 3, config_versions 2, commands 1, alerts 0, events ";
        assert!(said.err.contains(counts) && said.err.contains("telemetry 3003"), "{said:#?}");
    }
    let database = desk.rig.database();
    let database = ["--database", database.to_str().unwrap()];
    let refused =
        desk.bare(&[&["export", "sqlite", "--out", &out(&desk, "x")], &database[..]].concat());
    refused.refuses(6, &["in use by another fleets server", "leave --database out"]);
    desk.rig.stop().await;
    for form in forms {
        let path = out(&desk, &format!("off.{form}"));
        desk.bare(&[&["export", form, "--out", &path], &database[..]].concat()).ends(0);
    }
    for table in ExportTable::ALL {
        let table = table.name();
        let online = rows(&desk.path("on.sqlite"), table);
        assert_eq!(online, rows(&desk.path("off.sqlite"), table), "{table}");
        assert_eq!(online.is_empty(), table == "alerts", "{table}");
        let csv = |name: &str| fs::read(desk.path(name).join(format!("{table}.csv"))).unwrap();
        assert_eq!(csv("on.csv"), csv("off.csv"), "{table}");
    }
    let lines = |name: &str| fs::read_to_string(desk.path(name)).unwrap();
    assert_eq!(lines("on.ndjson"), lines("off.ndjson"));
    // The same rows in each form.
    let mut tables: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines("on.ndjson").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        *tables.entry(row["table"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for (table, count) in tables {
        assert_eq!(rows(&desk.path("on.sqlite"), &table).len(), count, "{table}");
        let csv = fs::read_to_string(desk.path("on.csv").join(format!("{table}.csv"))).unwrap();
        assert_eq!(csv.matches("\r\n").count(), count + 1, "{table}");
    }
    let values: f64 =
        value(&desk.path("on.sqlite"), "SELECT value FROM telemetry WHERE device_id = 'pump-2'");
    assert!(values.to_bits() == (0.1_f64 + 0.2).to_bits(), "{values}");
    let missing = desk.bare(&["export", "sqlite", "--out", "x", "--database", "nowhere.db"]);
    missing.refuses(5, &["there is no database nowhere.db"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tables_and_times_are_chosen() {
    let desk = quiet().await;
    let path = desk.path("some.sqlite");
    let out = path.to_str().unwrap();
    let some = ["export", "sqlite", "--out", out, "--table", "telemetry,devices"];
    desk.fleets(
        &[&some[..], &["--from", "2024-01-15T10:29:59Z", "--to", "2024-01-15T10:29:59.9Z"]]
            .concat(),
    )
    .ends(0);
    let names: String =
        value(&path, "SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'");
    assert_eq!(names, "devices,telemetry");
    let metadata: String = value(&path, "SELECT metadata FROM telemetry");
    assert_eq!(metadata, r#"{"disk":"sda","n":3}"#);
    let time: String = value(&path, "SELECT timestamp FROM telemetry");
    assert_eq!(time, "2024-01-15 10:29:59.500");
    assert_eq!(value::<i64>(&path, "SELECT COUNT(*) FROM devices"), 3);
    let lines = desk.fleets(&["export", "csv", "--out", "-", "--table", "config_versions"]).ends(0);
    let expected = "device_id,version,timestamp,author,comment,config,server_url\r\npump-1,1,";
    assert!(lines.out.starts_with(expected), "{lines:#?}");
    assert!(
        lines.out.contains(r#","a, ""b""","{""telemetry"":{""interval"":30}}","#),
        "{lines:#?}"
    );
    for (wrong, part) in [
        (&["sqlite", "--out", "-"][..], "standard output"),
        (&["csv", "--out", "-"], "one table"),
        (&["ndjson", "--out", "-", "--from", "1h", "--to", "2h"], "--from is after --to"),
        (&["ndjson", "--out", "-", "--table", "keys"], "there is no table keys"),
    ] {
        desk.fleets(&[&["export"], wrong].concat()).refuses(2, &[part]);
    }
    for (query, detail) in [
        ("tables=keys", "tables: there is no table keys; known are devices"),
        ("tables=", "tables: there is no table"),
        ("from=now", "from: "),
        ("from=2024-01-15T10:30:00Z&to=2024-01-15T10:29:00Z", "from: is after the end"),
        ("limit=3", "limit: unknown parameter"),
    ] {
        let path = format!("/api/v1/export?{query}");
        let told = desk.rig.ask("GET", &path, None).await.problem(422);
        assert!(told.starts_with(detail), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hostile_texts_are_kept_and_do_no_harm() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "x").await;
    for (number, text) in HOSTILE.iter().enumerate() {
        let update = json!({"name": text, "metadata": {text.to_string(): text}});
        desk.rig.ask("PUT", "/api/v1/devices/pump-1", Some(update)).await.expect(200);
        let sample = json!({"device_id": "pump-1", "metric_name": "m", "value": number,
            "metadata": {text.to_string(): text}});
        desk.rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
        if !text.contains('\0') {
            let args = json!([text, "=1+1"]);
            let wish = json!({"device_id": "pump-1", "command": "exec", "args": args});
            desk.rig.ask("POST", "/api/v1/commands", Some(wish)).await.expect(201);
        }
        let config = json!({"comment": text, "config": {"telemetry": {"interval": number + 1}}});
        desk.rig.ask("POST", "/api/v1/config?device_id=pump-1", Some(config)).await.expect(200);
    }
    let out = |name: &str| desk.path(name).to_str().unwrap().to_owned();
    for form in ["sqlite", "ndjson", "csv"] {
        desk.fleets(&["export", form, "--out", &out(form)]).ends(0);
    }
    // As they are in the database,
    let exact = desk.path("sqlite");
    for (number, text) in HOSTILE.iter().enumerate() {
        let sql = format!("SELECT comment FROM config_versions WHERE version = {}", number + 1);
        assert_eq!(value::<String>(&exact, &sql), *text);
        let sql =
            format!("SELECT metadata FROM telemetry WHERE metric_name = 'm' AND value = {number}");
        let labels: Value = serde_json::from_str(&value::<String>(&exact, &sql)).unwrap();
        assert_eq!(labels, json!({text.to_string(): text}));
    }
    // spelled out in lines, which mean the same,
    let lines = fs::read_to_string(desk.path("ndjson")).unwrap();
    assert_harmless(&lines);
    let comments: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| row["table"] == "config_versions")
        .map(|row| row["comment"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(comments, HOSTILE);
    // and no formulas in tables.
    for table in ExportTable::ALL {
        let path = desk.path("csv").join(format!("{table}.csv"));
        let text = fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        assert_harmless(&text);
        for cell in text.lines().flat_map(cells) {
            let is_number = cell.parse::<f64>().is_ok();
            assert!(is_number || !cell.starts_with(['=', '+', '-', '@']), "{cell}");
        }
    }
}

/// The cells of a line of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut is_quoted) = (vec![String::new()], false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let cell = cells.last_mut().unwrap();
        match c {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            c => cell.push(c),
        }
    }
    cells
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_secret_is_in_an_export() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "x").await;
    let kinds = [
        json!({"kind": "operator"}),
        json!({"kind": "enrol"}),
        json!({"kind": "device", "device_id": "pump-1"}),
    ];
    let mut keys = vec![desk.rig.admin()];
    for kind in kinds {
        keys.push(desk.rig.key(kind).await);
    }
    // Where people put keys by mistake.
    for key in &keys {
        let update = json!({"name": key, "metadata": {"note": format!("use {key}!")}});
        desk.rig.ask("PUT", "/api/v1/devices/pump-1", Some(update)).await.expect(200);
        let sample =
            json!({"device_id": "pump-1", "metric_name": "m", "value": 1, "metadata": {"k": key}});
        desk.rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
        let config = json!({"comment": key, "api_key": key, "config": {}});
        desk.rig.ask("POST", "/api/v1/config?device_id=pump-1", Some(config)).await.expect(200);
    }
    let secret = |key: &str| {
        let bare = key.split('@').next().unwrap();
        bare.rsplit_once(&key_id(key)).unwrap().1[1..].to_owned()
    };
    let reply = desk.rig.ask("GET", "/api/v1/export", None).await;
    let mut texts = vec![reply.body.to_vec()];
    for form in ["sqlite", "ndjson"] {
        let path = desk.path(form);
        desk.fleets(&["export", form, "--out", path.to_str().unwrap()]).ends(0);
        texts.push(fs::read(path).unwrap());
    }
    for text in &texts {
        let text = String::from_utf8_lossy(text);
        assert!(text.contains("(masked)"));
        for key in &keys {
            assert!(!text.contains(&secret(key)) && text.contains(&key_id(key)));
        }
    }
    // It would be noticed.
    let names = desk.rig.ask("GET", "/api/v1/devices", None).await;
    assert!(String::from_utf8_lossy(&names.body).contains(&secret(keys.last().unwrap())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn how_much_there_is_is_told() {
    let desk = quiet().await;
    let stats = desk.rig.ask("GET", "/api/v1/db", None).await.expect(200);
    let events = desk.rig.ask("GET", "/api/v1/events?limit=500", None).await.expect(200);
    assert_eq!(stats["devices"], 3);
    assert_eq!(stats["events"], events.as_array().unwrap().len());
    // One of each pump, one that was posted, and many.
    assert_eq!(stats["telemetry"]["reports"], 303);
    assert_eq!(stats["database"]["bytes"], fs::metadata(desk.rig.database()).unwrap().len());
    assert!(stats["database"]["free_bytes"].as_u64().unwrap() > 0);
    let said = desk.fleets(&["db", "stats", "--json"]).ends(0);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["telemetry"], stats["telemetry"]);
    assert!(desk.fleets(&["db", "stats"]).ends(0).out.contains("Devices:    3\n"));
}
