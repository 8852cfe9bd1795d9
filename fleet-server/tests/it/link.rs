//! Links: who gets in, what is stored, what comes back.

use std::net::Ipv4Addr;
use std::time::Duration;

use fleet_core::codec;
use fleet_core::identity::PrivateKey;
use fleet_core::limits::FRAME_REPORTS_MAX;
use fleet_core::metric::Sample;
use fleet_core::wire::{
    ConfigReported, Facts, Greeting, Hello, Proof, QueuedReport, RefusedReason, Samples, Standing,
    ToAgent, ToServer,
};
use serde_json::{Value, json};

use crate::server_kit::{Agent, Rig, open_link, replay, send, wait_for};

async fn points(rig: &Rig, device: &str) -> usize {
    let path = format!("/api/v1/telemetry/metrics?device_id={device}&metric=cpu_usage");
    rig.ask("GET", &path, None).await.expect(200).as_array().unwrap().len()
}

async fn device(rig: &Rig, id: &str) -> Value {
    rig.ask("GET", &format!("/api/v1/devices/{id}"), None).await.expect(200)
}

#[tokio::test]
async fn a_granted_device_is_active_and_its_grant_says_so() {
    let rig = Rig::start().await;
    let key = PrivateKey::from_seed(&[1; 32]).public();
    let wish = json!({"device_id": "a", "device_key": key, "device_address": "127.0.0.1"});
    let made = rig.ask("POST", "/api/v1/grants", Some(wish)).await.expect(201);
    let path = format!("/api/v1/grants/{}", made["uid"].as_str().unwrap());
    assert_eq!(rig.ask("GET", &path, None).await.expect(200)["state"], "waiting");
    let agent = Agent::dial(&rig, "another-name", 1, None).await;
    assert_eq!(agent.device_id(), "a", "the grant gives the id");
    let view = rig.ask("GET", &path, None).await.expect(200);
    assert_eq!((view["state"].as_str(), view["device_id"].as_str()), (Some("active"), Some("a")));
}

#[tokio::test]
async fn reports_are_stored_once_and_holes_are_counted() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1, 2], 10.0).await;
    agent.report(1, &[1, 2], 10.0).await;
    agent.report(1, &[2, 3], 11.0).await;
    assert_eq!(points(&rig, "a").await, 3);
    agent.report(1, &[7], 12.0).await;
    assert_eq!(points(&rig, "a").await, 4);
    let shown = device(&rig, "a").await;
    assert_eq!(shown["missed_reports"], 3);
    assert_eq!(shown["latest"]["metrics"]["cpu_usage"], 12.0);
}

#[tokio::test]
async fn a_device_that_makes_up_names_takes_nobodys_room() {
    const REPORT: usize = 2_000;
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let report = |seq: u64, first: usize| {
        let made_up = (first..first + REPORT - 1).map(|n| Sample::new(&format!("m{n}"), 1.0));
        let samples = made_up.chain([Sample::new("cpu_usage", seq as f64)]).collect();
        QueuedReport { seq, at_millis: 0, age_millis: 100 - seq, samples }
    };
    for seq in 1..=12 {
        let reports = vec![report(seq, seq as usize * REPORT)];
        agent.say(&ToServer::Samples(Samples { stream: [1; 16], reports })).await;
        assert_eq!(agent.next().await, ToAgent::Ack { stream: [1; 16], seq });
    }
    // What it always had goes on, and so does everybody else.
    assert_eq!(points(&rig, "a").await, 12);
    let text = rig.ask("GET", "/metrics", None).await;
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    let left_out = 12 * (REPORT - 1) + 1 - 20_000;
    let line = format!("\nfleets_telemetry_samples_left_out_total {left_out}\n");
    assert!(text.contains(&line), "{text}");
    assert!(text.contains("\nfleets_telemetry_samples_total{door=\"link\"} 20011\n"), "{text}");
    let mut other = rig.enrolled("b", 2).await;
    other.report(1, &[1], 1.0).await;
    let post = |name: &str| json!({"device_id": "a", "metric_name": name, "value": 1});
    rig.ask("POST", "/api/v1/telemetry", Some(post("an_operators"))).await.expect(201);
    // Nor does its key help it, by either door.
    let key = rig.key(json!({"kind": "device", "device_id": "a"})).await;
    let from = Ipv4Addr::LOCALHOST.into();
    let headers = [
        ("authorization", format!("Bearer {key}")),
        ("content-type", "application/json".to_owned()),
    ];
    let body = post("its_own").to_string().into_bytes();
    let answer = send(rig.address(), from, "POST", "/api/v1/telemetry", &headers, body).await;
    assert!(answer.problem(413).contains("as many new series as one may: 20000"));
    let lines = b"cpu_usage value=1\nits_own value=1".to_vec();
    let answer =
        send(rig.address(), from, "POST", "/write", &headers[..1], lines).await.expect(400);
    let error = answer["error"].as_str().unwrap();
    assert!(error.starts_with("partial write: line 2: the device has brought as many"), "{error}");
}

