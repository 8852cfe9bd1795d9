//! The reference's own examples, word for word, and what it leaves open.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server_kit::{Rig, send};

fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn the_references_examples_work_as_they_stand() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;

    let list = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    let device = &list.as_array().unwrap()[0];
    for (field, value) in [
        ("id", "rpi4-001"),
        ("name", "Raspberry Pi 4"),
        ("type", "raspberrypi"),
        ("version", "1.0.0"),
        ("status", "online"),
        ("last_seen", "2024-01-15T10:30:00Z"),
    ] {
        assert_eq!(device[field], value, "{device}");
    }
    let by_id = rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.expect(200);
    let by_uid = format!("/api/v1/devices/{}", device["uid"].as_str().unwrap());
    assert_eq!(rig.ask("GET", &by_uid, None).await.expect(200), by_id);

    let update = body(
        r#"{
  "metadata": {
    "location": "Lab A",
    "owner": "Engineering"
  }
}"#,
    );
    let put = rig.ask("PUT", "/api/v1/devices/rpi4-001", Some(update)).await.expect(200);
    assert_eq!(put, json!({"status": "updated"}));
    let with = rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.expect(200);
    assert_eq!(with["metadata"], json!({"location": "Lab A", "owner": "Engineering"}));

    let sample = body(
        r#"{
  "device_id": "rpi4-001",
  "timestamp": "2024-01-15T10:30:00Z",
  "metric_name": "cpu_usage",
  "value": 45.2,
  "metadata": "{\"cores\": 4}"
}"#,
    );
    let stored = rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
    assert_eq!(stored, json!({"status": "stored"}));
    let path = "/api/v1/telemetry/metrics?device_id=rpi4-001&metric=cpu_usage&limit=100";
    let answer = rig.ask("GET", path, None).await;
    assert_eq!(answer.headers["fleetd-resolution"], "raw");
    let points = answer.expect(200);
    assert_eq!(
        points,
        json!([{
            "device_id": "rpi4-001",
            "timestamp": "2024-01-15T10:30:00Z",
            "metric_name": "cpu_usage",
            "value": 45.2,
            "metadata": "{\"cores\":4}",
        }])
    );

    let config = body(
        r#"{
  "server_url": "http://new-server:8080",
  "api_key": "new-key",
  "config": "{\"telemetry_interval\": 30}"
}"#,
    );
    let path = "/api/v1/config?device_id=rpi4-001";
    let updated = rig.ask("POST", path, Some(config)).await.expect(200);
    assert_eq!(updated["status"], "updated");
    assert!(updated["not_applied"].as_str().unwrap().contains("api_key is not kept"));
    let shown = rig.ask("GET", path, None).await.expect(200);
    let document = r#"{"server_url":"http://new-server:8080","telemetry":{"interval":30}}"#;
    assert_eq!(
        (&shown["config"], &shown["server_url"]),
        (&json!(document), &json!("http://new-server:8080"))
    );
    assert_eq!((&shown["version"], &shown["api_key"]), (&json!(1), &json!("(masked)")));
    assert!(!shown.to_string().contains("new-key"));

    let discovered = rig.ask("GET", "/api/v1/discover", None).await.expect(200);
    assert!(discovered.is_array());
    let claim = body(
        r#"{
  "device_id": "rpi4-001",
  "config": {
    "server_url": "http://fleet-server:8080",
    "api_key": "device-key"
  }
}"#,
    );
    let answer = rig.ask("POST", "/api/v1/discover", Some(claim)).await;
    assert!(answer.problem(404).contains("seen"), "no agent announces itself in this test");

    let gone = rig.ask("DELETE", "/api/v1/devices/rpi4-001", None).await.expect(200);
    assert_eq!(gone["status"], "deleted");
    rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.problem(404);
}

