//! Influx line protocol, as programs that know InfluxDB send it.

use std::io::Write as _;
use std::net::Ipv4Addr;

use data_encoding::BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use crate::server_kit::{Answer, Rig, send};

const V1: &str = "/write";
const V2: &str = "/api/v2/write";
/// The rig's time.
const NOW: i64 = 1_705_314_600;

async fn write(
    rig: &Rig,
    path: impl AsRef<str>,
    authorization: impl Into<String>,
    lines: impl Into<Vec<u8>>,
) -> Answer {
    let headers = [("authorization", authorization.into())];
    let from = Ipv4Addr::LOCALHOST.into();
    send(rig.address(), from, "POST", path.as_ref(), &headers, lines.into()).await
}

fn token(key: &str) -> String {
    format!("Token {key}")
}

/// Values and labels of a metric, newest first.
async fn stored(rig: &Rig, device: &str, metric: &str) -> Vec<(Value, Value)> {
    let path = format!("/api/v1/telemetry/metrics?device_id={device}&metric={metric}");
    let points = rig.ask("GET", &path, None).await.expect(200);
    let point = |point: &Value| {
        let labels = point["metadata"].as_str().unwrap();
        (point["value"].clone(), serde_json::from_str(labels).unwrap())
    };
    points.as_array().unwrap().iter().map(point).collect()
}