#[tokio::test]
async fn who_sends_what_is_never_stored_is_told_so() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let report = |seq| QueuedReport { seq, at_millis: 0, age_millis: 0, samples: Vec::new() };
    let reports = (1..=FRAME_REPORTS_MAX as u64 + 1).map(report).collect();
    agent.say(&ToServer::Samples(Samples { stream: [1; 16], reports })).await;
    let reason = agent.ended().await;
    assert!(reason.contains("takes no reports like these"), "{reason}");
}

#[tokio::test]
async fn a_second_session_replaces_the_first() {
    let rig = Rig::start().await;
    let mut first = rig.enrolled("a", 1).await;
    let mut second = Agent::dial(&rig, "a", 1, None).await;
    assert!(first.ended().await.contains("newer link"));
    second.report(1, &[1], 1.0).await;
    assert_eq!(points(&rig, "a").await, 1);
}

#[tokio::test]
async fn t11_a_recorded_link_gains_nothing() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1], 1.0).await;
    let before = device(&rig, "a").await;
    rig.clock.advance(Duration::from_secs(30));
    let heard = replay(&rig, &agent.sent).await;
    let frames: Vec<_> = heard.iter().map(|bytes| codec::decode::<Greeting>(bytes)).collect();
    assert!(
        matches!(frames.as_slice(), [Ok(Greeting::Welcome { .. })]),
        "a welcome with a new nonce, and no more: {frames:?}"
    );
    let mut after = device(&rig, "a").await;
    assert_eq!(after["last_seen"], before["last_seen"]);
    after["why"] = before["why"].clone();
    assert_eq!(after, before);
    agent.report(1, &[2], 1.0).await;
    assert_eq!(points(&rig, "a").await, 2, "the real link was not disturbed");
}

#[tokio::test]
async fn t03_a_stranger_waits_and_is_let_in_on_the_same_link() {
    let rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    let Standing::Pending { reason } = &agent.standing else { panic!("{:?}", agent.standing) };
    assert!(reason.contains("operator"), "{reason}");
    let shown = device(&rig, "a").await;
    assert_eq!(shown["status"], "pending");
    // That is what an operator compares with what the device says of itself.
    let fingerprint = PrivateKey::from_seed(&[1; 32]).public().fingerprint();
    assert_eq!(shown["fingerprint"], fingerprint.to_string());
    let samples = vec![Sample::new("cpu_usage", 1.0)];
    let report = QueuedReport { seq: 1, at_millis: 0, age_millis: 0, samples };
    agent.say(&ToServer::Samples(Samples { stream: [1; 16], reports: vec![report] })).await;
    // What it says after it is heard, and the report before it was not taken.
    let facts = Facts { hostname: "told-later".to_owned(), ..Facts::default() };
    agent.say(&ToServer::Facts(Box::new(facts))).await;
    wait_for("the facts", async || device(&rig, "a").await.to_string().contains("told-later"))
        .await;
    assert_eq!(points(&rig, "a").await, 0);
    rig.ask("POST", "/api/v1/devices/a/accept", None).await.expect(200);
    let told = agent.next().await;
    let is_active = matches!(told, ToAgent::Standing(Standing::Active { .. }));
    assert!(is_active, "no acknowledgement before it: {told:?}");
    agent.report(1, &[1], 1.0).await;
    assert_eq!(points(&rig, "a").await, 1);
}

