//! What Prometheus reads: the server itself, and the fleet for whoever asks for it.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::json;

use crate::server_kit::{Answer, Rig, send};

const FLEET: &str = "/metrics?fleet=1";

/// The text of a page in which every family is whole, named once, and explained.
#[track_caller]
fn page(answer: &Answer) -> String {
    answer.expect(200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.ends_with('\n'));
    let (mut families, mut series) = (HashSet::new(), HashSet::new());
    let mut current = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split(' ').next().unwrap();
            assert!(families.insert(current), "{current} is there twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert_eq!(kind == "counter", name.ends_with("_total") && !name.starts_with("fleetd_"));
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(name, current, "{line}");
            let end = line.rfind('}').map_or(name.len(), |end| end + 1);
            assert!(series.insert(&line[..end]), "{line} is there twice");
        }
    }
    text
}

#[track_caller]
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.split(' ').next().unwrap().parse().ok()
}

#[tokio::test]
async fn the_server_tells_how_it_is() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("rpi4-001", 1).await;
    agent.report(1, &[1, 2], 45.5).await;
    let sample = json!({"device_id": "rpi4-001", "metric_name": "m", "value": 1});
    rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
    rig.ask("POST", "/api/v1/telemetry", Some(json!({}))).await.problem(422);
    let headers = [("authorization", format!("Token {}", rig.admin()))];
    let from = Ipv4Addr::LOCALHOST.into();
    let lines = b"m,host=rpi4-001 a=1,b=2,c=\"text\"\nnonsense".to_vec();
    send(rig.address(), from, "POST", "/write", &headers, lines).await.expect(400);
    rig.ask("GET", "/nowhere", None).await.problem(404);

    let text = page(&rig.ask("GET", "/metrics", None).await);
    for (series, expected) in [
        ("fleets_links", 1.0),
        ("fleets_devices{status=\"online\"}", 1.0),
        ("fleets_devices{status=\"lost\"}", 0.0),
        ("fleets_store_healthy", 1.0),
        ("fleets_telemetry_reports_total{door=\"link\"}", 2.0),
        ("fleets_telemetry_samples_total{door=\"link\"}", 2.0),
        ("fleets_telemetry_samples_total{door=\"json\"}", 1.0),
        ("fleets_telemetry_reports_total{door=\"influx\"}", 1.0),
        ("fleets_telemetry_samples_total{door=\"influx\"}", 2.0),
        ("fleets_telemetry_samples_left_out_total", 0.0),
        ("fleets_influx_lines_refused_total", 1.0),
        ("fleets_influx_strings_skipped_total", 1.0),
        ("fleets_http_requests_total{subject=\"telemetry\",status=\"201\"}", 1.0),
        ("fleets_http_requests_total{subject=\"telemetry\",status=\"422\"}", 1.0),
        ("fleets_http_requests_total{subject=\"influx\",status=\"400\"}", 1.0),
        ("fleets_http_requests_total{subject=\"unknown\",status=\"404\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in:\n{text}");
    }
    for series in [
        "fleets_store_commits_total",
        "fleets_database_bytes",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ] {
        assert!(value(&text, series).is_some_and(|value| value > 0.0), "{series} in:\n{text}");
    }
    let identity = rig.server().identity();
    assert!(text.contains(&format!("identity=\"{identity}\"}} 1\n")), "{text}");
    assert!(!text.contains("fleetd_"), "nobody asked for the fleet");
    // The next one counts this one.
    let text = page(&rig.ask("GET", "/metrics?fleet=0", None).await);
    let series = "fleets_http_requests_total{subject=\"metrics\",status=\"200\"}";
    assert_eq!(value(&text, series), Some(1.0));
    assert!(rig.ask("GET", "/metrics?fleet=yes", None).await.problem(422).starts_with("fleet"));
}

#[tokio::test]
async fn the_fleet_tells_what_it_measured_last_as_long_as_it_is_heard() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("rpi4-001", 1).await;
    agent.report(1, &[1, 2], 45.5).await;
    let headers = [("authorization", format!("Token {}", rig.admin()))];
    let from = Ipv4Addr::LOCALHOST.into();
    let lines = "disk,host=web01,path=/a\\ \"b\",device=sda1 free.space=1,used-space=2 1705314600000000000\n\
                 latency_ms,host=web01 value=2.5 1705314600000000000\n";
    let answer = send(rig.address(), from, "POST", "/write", &headers, lines.into()).await;
    assert_eq!(answer.status, 204);

    let text = page(&rig.ask("GET", FLEET, None).await);
    for (series, expected) in [
        ("fleets_device_heard{device_id=\"rpi4-001\"}", 1.0),
        ("fleets_fleet_left_out", 0.0),
        ("fleetd_cpu_usage{device_id=\"rpi4-001\"}", 45.5),
        (
            r#"fleetd_disk_free_space{device_id="web01",metric_name="disk_free.space",device="sda1",path="/a \"b\""}"#,
            1.0,
        ),
        ("fleetd_latency_seconds{device_id=\"web01\",metric_name=\"latency_ms\"}", 0.0025),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in:\n{text}");
    }
    assert!(
        text.contains("fleetd_cpu_usage{device_id=\"rpi4-001\"} 45.5 1705314600002\n"),
        "{text}"
    );

    // The fleet falls silent: what it said once is not told as if it said so now.
    drop(agent);
    rig.clock.advance(Duration::from_secs(600));
    let text = page(&rig.ask("GET", FLEET, None).await);
    assert_eq!(value(&text, "fleets_device_heard{device_id=\"rpi4-001\"}"), Some(0.0), "{text}");
    assert!(!text.contains("fleetd_"), "{text}");
}

#[tokio::test]
async fn only_operators_are_told_and_prometheus_can_say_that_it_is_one() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let basic = BASE64.encode(format!("prometheus:{}", rig.admin()).as_bytes());
    let headers = [("authorization", format!("Basic {basic}"))];
    let from = Ipv4Addr::LOCALHOST.into();
    page(&send(rig.address(), from, "GET", FLEET, &headers, Vec::new()).await);
    rig.ask_with("GET", "/metrics", None, None).await.problem(401);
    let device = rig.key(json!({"kind": "device", "device_id": "rpi4-001"})).await;
    rig.ask_with("GET", "/metrics", Some(&device), None).await.problem(403);
}
