//! Who may do what: every route with every kind of key, and the exact status that it answers, as
//! the table in `matrix.txt` has them (T05, T06, T07, T28, T29).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fleet_core::api::{AuthClass, Route};
use fleet_core::id::Uid;
use fleet_core::identity::PrivateKey;
use serde_json::{Value, json};

use crate::page_kit::between;
use crate::server_kit::{Answer, Rig, key_id, send, wait_for};

const TABLE: &str = include_str!("matrix.txt");

/// The device that every request is about; another one is of another place.
const DEVICE: &str = "rpi4-001";
const OTHER: &str = "rpi4-002";
/// One of the same place that is away: batches wait for it, and are over once they are called off.
const AWAY: &str = "rpi4-003";

/// Those who ask, in the order of the table's columns, each by the key that they show.
struct Callers(Vec<(&'static str, Option<String>)>);

impl Callers {
    async fn of(rig: &Rig) -> Self {
        let revoked = rig.key(json!({"kind": "operator", "role": "admin"})).await;
        rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&revoked)), None).await.expect(200);
        let wish = json!({"kind": "operator", "role": "admin", "expires_in_secs": 1});
        let expired = rig.key(wish).await;
        rig.clock.advance(Duration::from_secs(2));
        let operator = async |role: &str, rights: &[&str], scope: Option<&str>| {
            let mut wish = json!({"kind": "operator", "role": role, "rights": rights});
            if let Some(scope) = scope {
                wish["scope"] = scope.into();
            }
            Some(rig.key(wish).await)
        };
        let device =
            async |id: &str| Some(rig.key(json!({"kind": "device", "device_id": id})).await);
        let all: &[&str] = &["exec", "delete", "export"];
        Self(vec![
            ("none", None),
            ("garbage", Some("garbage".to_owned())),
            ("expired", Some(expired)),
            ("revoked", Some(revoked)),
            ("device", device(DEVICE).await),
            ("other-device", device(OTHER).await),
            ("enrol", Some(rig.key(json!({"kind": "enrol"})).await)),
            ("viewer", operator("viewer", &[], None).await),
            ("viewer-in", operator("viewer", &["export"], Some("site=a")).await),
            ("viewer-out", operator("viewer", &["export"], Some("site=b")).await),
            ("operator", operator("operator", &[], None).await),
            ("operator-in", operator("operator", all, Some("site=a")).await),
            ("operator-out", operator("operator", all, Some("site=b")).await),
            ("admin-in", operator("admin", &[], Some("site=a")).await),
            ("admin-out", operator("admin", &[], Some("site=b")).await),
            ("admin", Some(rig.admin())),
        ])
    }
}

