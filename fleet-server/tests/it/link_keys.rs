//! Devices that come with another key than before.

use fleet_core::identity::PrivateKey;
use fleet_core::wire::{NewKey, Standing, ToAgent, ToServer};
use serde_json::{Value, json};

use crate::commands_kit::{give, given, ordered, uid};
use crate::server_kit::{Agent, Rig};

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32])
}

fn fingerprint(seed: u8) -> String {
    key(seed).public().fingerprint().to_string()
}

/// Offers a key, and gives why it is not taken.
async fn offers(
    rig: &Rig,
    agent: &mut Agent,
    command: [u8; 16],
    (old, new): (u8, u8),
) -> Option<String> {
    let identity = rig.ask("GET", "/api/v1/identity", None).await.json();
    let server = serde_json::from_value(identity["public_key"].clone()).unwrap();
    let offer = NewKey::sign(command, (uid(agent), server), &key(old), &key(new));
    agent.say(&ToServer::NewKey(Box::new(offer))).await;
    loop {
        if let ToAgent::NewKeyNoted { device_pub, refused } = agent.next().await {
            assert_eq!(device_pub, key(new).public().bytes());
            return refused;
        }
    }
}

async fn events(rig: &Rig) -> Vec<Value> {
    let events = rig.ask("GET", "/api/v1/events?kind=device.rekeyed", None).await.expect(200);
    events.as_array().unwrap().clone()
}

fn is_in(agent: &Agent) -> bool {
    matches!(agent.standing, Standing::Active { .. })
}

#[tokio::test]
async fn a_device_has_either_key_until_it_comes_with_the_new_one() {
    let mut rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let of_a = uid(&agent);
    given(&rig, "a", "rotate-key").await;
    let command = ordered(&mut agent).await.id;
    assert_eq!(offers(&rig, &mut agent, command, (1, 2)).await, None);
    // The answer is lost, and the server is another one: the same offer is as good.
    drop(agent);
    rig.restart().await;
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    assert_eq!((is_in(&agent), uid(&agent)), (true, of_a));
    assert_eq!(offers(&rig, &mut agent, command, (1, 2)).await, None);
    assert_eq!(events(&rig).await.len(), 0);

    let moved = Agent::dial(&rig, "a", 2, None).await;
    assert_eq!((is_in(&moved), uid(&moved)), (true, of_a));
    let seen = rig.ask("GET", "/api/v1/devices/a", None).await.expect(200);
    assert_eq!(seen["fingerprint"], json!(fingerprint(2)));
    let told = events(&rig).await;
    let text = format!("key {} → {}", fingerprint(1), fingerprint(2));
    assert_eq!((told.len(), &told[0]["text"]), (1, &json!(text)));

    // Whoever has the old key is told so, is no device, and takes nobody's place.
    for _ in 0..2 {
        let former = Agent::dial(&rig, "a", 1, None).await;
        let Standing::Revoked { reason } = &former.standing else { panic!("it is let in") };
        assert!(reason.contains("was replaced by a newer one of the device a"), "{reason}");
        let devices = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
        assert_eq!(devices.as_array().unwrap().len(), 1);
        rig.restart().await;
    }
    let again = Agent::dial(&rig, "a", 2, None).await;
    assert!(is_in(&again));
    assert_eq!(events(&rig).await.len(), 1);
    let place = "http://10.0.0.1:8080";
    let grant = json!({"device_key": key(1).public(), "device_id": "a", "server_url": place});
    let refused = rig.ask("POST", "/api/v1/grants", Some(grant)).await.problem(409);
    assert!(refused.contains("has a newer key"), "{refused}");

    // A device that is gone leaves its keys to others.
    rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    let stranger = Agent::dial(&rig, "a", 1, None).await;
    assert!(matches!(stranger.standing, Standing::Pending { .. }));
}

#[tokio::test]
async fn a_command_has_one_key_that_no_copy_of_the_device_exchanges() {
    let mut rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    given(&rig, "a", "rotate-key").await;
    let command = ordered(&mut agent).await.id;
    assert_eq!(offers(&rig, &mut agent, command, (1, 2)).await, None);
    drop(agent);

    // Whoever else has the old key is let in as the device, and is not given its future.
    let mut copy = Agent::dial(&rig, "a", 1, None).await;
    let refused = offers(&rig, &mut copy, command, (1, 3)).await;
    let taken = "another new key was taken for the same command already";
    assert_eq!(refused.as_deref(), Some(taken));
    drop(copy);
    rig.restart().await;
    let mut copy = Agent::dial(&rig, "a", 1, None).await;
    assert_eq!(offers(&rig, &mut copy, command, (1, 3)).await.as_deref(), Some(taken));
    assert_eq!(offers(&rig, &mut copy, command, (1, 2)).await, None);
    drop(copy);
    let stranger = Agent::dial(&rig, "x", 3, None).await;
    assert!(matches!(stranger.standing, Standing::Pending { .. }));
    assert!(is_in(&Agent::dial(&rig, "a", 2, None).await));
    assert!(!is_in(&Agent::dial(&rig, "a", 1, None).await));
}

