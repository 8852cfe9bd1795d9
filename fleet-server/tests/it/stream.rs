//! The live stream, read with the client that the console uses.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use fleet_core::api::{DeviceStatus, EventKind, StreamMessage, StreamView, ValueRow, Watch};
use fleet_core::id::Uid;
use fleet_core::metric::Sample;
use fleet_core::operator::client::ClientError;
use fleet_core::wire::{QueuedReport, Samples, ToAgent, ToServer};
use hyper::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::server_kit::{Agent, BOUND, Rig, key_id, wait_for};
use crate::stream_kit::{self, Raw, Screen, client};

async fn report(agent: &mut Agent, seq: u64, samples: Vec<Sample>) {
    let at_millis = 1_705_314_600_000 + i64::try_from(seq).unwrap();
    let report = QueuedReport { seq, at_millis, age_millis: 0, samples };
    agent.say(&ToServer::Samples(Samples { stream: [1; 16], reports: vec![report] })).await;
    loop {
        if let ToAgent::Ack { seq: stored, .. } = agent.next().await {
            assert_eq!(stored, seq);
            return;
        }
    }
}

#[tokio::test]
async fn the_index_is_whole_and_then_only_what_changed() {
    let rig = Rig::start().await;
    let _one = rig.enrolled("rpi4-001", 1).await;
    let _two = rig.enrolled("rpi4-002", 2).await;
    let client = client(&rig, &rig.admin());
    wait_for("both devices", || async {
        let screen = Screen::open(&client, None).await;
        screen.rows.len() == 2 && screen.rows.values().all(|row| row.status == DeviceStatus::Online)
    })
    .await;
    let mut screen = Screen::open(&client, None).await;
    assert!(!screen.hello.resumed);
    assert_eq!(screen.hello.devices, 2);
    let row = &screen.rows[&screen.slot("rpi4-001")];
    assert_eq!(row.why, None);
    assert_eq!(row.interval_secs, 60);
    let received = screen.received;

    let update = json!({"metadata": {"site": "lyon"}});
    rig.ask("PUT", "/api/v1/devices/rpi4-002", Some(update)).await.expect(200);
    let row = screen.until_row("the metadata", |row| !row.metadata.is_empty()).await;
    assert_eq!(row.metadata["site"], "lyon");
    assert_eq!(screen.received, received + 1, "one row changed");

    let config = json!({"config": {"telemetry_interval": 30}});
    rig.ask("POST", "/api/v1/config?device_id=rpi4-002", Some(config)).await.expect(200);
    screen.until_row("the configuration", |row| row.config_version == 1).await;
    let slot = screen.slot("rpi4-002");
    rig.ask("DELETE", "/api/v1/devices/rpi4-002", None).await.expect(200);
    screen.until_rows("the end of a device", |rows| !rows.contains_key(&slot)).await;
    // A device that comes has a slot of its own.
    let _three = rig.enrolled("rpi4-003", 3).await;
    let row = screen.until_row("a new device", |row| row.id.as_str() == "rpi4-003").await;
    assert!(row.slot > slot);
}

#[tokio::test]
async fn who_comes_back_gets_the_difference() {
    let mut rig = Rig::start().await;
    let _one = rig.enrolled("rpi4-001", 1).await;
    let _two = rig.enrolled("rpi4-002", 2).await;
    let client = client(&rig, &rig.admin());
    let mut screen = Screen::open(&client, None).await;
    screen.until_rows("both devices", |rows| rows.len() == 2).await;
    // The event of this is known before the stream ends.
    rig.ask("PUT", "/api/v1/devices/rpi4-001", Some(json!({"name": "One"}))).await.expect(200);
    screen
        .until("an event", |_, message| match message {
            StreamMessage::Event(event) => (event.kind == EventKind::DeviceUpdated).then_some(()),
            _ => None,
        })
        .await;
    screen
        .until_row("the name", |row| row.name.as_ref().is_some_and(|name| name.raw() == "One"))
        .await;
    let (id, instance) = (screen.id.unwrap(), screen.hello.instance);
    drop(screen.stream);
    rig.ask("PUT", "/api/v1/devices/rpi4-002", Some(json!({"name": "Two"}))).await.expect(200);
    wait_for("the board to have it", || async {
        let screen = Screen::open(&client, None).await;
        screen.rows.values().any(|row| row.name.as_ref().is_some_and(|name| name.raw() == "Two"))
    })
    .await;

    let mut back = Screen::open(&client, Some(&id)).await;
    assert!(back.hello.resumed);
    assert_eq!(back.rows.values().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["rpi4-002"]);
    let missed = back
        .until("the event between", |_, message| match message {
            StreamMessage::Event(event) => Some(event.clone()),
            _ => None,
        })
        .await;
    assert_eq!(
        (missed.kind, missed.device_id.unwrap().as_str()),
        (EventKind::DeviceUpdated, "rpi4-002")
    );
    // What no run gave out, or another one, is no place to go on from.
    let odd = format!("{instance}-999999-0");
    for since in [odd.as_str(), "nonsense", &format!("{}-1-0", Uid::new())] {
        assert!(!Screen::open(&client, Some(since)).await.hello.resumed, "{since}");
    }
    rig.restart().await;
    let client = stream_kit::client(&rig, &rig.admin());
    let anew = Screen::open(&client, Some(&id)).await;
    assert!(!anew.hello.resumed);
    assert_ne!(anew.hello.instance, instance);
    assert_eq!(anew.rows.len(), 2);
}

