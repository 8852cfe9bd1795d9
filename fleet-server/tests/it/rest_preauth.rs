//! Devices that are let in before they have come.

use std::time::Duration;

use fleet_core::identity::PrivateKey;
use fleet_core::wire::Standing;
use serde_json::{Value, json};

use crate::server_kit::{Agent, Rig};

const PATH: &str = "/api/v1/preauthorized";

fn fingerprint(seed: u8) -> String {
    PrivateKey::from_seed(&[seed; 32]).public().fingerprint().to_string()
}

async fn preauthorize(rig: &Rig, devices: Value) -> Value {
    rig.ask("POST", PATH, Some(json!({ "devices": devices }))).await.expect(201)
}

#[tokio::test]
async fn a_key_that_was_vouched_for_is_in_once_as_what_was_noted() {
    let mut rig = Rig::start().await;
    let wish = json!([
        {"fingerprint": fingerprint(1), "device_id": "door", "name": "Front", "tags": ["eu", "b"]},
        {"fingerprint": fingerprint(2)},
    ]);
    let made = preauthorize(&rig, wish).await;
    assert_eq!(made.as_array().unwrap().len(), 2);
    rig.restart().await;
    let agent = Agent::dial(&rig, "as-it-likes", 1, None).await;
    assert_eq!(agent.device_id(), "door");
    let other = Agent::dial(&rig, "as-it-likes", 2, None).await;
    assert_eq!(other.device_id(), "as-it-likes");
    let device = rig.ask("GET", "/api/v1/devices/door", None).await.expect(200);
    assert_eq!(
        (device["name"].as_str(), device["metadata"]["tags"].as_str()),
        (Some("Front"), Some("eu b"))
    );
    assert_eq!(rig.ask("GET", PATH, None).await.expect(200), json!([]));
    let events = rig.ask("GET", "/api/v1/events?kind=device.enrolled", None).await.expect(200);
    assert!(events[0]["actor"].as_str().unwrap().starts_with("operator:"), "{events}");
    assert!(events[0]["text"].as_str().unwrap().starts_with("preauthorised by operator:"));

    // It was good for once: who was deleted asks anew.
    rig.ask("DELETE", "/api/v1/devices/door", None).await.expect(200);
    drop(agent);
    Agent::dial(&rig, "door", 1, None).await;
    let device = rig.ask("GET", "/api/v1/devices/door", None).await.expect(200);
    assert_eq!(device["status"], "pending");
}

#[tokio::test]
async fn all_of_a_request_is_noted_or_nothing_and_what_is_wrong_is_named() {
    let rig = Rig::start().await;
    let _known = rig.enrolled("a", 1).await;
    let good = json!({"fingerprint": fingerprint(2), "device_id": "b"});
    for (bad, status, told) in [
        (json!({"fingerprint": fingerprint(1)}), 422, "the device a has this key already"),
        (json!({"fingerprint": fingerprint(3), "device_id": "a"}), 422, "a is the id of another"),
        (json!({"fingerprint": fingerprint(3), "device_id": "b"}), 422, "b is the id of another"),
        (good.clone(), 422, "stands there twice"),
        (json!({"fingerprint": fingerprint(3), "tags": ["a b"]}), 422, "is no tag"),
        (json!({"fingerprint": "short"}), 422, "fingerprint"),
    ] {
        let wish = json!({"devices": [good, bad]});
        let problem = rig.ask("POST", PATH, Some(wish)).await.problem(status);
        assert!(problem.contains(told), "{problem}");
        assert_eq!(rig.ask("GET", PATH, None).await.expect(200), json!([]));
    }
    preauthorize(&rig, json!([good])).await;
    let again = rig.ask("POST", PATH, Some(json!({ "devices": [good] }))).await.problem(409);
    assert!(again.contains("is preauthorised already"), "{again}");
    let same = json!({"devices": [{"fingerprint": fingerprint(3), "device_id": "b"}]});
    let problem = rig.ask("POST", PATH, Some(same)).await.problem(422);
    assert!(problem.contains("or promised to one"), "{problem}");
    let one = format!("{PATH}/{}", fingerprint(2));
    rig.ask("DELETE", &one, None).await.expect(200);
    rig.ask("DELETE", &one, None).await.expect(404);
    Agent::dial(&rig, "b", 2, None).await;
    let device = rig.ask("GET", "/api/v1/devices/b", None).await.expect(200);
    assert_eq!(device["status"], "pending", "it was taken back");
}

#[tokio::test]
async fn what_has_expired_lets_nobody_in_and_a_taken_id_waits() {
    let rig = Rig::start().await;
    let brief = json!({"devices": [{"fingerprint": fingerprint(1)}], "expires_in_secs": 60});
    rig.ask("POST", PATH, Some(brief)).await.expect(201);
    rig.clock.advance(Duration::from_secs(61));
    assert_eq!(rig.ask("GET", PATH, None).await.expect(200), json!([]));
    Agent::dial(&rig, "late", 1, None).await;
    let device = rig.ask("GET", "/api/v1/devices/late", None).await.expect(200);
    assert_eq!(device["status"], "pending");

    preauthorize(&rig, json!([{"fingerprint": fingerprint(2), "device_id": "c"}])).await;
    let _other = rig.enrolled("c", 3).await;
    Agent::dial(&rig, "c", 2, None).await;
    let listed = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    let waits = |device: &&Value| device["fingerprint"] == fingerprint(2).as_str();
    let second = listed.as_array().unwrap().iter().find(waits).unwrap();
    assert_eq!(second["status"], "pending");
    assert!(second["why"].as_str().unwrap().contains("another device is called c"), "{second}");
}

#[tokio::test]
async fn a_word_that_was_not_needed_lets_nobody_back_in() {
    let rig = Rig::start().await;
    preauthorize(&rig, json!([{"fingerprint": fingerprint(1), "device_id": "door"}])).await;
    // It comes by a grant instead.
    let agent = rig.enrolled("door", 1).await;
    assert_eq!(rig.ask("GET", PATH, None).await.expect(200), json!([]));
    rig.ask("DELETE", "/api/v1/devices/door", None).await.expect(200);
    drop(agent);
    let again = Agent::dial(&rig, "door", 1, None).await;
    assert!(matches!(again.standing, Standing::Pending { .. }), "{:?}", again.standing);
}
