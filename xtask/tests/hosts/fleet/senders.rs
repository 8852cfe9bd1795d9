//! Other people's programs that send telemetry: clients of InfluxDB as Debian ships them, and curl
//! with what Telegraf would send.

use std::fs;
use std::path::PathBuf;

use fleet_core::api::MetricPoint;
use serde_json::Value;

use super::{Agent, Said, Server, now_millis};
use crate::lab::{Host, Lab};

/// Debian's own, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";

/// Writes points as its manual shows it, and reads how errors are told.
const SCRIPT: &str = r#"
import sys
from influxdb import InfluxDBClient
from influxdb.exceptions import InfluxDBClientError

host, key, seconds = sys.argv[1], open(sys.argv[2]).read().strip(), int(sys.argv[3])
for gzip in (False, True):
    client = InfluxDBClient(host, 8080, "any", key, "fleet", gzip=gzip)
    assert client.ping().startswith("FleetD-")
    client.create_database("fleet")
    tags = {"host": "Web 01", "path": "C:\\Data, all=1"}
    fields = {"idle": 98.5, "count": 3, "is up": True, "note": "a \"b\"\nm,host=x y=1"}
    point = {"measurement": "cpu", "tags": tags, "fields": fields, "time": seconds + gzip}
    assert client.write_points([point], time_precision="s")
    for factor, precision in [(10**9, "n"), (10**6, "u"), (10**3, "ms"), (1, "s")]:
        point = {"measurement": "units", "tags": {"host": "web-01"}, "fields": {"value": 1.0},
                 "time": seconds * factor}
        assert client.write_points([point], time_precision=precision)
wrong = {"measurement": "m", "tags": {"host": "a"}, "fields": {"x": float("nan")}}
try:
    InfluxDBClient(host, 8080, "any", key, "fleet").write_points([wrong])
    sys.exit("NaN was taken")
except InfluxDBClientError as error:
    assert error.code == 400 and "unable to parse line 1: field x: nan" in str(error), error
try:
    InfluxDBClient(host, 8080, "any", "wrong", "fleet").write_points([point])
    sys.exit("a wrong key was taken")
except InfluxDBClientError as error:
    assert error.code == 401, error
"#;

/// The head of a file as InfluxDB's `influx_inspect export` writes it.
const EXPORT: &str = "# DDL\nCREATE DATABASE fleet\n# DML\n# CONTEXT-DATABASE: fleet\n";

/// What Telegraf sends with its usual inputs, cut to a few lines.
const TELEGRAF: &str = "\
disk,device=sda1,fstype=ext4,host=gateway,mode=rw,path=/ free=53687091200i,total=107374182400i,used_percent=47.3
mem,host=gateway available_percent=61.25,active=1234567168i
system,host=gateway uptime=86400i,uptime_format=\"1 day, 0:00\"
net,host=gateway,interface=all icmp_inmsgs=0i
";

/// The points that are stored, newest first.
#[track_caller]
fn points(server: &Server<'_>, device: &str, metric: &str) -> Vec<MetricPoint> {
    let query = ["telemetry", "query", "--device", device, "--metric", metric, "-o", "json"];
    server.fleets(&query).exits(0).json()
}

fn labels(point: &MetricPoint) -> Value {
    serde_json::from_str(point.metadata.raw()).expect("labels")
}

fn file(host: &Host, name: &str, content: &[u8]) -> PathBuf {
    let path = host.path(name);
    fs::write(&path, content).expect("a file");
    path
}

/// Now, in seconds.
fn now_secs() -> i64 {
    now_millis() / 1000
}

#[test]
fn a_python_program_writes_points_as_to_influxdb() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, sender] = ["desk", "sender"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let script = file(&sender, "write.py", SCRIPT.as_bytes());
    let now = now_secs();
    let mut command = sender.command(PYTHON);
    command.arg(script).arg(desk.address().to_string()).arg(server.key_file());
    Said::of(command.arg(now.to_string()).env("NO_PROXY", "*")).exits(0);

    let idle = points(&server, "web-01", "cpu_idle");
    let times: Vec<i64> = idle.iter().map(|point| point.timestamp.millis() / 1000).collect();
    assert_eq!(times, [now + 1, now]);
    let expected = serde_json::json!({"path": "C:\\\\Data, all=1"});
    assert_eq!(labels(&idle[0]), expected, "the client doubles backslashes, here as in InfluxDB");
    assert_eq!(points(&server, "web-01", "cpu_is_up").len(), 2);
    let units = points(&server, "web-01", "units");
    assert!(!units.is_empty() && units.iter().all(|p| p.timestamp.millis() == now * 1000));
    let ids: Vec<String> = server.devices().into_iter().map(|device| device.id.into()).collect();
    assert_eq!(ids, ["web-01"], "the text in a field is no line of its own");
}