#[tokio::test]
async fn values_come_for_the_rows_in_view_when_they_are_new() {
    let rig = Rig::start().await;
    let mut one = rig.enrolled("rpi4-001", 1).await;
    let mut two = rig.enrolled("rpi4-002", 2).await;
    report(&mut one, 1, vec![Sample::new("cpu_usage", 10.0)]).await;
    let client = client(&rig, &rig.admin());
    let mut screen = Screen::open(&client, None).await;
    screen.until_rows("both devices", |rows| rows.len() == 2).await;
    let (first, second) = (screen.slot("rpi4-001"), screen.slot("rpi4-002"));
    let view = StreamView { rows: vec![first], ..StreamView::default() };
    client.stream_view(screen.hello.stream, &view).await.unwrap();
    let values = screen.values().await;
    assert_eq!((values.rows.len(), values.rows[0].0, values.rows[0].2), (1, first, Some(10)));
    assert_eq!(values.past, [(first, vec![10])]);

    report(&mut two, 1, vec![Sample::new("cpu_usage", 99.0)]).await;
    let samples = vec![
        Sample::new("cpu_usage", 20.4),
        Sample::new("memory_usage", 44.0),
        Sample::labelled("temperature_celsius", "zone", "cpu", 61.5),
    ];
    report(&mut one, 2, samples).await;
    let ValueRow(slot, seen, cpu, memory, disk, celsius) = screen
        .until("the next report", |_, message| match message {
            StreamMessage::Values(values) => {
                assert!(values.rows.iter().all(|row| row.0 == first), "only what is in view");
                values.rows.iter().find(|row| row.2 != Some(10)).copied()
            }
            _ => None,
        })
        .await;
    assert_eq!((slot, cpu, memory, disk, celsius), (first, Some(20), Some(44), None, Some(62)));
    assert_eq!(seen, Some(1_705_314_600_000));
    // The list says the same of the hottest sensor, though a sensor's value has a label.
    let hot = rig.ask("GET", "/api/v1/devices?filter=temp%3E61", None).await.expect(200);
    assert_eq!(hot[0]["id"], "rpi4-001", "{hot}");

    let all = StreamView { all: true, ..StreamView::default() };
    client.stream_view(screen.hello.stream, &all).await.unwrap();
    let mut values = screen.values().await.rows;
    values.sort_by_key(|row| row.0);
    let found: Vec<_> = values.iter().map(|row| (row.0, row.2)).collect();
    assert_eq!(found, [(first, Some(20)), (second, Some(99))]);
    // The same numbers again are no news; other ones are.
    report(&mut two, 2, vec![Sample::new("cpu_usage", 99.2)]).await;
    report(&mut one, 3, vec![Sample::new("cpu_usage", 21.0)]).await;
    assert_eq!(screen.values().await.rows.iter().map(|row| row.0).collect::<Vec<_>>(), [first]);
}