#[tokio::test]
async fn telemetry_comes_in_every_promised_form() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let at = |n: u32, year: u32| {
        let time = format!("{year}-01-15T10:30:0{n}Z");
        format!(r#"{{"device_id":"rpi4-001","metric_name":"m","value":{n},"timestamp":"{time}"}}"#)
    };
    let sample = |n| at(n, 2024);
    let untimed = r#"{"device_id":"rpi4-001","metric_name":"untimed","value":1}"#;
    let gzip = |text: String| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |text: String| compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
    let array = format!("[{},{}]", sample(1), sample(2));
    let lines = format!("{}\n{}\n", sample(3), sample(4));
    let ahead = at(5, 9000);
    for (media, encoding, body, status) in [
        ("application/json", "identity", array.into_bytes(), 201),
        ("application/x-ndjson", "identity", lines.clone().into_bytes(), 201),
        ("application/x-ndjson", "gzip", gzip(lines.clone()), 201),
        ("application/json", "gzip", b"no gzip".to_vec(), 400),
        ("application/x-ndjson", "zstd", zstd(lines), 201),
        ("application/json", "zstd", sample(1).into_bytes(), 400),
        ("application/json", "br", sample(1).into_bytes(), 415),
        ("application/json", "identity", format!("{0}\n{0}", sample(1)).into_bytes(), 400),
        ("text/plain", "identity", sample(1).into_bytes(), 415),
        ("application/json", "identity", b"{".to_vec(), 400),
        ("application/json", "identity", br#"{"device_id":"x"}"#.to_vec(), 422),
        ("application/json", "identity", sample(1).replace("rpi4-001", "none").into_bytes(), 404),
        ("application/json", "identity", ahead.into_bytes(), 422),
        ("application/json", "identity", format!("[{untimed},{untimed}]").into_bytes(), 201),
    ] {
        let headers = [
            ("authorization", format!("Bearer {}", rig.admin())),
            ("content-type", media.to_owned()),
            ("content-encoding", encoding.to_owned()),
        ];
        let from = std::net::Ipv4Addr::LOCALHOST.into();
        let answer = send(rig.address(), from, "POST", "/api/v1/telemetry", &headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{media} {encoding}: {answer:?}");
    }
    let path = "/api/v1/telemetry/metrics?device_id=rpi4-001&metric=m";
    let points = rig.ask("GET", path, None).await.expect(200);
    assert_eq!(points.as_array().unwrap().len(), 4, "what was sent three times is there once");
    let untimed = path.replace("metric=m", "metric=untimed");
    let points = rig.ask("GET", &untimed, None).await.expect(200);
    assert_eq!(points.as_array().unwrap().len(), 2, "of one request, none takes another's place");
    let none = format!("{path}&from=2024-01-15T10%3A31%3A01Z");
    assert_eq!(rig.ask("GET", &none, None).await.expect(200), json!([]));
    for bad in ["limit=0", "limit=10001", "from=yesterday", "step=1ms", "agg=max"] {
        let field = bad.split('=').next().unwrap();
        let detail = rig.ask("GET", &format!("{path}&{bad}"), None).await.problem(422);
        assert!(detail.starts_with(field), "{detail}");
    }
}

#[tokio::test]
async fn a_stale_configuration_is_a_conflict_that_says_what_is_current() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let path = "/api/v1/config?device_id=rpi4-001";
    let set = |secs: u32, version: &'static str| {
        let headers = [
            ("authorization", format!("Bearer {}", rig.admin())),
            ("content-type", "application/json".to_owned()),
            ("if-match", version.to_owned()),
        ];
        let body = json!({"config": {"telemetry": {"interval": secs}}}).to_string().into_bytes();
        let (address, from) = (rig.address(), std::net::Ipv4Addr::LOCALHOST.into());
        async move { send(address, from, "POST", path, &headers, body).await }
    };
    let first = set(10, "\"0\"").await;
    assert_eq!(
        (first.expect(200)["version"].as_u64(), &first.headers["etag"]),
        (Some(1), &"\"1\"".parse().unwrap())
    );
    let stale = set(20, "\"0\"").await;
    assert_eq!(stale.expect(409)["current_version"], 1);
    assert_eq!(set(20, "1").await.expect(200)["version"], 2);
    // The same once more is no new version, but no way around the check either.
    let same = set(20, "2").await.expect(200);
    assert_eq!((&same["status"], &same["version"]), (&json!("updated"), &json!(2)));
    assert_eq!(set(20, "*").await.expect(200)["version"], 2);
    assert_eq!(set(20, "1").await.expect(409)["current_version"], 2);
    set(30, "*").await.expect(200);
    set(30, "new").await.problem(422);
    let shown = rig.ask("GET", path, None).await.expect(200);
    assert_eq!(
        (&shown["version"], shown["config"].as_str()),
        (&json!(3), Some("{\"telemetry\":{\"interval\":30}}"))
    );
    let typo = json!({"config": {"telemetry": {"intervall": 5}}});
    let detail = rig.ask("POST", path, Some(typo)).await.problem(422);
    assert!(detail.starts_with("config.telemetry.intervall"), "{detail}");
}

