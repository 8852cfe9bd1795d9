//! What happened is written down once it is done, with who did it, and can be read again.

use fleet_core::wire::{ConfigReported, ToServer};
use serde_json::{Value, json};

use crate::server_kit::{Agent, Rig, key_id, wait_for};

const EVENTS: &str = "/api/v1/events";

/// Kind, actor, device and text of the events, oldest first.
async fn story(rig: &Rig, query: &str) -> Vec<[String; 4]> {
    let events = rig.ask("GET", &format!("{EVENTS}{query}"), None).await.expect(200);
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let mut story: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| ["kind", "actor", "device_id", "text"].map(|field| text(event, field)))
        .collect();
    story.reverse();
    story
}

fn seqs(events: &Value) -> Vec<u64> {
    events.as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

async fn reported(rig: &Rig, agent: &mut Agent, version: u64, error: Option<&str>) {
    let error = error.map(str::to_owned);
    agent.say(&ToServer::ConfigReported(ConfigReported { version, at_millis: 0, error })).await;
    wait_for("the report on the configuration", || async {
        let events = story(rig, "?kind=config.applied,config.refused&limit=1").await;
        events.first().is_some_and(|event| event[3].starts_with(&format!("version {version}")))
    })
    .await;
}

#[tokio::test]
async fn every_change_is_told_once_with_who_made_it() {
    let rig = Rig::start().await;
    let admin = format!("operator:{}", key_id(&rig.admin()));
    let agent = rig.enrolled("a", 1).await;
    let device = |action: &str| format!("/api/v1/devices/a/{action}");
    for _ in 0..2 {
        let update = json!({"name": "Küche", "metadata": {"rack": 7, "row": "b"}});
        rig.ask("PUT", "/api/v1/devices/a", Some(update)).await.expect(200);
        rig.ask("POST", &device("accept"), None).await.expect(200);
    }
    let update = json!({"name": "", "metadata": {"rack": null, "none": null}});
    rig.ask("PUT", "/api/v1/devices/a", Some(update)).await.expect(200);
    rig.ask("POST", &device("reject"), None).await.problem(409);
    for _ in 0..2 {
        let verdict = json!({"reason": "stolen"});
        rig.ask("POST", &device("revoke"), Some(verdict)).await.expect(200);
    }
    rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    rig.ask("DELETE", "/api/v1/devices/a", None).await.problem(404);
    drop(agent);

    let told = story(&rig, "?kind=device").await;
    let wanted = [
        ["device.enrolled", &admin, "a", &format!("configured by {admin}")],
        ["device.updated", &admin, "a", "name Küche; metadata set: rack, row"],
        ["device.updated", &admin, "a", "name removed; metadata removed: rack"],
        ["device.revoked", &admin, "a", "revoked by an operator: stolen"],
        ["device.deleted", &admin, "a", "removed by an operator"],
    ];
    assert_eq!(told, wanted);
    // The device is gone, and its events are found by its old id all the same.
    assert_eq!(story(&rig, "?device_id=a").await, wanted);
}

#[tokio::test]
async fn who_comes_how_is_told() {
    let rig = Rig::start().await;
    let admin = format!("operator:{}", key_id(&rig.admin()));
    let enrol = rig.key(json!({"kind": "enrol", "label": "line 3"})).await;
    let by_key = Agent::dial(&rig, "a", 1, Some(&enrol)).await;
    let stranger = Agent::dial(&rig, "b", 2, None).await;
    let second = Agent::dial(&rig, "a", 3, Some(&enrol)).await;
    drop(Agent::dial(&rig, "b", 2, None).await);
    let verdict = json!({"reason": "mine"});
    rig.ask("POST", "/api/v1/devices/b/accept", Some(verdict)).await.expect(200);
    drop((by_key, stranger, second));

    let told = story(&rig, "?kind=device").await;
    let enrolled = format!("enrolled with the key {}", key_id(&enrol));
    let conflict = told[2][2].clone();
    assert!(conflict.starts_with("a~"), "{told:?}");
    assert_eq!(
        told,
        [
            ["device.enrolled", &format!("enrol:{}", key_id(&enrol)), "a", &enrolled],
            ["device.pending", "device", "b", &told[1][3]],
            ["device.pending", "device", &conflict, &told[2][3]],
            ["device.accepted", &admin, "b", "accepted by an operator: mine"],
        ]
    );
    assert!(told[1][3].contains("nobody has vouched"), "{told:?}");
    assert!(told[2][3].contains("another device is called a"), "{told:?}");
}

#[tokio::test]
async fn configurations_and_what_devices_say_to_them_are_told() {
    let rig = Rig::start().await;
    let admin = format!("operator:{}", key_id(&rig.admin()));
    let mut agent = rig.enrolled("a", 1).await;
    let set = async |secs: u32| {
        let config = json!({"telemetry": {"interval": secs}});
        let body = json!({"config": config, "comment": "quieter"});
        rig.ask("POST", "/api/v1/config?device_id=a", Some(body)).await.expect(200);
    };
    set(30).await;
    set(30).await;
    reported(&rig, &mut agent, 1, None).await;
    reported(&rig, &mut agent, 1, None).await;
    set(60).await;
    reported(&rig, &mut agent, 2, Some("too slow")).await;
    let told = story(&rig, "?kind=config&device_id=a").await;
    assert_eq!(
        told,
        [
            ["config.set", &admin, "a", "version 1: {\"telemetry\":{\"interval\":30}} (quieter)"],
            ["config.applied", "device", "a", "version 1"],
            ["config.set", &admin, "a", "version 2: {\"telemetry\":{\"interval\":60}} (quieter)"],
            ["config.refused", "device", "a", "version 2: too slow"],
        ]
    );
}

#[tokio::test]
async fn starts_and_keys_are_told_and_a_restart_goes_on_counting() {
    let mut rig = Rig::start().await;
    let first = key_id(&rig.admin());
    let admin = format!("operator:{first}");
    let enrol = key_id(&rig.key(json!({"kind": "enrol", "label": "line 3"})).await);
    for _ in 0..2 {
        rig.ask("DELETE", &format!("/api/v1/keys/{enrol}"), None).await.expect(200);
    }
    let before = rig.ask("GET", EVENTS, None).await.expect(200);
    assert_eq!(seqs(&before), [4, 3, 2, 1]);
    std::fs::remove_file(rig.server().admin_path()).unwrap();
    rig.restart().await;
    let after = rig.ask("GET", EVENTS, None).await.expect(200);
    assert_eq!(seqs(&after), [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(after.as_array().unwrap()[3..], before.as_array().unwrap()[..]);
    let second = key_id(&rig.admin());
    let told = story(&rig, "").await;
    let words: Vec<[&str; 3]> =
        told.iter().map(|[kind, actor, _, text]| [kind, actor, text].map(String::as_str)).collect();
    let admin_key = |id: &str| format!("operator key {id} (admin.key)");
    let enrol = format!("enrol key {enrol} (line 3)");
    assert_eq!(
        words,
        [
            ["key.created", "server", &admin_key(&first)],
            ["server.started", "server", words[1][2]],
            ["key.created", &admin, &enrol],
            ["key.revoked", &admin, &enrol],
            ["key.created", "server", &admin_key(&second)],
            ["key.revoked", "server", &admin_key(&first)],
            ["server.started", "server", words[6][2]],
        ]
    );
    assert!(words[6][2].contains(&rig.server().url().to_string()), "{words:?}");
}

#[tokio::test]
async fn events_come_in_pages_and_by_what_is_asked() {
    let rig = Rig::start().await;
    for number in 0..5 {
        rig.clock.advance(std::time::Duration::from_secs(10));
        rig.key(json!({"kind": "enrol", "label": number.to_string()})).await;
    }
    let ask = async |query: &str| {
        seqs(&rig.ask("GET", &format!("{EVENTS}?{query}"), None).await.expect(200))
    };
    assert_eq!(ask("limit=2").await, [7, 6]);
    assert_eq!(ask("limit=2&before=6").await, [5, 4]);
    assert_eq!(ask("kind=server").await, [2]);
    assert_eq!(ask("kind=server.started,key").await, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(ask("since=2024-01-15T10%3A30%3A40Z").await, [7, 6]);
    assert_eq!(ask("until=2024-01-15T10%3A30%3A10Z").await, [3, 2, 1]);
    assert!(ask("device_id=nobody").await.is_empty());
    for bad in
        ["limit=0", "limit=501", "kind=dev", "kind=key,", "kind=", "since=now", "before=-1", "x=1"]
    {
        let field = bad.split('=').next().unwrap();
        let detail = rig.ask("GET", &format!("{EVENTS}?{bad}"), None).await.problem(422);
        assert!(detail.starts_with(field), "{bad}: {detail}");
    }
    rig.ask("GET", &format!("{EVENTS}?device_id=%20"), None).await.problem(404);
}

#[tokio::test]
async fn what_a_sender_did_who_did_not_wait_is_told_all_the_same() {
    use tokio::io::AsyncWriteExt as _;
    let rig = Rig::start().await;
    let _agent = rig.enrolled("a", 1).await;
    let request = format!(
        "POST /api/v1/devices/a/revoke HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        rig.admin()
    );
    let mut stream = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    wait_for("the event", || async { story(&rig, "?kind=device.revoked").await.len() == 1 }).await;
}