#[tokio::test]
async fn a_watched_device_is_asked_to_report_every_second() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("rpi4-001", 1).await;
    let client = client(&rig, &rig.admin());
    let mut screen = Screen::open(&client, None).await;
    screen.until_rows("the device", |rows| rows.len() == 1).await;
    let slot = screen.slot("rpi4-001");
    let view = |metrics: &[&str]| {
        let metrics = metrics.iter().map(|&metric| metric.to_owned()).collect();
        StreamView { watch: Some(Watch { slot, metrics }), ..StreamView::default() }
    };
    client.stream_view(screen.hello.stream, &view(&["cpu_usage", "net"])).await.unwrap();
    assert_eq!(agent.next().await, ToAgent::Watch { secs: 15 });
    for seq in 1..=3 {
        let samples = vec![
            Sample::new("cpu_usage", seq as f64),
            Sample::new("memory_usage", 1.0),
            Sample::labelled("net", "interface", "eth0", 5.0),
        ];
        report(&mut agent, seq, samples).await;
    }
    for seq in 1..=3 {
        let report = screen.report().await;
        assert_eq!((report.slot, report.timestamp.millis()), (slot, 1_705_314_600_000 + seq));
        let found: Vec<_> =
            report.samples.iter().map(|sample| (sample.metric.as_str(), sample.value)).collect();
        assert_eq!(found, [("cpu_usage", seq as f64), ("net", 5.0)]);
        assert_eq!(report.samples[1].labels["interface"].raw(), "eth0");
    }
    // A second one who watches is no news to the device; it is asked until the last one leaves.
    let mut other = Screen::open(&client, None).await;
    client.stream_view(other.hello.stream, &view(&["memory_usage"])).await.unwrap();
    let sent = report_until_seen(&mut agent, &mut other, 4).await;
    drop(screen);
    client.stream_view(other.hello.stream, &StreamView::default()).await.unwrap();
    loop {
        match agent.next().await {
            ToAgent::Watch { secs: 0 } => break,
            ToAgent::Watch { secs } => assert_eq!(secs, 15),
            other => panic!("{other:?} after {sent} reports"),
        }
    }
}

/// Reports until a stream shows one; returns the last number.
async fn report_until_seen(agent: &mut Agent, screen: &mut Screen, first: u64) -> u64 {
    let start = Instant::now();
    for seq in first.. {
        assert!(start.elapsed() < BOUND, "waited too long for a report on the stream");
        report(agent, seq, vec![Sample::new("memory_usage", 1.0)]).await;
        let shown = tokio::time::timeout(Duration::from_millis(300), screen.report()).await;
        if shown.is_ok() {
            return seq;
        }
    }
    unreachable!("numbers do not end")
}

#[tokio::test]
async fn a_stream_of_some_devices_counts_all() {
    let rig = Rig::start().await;
    let _one = rig.enrolled("rpi4-001", 1).await;
    let mut two = rig.enrolled("rpi4-002", 2).await;
    report(&mut two, 1, vec![Sample::new("cpu_usage", 7.0)]).await;
    let uid = rig.ask("GET", "/api/v1/devices/rpi4-002", None).await.expect(200)["uid"].clone();
    let path = format!("/api/v1/stream?only={}", uid.as_str().unwrap());
    let mut stream = Raw::open(&rig, &path).await;
    for part in ["event: counts\ndata: {\"online\":2}", "rpi4-002", ",7,null,null,null]"] {
        stream.read_until(part).await;
    }
    assert!(!stream.text.contains("rpi4-001"), "{}", stream.text);
    let lower = stream.text.to_lowercase();
    for header in
        ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"]
    {
        assert!(lower.contains(header), "{header} in {lower}");
    }
}

#[tokio::test]
async fn a_stream_of_some_devices_tells_what_happens_to_them() {
    let rig = Rig::start().await;
    let _one = rig.enrolled("rpi4-001", 1).await;
    let _two = rig.enrolled("rpi4-002", 2).await;
    let uid = rig.ask("GET", "/api/v1/devices/rpi4-002", None).await.expect(200)["uid"].clone();
    let only = format!("/api/v1/stream?only={}", uid.as_str().unwrap());
    let key = key_id(&rig.admin());
    let told = |device: &str| {
        let actor = format!("\"actor\":\"operator:{key}\"");
        format!("\"kind\":\"device.updated\",{actor},\"device_id\":\"{device}\"")
    };
    for (path, others) in [(only.clone(), false), (format!("{only}&events=all"), true)] {
        let mut stream = Raw::open(&rig, &path).await;
        stream.read_until("\"complete\":true").await;
        for device in ["rpi4-001", "rpi4-002"] {
            let path = format!("/api/v1/devices/{device}");
            let update = json!({"name": format!("named {others}")});
            rig.ask("PUT", &path, Some(update)).await.expect(200);
        }
        let text = stream.read_until(&told("rpi4-002")).await;
        assert_eq!(text.contains(&told("rpi4-001")), others, "{text}");
    }
    let wrong = rig.ask("GET", &format!("{only}&events=some"), None).await;
    assert!(wrong.problem(422).contains("events"));
}