#[tokio::test]
async fn a_stranger_may_be_turned_away() {
    let rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    let verdict = json!({"reason": "not ours"});
    rig.ask("POST", "/api/v1/devices/a/reject", Some(verdict)).await.expect(200);
    let told = agent.next().await;
    let ToAgent::Standing(Standing::Rejected { reason }) = told else { panic!("{told:?}") };
    assert!(reason.contains("not ours"));
    agent.ended().await;
    let mut again = Agent::dial(&rig, "a", 1, None).await;
    assert!(matches!(again.standing, Standing::Rejected { .. }));
    again.ended().await;
    rig.clock.advance(Duration::from_secs(1));
    rig.ask("POST", "/api/v1/devices/a/accept", None).await.expect(200);
    assert_eq!(device(&rig, "a").await["status"], "offline", "it does not know yet");
    let _agent = Agent::dial(&rig, "a", 1, None).await;
    assert_eq!(device(&rig, "a").await["status"], "online");
}

#[tokio::test]
async fn t05_a_revoked_device_is_out_at_once_and_for_good() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    rig.ask("POST", "/api/v1/devices/a/revoke", None).await.expect(200);
    assert!(matches!(agent.next().await, ToAgent::Standing(Standing::Revoked { .. })));
    agent.ended().await;
    let enrol = rig.key(json!({"kind": "enrol"})).await;
    let again = Agent::dial(&rig, "a", 1, Some(&enrol)).await;
    assert!(matches!(again.standing, Standing::Revoked { .. }));
    assert_eq!(device(&rig, "a").await["status"], "revoked");
    rig.ask("POST", "/api/v1/devices/a/accept", None).await.problem(409);
}

#[tokio::test]
async fn t04_a_deleted_device_comes_back_as_a_stranger() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1], 1.0).await;
    rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    assert!(agent.ended().await.contains("deleted"));
    let again = Agent::dial(&rig, "a", 1, None).await;
    assert!(matches!(again.standing, Standing::Pending { .. }));
    assert_eq!(points(&rig, "a").await, 0, "nothing is inherited");
}

#[tokio::test]
async fn a_leftover_grant_lets_nobody_back_in() {
    let rig = Rig::start().await;
    let wish = |seed: u8| {
        let key = PrivateKey::from_seed(&[seed; 32]).public();
        Some(json!({"device_id": "a", "device_key": key, "device_address": "127.0.0.1"}))
    };
    for (seed, verdict) in [(1, "revoke"), (2, "reject"), (3, "delete")] {
        let is_rejected = verdict == "reject";
        let agent = if is_rejected {
            Agent::dial(&rig, "a", seed, None).await
        } else {
            rig.enrolled("a", seed).await
        };
        let leftover = rig.ask("POST", "/api/v1/grants", wish(seed)).await.expect(201);
        if verdict != "delete" {
            rig.ask("POST", &format!("/api/v1/devices/a/{verdict}"), None).await.expect(200);
            let refused = rig.ask("POST", "/api/v1/grants", wish(seed)).await.problem(409);
            assert!(refused.contains("delete it first"), "{refused}");
        }
        rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
        drop(agent);
        let again = Agent::dial(&rig, "a", seed, None).await;
        assert!(
            matches!(again.standing, Standing::Pending { .. }),
            "{verdict}: {:?}",
            again.standing
        );
        let path = format!("/api/v1/grants/{}", leftover["uid"].as_str().unwrap());
        assert_eq!(rig.ask("GET", &path, None).await.expect(200)["state"], "expired", "{verdict}");
        // A new word of an operator counts.
        rig.ask("POST", "/api/v1/grants", wish(seed)).await.expect(201);
        assert_eq!(Agent::dial(&rig, "a", seed, None).await.device_id(), "a");
        rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    }
}

