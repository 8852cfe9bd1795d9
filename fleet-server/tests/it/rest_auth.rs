//! Keys: whom they let in, how often, and when no more.

use std::net::Ipv4Addr;

use fleet_core::identity::PrivateKey;
use fleet_core::secret::{ApiKey, KeyKind};
use serde_json::{Value, json};

use crate::server_kit::{Rig, key_id, send};

#[tokio::test]
async fn a_key_of_another_server_or_of_nobody_lets_nobody_in() {
    let rig = Rig::start().await;
    let elsewhere = PrivateKey::from_seed(&[50; 32]).public().identity();
    let foreign = ApiKey::generate(KeyKind::Operator, elsewhere).unwrap().reveal();
    let unknown = ApiKey::generate(KeyKind::Operator, rig.server().identity()).unwrap().reveal();
    for (key, words) in [(foreign, "is for the server"), (unknown, "is not known here")] {
        let why = rig.ask_with("GET", "/api/v1/devices", Some(&key), None).await.problem(401);
        assert!(why.contains(words) && why.contains("admin.key"), "{why}");
    }
    // Other programs may leave out which server a key is for.
    let bare = rig.admin().split('@').next().unwrap().to_owned();
    rig.ask_with("GET", "/api/v1/devices", Some(&bare), None).await.expect(200);
}

#[tokio::test]
async fn t06_a_device_key_posts_for_its_own_device_alone() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let _other = rig.enrolled("rpi4-002", 2).await;
    let key = rig.key(json!({"kind": "device", "device_id": "rpi4-001"})).await;
    for (device, status) in [("rpi4-001", 201), ("rpi4-002", 403), ("no-such-device", 403)] {
        let sample = json!({"device_id": device, "metric_name": "m", "value": 1});
        let answer = rig.ask_with("POST", "/api/v1/telemetry", Some(&key), Some(sample)).await;
        assert_eq!(answer.status.as_u16(), status, "{device}: {answer:?}");
    }
    rig.ask("POST", "/api/v1/devices/rpi4-001/revoke", None).await.expect(200);
    let sample = json!({"device_id": "rpi4-001", "metric_name": "m", "value": 1});
    rig.ask_with("POST", "/api/v1/telemetry", Some(&key), Some(sample)).await.problem(401);
}

#[tokio::test]
async fn t28_a_key_that_was_good_a_moment_ago_is_not_when_it_is_ended() {
    let rig = Rig::start().await;
    let devices = "/api/v1/devices";
    for _ in 0..10 {
        let key = rig.key(json!({"kind": "operator", "expires_in_secs": 60})).await;
        rig.ask_with("GET", devices, Some(&key), None).await.expect(200);
        rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&key)), None).await.expect(200);
        let answer = rig.ask_with("GET", devices, Some(&key), None).await;
        // From so many wrong keys on, nothing is heard of any.
        assert!([401, 429].contains(&answer.status.as_u16()), "{answer:?}");
    }
    let rig = Rig::start().await;
    let key = rig.key(json!({"kind": "operator", "expires_in_secs": 60})).await;
    let list = || async { rig.ask("GET", "/api/v1/keys", None).await.expect(200) };
    let last_used = |list: &Value| {
        let keys = list.as_array().unwrap().iter();
        keys.filter(|view| view["id"] == key_id(&key)).map(|v| v["last_used"].clone()).next()
    };
    for (secs, noted) in [(0, "2024-01-15T10:30:00Z"), (30, "2024-01-15T10:30:00Z")] {
        rig.clock.advance(std::time::Duration::from_secs(secs));
        rig.ask_with("GET", devices, Some(&key), None).await.expect(200);
        assert_eq!(last_used(&list().await), Some(json!(noted)));
    }
    rig.clock.advance(std::time::Duration::from_secs(30));
    rig.ask_with("GET", devices, Some(&key), None).await.problem(401);
}

#[tokio::test]
async fn an_enrolment_key_sees_its_own_grants_and_no_more_than_its_uses() {
    let rig = Rig::start().await;
    let one = rig.key(json!({"kind": "enrol", "uses": 1})).await;
    let two = rig.key(json!({"kind": "enrol"})).await;
    let wish = |seed: u8| {
        let key = PrivateKey::from_seed(&[seed; 32]).public();
        Some(json!({"device_id": "a", "device_key": key, "device_address": "127.0.0.1"}))
    };
    let grants = "/api/v1/grants";
    let made = rig.ask_with("POST", grants, Some(&one), wish(1)).await.expect(201);
    assert_eq!(made["urls"], json!([format!("http://{}", rig.address())]));
    // The same device again is the same use; another one is one too many.
    rig.ask_with("POST", grants, Some(&one), wish(1)).await.expect(201);
    let spent = rig.ask_with("POST", grants, Some(&one), wish(2)).await.problem(403);
    assert!(spent.contains("no uses left"), "{spent}");
    let path = format!("{grants}/{}", made["uid"].as_str().unwrap());
    assert_eq!(rig.ask_with("GET", &path, Some(&one), None).await.expect(200)["state"], "waiting");
    rig.ask_with("GET", &path, Some(&two), None).await.problem(404);
    rig.clock.advance(std::time::Duration::from_secs(601));
    assert_eq!(rig.ask("GET", &path, None).await.expect(200)["state"], "expired");
}

#[tokio::test]
async fn t30_ten_wrong_keys_close_the_door_for_a_minute_whatever_headers_say() {
    let rig = Rig::start().await;
    for attempt in 0..12 {
        let headers = [
            ("authorization", "Bearer flt_op_wrong".to_owned()),
            ("x-forwarded-for", format!("10.0.0.{attempt}")),
        ];
        let from = Ipv4Addr::new(127, 2, 0, 1).into();
        let answer =
            send(rig.address(), from, "GET", "/api/v1/devices", &headers, Vec::new()).await;
        if attempt < 10 {
            answer.problem(401);
        } else {
            answer.problem(429);
            assert!(answer.headers.contains_key("retry-after"));
        }
    }
    rig.ask("GET", "/api/v1/devices", None).await.expect(200);
}