#[tokio::test]
async fn a_later_command_replaces_a_key_that_never_came() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    given(&rig, "a", "rotate-key").await;
    let first = ordered(&mut agent).await.id;
    assert_eq!(offers(&rig, &mut agent, first, (1, 2)).await, None);
    assert_ne!(given(&rig, "a", "rotate-key").await, "");
    let later = loop {
        match agent.next().await {
            ToAgent::Command(order) if order.id != first => break order.id,
            _ => {}
        }
    };
    assert_eq!(offers(&rig, &mut agent, later, (1, 3)).await, None);
    drop(agent);
    let stranger = Agent::dial(&rig, "x", 2, None).await;
    assert!(matches!(stranger.standing, Standing::Pending { .. }));
    assert!(is_in(&Agent::dial(&rig, "a", 3, None).await));
}

#[tokio::test]
async fn no_grant_for_any_of_its_keys_outlives_a_device() {
    let rig = Rig::start().await;
    let wish =
        json!({"device_id": "b", "device_key": key(2).public(), "device_address": "127.0.0.1"});
    let leftover = rig.ask("POST", "/api/v1/grants", Some(wish)).await.expect(201);
    let mut agent = rig.enrolled("a", 1).await;
    given(&rig, "a", "rotate-key").await;
    let command = ordered(&mut agent).await.id;
    assert_eq!(offers(&rig, &mut agent, command, (1, 2)).await, None);
    drop(agent);
    rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    let stranger = Agent::dial(&rig, "b", 2, None).await;
    assert!(matches!(stranger.standing, Standing::Pending { .. }));
    let path = format!("/api/v1/grants/{}", leftover["uid"].as_str().unwrap());
    assert_eq!(rig.ask("GET", &path, None).await.expect(200)["state"], "expired");
}

#[tokio::test]
async fn a_key_is_taken_only_where_it_was_asked_for_and_both_sign() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let asked = |refused: Option<String>| refused.expect("it is refused");
    let refused = asked(offers(&rig, &mut agent, [7; 16], (1, 2)).await);
    assert_eq!(refused, "nobody asked for a new key");
    given(&rig, "a", "collect").await;
    let collect = ordered(&mut agent).await.id;
    let refused = asked(offers(&rig, &mut agent, collect, (1, 2)).await);
    assert_eq!(refused, "nobody asked for a new key");

    given(&rig, "a", "rotate-key").await;
    let command = ordered(&mut agent).await.id;
    let refused = asked(offers(&rig, &mut agent, command, (3, 2)).await);
    assert_eq!(refused, "the new key is not signed by both keys");
    let refused = asked(offers(&rig, &mut agent, command, (1, 1)).await);
    assert_eq!(refused, "the device has or had that key already");
    let _other = rig.enrolled("b", 4).await;
    let refused = asked(offers(&rig, &mut agent, command, (1, 4)).await);
    assert_eq!(refused, "another device has that key");
    // None of these opened a door.
    let stranger = Agent::dial(&rig, "c", 2, None).await;
    assert!(matches!(stranger.standing, Standing::Pending { .. }));
    give(&rig, "a", "rotate-key now").await.problem(422);
}

#[tokio::test]
async fn a_device_that_has_a_former_key_of_a_deleted_one_is_named() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    given(&rig, "a", "rotate-key").await;
    let command = ordered(&mut agent).await.id;
    assert_eq!(offers(&rig, &mut agent, command, (1, 2)).await, None);
    let _moved = Agent::dial(&rig, "a", 2, None).await;
    rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    let _waits = Agent::dial(&rig, "c", 2, None).await;
    let _anew = rig.enrolled("b", 1).await;
    let detail = rig.ask("POST", "/api/v1/devices/a/restore", None).await.problem(409);
    let named = "its key is in the fleet anew, as b (active, uid ";
    assert!(detail.contains(named) && detail.contains(&fingerprint(1)), "{detail}");

    rig.ask("DELETE", "/api/v1/devices/b", None).await.expect(200);
    rig.ask("POST", "/api/v1/devices/a/restore", None).await.expect(200);
    let told = rig.ask("GET", "/api/v1/events?kind=device.restored", None).await.expect(200);
    let text = told[0]["text"].as_str().unwrap();
    assert!(text.ends_with(&format!("whoever waited with {} gave way", fingerprint(2))), "{text}");
}