#[tokio::test]
async fn an_enrolment_key_lets_in_as_many_as_it_may() {
    let rig = Rig::start().await;
    let key = rig.key(json!({"kind": "enrol", "uses": 1})).await;
    let first = Agent::dial(&rig, "a", 1, Some(&key)).await;
    assert_eq!(first.device_id(), "a");
    let second = Agent::dial(&rig, "b", 2, Some(&key)).await;
    let Standing::Pending { reason } = &second.standing else { panic!("{:?}", second.standing) };
    assert!(reason.contains("no uses left"), "{reason}");
    // Known by its key: no use is needed again.
    drop(first);
    assert_eq!(Agent::dial(&rig, "a", 1, Some(&key)).await.device_id(), "a");
}

#[tokio::test]
async fn t04_one_id_and_two_keys_are_a_conflict() {
    let rig = Rig::start().await;
    let first = rig.enrolled("a", 1).await;
    let key = rig.key(json!({"kind": "enrol"})).await;
    let second = Agent::dial(&rig, "a", 2, Some(&key)).await;
    let Standing::Pending { reason } = &second.standing else { panic!("{:?}", second.standing) };
    assert!(reason.contains("another device is called a"), "{reason}");
    let mark = PrivateKey::from_seed(&[2; 32]).public().fingerprint().short();
    assert_eq!(device(&rig, &format!("a~{mark}")).await["status"], "pending");
    assert_eq!(device(&rig, "a").await["status"], "online");
    assert_eq!(first.device_id(), "a");
}

#[tokio::test]
async fn an_enrolment_key_settles_no_conflict() {
    let rig = Rig::start().await;
    rig.enrolled("a", 1).await;
    let key = rig.key(json!({"kind": "enrol", "uses": 2})).await;
    for _ in 0..2 {
        let second = Agent::dial(&rig, "a", 2, Some(&key)).await;
        assert!(matches!(second.standing, Standing::Pending { .. }), "{:?}", second.standing);
    }
    let keys = rig.ask("GET", "/api/v1/keys", None).await.expect(200);
    let keys = keys.as_array().unwrap();
    let left = keys.iter().find(|key| key["kind"] == "enrol").unwrap()["uses_left"].clone();
    assert_eq!(left, 2, "nothing was spent on it");
    rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    let second = Agent::dial(&rig, "a", 2, Some(&key)).await;
    assert_eq!(second.device_id(), "a", "the id is free now");
}

#[tokio::test]
async fn a_grant_for_a_waiting_device_is_decided_when_it_comes_again() {
    let rig = Rig::start().await;
    let waiting = Agent::dial(&rig, "a", 1, None).await;
    assert!(matches!(waiting.standing, Standing::Pending { .. }), "{:?}", waiting.standing);
    let key = PrivateKey::from_seed(&[1; 32]).public();
    let wish = json!({"device_id": "a", "device_key": key, "device_address": "127.0.0.1"});
    let made = rig.ask("POST", "/api/v1/grants", Some(wish)).await.expect(201);
    let path = format!("/api/v1/grants/{}", made["uid"].as_str().unwrap());
    assert_eq!(rig.ask("GET", &path, None).await.expect(200)["state"], "waiting");
    assert_eq!(Agent::dial(&rig, "a", 1, None).await.device_id(), "a");
    assert_eq!(rig.ask("GET", &path, None).await.expect(200)["state"], "active");
}