#[test]
fn influxs_own_client_imports_a_file() {
    let mut lab = Lab::new();
    let host = lab.host("desk", &[]);
    let server = Server::start(&host);
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let influx = |args: &[&str]| {
        let mut command = host.command("influx");
        command.args(["-host", "127.0.0.1", "-port", "8080", "-username", "any"]);
        Said::of(command.args(args).env("INFLUX_PASSWORD", key.trim()).env("NO_PROXY", "*"))
    };
    let now = now_secs();
    let lines: Vec<String> =
        (0..12_000).map(|n| format!("cpu,host=old,n=n{} idle={n} {}", n % 7, now - n)).collect();
    let export = file(&host, "export.txt", (EXPORT.to_owned() + &lines.join("\n")).as_bytes());
    let export = export.to_str().expect("a plain path");
    influx(&["-import", "-path", export, "-precision", "s"]).exits(0);
    let found = points(&server, "old", "cpu_idle");
    assert_eq!(found.len(), 100, "as many as are asked for unless told otherwise");
    assert_eq!((found[0].timestamp.millis(), found[0].value as i64), (now * 1000, 0));
    let from = format!("{}", found[99].timestamp);
    let (to, limit) = (from.as_str(), "10000");
    let query = ["telemetry", "query", "--device", "old", "--metric", "cpu_idle"];
    let rest = ["--to", to, "--limit", limit, "-o", "json"];
    let rest: Vec<MetricPoint> = server.fleets(&[&query[..], &rest].concat()).exits(0).json();
    assert_eq!(rest.len(), 10_000);
    influx(&["-execute", "INSERT INTO fleet.x m,host=old v=1"]).exits(0);
    assert_eq!(points(&server, "old", "m_v").len(), 1);
    let shown = influx(&["-execute", "SHOW DATABASES"]);
    assert!(format!("{shown:?}").contains("answers no InfluxQL"), "{shown:?}");
}

#[test]
fn what_telegraf_sends_is_a_devices_own_with_the_devices_key() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, gateway] = ["desk", "gateway"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&gateway);
    server.configure(&["gateway"]);
    let key = server.fleets(&["keys", "create", "--device", "gateway", "-o", "json"]).exits(0);
    let key: Value = key.json();
    let header = format!("Authorization: Token {}", key["key"].as_str().expect("a key"));
    let header = file(&gateway, "header", header.as_bytes());
    let body = file(&gateway, "lines", TELEGRAF.as_bytes());
    gateway.output("gzip", &["--keep", body.to_str().expect("a plain path")]);
    let packed = body.with_file_name(format!("{}.gz", body.file_name().unwrap().display()));
    let url = format!("{}/api/v2/write?org=&bucket=telegraf&precision=ns", server.url());
    let send = |body: &PathBuf, kind: &str| {
        let mut command = gateway.command("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--write-out", "%{http_code}"]);
        command.arg("--header").arg(format!("@{}", header.display()));
        command.arg("--header").arg("Content-Type: text/plain; charset=utf-8");
        command.arg("--header").arg(format!("Content-Encoding: {kind}"));
        // As Telegraf does: packed while it is sent, so that nobody knows how long it will be.
        command.arg("--header").arg("Transfer-Encoding: chunked");
        command.arg("--data-binary").arg(format!("@{}", body.display()));
        Said::of(command.arg(&url)).exits(0).stdout
    };
    assert_eq!(send(&packed, "gzip"), "204");
    let free = points(&server, "gateway", "disk_free");
    let expected =
        serde_json::json!({"device": "sda1", "fstype": "ext4", "mode": "rw", "path": "/"});
    assert_eq!(labels(&free[0]), expected);
    let memory = points(&server, "gateway", "mem_available_percent");
    assert_eq!(memory[0].value.to_string(), "61.25");
    assert_eq!(server.devices().len(), 1, "no disk is a device");
    let nameless = TELEGRAF.replace(",host=gateway", "").replace("device=sda1,", "");
    let nameless = file(&gateway, "nameless", nameless.as_bytes());
    assert_eq!(send(&nameless, "identity"), "204");
    assert_eq!(points(&server, "gateway", "disk_free").len(), 2);

    // Of the same from elsewhere nothing is taken, and it is not said whether there is such a device.
    let others = file(&gateway, "others", TELEGRAF.replace("host=gateway", "host=desk").as_bytes());
    let answer = send(&others, "identity");
    assert!(answer.ends_with("403") && answer.contains("for its own device only"), "{answer}");
    assert_eq!(server.devices().len(), 1);
}
