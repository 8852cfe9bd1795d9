//! Keys for some devices: what is out of their scope is not there (T28).

use std::pin::Pin;
use std::time::Duration;

use fleet_core::api::DeviceStatus;
use fleet_core::operator::client::Client;
use serde_json::{Value, json};

use crate::page_kit::{self, Browser};
use crate::server_kit::{Agent, Answer, Rig, send};
use crate::stream_kit::{Screen, client};

/// Two devices of two places, and a key for those of one.
struct Places {
    rig: Rig,
    _agents: [Agent; 2],
    key: String,
}

impl Places {
    fn new(wish: Value) -> Pin<Box<dyn Future<Output = Self>>> {
        Box::pin(async move {
            let rig = Rig::start().await;
            let mut agents = [rig.enrolled("lyon-1", 1).await, rig.enrolled("nice-1", 2).await];
            for (agent, site) in agents.iter_mut().zip(["lyon", "nice"]) {
                agent.report(1, &[1], 5.0).await;
                let note = json!({"metadata": {"site": site}});
                rig.ask("PUT", &format!("/api/v1/devices/{site}-1"), Some(note)).await.expect(200);
            }
            // So that what was reported lies in the past.
            rig.clock.advance(Duration::from_secs(1));
            let key = rig.key(wish).await;
            Self { rig, _agents: agents, key }
        })
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.rig.ask_with(method, path, Some(&self.key), body).await
    }

    async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).await.expect(200)
    }

    fn client(&self) -> Client {
        client(&self.rig, &self.key)
    }
}

/// What an answer says, of whatever kind it is.
fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn viewer() -> Value {
    json!({"kind": "operator", "role": "viewer", "rights": ["export"], "scope": "site=lyon"})
}

fn operator() -> Value {
    let rights = ["exec", "delete", "export"];
    json!({"kind": "operator", "rights": rights, "scope": "site=lyon"})
}

#[tokio::test]
async fn what_is_out_of_scope_is_in_no_answer() {
    let places = Places::new(viewer()).await;
    let rig = &places.rig;
    for (path, wish) in [
        ("/api/v1/commands", json!({"device_id": "nice-1", "command": "collect"})),
        ("/api/v1/config?device_id=nice-1", json!({"config": {}})),
        ("/api/v1/commands", json!({"device_id": "lyon-1", "command": "collect"})),
    ] {
        let answer = rig.ask("POST", path, Some(wish)).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }
    let uid = |name: &'static str| async move {
        let device = rig.ask("GET", &format!("/api/v1/devices/{name}"), None).await.expect(200);
        device["uid"].as_str().unwrap().to_owned()
    };
    let (lyon, nice) = (uid("lyon-1").await, uid("nice-1").await);
    for devices in [vec![&lyon], vec![&nice], vec![&lyon, &nice]] {
        let wish = json!({"devices": devices, "command": "collect"});
        rig.ask("POST", "/api/v1/batches", Some(wish)).await.expect(201);
    }
    rig.ask("POST", "/api/v1/devices/nice-1/revoke", None).await.expect(200);
    let tagged = json!({"tags": {"add": ["ours"]}});
    rig.ask("PUT", "/api/v1/devices/lyon-1", Some(tagged)).await.expect(200);
    for (tag, word) in [("ours", "lyon-1"), ("theirs", "nice")] {
        let path = format!("/api/v1/config?layer=tag:{tag}");
        let config = json!({"config": {"telemetry": {"interval": 30}}, "comment": word});
        rig.ask("POST", &path, Some(config)).await.expect(200);
        let status = if tag == "ours" { 200 } else { 404 };
        for path in [path, format!("/api/v1/config/history?layer=tag:{tag}")] {
            let answer = places.ask("GET", &path, None).await;
            assert_eq!(answer.status.as_u16(), status, "{path}: {answer:?}");
        }
    }
    places.get("/api/v1/config?layer=fleet").await;
    for (path, holds) in [
        ("/api/v1/devices", true),
        ("/api/v1/devices?filter=has%20site", true),
        ("/api/v1/devices?filter=site%3Dnice", false),
        ("/api/v1/devices?limit=1", true),
        ("/api/v1/telemetry/latest?metrics=cpu_usage", true),
        ("/api/v1/telemetry/top?metric=cpu_usage", true),
        ("/api/v1/telemetry/metrics?metric=cpu_usage&filter=has%20site&step=1m", true),
        ("/api/v1/events?limit=500", true),
        ("/api/v1/commands", true),
        ("/api/v1/deleted-devices", false),
        ("/api/v1/config/layers", true),
        ("/api/v1/export", true),
        ("/metrics?fleet=1", true),
        ("/", true),
    ] {
        let answer = places.ask("GET", path, None).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {answer:?}");
        let said = text(&answer);
        assert!(!said.contains("nice") && !said.contains(&nice), "{path}: {said}");
        assert_eq!(said.contains("lyon-1"), holds, "{path}: {said}");
    }
    assert_eq!(places.get("/api/v1/batches").await.as_array().unwrap().len(), 1);
    let groups = "/api/v1/telemetry/metrics?metric=cpu_usage&step=1m&group_by=site";
    assert_eq!(places.get(groups).await[0]["group"], "lyon");
    let headers = [
        ("authorization", format!("Bearer {}", places.key)),
        ("accept", "application/json".to_owned()),
    ];
    let from = "127.0.0.1".parse().unwrap();
    let summary = send(rig.address(), from, "GET", "/", &headers, Vec::new()).await.expect(200);
    assert_eq!(summary["devices"], 1, "{summary}");
    for path in [
        "/api/v1/devices/nice-1".to_owned(),
        format!("/api/v1/devices/{nice}"),
        format!("/api/v1/events?device_id={nice}"),
        "/devices/nice-1".to_owned(),
    ] {
        let answer = places.ask("GET", &path, None).await;
        let said = text(&answer).replace(&nice, "").replace("nice-1", "");
        let is_nothing = answer.status == 404 || said == "[]";
        assert!(is_nothing && !said.contains("nice"), "{path}: {said}");
    }
    // What is not there is told of in the same words.
    let one = places.ask("GET", "/api/v1/devices/nice-1", None).await.problem(404);
    let none = places.ask("GET", "/api/v1/devices/none-1", None).await.problem(404);
    assert_eq!(one.replace("nice", "none"), none);
}