#[tokio::test]
async fn views_are_bounded_and_their_keys_own() {
    let rig = Rig::start().await;
    let owner = client(&rig, &rig.admin());
    let stranger = client(&rig, &rig.key(json!({"kind": "operator"})).await);
    let screen = Screen::open(&owner, None).await;
    let view = StreamView::default();
    let status = |result: Result<(), ClientError>| match result {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(ClientError::Refused { status, .. }) => status,
        Err(other) => panic!("{other}"),
    };
    let stream = screen.hello.stream;
    assert_eq!(status(owner.stream_view(stream, &view).await), StatusCode::NO_CONTENT);
    assert_eq!(status(stranger.stream_view(stream, &view).await), StatusCode::FORBIDDEN);
    assert_eq!(status(owner.stream_view(Uid::new(), &view).await), StatusCode::CONFLICT);
    let many = StreamView { rows: (0..401).collect(), ..StreamView::default() };
    assert_eq!(status(owner.stream_view(stream, &many).await), StatusCode::UNPROCESSABLE_ENTITY);
    for metrics in [vec!["m".to_owned(); 33], vec!["m".repeat(129)]] {
        let view = StreamView { watch: Some(Watch { slot: 0, metrics }), ..StreamView::default() };
        let refused = status(owner.stream_view(stream, &view).await);
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY, "{:?}", view.watch);
    }
    drop(screen);
    wait_for("the end of the stream", || async {
        status(owner.stream_view(stream, &view).await) == StatusCode::CONFLICT
    })
    .await;
}

#[tokio::test]
async fn streams_of_one_key_are_bounded() {
    let rig = Rig::start().await;
    let client = client(&rig, &rig.admin());
    let mut streams = Vec::new();
    let refused = loop {
        match client.stream(None).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
        assert!(streams.len() <= 64, "one more than there may be");
    };
    assert_eq!(streams.len(), 64);
    let ClientError::Refused { status, retry_after_secs, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!((status, retry_after_secs), (StatusCode::SERVICE_UNAVAILABLE, Some(10)));
    streams.pop();
    wait_for("room again", || async { client.stream(None).await.is_ok() }).await;
}

#[tokio::test]
async fn t28_a_stream_ends_with_its_key_and_with_the_server() {
    let mut rig = Rig::start().await;
    let text = rig.key(json!({"kind": "operator"})).await;
    let screen = Screen::open(&client(&rig, &text), None).await;
    let path = format!("/api/v1/keys/{}", key_id(&text));
    rig.ask("DELETE", &path, None).await.expect(200);
    let revoked = Instant::now();
    screen.ended().await;
    assert!(revoked.elapsed() < Duration::from_secs(7), "{:?}", revoked.elapsed());

    let screen = Screen::open(&client(&rig, &rig.admin()), None).await;
    let stopping = Instant::now();
    tokio::join!(rig.stop(), screen.ended());
    assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_shown_out() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut lazy = socket.connect(rig.address()).await.unwrap();
    let head = format!(
        "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.admin()
    );
    lazy.write_all(head.as_bytes()).await.unwrap();
    let mut begun = [0; 200];
    lazy.read_exact(&mut begun).await.unwrap();
    // Rows change faster than it reads, until the server can get nothing more across.
    let client = client(&rig, &rig.admin());
    let note = "x".repeat(4_000);
    let round = Cell::new(0);
    wait_for("the end of the connection", || {
        round.set(round.get() + 1);
        let metadata: BTreeMap<String, String> = (0..90)
            .map(|number| (format!("note{number}"), format!("{} {note}", round.get())))
            .collect();
        let (rig, lazy) = (&rig, &lazy);
        async move {
            let update = json!({"metadata": metadata});
            rig.ask("PUT", "/api/v1/devices/rpi4-001", Some(update)).await.expect(200);
            lazy.take_error().unwrap().is_some() || lazy.try_write(b"\r\n").is_err()
        }
    })
    .await;
    let screen = Screen::open(&client, None).await;
    assert_eq!(screen.rows.len(), 1, "others are served");
}