#[tokio::test]
async fn lines_become_metrics_of_devices_that_are_made_for_them() {
    let rig = Rig::start().await;
    let admin = token(&rig.admin());
    let lines = format!(
        "cpu,host=Web01,cpu=cpu0 usage_idle=98.5,note=\"text\" {NOW}000000000\n\
         cpu,host=Web01,cpu=cpu1 usage_idle=97.5 {NOW}000000000\n\
         # a comment\n\
         disk,device=sda1,host=Web01 free=12i,read\\ only=f\n\
         temperature,device=sensor-7 value=21.5\n\
         m,device_id=gate-1,host=Web01 up=t\n"
    );
    let answer = write(&rig, format!("{V2}?org=o&bucket=b"), admin.as_str(), lines.as_str()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{answer:?}");
    assert_eq!(answer.headers["fleetd-skipped-strings"], "1");
    let idle = stored(&rig, "web01", "cpu_usage_idle").await;
    assert!(idle.contains(&(json!(98.5), json!({"cpu": "cpu0"}))), "{idle:?}");
    assert!(idle.contains(&(json!(97.5), json!({"cpu": "cpu1"}))), "{idle:?}");
    assert_eq!(
        stored(&rig, "web01", "disk_free").await,
        [(json!(12.0), json!({"device": "sda1"}))]
    );
    assert_eq!(stored(&rig, "web01", "disk_read_only").await[0].0, 0.0);
    assert_eq!(stored(&rig, "sensor-7", "temperature").await, [(json!(21.5), json!({}))]);
    assert_eq!(stored(&rig, "gate-1", "m_up").await, [(json!(1.0), json!({"host": "Web01"}))]);

    let devices = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    let devices: Vec<_> = devices.as_array().unwrap().iter().collect();
    let ids: Vec<_> = devices.iter().map(|device| device["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["gate-1", "sensor-7", "web01"]);
    for device in &devices {
        assert_eq!((&device["type"], &device["status"]), (&json!("other"), &json!("online")));
    }
    assert_eq!(devices[1]["latest"]["metrics"], json!({"temperature": 21.5}));
    let path = "/api/v1/events?kind=device.enrolled";
    let events = rig.ask("GET", path, None).await.expect(200);
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), 3);
    assert!(events[0]["actor"].as_str().unwrap().starts_with("operator:"), "{events:?}");
    assert!(events[0]["text"].as_str().unwrap().starts_with("made for what the key "));

    // The same once more makes nothing new.
    assert_eq!(write(&rig, V1, admin.as_str(), lines.as_str()).await.status, 204);
    assert_eq!(rig.ask("GET", path, None).await.expect(200).as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn wrong_lines_are_named_and_the_others_are_stored() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let admin = token(&rig.admin());
    let mixed = "m,host=rpi4-001 a=1 1705314500000000000\nm,host=rpi4-001 a=high\nm,host=rpi4-001 a=2,b=3\nm a=1";
    let answer = write(&rig, V2, admin.as_str(), mixed).await.expect(400);
    let message = "partial write: line 2: field a: high is not a number, a boolean or a string in \
                   quotes (lines stored: 2, not stored: 2)";
    assert_eq!(answer, json!({"code": "invalid", "message": message, "line": 2}));
    assert_eq!(stored(&rig, "rpi4-001", "m_a").await.len(), 2);
    let answer = write(&rig, V1, admin.as_str(), mixed).await.expect(400);
    assert_eq!(answer, json!({"error": message}));

    let answer = write(&rig, V1, admin.as_str(), "\n\nnonsense\n").await.expect(400);
    let message = "unable to parse line 3: no fields (lines stored: 0, not stored: 1)";
    assert_eq!(answer, json!({"error": message}));
    for nothing in ["", "\n", "# only a comment\n"] {
        assert_eq!(write(&rig, V2, admin.as_str(), nothing).await.status, 204);
    }

    // What an operator may undo is no reason for a sender to throw its lines away.
    rig.ask("POST", "/api/v1/devices/rpi4-001/revoke", Some(json!({"reason": "lost"})))
        .await
        .expect(200);
    let answer = write(&rig, V2, admin.as_str(), "m,host=rpi4-001 a=1").await.expect(403);
    let message = answer["message"].as_str().unwrap();
    assert!(message.starts_with("line 1: the device rpi4-001 is not active: "), "{message}");
    assert_eq!((&answer["code"], &answer["line"]), (&json!("forbidden"), &json!(1)));
}

#[tokio::test]
async fn times_are_in_the_unit_that_the_request_names() {
    let rig = Rig::start().await;
    let admin = token(&rig.admin());
    let times = [
        ("", "1705314600123456789"),
        ("precision=ns", "1705314600123000000"),
        ("precision=u&db=x&rp=y&consistency=all", "1705314600123000"),
        ("precision=us", "1705314600123999"),
        ("precision=%C2%B5", "1705314600123000"),
        ("precision=ms", "1705314600123"),
    ];
    for (query, time) in times {
        let answer =
            write(&rig, format!("{V1}?{query}"), admin.as_str(), format!("m,host=a v=1 {time}"));
        assert_eq!(answer.await.status, 204, "{query}");
    }
    for (unit, time) in [("s", "1705314600"), ("m", "28421910"), ("h", "473698")] {
        let answer = write(
            &rig,
            format!("{V2}?precision={unit}"),
            admin.as_str(),
            format!("n,host=a v=1 {time}"),
        );
        assert_eq!(answer.await.status, 204, "{unit}");
    }
    let path = "/api/v1/telemetry/metrics?device_id=a&metric=";
    let found = rig.ask("GET", &format!("{path}m_v"), None).await.expect(200);
    let is_same = |point: &Value| point["timestamp"] == "2024-01-15T10:30:00.123Z";
    assert!(found.as_array().unwrap().iter().all(is_same), "{found}");
    let found = rig.ask("GET", &format!("{path}n_v"), None).await.expect(200);
    let times: Vec<_> = found.as_array().unwrap().iter().map(|p| p["timestamp"].clone()).collect();
    assert_eq!(times, ["2024-01-15T10:30:00Z", "2024-01-15T10:00:00Z"]);

    // In another unit than was said, times are of other centuries.
    for (query, time) in
        [("precision=ms", "1705314600123456789"), ("precision=ns", "1705314600123")]
    {
        let answer =
            write(&rig, format!("{V2}?{query}"), admin.as_str(), format!("m,host=a v=1 {time}"));
        let answer = answer.await.expect(400);
        assert!(answer["message"].as_str().unwrap().contains("precision"), "{answer}");
    }
    for bad in ["precision=d", "precision=", "precission=s", "precision=s&precision=s"] {
        let answer =
            write(&rig, format!("{V2}?{bad}"), admin.as_str(), "m,host=a v=1").await.expect(422);
        assert_eq!(answer["code"], "unprocessable entity");
    }
}

#[tokio::test]
async fn a_key_comes_in_a_header_of_any_usual_kind_and_never_in_the_url() {
    let rig = Rig::start().await;
    let key = rig.admin();
    let basic = |user: &str| format!("Basic {}", BASE64.encode(format!("{user}:{key}").as_bytes()));
    let line = "m,host=a v=1";
    for good in [
        format!("Bearer {key}"),
        format!("Token {key}"),
        format!("token  {key}"),
        basic("telegraf"),
        basic(""),
    ] {
        assert_eq!(write(&rig, V1, good.as_str(), line).await.status, 204, "{good}");
    }
    let mut from = (1..).map(|last| Ipv4Addr::new(127, 3, 0, last).into());
    for bad in [
        "Basic !!!".to_owned(),
        format!("Basic {}", BASE64.encode(key.as_bytes())),
        format!("Basic {}", BASE64.encode(format!("{key}:").as_bytes())),
        format!("Digest {key}"),
        key.clone(),
        "Token flt_op_wrong".to_owned(),
    ] {
        let headers = [("authorization", bad)];
        let from = from.next().unwrap();
        let answer = send(rig.address(), from, "POST", V2, &headers, line.into()).await;
        let body = answer.expect(401);
        assert_eq!(body["code"], "unauthorized");
        assert!(body["message"].as_str().unwrap().contains("admin.key"), "{body}");
        assert!(!answer.headers["www-authenticate"].to_str().unwrap().contains("Basic"));
    }
    // A page of somebody else must not write with what a browser was once told.
    let headers = [("authorization", basic("u")), ("origin", "http://evil.example".to_owned())];
    let answer = send(rig.address(), from.next().unwrap(), "POST", V1, &headers, line.into()).await;
    assert!(answer.expect(401)["error"].as_str().unwrap().contains("Basic is for programs"));
    // Nor does Basic do where there is more to break.
    let headers = [("authorization", basic("u"))];
    let from = Ipv4Addr::LOCALHOST.into();
    send(rig.address(), from, "GET", "/api/v1/devices", &headers, Vec::new()).await.problem(401);

    let bearer = format!("Bearer {key}");
    for path in
        [format!("{V1}?u=x&p={key}"), format!("{V2}?p={key}"), format!("/query?p={key}&q=x")]
    {
        let answer = write(&rig, &path, bearer.as_str(), line).await;
        assert_eq!(answer.status, 400);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains("a key is not taken from the URL"), "{text}");
        assert!(!text.contains(&key));
    }
}

#[tokio::test]
async fn a_device_key_writes_for_its_own_device_with_a_name_or_without() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let _other = rig.enrolled("rpi4-002", 2).await;
    let key = token(&rig.key(json!({"kind": "device", "device_id": "rpi4-001"})).await);
    for line in [
        "m v=1 1705314500000000000",
        "m,device_id=rpi4-001,host=raspberrypi v=1 1705314510000000000",
    ] {
        assert_eq!(write(&rig, V2, key.as_str(), line).await.status, 204, "{line}");
    }
    assert_eq!(stored(&rig, "rpi4-001", "m_v").await.len(), 2);
    // It is not told whether there is another, and makes none.
    for line in ["m,host=rpi4-002 v=1", "m,host=nobody v=1"] {
        let answer = write(&rig, V2, key.as_str(), line).await.expect(403);
        let message = "line 1: a device key posts for its own device only \
                       (lines stored: 0, not stored: 1)";
        assert_eq!(answer["message"], message);
    }
    let answer = write(&rig, V1, key.as_str(), "m v=3\nm,host=rpi4-002 v=1").await.expect(400);
    assert!(answer["error"].as_str().unwrap().starts_with("partial write: line 2: "), "{answer}");
    assert_eq!(stored(&rig, "rpi4-001", "m_v").await.len(), 3);
    let devices = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    assert_eq!(devices.as_array().unwrap().len(), 2);
    let enrol = token(&rig.key(json!({"kind": "enrol"})).await);
    assert_eq!(write(&rig, V1, &enrol, "m,host=a v=1").await.status, 403);
    rig.ask("POST", "/api/v1/devices/rpi4-001/revoke", None).await.expect(200);
    assert_eq!(write(&rig, V2, key.as_str(), "m v=1").await.status, 401);
}

