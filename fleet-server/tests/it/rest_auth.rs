//! Who may do what: every route of the table with every kind of caller.

use std::net::{IpAddr, Ipv4Addr};

use fleet_core::api::{AuthClass, Route};
use fleet_core::identity::PrivateKey;
use fleet_core::secret::{ApiKey, KeyKind};
use serde_json::{Value, json};

use crate::server_kit::{Answer, Rig, key_id, send};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Caller {
    Nobody,
    /// Whose key is good for nothing.
    Bad,
    Device,
    Enrol,
    Operator,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Unauthorized,
    Forbidden,
    Allowed,
}

fn expected(class: AuthClass, caller: Caller) -> Verdict {
    use AuthClass::{AnyKey, OperatorOrDevice, OperatorOrEnrol, Page, Public};
    match (class, caller) {
        (Public, _) => Verdict::Allowed,
        (_, Caller::Nobody | Caller::Bad) => Verdict::Unauthorized,
        (Page, _) => unreachable!("pages are asked by browsers"),
        (_, Caller::Operator) | (AnyKey, _) => Verdict::Allowed,
        (OperatorOrDevice, Caller::Device) | (OperatorOrEnrol, Caller::Enrol) => Verdict::Allowed,
        _ => Verdict::Forbidden,
    }
}

fn found(answer: &Answer) -> Verdict {
    match answer.status.as_u16() {
        401 => {
            let text = String::from_utf8_lossy(&answer.body);
            assert!(text.contains("admin.key"), "a hint helps: {answer:?}");
            assert!(answer.headers.contains_key("www-authenticate"));
            Verdict::Unauthorized
        }
        403 => Verdict::Forbidden,
        500.. => panic!("{answer:?}"),
        _ => Verdict::Allowed,
    }
}

/// A path and body that the route would accept.
fn call(route: &Route, device: &str) -> (String, Option<Value>) {
    let path = route.path().replace("{}", device);
    let on_device = |path: &str| format!("{path}?device_id={device}");
    match route {
        Route::DevicePut(_) => (path, Some(json!({"name": "x"}))),
        Route::TelemetryPost => {
            (path, Some(json!({"device_id": device, "metric_name": "m", "value": 1})))
        }
        Route::TelemetryMetrics => (format!("{}&metric=m", on_device(&path)), None),
        Route::TelemetryLatest => (format!("{path}?metrics=m"), None),
        Route::TelemetryTop => (format!("{path}?metric=m"), None),
        Route::TelemetrySeries => (format!("{}&metrics=m", on_device(&path)), None),
        Route::ConfigGet | Route::ConfigHistory | Route::EventList => (on_device(&path), None),
        Route::ConfigPreview => (format!("{path}?layer=fleet"), Some(json!({"config": {}}))),
        Route::ConfigPost => (on_device(&path), Some(json!({"config": {}}))),
        Route::BatchCreate | Route::BatchPreview => {
            (path, Some(json!({"devices": [], "command": "restart"})))
        }
        Route::CommandCreate => (path, Some(json!({"device_id": device, "command": "restart"}))),
        Route::DiscoverPost => (path, Some(json!({"device_id": "nobody-there"}))),
        Route::GrantCreate => {
            let key = PrivateKey::from_seed(&[77; 32]).public();
            let address = "127.0.0.1";
            (path, Some(json!({"device_id": "n", "device_key": key, "device_address": address})))
        }
        Route::KeyCreate => (path, Some(json!({"kind": "enrol"}))),
        // One that opened would not end.
        Route::StreamOpen => (format!("{path}?only=nobody"), None),
        // Nobody answers.
        Route::DeviceLogs(_) => (format!("{path}?limit=0"), None),
        Route::StreamView(_) => (path, Some(json!({}))),
        _ => (path, None),
    }
}

/// What of a key's text nobody may ever see again.
fn secret(key: &str) -> &str {
    key.split('@').next().unwrap().rsplit(key_id(key).as_str()).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_caller_as_the_table_says() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let _other = rig.enrolled("rpi4-002", 2).await;
    let device = rig.key(json!({"kind": "device", "device_id": "rpi4-001"})).await;
    let enrol = rig.key(json!({"kind": "enrol"})).await;
    let revoked = rig.key(json!({"kind": "operator"})).await;
    rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&revoked)), None).await.expect(200);
    let expired = rig.key(json!({"kind": "operator", "expires_in_secs": 1})).await;
    rig.clock.advance(std::time::Duration::from_secs(2));
    let elsewhere = PrivateKey::from_seed(&[50; 32]).public().identity();
    let foreign = ApiKey::generate(KeyKind::Operator, elsewhere).unwrap().reveal();
    let here = rig.server().identity();
    let unknown = ApiKey::generate(KeyKind::Operator, here).unwrap().reveal();
    let admin = rig.admin();
    let bare = admin.split('@').next().unwrap().to_owned();
    let callers: [(Caller, Option<&str>); 10] = [
        (Caller::Nobody, None),
        (Caller::Bad, Some("garbage")),
        (Caller::Bad, Some(&unknown)),
        (Caller::Bad, Some(&foreign)),
        (Caller::Bad, Some(&revoked)),
        (Caller::Bad, Some(&expired)),
        (Caller::Device, Some(&device)),
        (Caller::Enrol, Some(&enrol)),
        (Caller::Operator, Some(&bare)),
        (Caller::Operator, Some(&admin)),
    ];
    // Each from an address of its own, since an address has only ten tries.
    let mut addresses = (0_u8..).flat_map(|a| (1..=254).map(move |b| Ipv4Addr::new(127, 1, a, b)));
    for (caller, key) in callers {
        // Pages are asked by browsers, in a suite of their own.
        let routes = Route::all().into_iter().filter(|route| route.spec().auth != AuthClass::Page);
        for route in routes {
            let (path, body) = call(&route, "rpi4-001");
            let mut headers = vec![("content-type", "application/json".to_owned())];
            headers.extend(key.map(|key| ("authorization", format!("Bearer {key}"))));
            let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
            let from: IpAddr = addresses.next().unwrap().into();
            let method = route.spec().method;
            let answer = send(rig.address(), from, method, &path, &headers, body).await;
            let wanted = expected(route.spec().auth, caller);
            assert_eq!(found(&answer), wanted, "{route} by {caller:?}: {answer:?}");
            let text = String::from_utf8_lossy(&answer.body);
            let secrets = [&admin, &device, &enrol, &revoked, &expired];
            assert!(!secrets.iter().any(|key| text.contains(secret(key))), "{route}: {text}");
        }
    }
}

#[tokio::test]
async fn a_device_key_posts_for_its_own_device_alone() {
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
async fn a_key_that_was_good_a_moment_ago_is_not_when_it_is_ended() {
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
async fn ten_wrong_keys_close_the_door_for_a_minute_whatever_headers_say() {
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