#[tokio::test]
async fn lists_come_in_pages_when_asked_to() {
    let rig = Rig::start().await;
    let mut agents = Vec::new();
    for (seed, id) in [(1, "c"), (2, "a"), (3, "b")] {
        agents.push(rig.enrolled(id, seed).await);
    }
    let ids = |page: &Value| -> Vec<String> {
        let ids = page.as_array().unwrap().iter();
        ids.map(|device| device["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = rig.ask("GET", "/api/v1/devices", None).await;
    assert_eq!(ids(&all.expect(200)), ["a", "b", "c"]);
    assert!(!all.headers.contains_key("link"));
    let page = rig.ask("GET", "/api/v1/devices?limit=2", None).await;
    assert_eq!(ids(&page.expect(200)), ["a", "b"]);
    let link = page.headers["link"].to_str().unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    let last = rig.ask("GET", next, None).await;
    assert_eq!(ids(&last.expect(200)), ["c"]);
    assert!(!last.headers.contains_key("link"));
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let rig = Rig::start().await;
    rig.ask("GET", "/nothing", None).await.problem(404);
    rig.ask("GET", "/api/v1/devices/nobody", None).await.problem(404);
    rig.ask("DELETE", "/api/v1/keys/nokey", None).await.problem(404);
    let wrong = rig.ask("PATCH", "/api/v1/devices", None).await;
    wrong.problem(405);
    assert_eq!(wrong.headers["allow"], "GET, HEAD");
    let unknown = rig.ask("POST", "/api/v1/keys", Some(json!({"kind": "root"}))).await;
    assert!(unknown.problem(422).contains("kind"));
    let admin =
        rig.ask("POST", "/api/v1/keys", Some(json!({"kind": "operator", "label": "admin.key"})));
    assert!(admin.await.problem(422).contains("label"));
    assert_eq!(rig.ask("GET", "/health", None).await.expect(200), json!({"status": "ok"}));
    rig.ask("GET", "/health/ready", None).await.expect(200);
    let identity = rig.ask_with("GET", "/api/v1/identity", None, None).await.expect(200);
    assert_eq!(identity["identity"], rig.server().identity().to_string());
}

#[tokio::test]
async fn the_head_alone_is_that_of_the_whole() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    for path in ["/health", "/api/v1/devices", "/api/v1/devices/rpi4-001", "/api/v1/openapi.json"] {
        let whole = rig.ask("GET", path, None).await;
        let head = rig.ask("HEAD", path, None).await;
        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            assert_eq!(head.headers.get(name), whole.headers.get(name), "{path}");
        }
    }
    assert_eq!(rig.ask("HEAD", "/api/v1/devices/nobody", None).await.status, 404);
    assert_eq!(rig.ask_with("HEAD", "/api/v1/devices", None, None).await.status, 401);
    // What has no end, and what only changes something.
    for (path, allowed) in [("/api/v1/stream", "GET"), ("/api/v1/telemetry", "POST")] {
        let refused = rig.ask("HEAD", path, None).await;
        assert_eq!((refused.status.as_u16(), refused.body.len()), (405, 0), "{path}");
        assert_eq!(refused.headers["allow"], allowed, "{path}");
    }
    // On a connection that goes on, nothing of a body comes before the next answer.
    let mut stream = TcpStream::connect(rig.address()).await.unwrap();
    let requests = "HEAD /health HTTP/1.1\r\nhost: server\r\n\r\n\
                    GET /health HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert_eq!(answers.matches("{\"status\":\"ok\"}").count(), 1, "{answers}");
}

#[tokio::test]
async fn no_answer_is_taken_for_a_page_that_does_something() {
    let rig = Rig::start().await;
    for (method, path) in
        [("GET", "/health"), ("GET", "/api/v1/devices"), ("GET", "/nothing"), ("PATCH", "/")]
    {
        let answer = rig.ask(method, path, None).await;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
    }
}