#[tokio::test]
async fn who_puts_a_device_out_is_obeyed_by_the_next_line() {
    let rig = Rig::start().await;
    let admin = token(&rig.admin());
    for round in 0..20 {
        let line = format!("m,host=box-{round} v=1");
        assert_eq!(write(&rig, V2, admin.as_str(), line.as_str()).await.status, 204);
        rig.ask("POST", &format!("/api/v1/devices/box-{round}/revoke"), None).await.expect(200);
        assert_eq!(
            write(&rig, V2, admin.as_str(), line.as_str()).await.status,
            403,
            "round {round}"
        );
    }
    // A deleted one is gone; what comes later is about a new one of the same name.
    rig.ask("DELETE", "/api/v1/devices/box-0", None).await.expect(200);
    assert_eq!(write(&rig, V2, admin.as_str(), "m,host=box-0 v=1").await.status, 204);
    assert_eq!(stored(&rig, "box-0", "m_v").await.len(), 1);
}

#[tokio::test]
async fn a_request_makes_so_many_devices_and_no_more() {
    let rig = Rig::start_patient().await;
    let admin = token(&rig.admin());
    let lines: Vec<_> = (0..1_005).map(|n| format!("m,host=box-{n} v={n}")).collect();
    let lines = lines.join("\n");
    let answer = write(&rig, V2, admin.as_str(), lines.as_str()).await.expect(400);
    let message = answer["message"].as_str().unwrap();
    assert!(message.ends_with("(lines stored: 1000, not stored: 5)"), "{message}");
    assert!(
        message.contains("line 1001: there is no device box-1000, and this request"),
        "{message}"
    );
    assert_eq!(
        write(&rig, V2, admin.as_str(), lines.as_str()).await.status,
        204,
        "the rest comes with the next"
    );
    let events = rig.ask("GET", "/api/v1/events?kind=device.enrolled&limit=500", None).await;
    assert_eq!(events.expect(200).as_array().unwrap().len(), 500);
    assert_eq!(stored(&rig, "box-1004", "m_v").await.len(), 1);
    // A uid is no name for something new.
    let uid = "01890a5d-ac96-774b-bcce-b302099a8057";
    let answer = write(&rig, V2, admin.as_str(), format!("m,host={uid} v=1")).await.expect(403);
    assert!(answer["message"].as_str().unwrap().contains("there is no device"), "{answer}");
}

