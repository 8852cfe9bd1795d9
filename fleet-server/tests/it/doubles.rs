//! Devices that are there twice, and devices that only seem to be.

use fleet_core::wire::{ConfigTrial, ToServer, TrialState};
use serde_json::Value;

use crate::server_kit::{Agent, Rig, wait_for};

async fn double(rig: &Rig, id: &str) -> Value {
    rig.ask("GET", &format!("/api/v1/devices/{id}"), None).await.expect(200)["double"].clone()
}

async fn told(rig: &Rig) -> usize {
    let path = "/api/v1/events?kind=device.double_suspected";
    rig.ask("GET", path, None).await.expect(200).as_array().unwrap().len()
}

/// Two who have the same key, and take each other's place so many times.
async fn alternate(rig: &Rig, first: Agent, times: usize) -> Agent {
    let mut linked = first;
    for _ in 0..times {
        let newer = Agent::dial(rig, "a", 1, None).await;
        assert!(linked.ended().await.contains("newer link"));
        linked = newer;
    }
    linked
}

#[tokio::test]
async fn two_with_one_key_that_both_answer_are_told_once() {
    let mut rig = Rig::start().await;
    let first = rig.enrolled("a", 1).await;
    let linked = Box::pin(alternate(&rig, first, 2)).await;
    assert_eq!(double(&rig, "a").await, Value::Null, "twice may be chance");
    let linked = Box::pin(alternate(&rig, linked, 3)).await;
    wait_for("the double to be noted", async || double(&rig, "a").await.is_object()).await;
    let seen = double(&rig, "a").await;
    assert_eq!((&seen["sign"], &seen["addresses"][0]), (&"links".into(), &"127.0.0.1".into()));
    let device = rig.ask("GET", "/api/v1/devices/a", None).await.expect(200);
    let why = device["why"].as_str().unwrap();
    assert!(why.starts_with("may be there twice since "), "{why}");
    assert_eq!(device["status"], "online");
    wait_for("its event", async || told(&rig).await == 1).await;
    drop(linked);

    // It is known after a restart, and no news then.
    rig.restart().await;
    assert_eq!(double(&rig, "a").await["since"], seen["since"]);
    let again = Agent::dial(&rig, "a", 1, None).await;
    drop(Box::pin(alternate(&rig, again, 4)).await);
    assert_eq!(told(&rig).await, 1);

    rig.ask("POST", "/api/v1/devices/a/revoke", Some(serde_json::json!({}))).await.expect(200);
    assert_eq!(double(&rig, "a").await, Value::Null);
}

#[tokio::test]
async fn a_device_that_moves_twenty_times_is_one() {
    let mut rig = Rig::start().await;
    let mut linked = rig.enrolled("a", 1).await;
    linked.report(1, &[1], 1.0).await;
    let mut left_behind = Vec::new();
    for seq in 2..=21 {
        let mut newer = Agent::dial(&rig, "a", 1, None).await;
        // The old connection is half open: nobody closes it, and nobody answers on it.
        left_behind.push(std::mem::replace(&mut linked, {
            newer.report(1, &[seq - 1, seq], 1.0).await;
            newer
        }));
    }
    // Everything that goes on at the server ends with it.
    rig.restart().await;
    assert_eq!(left_behind.len(), 20);
    assert_eq!(double(&rig, "a").await, Value::Null);
    assert_eq!(told(&rig).await, 0);
}

#[tokio::test]
async fn a_device_that_tries_another_place_is_one() {
    let rig = Rig::start().await;
    let mut linked = rig.enrolled("a", 1).await;
    for version in 1..=5 {
        let trial = ConfigTrial { version, at_millis: 1, state: TrialState::Trying };
        linked.say(&ToServer::ConfigTrial(trial)).await;
        let newer = Agent::dial(&rig, "a", 1, None).await;
        assert!(linked.ended().await.contains("newer link"));
        linked = newer;
    }
    assert_eq!(double(&rig, "a").await, Value::Null);
}

#[tokio::test]
async fn two_reports_with_one_number_are_two_devices_work() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1, 2], 1.0).await;
    agent.report(1, &[2, 3], 1.0).await;
    assert_eq!(double(&rig, "a").await, Value::Null, "what comes again is the same");
    agent.report(1, &[3, 4], 7.5).await;
    assert_eq!(double(&rig, "a").await["sign"], "reports");
    assert_eq!(told(&rig).await, 1);
}