#[tokio::test]
async fn a_configuration_is_delivered_signed_and_reported() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let path = "/api/v1/config?device_id=a";
    let wish = json!({"config": {"telemetry_interval": 30}});
    rig.ask("POST", path, Some(wish)).await.expect(200);
    let ToAgent::Config(push) = agent.next().await else { panic!("a configuration") };
    assert_eq!((push.version, push.document.as_str()), (1, r#"{"telemetry":{"interval":30}}"#));
    let Standing::Active { uid, .. } = agent.standing else { panic!("active") };
    let identity = rig.ask("GET", "/api/v1/identity", None).await.json();
    let server = serde_json::from_value(identity["public_key"].clone()).unwrap();
    assert!(push.is_signed(uid, server));
    let word = ConfigReported { version: 1, at_millis: 0, error: Some("no".to_owned()) };
    agent.say(&ToServer::ConfigReported(word)).await;
    wait_for("the report", async || {
        let shown = rig.ask("GET", path, None).await.expect(200);
        shown["reported"]["version"] == 1 && shown["reported"]["error"] == "no"
    })
    .await;
    assert_eq!(device(&rig, "a").await["config_reported"], 1);

    // What changes while the device is away comes with its next link, once.
    drop(agent);
    rig.ask("POST", path, Some(json!({"config": {}}))).await.expect(200);
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    let ToAgent::Config(push) = agent.next().await else { panic!("a configuration") };
    assert_eq!(push.version, 2);
    agent.report(1, &[1], 1.0).await;

    // It refuses that one, and with its next link says what it goes on with: that is no news.
    let word = |version, error: Option<&str>| {
        let error = error.map(str::to_owned);
        ToServer::ConfigReported(ConfigReported { version, at_millis: 0, error })
    };
    let reported = async || device(&rig, "a").await["config_error"].clone();
    agent.say(&word(1, None)).await;
    agent.say(&word(2, Some("never"))).await;
    wait_for("the refusal", async || reported().await == "never").await;
    agent.say(&word(1, None)).await;
    agent.report(2, &[1], 1.0).await;
    assert_eq!(reported().await, "never");
}

#[tokio::test]
async fn an_agent_from_the_future_is_told_so() {
    let rig = Rig::start().await;
    let (mut socket, _) = open_link(&rig).await;
    let hello = Hello { versions: vec![99], device_pub: [1; 32], nonce: [1; 32] };
    socket.send(&hello).await.unwrap();
    let greeting: Greeting = socket.receive_frame().await.unwrap();
    assert!(matches!(greeting, Greeting::Refused { reason: RefusedReason::Version, .. }));
}

#[tokio::test]
async fn whoever_cannot_sign_is_nobody() {
    let rig = Rig::start().await;
    rig.enrolled("a", 1).await;
    let device_pub = PrivateKey::from_seed(&[1; 32]).public().bytes();
    let (mut socket, _) = open_link(&rig).await;
    socket.send(&Hello { versions: vec![1], device_pub, nonce: [1; 32] }).await.unwrap();
    let _: Greeting = socket.receive_frame().await.unwrap();
    let proof = Proof {
        signature: [7; 64],
        device_id: "a".to_owned(),
        enrol_key: None,
        facts: Facts::default(),
    };
    socket.send(&proof).await.unwrap();
    let error = socket.receive_frame::<ToAgent>().await.unwrap_err();
    assert!(error.to_string().contains("signature"), "{error}");
}

#[tokio::test]
async fn silence_shows_and_stopping_says_goodbye() {
    let mut rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    for (secs, status) in [(0, "online"), (100, "late"), (100, "offline")] {
        rig.clock.advance(Duration::from_secs(secs));
        let shown = device(&rig, "a").await;
        assert_eq!(shown["status"], status, "{shown}");
    }
    assert_eq!(device(&rig, "a").await["why"], "no report for 3m, expected every 60s");
    agent.report(1, &[1], 1.0).await;
    assert_eq!(device(&rig, "a").await["status"], "online");
    rig.stop().await;
    assert!(agent.ended().await.contains("shutting down"));
}