#[tokio::test]
async fn packed_and_large_bodies_are_taken_within_bounds() {
    let rig = Rig::start().await;
    let lines: Vec<_> = (0..1_000).map(|n| format!("m,host=a,n=n{n} v={n}")).collect();
    let lines = lines.join("\n");
    let pack = |encoding: &str, text: &str| match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => compress_to_vec(text.as_bytes(), CompressionLevel::Fastest),
        _ => text.as_bytes().to_vec(),
    };
    let bomb = " ".repeat(10 * 1024 * 1024 + 1);
    let many = format!("m,host=a {}", vec!["f=1"; 20_001].join(","));
    for (encoding, body, status) in [
        ("identity", lines.as_str(), 204),
        ("gzip", &lines, 204),
        ("zstd", &lines, 204),
        ("identity", &bomb, 413),
        ("gzip", &bomb, 413),
        ("zstd", &bomb, 413),
        ("gzip", &many, 413),
        ("br", &lines, 415),
    ] {
        let headers = [
            ("authorization", token(&rig.admin())),
            ("content-encoding", encoding.to_owned()),
            ("content-type", "text/plain; charset=utf-8".to_owned()),
        ];
        let from = Ipv4Addr::LOCALHOST.into();
        let body = pack(encoding, body);
        let answer = send(rig.address(), from, "POST", V2, &headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{encoding}: {answer:?}");
        if status > 400 {
            assert!(answer.json()["code"].is_string(), "{answer:?}");
        }
    }
    assert_eq!(stored(&rig, "a", "m_f").await, [], "what is too much is not stored in part");
}

#[tokio::test]
async fn senders_find_what_they_look_for_before_they_write() {
    let rig = Rig::start().await;
    for method in ["GET", "HEAD"] {
        let answer = rig.ask_with(method, "/ping", None, None).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
        assert!(answer.headers["x-influxdb-version"].to_str().unwrap().starts_with("FleetD-"));
    }
    let made = json!({"results": [{"statement_id": 0}]});
    let path = "/query?q=CREATE+DATABASE+%22telegraf%22&db=x";
    assert_eq!(rig.ask("GET", path, None).await.expect(200), made);
    assert_eq!(rig.ask("POST", path, None).await.expect(200), made);
    let headers = [
        ("authorization", token(&rig.admin())),
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
    ];
    let from = Ipv4Addr::LOCALHOST.into();
    let form = b"q=create+database+telegraf".to_vec();
    let answer = send(rig.address(), from, "POST", "/query", &headers, form).await;
    assert_eq!(answer.expect(200), made);
    for statement in ["SHOW+DATABASES", "CREATE", "DROP+DATABASE+x", "create+user+x"] {
        let answer = rig.ask("GET", &format!("/query?q={statement}"), None).await.expect(400);
        assert!(answer["error"].as_str().unwrap().contains("no InfluxQL"), "{answer}");
    }
    assert!(rig.ask("GET", "/query", None).await.expect(422)["error"].is_string());
    let wrong = rig.ask("GET", V1, None).await;
    assert_eq!(wrong.expect(405), json!({"error": "this path takes POST"}));
    let nothing = rig.ask("GET", "/api/v2/buckets", None).await.expect(404);
    assert_eq!(nothing, json!({"code": "not found", "message": "nothing has this path"}));
}