#[tokio::test]
async fn t06_nothing_out_of_scope_is_touched() {
    let places = Places::new(operator()).await;
    let uid = places.rig.ask("GET", "/api/v1/devices/nice-1", None).await.expect(200);
    let uid = uid["uid"].as_str().unwrap().to_owned();
    let batch = json!({"devices": [uid], "command": "collect"});
    let both = json!({"filter": "has site", "command": "collect"});
    for (method, path, body, status) in [
        ("PUT", "/api/v1/devices/nice-1", Some(json!({"name": "x"})), 404),
        ("DELETE", "/api/v1/devices/nice-1", None, 404),
        ("POST", "/api/v1/config?device_id=nice-1", Some(json!({"config": {}})), 404),
        (
            "POST",
            "/api/v1/commands",
            Some(json!({"device_id": "nice-1", "command": "reboot"})),
            404,
        ),
        ("POST", "/api/v1/batches", Some(batch), 409),
        ("POST", "/api/v1/config?layer=tag:x", Some(json!({"config": {}})), 403),
        ("POST", "/api/v1/config/preview?layer=tag:x", Some(json!({"config": {}})), 403),
        (
            "POST",
            "/api/v1/telemetry",
            Some(json!({"device_id": "nice-1", "metric_name": "m", "value": 1})),
            404,
        ),
        ("GET", "/api/v1/discover", None, 403),
        ("GET", "/api/v1/db", None, 403),
    ] {
        let answer = places.ask(method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {answer:?}");
    }
    // A filter that finds more is a filter within the scope.
    let preview =
        places.ask("POST", "/api/v1/batches/preview", Some(both.clone())).await.expect(200);
    assert_eq!(preview["devices"].as_array().unwrap().len(), 1, "{preview}");
    let begun = places.ask("POST", "/api/v1/batches", Some(both)).await.expect(201);
    assert_eq!(begun["total"], 1);
    let path = format!("/api/v1/batches/{}", begun["id"].as_str().unwrap());
    places.ask("POST", &format!("{path}/cancel"), None).await.expect(200);

    // Lines of a sender make no devices, and go to none out of scope.
    let headers = [("authorization", format!("Bearer {}", places.key))];
    let from = "127.0.0.1".parse().unwrap();
    for (device, status) in [("lyon-1", 204), ("nice-1", 403), ("new-1", 403)] {
        let line = format!("m,device={device} value=1").into_bytes();
        let answer = send(places.rig.address(), from, "POST", "/write", &headers, line).await;
        assert_eq!(answer.status.as_u16(), status, "{device}: {answer:?}");
    }
    places.rig.ask("GET", "/api/v1/devices/new-1", None).await.problem(404);
}

#[tokio::test]
async fn t29_nobody_moves_a_device_out_of_their_own_scope() {
    let places = Places::new(operator()).await;
    let put = async |wish: Value| places.ask("PUT", "/api/v1/devices/lyon-1", Some(wish)).await;
    for wish in [json!({"metadata": {"site": "nice"}}), json!({"metadata": {"site": null}})] {
        let why = put(wish).await.problem(403);
        assert_eq!(why, "the device would leave the scope of the key");
    }
    put(json!({"name": "Pump", "metadata": {"floor": 2}})).await.expect(200);
    let device = places.get("/api/v1/devices/lyon-1").await;
    assert_eq!(device["metadata"], json!({"site": "lyon", "floor": 2}));

    let mut browser = Browser::signed_in(&places.rig, &places.key).await;
    assert!(page_kit::text(&browser.get("/").await).contains("lyon-1"));
    assert_eq!(browser.get("/devices/nice-1").await.status, 404);
    let viewer = places.rig.key(viewer()).await;
    let mut browser = Browser::signed_in(&places.rig, &viewer).await;
    let page = page_kit::text(&browser.get("/devices/lyon-1").await);
    assert!(!page.contains("Edit"), "a viewer has no forms: {page}");
    assert_eq!(browser.get("/devices/lyon-1/metadata").await.status, 403);
}

#[tokio::test]
async fn a_stream_shows_what_comes_into_the_scope_and_takes_away_what_leaves_it() {
    let places = Places::new(viewer()).await;
    let rig = &places.rig;
    let client = places.client();
    let mut all = Screen::open(&crate::stream_kit::client(rig, &rig.admin()), None).await;
    all.until_rows("both on the board", |rows| rows.len() == 2).await;
    let mut screen = Screen::open(&client, None).await;
    let ids =
        |screen: &Screen| screen.rows.values().map(|row| row.id.to_string()).collect::<Vec<_>>();
    screen.until_row("the own device", |row| row.id.as_str() == "lyon-1").await;
    assert_eq!((ids(&screen), screen.hello.devices), (vec!["lyon-1".to_owned()], 1));
    let moved = async |device: &str, site: &str| {
        let note = json!({"metadata": {"site": site}});
        rig.ask("PUT", &format!("/api/v1/devices/{device}"), Some(note)).await.expect(200);
    };
    moved("nice-1", "lyon").await;
    screen.until_rows("the one that came", |rows| rows.len() == 2).await;
    moved("lyon-1", "nice").await;
    screen.until_rows("the one that left", |rows| rows.len() == 1).await;
    assert_eq!(ids(&screen), ["nice-1"]);
    assert_eq!(screen.rows.values().next().unwrap().status, DeviceStatus::Online);
    // A name for the one that left is no news here; a name for the other one is.
    rig.ask("PUT", "/api/v1/devices/lyon-1", Some(json!({"name": "gone"}))).await.expect(200);
    rig.ask("PUT", "/api/v1/devices/nice-1", Some(json!({"name": "here"}))).await.expect(200);
    screen.until_row("the name", |row| row.name.as_ref().is_some_and(|n| n.raw() == "here")).await;
    assert_eq!(ids(&screen), ["nice-1"]);
    // Who was away begins anew, since nobody knows what it should forget.
    let since = screen.id.clone();
    let screen = Screen::open(&client, since.as_deref()).await;
    assert!(!screen.hello.resumed);
    assert_eq!(ids(&screen), ["nice-1"]);
}

#[tokio::test]
async fn a_scope_holds_from_the_start_and_for_devices_that_come_later() {
    let mut places = Places::new(viewer()).await;
    places.rig.restart().await;
    let ids = async |places: &Places| {
        let list = places.get("/api/v1/telemetry/latest?metrics=cpu_usage").await;
        list.as_array().unwrap().iter().map(|row| row["device_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&places).await, [json!("lyon-1")]);
    let mut late = places.rig.enrolled("lyon-2", 3).await;
    late.report(1, &[1], 1.0).await;
    assert_eq!(ids(&places).await, [json!("lyon-1")]);
    let note = json!({"metadata": {"site": "lyon"}});
    places.rig.ask("PUT", "/api/v1/devices/lyon-2", Some(note)).await.expect(200);
    assert_eq!(ids(&places).await, [json!("lyon-1"), json!("lyon-2")]);
    places.rig.ask("DELETE", "/api/v1/devices/lyon-1", None).await.expect(200);
    assert_eq!(ids(&places).await, [json!("lyon-2")]);
    let deleted = places.get("/api/v1/deleted-devices").await;
    assert_eq!(deleted[0]["id"], "lyon-1", "what was in the scope is, also when it is deleted");
}
