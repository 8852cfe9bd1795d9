//! Operators' keys: what they may do, how long they last, and what takes their place (T28, T29).

use std::time::Duration;

use serde_json::{Value, json};

use crate::server_kit::{Rig, key_id};

const KEYS: &str = "/api/v1/keys";
const DAY: Duration = Duration::from_secs(86_400);

async fn listed(rig: &Rig, key: &str) -> Value {
    let keys = rig.ask("GET", KEYS, None).await.expect(200);
    let id = key_id(key);
    keys.as_array().unwrap().iter().find(|view| view["id"] == id.as_str()).unwrap().clone()
}

#[tokio::test]
async fn a_key_tells_its_holder_what_it_may_do() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let me = async |key: &str| rig.ask_with("GET", "/api/v1/me", Some(key), None).await.expect(200);
    let admin = me(&rig.admin()).await;
    assert_eq!((&admin["kind"], &admin["role"]), (&json!("operator"), &json!("admin")));
    assert_eq!(admin["rights"], json!(["exec", "delete", "export"]));
    assert_eq!((&admin["scope"], &admin["expires_at"]), (&Value::Null, &Value::Null));

    let wish = json!({"kind": "operator", "label": "night shift", "rights": ["delete"],
        "scope": "site = lyon  and tag:x"});
    let operator = rig.key(wish).await;
    let said = me(&operator).await;
    assert_eq!((&said["role"], &said["rights"]), (&json!("operator"), &json!(["delete"])));
    assert_eq!(said["scope"], "site=lyon and tag:x");
    assert_eq!(said["expires_at"], "2024-04-14T10:30:00Z", "an operator key lasts for 90 days");
    assert_eq!(said["label"], "night shift");

    let device = rig.key(json!({"kind": "device", "device_id": "rpi4-001"})).await;
    let said = me(&device).await;
    assert_eq!((&said["kind"], &said["device_id"]), (&json!("device"), &json!("rpi4-001")));
    assert_eq!((&said["role"], &said["expires_at"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn t29_nobody_makes_a_key_that_may_do_more_than_theirs() {
    let rig = Rig::start().await;
    let refused = async |key: &str, wish: Value, status: u16| {
        rig.ask_with("POST", KEYS, Some(key), Some(wish)).await.problem(status)
    };
    let operator = rig.key(json!({"kind": "operator", "rights": ["exec"]})).await;
    let why = refused(&operator, json!({"kind": "operator", "role": "viewer"}), 403).await;
    assert_eq!(why, "this needs the role admin, and the key has the role operator");

    let scoped = rig.key(json!({"kind": "operator", "role": "admin", "scope": "site=a"})).await;
    let make = async |wish: Value| {
        let made = rig.ask_with("POST", KEYS, Some(&scoped), Some(wish)).await.expect(201);
        made["key"].as_str().unwrap().to_owned()
    };
    for (asked, given) in [
        (json!(null), "site=a"),
        (json!("site=b"), "site=a and site=b"),
        (json!("tag:x or tag:y"), "site=a and (tag:x or tag:y)"),
        (json!("site=a and tag:x"), "site=a and tag:x"),
    ] {
        let mut wish = json!({"kind": "operator", "role": "admin"});
        if !asked.is_null() {
            wish["scope"] = asked;
        }
        assert_eq!(listed(&rig, &make(wish).await).await["scope"], given);
    }
    let why = refused(&scoped, json!({"kind": "enrol"}), 403).await;
    assert!(why.contains("the key is for the devices of site=a only"), "{why}");

    // It sees and ends those within its own scope, and no others.
    let seen = rig.ask_with("GET", KEYS, Some(&scoped), None).await.expect(200);
    assert_eq!(seen.as_array().unwrap().len(), 5, "{seen}");
    for (key, status) in [(rig.admin(), 404), (operator, 404), (scoped.clone(), 200)] {
        let path = format!("{KEYS}/{}", key_id(&key));
        let answer = rig.ask_with("DELETE", &path, Some(&scoped), None).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_wish_for_a_key_that_makes_no_sense_is_refused_in_words() {
    let rig = Rig::start().await;
    for (wish, words) in [
        (
            json!({"kind": "operator", "role": "viewer", "rights": ["exec"]}),
            "cannot have the right exec",
        ),
        (json!({"kind": "enrol", "role": "viewer"}), "only an operator key has one"),
        (json!({"kind": "enrol", "rights": ["exec"]}), "only an operator key has some"),
        (json!({"kind": "enrol", "scope": "site=a"}), "only an operator key has one"),
        (json!({"kind": "operator", "scope": ""}), "asks for nothing"),
        (json!({"kind": "operator", "scope": "site="}), "site="),
        (
            json!({"kind": "operator", "scope": "site=a and status=online"}),
            "status changes with how",
        ),
        (json!({"kind": "operator", "scope": "cpu>5"}), "cpu changes with how"),
        (json!({"kind": "operator", "scope": "not last_seen<5m"}), "last_seen changes with how"),
        (json!({"kind": "operator", "scope": "address=10.0.0.1"}), "address changes with how"),
        (json!({"kind": "operator", "never_expires": true, "expires_in_secs": 5}), "goes without"),
    ] {
        let why = rig.ask("POST", KEYS, Some(wish.clone())).await.problem(422);
        assert!(why.contains(words), "{wish}: {why}");
    }
    rig.ask("POST", KEYS, Some(json!({"kind": "operator", "rights": ["ota"]}))).await.problem(422);
}

#[tokio::test]
async fn an_operators_key_ends_after_ninety_days_unless_it_never_does() {
    let rig = Rig::start().await;
    let usual = rig.key(json!({"kind": "operator"})).await;
    let never = rig.key(json!({"kind": "operator", "never_expires": true})).await;
    let enrol = rig.key(json!({"kind": "enrol"})).await;
    rig.clock.advance(Duration::from_secs(90 * 86_400 - 1));
    for key in [&usual, &never, &enrol] {
        rig.ask_with("GET", "/api/v1/me", Some(key), None).await.expect(200);
    }
    rig.clock.advance(Duration::from_secs(1));
    let why = rig.ask_with("GET", "/api/v1/me", Some(&usual), None).await.problem(401);
    assert!(why.starts_with("the key has expired"), "{why}");
    for key in [&never, &enrol, &rig.admin()] {
        rig.ask_with("GET", "/api/v1/me", Some(key), None).await.expect(200);
    }
    let view = listed(&rig, &never).await;
    assert_eq!(view["last_used_from"], "127.0.0.1");
    // It is noted once a minute.
    assert_eq!(view["last_used"], "2024-04-14T10:29:59Z");
}

#[tokio::test]
async fn a_revoked_successor_takes_nobodys_place() {
    let rig = Rig::start().await;
    let old = rig.key(json!({"kind": "operator"})).await;
    let path = format!("{KEYS}/{}/rotate", key_id(&old));
    let rotate = || rig.ask("POST", &path, None);
    let lost = rotate().await.expect(201);
    assert_eq!(listed(&rig, &old).await["succeeded_by"], lost["id"]);
    let its = format!("{KEYS}/{}", lost["id"].as_str().unwrap());
    rig.ask("DELETE", &its, None).await.expect(200);
    assert_eq!(listed(&rig, &old).await["succeeded_by"], Value::Null);
    rig.clock.advance(Duration::from_secs(1));
    let made = rotate().await.expect(201);
    assert_eq!(listed(&rig, &old).await["succeeded_by"], made["id"]);
}

#[tokio::test]
async fn a_key_has_a_successor_and_goes_on_for_a_while() {
    let rig = Rig::start().await;
    let wish = json!({"kind": "operator", "label": "ci", "role": "viewer", "rights": ["export"],
        "scope": "site=a", "expires_in_secs": 10 * 86_400});
    let old = rig.key(wish).await;
    rig.clock.advance(4 * DAY);
    let rotate = async |key: &str, wish: Value| {
        rig.ask("POST", &format!("{KEYS}/{}/rotate", key_id(key)), Some(wish)).await
    };
    let made = rotate(&old, json!({})).await.expect(201);
    let new = made["key"].as_str().unwrap().to_owned();
    let (before, after) = (listed(&rig, &old).await, listed(&rig, &new).await);
    for part in ["kind", "label", "role", "rights", "scope"] {
        assert_eq!(before[part], after[part], "{part}");
    }
    assert_eq!(before["expires_at"], "2024-01-20T10:30:00Z", "a day is left of the old one");
    assert_eq!((&before["succeeded_by"], &before["succeeds"]), (&after["id"], &Value::Null));
    assert_eq!((&after["succeeded_by"], &after["succeeds"]), (&Value::Null, &before["id"]));
    for key in [&before, &after] {
        assert_eq!(key["created_by"], format!("operator:{}", key_id(&rig.admin())));
    }
    assert_eq!(listed(&rig, &rig.admin()).await["created_by"], "server");
    assert_eq!(after["expires_at"], "2024-01-29T10:30:00Z", "ten days, as the old one had");
    rig.ask_with("GET", "/api/v1/me", Some(&old), None).await.expect(200);
    rig.clock.advance(DAY);
    rig.ask_with("GET", "/api/v1/me", Some(&old), None).await.problem(401);
    rig.ask_with("GET", "/api/v1/me", Some(&new), None).await.expect(200);

    // At once, and not twice.
    let newest = rotate(&new, json!({"overlap_secs": 0})).await.expect(201);
    rig.ask_with("GET", "/api/v1/me", Some(&new), None).await.problem(401);
    rig.ask_with("GET", "/api/v1/me", newest["key"].as_str(), None).await.expect(200);
    let detail = rotate(&new, json!({})).await.problem(409);
    assert!(detail.contains(&format!("successor already: {}", newest["id"].as_str().unwrap())));
    let ended = json!({"kind": "operator", "expires_in_secs": 60});
    let ended = rig.key(ended).await;
    rig.clock.advance(DAY);
    assert!(rotate(&ended, json!({})).await.problem(409).contains("expired"));
    assert!(rotate(&rig.admin(), json!({})).await.problem(409).contains("admin.key"));
    let enrol = rig.key(json!({"kind": "enrol"})).await;
    assert!(rotate(&enrol, json!({})).await.problem(409).contains("make another one"));
    rig.ask("POST", &format!("{KEYS}/nobodyskey/rotate"), Some(json!({}))).await.problem(404);
    let events = rig.ask("GET", "/api/v1/events?kind=key.created&limit=1", None).await;
    assert!(events.expect(200)[0]["text"].as_str().unwrap().contains("enrol"));
}

#[tokio::test]
async fn the_last_key_that_may_do_everything_is_not_ended() {
    let rig = Rig::start().await;
    let admin = format!("{KEYS}/{}", key_id(&rig.admin()));
    // Neither of these could make another one.
    rig.key(json!({"kind": "operator"})).await;
    rig.key(json!({"kind": "operator", "role": "admin", "scope": "site=a"})).await;
    rig.ask("DELETE", &admin, None).await.problem(409);
    // This one for so long that it may be forgotten.
    let short = json!({"kind": "operator", "role": "admin", "expires_in_secs": 6 * 86_400});
    let short = rig.key(short).await;
    assert!(rig.ask("DELETE", &admin, None).await.problem(409).contains("for a week"));
    rig.ask("DELETE", &format!("{KEYS}/{}", key_id(&short)), None).await.expect(200);
    rig.key(json!({"kind": "operator", "role": "admin"})).await;
    rig.ask("DELETE", &admin, None).await.expect(200);
}

#[tokio::test]
async fn programs_are_run_only_with_the_right_to() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let device = rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.expect(200);
    let plain = rig.key(json!({"kind": "operator"})).await;
    let able = rig.key(json!({"kind": "operator", "rights": ["exec"]})).await;
    let command = json!({"device_id": "rpi4-001", "command": "exec", "args": ["true"]});
    let batch = json!({"devices": [device["uid"]], "command": "exec", "args": ["true"]});
    for (path, wish) in [("/api/v1/commands", command), ("/api/v1/batches", batch)] {
        let answer = rig.ask_with("POST", path, Some(&plain), Some(wish.clone())).await;
        assert_eq!(answer.problem(403), "this needs the right exec, and the key has no rights");
        let made = rig.ask_with("POST", path, Some(&able), Some(wish)).await.expect(201);
        if path.ends_with("batches") {
            let path = |what: &str| format!("{path}/{}/{what}", made["id"].as_str().unwrap());
            // Whoever may not begin it may stop it, and not have it go on.
            for (what, status) in [("pause", 200), ("continue", 403), ("retry", 403)] {
                let answer = rig.ask_with("POST", &path(what), Some(&plain), None).await;
                assert_eq!(answer.status.as_u16(), status, "{what}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn t29_only_admins_move_devices_to_another_server_or_change_the_whole_fleet() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let device = rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.expect(200);
    let operator = rig.key(json!({"kind": "operator"})).await;
    let (own, fleet) = ("/api/v1/config?device_id=rpi4-001", "/api/v1/config?layer=fleet");
    let tag = "/api/v1/config?layer=tag:x";
    let moved = json!({"config": {"server_url": "https://other:8080"}});
    let interval = json!({"config": {"telemetry": {"interval": 30}}});
    let post = async |key: &str, path: &str, wish: &Value| {
        rig.ask_with("POST", path, Some(key), Some(wish.clone())).await
    };
    let batch = json!({"devices": [device["uid"]], "config": {"server_url": "https://other:8080"}});
    for (path, wish, words) in [
        (own, &moved, "server_url is to change"),
        (own, &json!({"server_url": "https://other:8080"}), "server_url is to change"),
        (tag, &moved, "server_url is to change"),
        (fleet, &interval, "this needs the role admin"),
        ("/api/v1/batches", &batch, "this needs the role admin"),
    ] {
        let why = post(&operator, path, wish).await.problem(403);
        assert!(why.contains(words), "{path}: {why}");
    }
    post(&operator, own, &interval).await.expect(200);
    post(&operator, tag, &interval).await.expect(200);
    post(&rig.admin(), fleet, &interval).await.expect(200);
    // Where an admin has said where the server is, others leave that as it is.
    post(&rig.admin(), own, &moved).await.expect(200);
    let kept =
        json!({"config": {"server_url": "https://other:8080", "telemetry": {"interval": 9}}});
    post(&operator, own, &kept).await.expect(200);
    post(&operator, own, &interval).await.problem(403);
    let back = json!({"rollback_to": 1});
    post(&operator, own, &back).await.problem(403);
}
