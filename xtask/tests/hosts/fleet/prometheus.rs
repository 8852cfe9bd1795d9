//! Debian's Prometheus: what it thinks of our pages, and what it knows after it has read them.

use std::fs;

use fleet_core::api::MetricPoint;
use serde_json::Value;

use super::{Agent, COME_BACK, METRIC, Said, Server};
use crate::lab::{Host, Lab, wait_for};

/// Both ways to show a key.
const CONFIG: &str = r#"
global: {scrape_interval: 1s}
scrape_configs:
- job_name: fleet
  params: {fleet: ["1"]}
  authorization: {type: Bearer, credentials_file: KEY}
  static_configs: [{targets: ["TARGET"]}]
- job_name: server
  basic_auth: {username: prometheus, password_file: KEY}
  static_configs: [{targets: ["TARGET"]}]
- job_name: stranger
  static_configs: [{targets: ["TARGET"]}]
"#;

/// A metric whose name and labels Prometheus does not allow as they are.
const ODD: &str = "room.air,host=sensor-1,floor\\ no=2,path=C:\\\"x temperature-celsius=21.5\n";

/// A real Prometheus on a host.
struct Prometheus<'a>(&'a Host);

impl<'a> Prometheus<'a> {
    #[track_caller]
    fn start(host: &'a Host, server: &Server<'_>) -> Self {
        let config = host.path("prometheus.yml");
        let text = CONFIG.replace("KEY", &server.key_file().display().to_string());
        let target = server.url().replace("http://", "");
        fs::write(&config, text.replace("TARGET", &target)).expect("a configuration");
        let mut command = host.command("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", host.path("prometheus").display()));
        command.arg("--web.listen-address=127.0.0.1:9090");
        host.start("prometheus", command.env("NO_PROXY", "*"));
        Self(host)
    }

    /// What it answers to a question; nothing while it does not.
    fn ask(&self, path: &str, query: &str) -> Option<Value> {
        let mut command = self.0.command("curl");
        command.args(["-s", "-m5", "--noproxy", "*", "--get", "--data-urlencode"]);
        command.arg(format!("query={query}"));
        let said = Said::of(command.arg(format!("http://127.0.0.1:9090/api/v1/{path}")));
        let answer: Value = serde_json::from_str(&said.stdout).ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The series that an expression comes to, once there are any.
    #[track_caller]
    fn series(&self, expression: &str) -> Vec<Value> {
        wait_for(&format!("Prometheus to know {expression}"), COME_BACK, || {
            let found = self.ask("query", expression)?["result"].as_array()?.clone();
            (!found.is_empty()).then_some(found)
        })
    }
}

/// What the server says to Prometheus.
#[track_caller]
fn page(server: &Server<'_>, path: &str) -> String {
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let header = format!("Authorization: Bearer {}", key.trim());
    let url = format!("{}{path}", server.url());
    server.host.output("curl", &["-sf", "--noproxy", "*", "-H", &header, &url])
}

/// Has Prometheus' own tool look for mistakes.
#[track_caller]
fn is_well_made(host: &Host, name: &str, text: &str) -> Said {
    let file = host.path(name);
    fs::write(&file, text).expect("a file");
    let mut command = host.command("promtool");
    command.args(["check", "metrics"]).stdin(fs::File::open(file).expect("the file"));
    Said::of(&mut command)
}

#[test]
fn prometheus_reads_the_server_and_the_fleet() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, device] = ["desk", "cam-001"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&device);
    server.configure(&["cam-001"]);
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let user = format!("any:{}", key.trim());
    let url = format!("{}/write", server.url());
    desk.output("curl", &["-sf", "--noproxy", "*", "-u", &user, "--data-binary", ODD, &url]);

    is_well_made(&desk, "server.txt", &page(&server, "/metrics")).exits(0);
    let fleet = page(&server, "/metrics?fleet=1");
    is_well_made(&desk, "fleet.txt", &fleet).exits(0);
    let odd = r#"fleetd_room_air_temperature_celsius{device_id="sensor-1",metric_name="room.air_temperature-celsius",floor_no="2",path="C:\\\"x"} 21.5 "#;
    assert!(fleet.contains(odd), "{fleet}");
    // The tool does find mistakes.
    let wrong = format!("{fleet}# TYPE fleetd_cpu_usage untyped\n");
    assert_ne!(is_well_made(&desk, "wrong.txt", &wrong).code, Some(0));

    let prometheus = Prometheus::start(&desk, &server);
    let online = prometheus.series("fleets_devices{job=\"server\",status=\"online\"}");
    assert_eq!(online[0]["value"][1], "2", "the agent, and what was written for");
    let found = prometheus.series("fleetd_room_air_temperature_celsius");
    assert_eq!(
        (&found[0]["value"][1], &found[0]["metric"]["floor_no"]),
        (&"21.5".into(), &"2".into())
    );
    assert_eq!(found[0]["metric"]["path"], "C:\\\"x");

    // Every value that it has is one that was measured, at the time at which it was.
    wait_for("several values of one metric", COME_BACK, || {
        let found = prometheus.series(&format!("fleetd_{METRIC}[1m]"));
        let known = found[0]["values"].as_array().expect("values").clone();
        if known.len() < 5 {
            return None;
        }
        let query = ["telemetry", "query", "--device", "cam-001", "--metric", METRIC];
        let stored: Vec<MetricPoint> =
            server.fleets(&[&query[..], &["--limit", "1000", "-o", "json"]].concat()).json();
        for pair in &known {
            let at = (pair[0].as_f64().expect("a time") * 1000.0).round() as i64;
            let value: f64 = pair[1].as_str().expect("a value").parse().expect("a number");
            let is_same = |point: &&MetricPoint| point.timestamp.millis() == at;
            let point = stored.iter().find(is_same).expect("a time at which it was measured");
            assert_eq!(point.value.to_bits(), value.to_bits());
        }
        Some(())
    });
    let targets = prometheus.ask("targets", "").expect("its targets");
    for target in targets["activeTargets"].as_array().expect("targets") {
        let is_stranger = target["labels"]["job"] == "stranger";
        assert_eq!(target["health"], if is_stranger { "down" } else { "up" }, "{target:#}");
        let error = target["lastError"].as_str().expect("an error or none");
        assert_eq!(is_stranger, error.contains("401"), "{error}");
    }
    let log = desk.log("prometheus");
    assert!(!log.contains("Error on ingesting"), "{log}");
}