fn from() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// The server's own name, as pages want it.
fn own(rig: &Rig) -> [(&'static str, String); 1] {
    [("host", rig.address().to_string())]
}

/// A device that only this request is about, since the request may be its end.
async fn fresh_device(rig: &Rig) -> String {
    let id = Uid::new().to_string().replace('-', "");
    let id = format!("d{id}");
    let headers = [("authorization", format!("Bearer {}", rig.admin()))];
    let line = format!("m,device={id} value=1").into_bytes();
    let made = send(rig.address(), from(), "POST", "/write", &headers, line).await;
    assert_eq!(made.status.as_u16(), 204, "{made:?}");
    let note = json!({"metadata": {"site": "a"}});
    rig.ask("PUT", &format!("/api/v1/devices/{id}"), Some(note)).await.expect(200);
    id
}

/// Something that was just made, by its id.
async fn made(rig: &Rig, path: &str, wish: Value) -> String {
    let made = rig.ask("POST", path, Some(wish)).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

/// A key that nobody has.
fn new_fingerprint() -> String {
    let seed = [Uid::new().bytes(), Uid::new().bytes()].concat();
    let seed: [u8; 32] = seed.try_into().unwrap();
    PrivateKey::from_seed(&seed).public().fingerprint().to_string()
}

fn preauth(fingerprint: &str) -> Value {
    json!({"devices": [{"fingerprint": fingerprint}]})
}

/// A path, headers and a body that the route would accept of somebody who may.
async fn call(rig: &Rig, route: &Route, uid: &str) -> (String, Option<Value>) {
    let template = route.spec().path;
    let path = |name: &str| template.replacen("{}", name, 1);
    let on_device = format!("{template}?device_id={DEVICE}");
    let command = json!({"device_id": DEVICE, "command": "collect"});
    let batch = json!({"devices": [uid], "command": "collect"});
    match route {
        Route::DeviceDelete(_) | Route::DeviceRevoke(_) => (path(&fresh_device(rig).await), None),
        Route::DeviceRestore(_) => {
            let id = fresh_device(rig).await;
            rig.ask("DELETE", &format!("/api/v1/devices/{id}"), None).await.expect(200);
            (path(&id), None)
        }
        Route::DevicePut(_) => (path(DEVICE), Some(json!({"name": "x"}))),
        Route::DeviceLogs(_) => (format!("{}?limit=1", path(DEVICE)), None),
        Route::TelemetryPost => {
            (path(""), Some(json!({"device_id": DEVICE, "metric_name": "m", "value": 1})))
        }
        Route::TelemetryMetrics => (format!("{on_device}&metric=m"), None),
        Route::TelemetryLatest => (format!("{template}?metrics=m"), None),
        Route::TelemetryTop => (format!("{template}?metric=m"), None),
        Route::TelemetrySeries => (format!("{on_device}&metrics=m"), None),
        Route::ConfigGet | Route::ConfigHistory | Route::EventList => (on_device, None),
        Route::ConfigPost => (on_device, Some(json!({"config": {}}))),
        Route::ConfigPreview => (format!("{template}?layer=tag:x"), Some(json!({"config": {}}))),
        Route::ExportGet => (format!("{template}?tables=devices"), None),
        Route::CommandCreate => (path(""), Some(command)),
        Route::CommandGet(_) | Route::CommandCancel(_) => {
            (path(&made(rig, "/api/v1/commands", command).await), None)
        }
        Route::BatchCreate | Route::BatchPreview => (path(""), Some(batch)),
        Route::BatchGet(_)
        | Route::BatchMembers(_)
        | Route::BatchPause(_)
        | Route::BatchContinue(_)
        | Route::BatchCancel(_)
        | Route::BatchRetry(_) => (path(&made(rig, "/api/v1/batches", batch).await), None),
        Route::DiscoverPost => (path(""), Some(json!({"device_id": "nobody-there"}))),
        Route::GrantCreate => {
            let key = PrivateKey::from_seed(&[77; 32]).public();
            let address = "127.0.0.1";
            let wish = json!({"device_id": "n", "device_key": key, "device_address": address});
            (path(""), Some(wish))
        }
        Route::PreauthCreate => (path(""), Some(preauth(&new_fingerprint()))),
        Route::PreauthDelete(_) => {
            let key = new_fingerprint();
            rig.ask("POST", "/api/v1/preauthorized", Some(preauth(&key))).await.expect(201);
            (path(&key), None)
        }
        Route::KeyCreate => (path(""), Some(json!({"kind": "operator", "role": "viewer"}))),
        Route::KeyRevoke(_) | Route::KeyRotate(_) => {
            let wish = json!({"kind": "operator", "role": "viewer", "scope": "site=a"});
            (path(&made(rig, "/api/v1/keys", wish).await), None)
        }
        Route::PageAsset(_) => {
            let page = send(rig.address(), from(), "GET", "/sign-in", &own(rig), Vec::new()).await;
            let page = String::from_utf8_lossy(&page.body).into_owned();
            (path(between(&page, "/assets/", "\"")), None)
        }
        // One that opened would not end.
        Route::StreamOpen => (format!("{template}?only=nobody"), None),
        Route::StreamView(_) => (path(&Uid::new().to_string()), Some(json!({}))),
        Route::InfluxQuery => (format!("{template}?q=CREATE%20DATABASE%20x"), None),
        Route::InfluxQueryPost => (format!("{template}?q=CREATE%20DATABASE%20x"), None),
        Route::GrantGet(_) => (path(&Uid::new().to_string()), None),
        _ => (path(DEVICE), None),
    }
}

/// A request as the caller sends it, each from an address of its own: an address has only ten tries.
async fn ask(rig: &Rig, route: &Route, uid: &str, from: IpAddr, key: Option<&str>) -> Answer {
    let (path, body) = call(rig, route, uid).await;
    let is_lines = matches!(route, Route::InfluxWrite | Route::InfluxWriteV2);
    let body = match body {
        _ if is_lines => format!("m,device={DEVICE} value=1").into_bytes(),
        Some(body) => body.to_string().into_bytes(),
        None => Vec::new(),
    };
    let mut headers = vec![("host", rig.address().to_string())];
    if !body.is_empty() && !is_lines {
        headers.push(("content-type", "application/json".to_owned()));
    }
    headers.extend(key.map(|key| ("authorization", format!("Bearer {key}"))));
    send(rig.address(), from, route.spec().method, &path, &headers, body).await
}

/// Calls off the newest batches, since only so many may be under way.
async fn call_off(rig: &Rig) {
    let newest = rig.ask("GET", "/api/v1/batches?limit=2", None).await.expect(200);
    for batch in newest.as_array().unwrap() {
        let path = format!("/api/v1/batches/{}/cancel", batch["id"].as_str().unwrap());
        // Some are over already.
        rig.ask("POST", &path, None).await;
    }
}

/// The table: of each route the status of each caller.
fn table() -> (Vec<&'static str>, BTreeMap<String, Vec<u16>>) {
    let mut lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let columns = lines.next().unwrap().split_whitespace().skip(2).collect();
    let rows = lines.map(|line| {
        let mut words = line.split_whitespace();
        let route = format!("{} {}", words.next().unwrap(), words.next().unwrap());
        (route, words.map(|word| word.parse().unwrap()).collect())
    });
    (columns, rows.collect())
}

#[test]
fn every_route_is_in_the_table_and_nothing_else() {
    let routes: Vec<String> = Route::all().iter().map(ToString::to_string).collect();
    let (columns, rows) = table();
    for route in &routes {
        let row = rows.get(route).unwrap_or_else(|| panic!("{route} is not in matrix.txt"));
        assert_eq!(row.len(), columns.len(), "{route}");
    }
    assert_eq!(rows.len(), routes.len(), "a row of matrix.txt is no route, or there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn t07_every_route_answers_every_caller_as_the_table_says() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled(DEVICE, 1).await;
    let _other = rig.enrolled(OTHER, 2).await;
    drop(rig.enrolled(AWAY, 3).await);
    for (id, site) in [(DEVICE, "a"), (OTHER, "b"), (AWAY, "a")] {
        let note = json!({"metadata": {"site": site}});
        rig.ask("PUT", &format!("/api/v1/devices/{id}"), Some(note)).await.expect(200);
    }
    let uid = rig.ask("GET", &format!("/api/v1/devices/{AWAY}"), None).await.expect(200);
    let uid = uid["uid"].as_str().unwrap().to_owned();
    let batch = || Some(json!({"devices": [uid], "command": "collect"}));
    wait_for("a device that is away", async || {
        let preview = rig.ask("POST", "/api/v1/batches/preview", batch()).await.expect(200);
        preview["offline"] == 1
    })
    .await;
    let callers = Callers::of(&rig).await;
    let (columns, rows) = table();
    let names: Vec<_> = callers.0.iter().map(|(name, _)| *name).collect();
    assert_eq!(columns, names);
    let secrets: Vec<_> =
        callers.0.iter().filter_map(|(_, key)| key.as_deref()).map(secret).collect();
    let mut addresses = (0_u8..).flat_map(|a| (1..=254).map(move |b| Ipv4Addr::new(127, 1, a, b)));
    let (mut wrong, mut found) = (0, String::new());
    for route in Route::all() {
        let wanted = &rows[&route.to_string()];
        write!(found, "{:40}", route.to_string()).unwrap();
        for ((caller, key), wanted) in callers.0.iter().zip(wanted) {
            let from = addresses.next().unwrap().into();
            let answer = ask(&rig, &route, &uid, from, key.as_deref()).await;
            if route.spec().path.starts_with("/api/v1/batches") {
                call_off(&rig).await;
            }
            let status = answer.status.as_u16();
            write!(found, " {status}").unwrap();
            let text = String::from_utf8_lossy(&answer.body);
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{route}: {text}");
            if status == 401 {
                assert!(answer.headers.contains_key("www-authenticate"), "{route} by {caller}");
            }
            if status != *wanted {
                wrong += 1;
                eprintln!("{route} by {caller}: {status}, not {wanted}: {text:.300}");
            }
        }
        found.push('\n');
    }
    assert_eq!(wrong, 0, "this is what was answered:\n{found}");
}

/// What of a key's text nobody may ever see again; of what is no key, something that nobody sees.
fn secret(key: &str) -> &str {
    let text = key.split('@').next().unwrap();
    text.get(17..).unwrap_or("garbage-that-nobody-sees")
}

#[tokio::test]
async fn t07_no_trick_with_a_path_is_a_way_in() {
    let rig = Rig::start().await;
    let admin = rig.admin();
    let tricks = |path: &str| {
        let last = path.rfind('/').unwrap();
        let (before, after) = path.split_at(last);
        let first = path.as_bytes()[1];
        [
            format!("/{path}"),
            format!("{before}/{after}"),
            format!("{before}/.{after}"),
            format!("{before}/x/..{after}"),
            format!("{before}/%2e{after}"),
            format!("{before}/%2E%2E{path}"),
            format!("{path}/"),
            format!("{path}%2f"),
            format!("{path}%00"),
            format!("{path};x"),
            format!("/%{first:02x}{}", &path[2..]),
            path.to_uppercase(),
        ]
    };
    for route in Route::all() {
        let spec = route.spec();
        if spec.path == "/" || spec.auth == AuthClass::Page {
            continue;
        }
        for path in tricks(&spec.path.replace("{}", "rpi4-001")) {
            for key in [None, Some(admin.as_str())] {
                let mut headers = vec![("content-type", "application/json".to_owned())];
                headers.extend(key.map(|key| ("authorization", format!("Bearer {key}"))));
                let answer =
                    send(rig.address(), from(), spec.method, &path, &headers, b"{}".to_vec()).await;
                assert_eq!(answer.status.as_u16(), 404, "{} {path}: {answer:?}", spec.method);
            }
        }
    }
}
