//! Layers of configurations: what devices become when a layer changes, or their tags do, and that a
//! server that dies in between loses nothing and does nothing twice.

use std::path::Path;

use fleet_core::identity::PublicKey;
use fleet_core::wire::ToAgent;
use fleet_server::store::{
    ConfigStore as _, DeviceStore as _, LayerStore as _, NewConfig, RedbStore,
};
use serde_json::{Value, json};

use crate::server_kit::{Agent, Answer, Rig, wait_for};
use crate::store_kit::{config, device};

const FLEET: &str = "/api/v1/config?layer=fleet";
const CANARY: &str = "/api/v1/config?layer=tag%3Acanary";
/// Devices that one test settles.
const MANY: usize = 1_000;

fn of(id: &str) -> String {
    format!("/api/v1/config?device_id={id}")
}

async fn set(rig: &Rig, path: &str, config: Value) -> Value {
    rig.ask("POST", path, Some(json!({"config": config}))).await.expect(200)
}

async fn shown(rig: &Rig, id: &str) -> Value {
    rig.ask("GET", &of(id), None).await.expect(200)
}

fn every(secs: u32) -> Value {
    json!({"telemetry": {"interval": secs}})
}

/// Waits until a device's document is this, and gives all that is shown of it.
async fn becomes(rig: &Rig, id: &str, document: Value) -> Value {
    let document = document.to_string();
    wait_for(&format!("{id} to be {document}"), async || {
        shown(rig, id).await["config"] == json!(document)
    })
    .await;
    shown(rig, id).await
}

async fn tags(rig: &Rig, id: &str, add: &[&str], remove: &[&str]) -> Answer {
    let body = json!({"tags": {"add": add, "remove": remove}});
    rig.ask("PUT", &format!("/api/v1/devices/{id}"), Some(body)).await
}

async fn history(rig: &Rig, id: &str) -> Vec<Value> {
    let path = format!("/api/v1/config/history?device_id={id}");
    rig.ask("GET", &path, None).await.expect(200).as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_what_its_layers_make_of_it() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let _other = rig.enrolled("b", 2).await;
    let layers = rig.ask("GET", "/api/v1/config/layers", None).await.expect(200);
    assert_eq!(layers, json!([]));
    assert_eq!(rig.ask("GET", FLEET, None).await.expect(200)["version"], 0);

    // The device's own part is on top, whatever comes below it later.
    set(&rig, &of("a"), json!({"telemetry": {"metrics": ["cpu_usage"]}})).await;
    let wish = json!({"config": every(60), "comment": "calm"});
    let preview = "/api/v1/config/preview?layer=fleet";
    let preview = rig.ask("POST", preview, Some(wish.clone())).await.expect(200);
    assert_eq!((&preview["devices"], &preview["changes"]), (&json!(2), &json!(2)));
    assert_eq!(preview["sample"], json!(["a", "b"]));
    let mut wrong = wish.clone();
    wrong["expect"] = json!(1);
    let told = rig.ask("POST", FLEET, Some(wrong)).await.problem(409);
    assert_eq!(told, "2 devices would get a new version, and 1 were expected");
    let mut wish = wish;
    wish["expect"] = json!(2);
    let layer = rig.ask("POST", FLEET, Some(wish)).await.expect(200);
    assert_eq!((&layer["version"], &layer["devices"]), (&json!(1), &json!(2)));
    let both = json!({"telemetry": {"interval": 60, "metrics": ["cpu_usage"]}});
    let a = becomes(&rig, "a", both).await;
    assert_eq!((&a["version"], &a["comment"]), (&json!(2), &json!("layer fleet, version 1: calm")));
    assert!(a["author"].as_str().unwrap().starts_with("operator:"), "{a}");
    assert_eq!(
        a["provenance"],
        json!({"telemetry.interval": "fleet", "telemetry.metrics": "device"})
    );
    assert_eq!(a["own"], r#"{"telemetry":{"metrics":["cpu_usage"]}}"#);
    becomes(&rig, "b", every(60)).await;
    // It is told at once, like any other version.
    for version in [1, 2] {
        let ToAgent::Config(push) = agent.next().await else { panic!("a configuration") };
        assert_eq!(push.version, version);
    }

    // A tag's layer is above the fleet's, and of two tags the later one in the alphabet.
    set(&rig, CANARY, every(10)).await;
    set(&rig, "/api/v1/config?layer=tag:z", every(20)).await;
    tags(&rig, "b", &["canary"], &[]).await.expect(200);
    let b = becomes(&rig, "b", every(10)).await;
    assert_eq!(b["comment"], "its tags were changed");
    tags(&rig, "b", &["z"], &[]).await.expect(200);
    let b = becomes(&rig, "b", every(20)).await;
    assert_eq!(b["provenance"], json!({"telemetry.interval": "tag:z"}));
    tags(&rig, "b", &["a b"], &[]).await.problem(422);
    tags(&rig, "b", &[], &["z", "canary"]).await.expect(200);
    becomes(&rig, "b", every(60)).await;

    // What the device says itself no longer is what the layer below says again.
    set(&rig, &of("b"), every(5)).await;
    assert_eq!(shown(&rig, "b").await["provenance"], json!({"telemetry.interval": "device"}));
    set(&rig, &of("b"), json!({})).await;
    assert_eq!(shown(&rig, "b").await["config"], every(60).to_string());
    // What a device says itself is its own also where its layers say the same.
    set(&rig, &of("b"), every(60)).await;
    set(&rig, FLEET, every(30)).await;
    becomes(&rig, "a", json!({"telemetry": {"interval": 30, "metrics": ["cpu_usage"]}})).await;
    assert_eq!(shown(&rig, "b").await["config"], every(60).to_string());

    // A layer has its versions too.
    let path = "/api/v1/config/history?layer=fleet";
    let versions = rig.ask("GET", path, None).await.expect(200);
    assert_eq!(versions[1]["document"], every(60));
    let back = rig.ask("POST", FLEET, Some(json!({"rollback_to": 1}))).await.expect(200);
    assert_eq!((&back["version"], &back["comment"]), (&json!(3), &json!("as version 1")));
    becomes(&rig, "a", json!({"telemetry": {"interval": 60, "metrics": ["cpu_usage"]}})).await;
    let layers = rig.ask("GET", "/api/v1/config/layers", None).await.expect(200);
    let names: Vec<_> = layers.as_array().unwrap().iter().map(|one| &one["layer"]).collect();
    assert_eq!(names, ["fleet", "tag:canary", "tag:z"]);
    let events = rig.ask("GET", "/api/v1/events?kind=config.layer_set", None).await.expect(200);
    assert_eq!(events.as_array().unwrap().len(), 5, "{events}");
    for (path, body, field) in [
        ("/api/v1/config?layer=tag:", json!({"config": {}}), "layer: "),
        (FLEET, json!({}), "config: is missing"),
        (FLEET, json!({"config": {"telemtry": {}}}), "config.telemtry: "),
        (FLEET, json!({"config": {}, "server_url": "http://a"}), "server_url: "),
        (FLEET, json!({"config": {"server_url": "a"}}), "config.server_url: "),
        (&of("a"), json!({"server_url": "a"}), "config.server_url: "),
        ("/api/v1/config?layer=fleet&device_id=a", json!({"config": {}}), "layer: "),
        (&of("a"), json!({"config": {}, "expect": 1}), "expect: "),
    ] {
        let detail = rig.ask("POST", path, Some(body)).await.problem(422);
        assert!(detail.starts_with(field), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_leaves_what_layers_say_now() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("a", 1).await;
    set(&rig, &of("a"), every(5)).await;
    set(&rig, FLEET, json!({"telemetry": {"interval": 60, "metrics": ["cpu_usage"]}})).await;
    becomes(&rig, "a", json!({"telemetry": {"interval": 5, "metrics": ["cpu_usage"]}})).await;
    set(&rig, &of("a"), json!({})).await;
    let back = rig.ask("POST", &of("a"), Some(json!({"rollback_to": 1}))).await.expect(200);
    assert_eq!(back["config"], r#"{"telemetry":{"interval":5,"metrics":["cpu_usage"]}}"#);
    let told = "telemetry.metrics: its layers say so, and version 1 did not";
    assert_eq!(back["not_applied"], told);
    // A batch changes what is the device's own, and what is below it stays where it is.
    let wish = json!({"devices": [], "filter": "", "config": {"telemetry": {"interval": null}}});
    let wish = json!({"filter": wish["filter"], "config": wish["config"]});
    rig.ask("POST", "/api/v1/batches", Some(wish)).await.expect(201);
    let whole = json!({"telemetry": {"interval": 60, "metrics": ["cpu_usage"]}});
    let a = becomes(&rig, "a", whole).await;
    assert_eq!(a["own"], "{}");
}

/// Adds a version to a layer, as a server does that then dies.
async fn layer_alone(database: &Path, name: &str, document: Value) {
    let store = RedbStore::open(database).unwrap();
    store.layer_append(name, None, config(&document.to_string())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_before_it_settles_does_it_when_it_starts() {
    let mut rig = Rig::start().await;
    for (id, seed) in [("a", 1), ("b", 2)] {
        drop(rig.enrolled(id, seed).await);
    }
    tags(&rig, "b", &["canary"], &[]).await.expect(200);
    set(&rig, &of("a"), every(5)).await;
    rig.stop().await;
    layer_alone(&rig.database(), "fleet", json!({"telemetry": {"metrics": ["cpu_usage"]}})).await;
    layer_alone(&rig.database(), "tag:canary", every(10)).await;
    for _ in 0..3 {
        rig.restart().await;
        let a = json!({"telemetry": {"interval": 5, "metrics": ["cpu_usage"]}});
        let b = json!({"telemetry": {"interval": 10, "metrics": ["cpu_usage"]}});
        assert_eq!(becomes(&rig, "a", a).await["version"], 2);
        let b = becomes(&rig, "b", b).await;
        assert_eq!(b["version"], 1, "it is done once");
        assert_eq!(b["comment"], "layer tag:canary, version 1");
        // A device that comes is looked at too, and finds what was done.
        let mut agent = Agent::dial(&rig, "b", 2, None).await;
        let ToAgent::Config(push) = agent.next().await else { panic!("a configuration") };
        assert_eq!(push.version, 1);
    }
    assert_eq!((history(&rig, "a").await.len(), history(&rig, "b").await.len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_the_midst_settles_the_others() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let database = rig.database();
    let store = RedbStore::open(&database).unwrap();
    store.layer_append("fleet", None, config(&every(30).to_string())).await.unwrap();
    let devices: Vec<_> = (0..MANY).map(numbered).collect();
    for wave in devices.chunks(200) {
        let inserts = wave.iter().map(|device| store.device_insert(device.clone()));
        for inserted in futures_util::future::join_all(inserts).await {
            inserted.unwrap();
        }
    }
    // Every third one had its version when the power went.
    let done = devices.iter().step_by(3);
    let settled = NewConfig { own: Some("{}".to_owned()), ..config(&every(30).to_string()) };
    let appends = done.map(|device| store.config_append(device.uid, Some(0), settled.clone()));
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
    drop(store);

    rig.restart().await;
    let last = format!("d{:05}", MANY - 1);
    wait_for("all devices to be settled", async || {
        let layer = rig
            .ask("POST", "/api/v1/config/preview?layer=fleet", Some(json!({"config": every(30)})))
            .await
            .expect(200);
        assert_eq!(layer["devices"], MANY);
        layer["changes"] == 0
    })
    .await;
    // And again, with requests in between that are answered.
    set(&rig, FLEET, every(40)).await;
    becomes(&rig, &last, every(40)).await;
    becomes(&rig, "d00000", every(40)).await;
    wait_for("all devices to be settled again", async || {
        let wish = Some(json!({"config": every(40)}));
        let layer = rig.ask("POST", "/api/v1/config/preview?layer=fleet", wish).await;
        layer.expect(200)["changes"] == 0
    })
    .await;
    rig.stop().await;
    let store = RedbStore::open(&database).unwrap();
    for device in devices {
        let versions = store.config_list(device.uid, None, 9).await.unwrap();
        assert_eq!(versions.len(), 2, "{}", device.id);
        assert_eq!(versions[0].config.document, every(40).to_string());
    }
}

fn numbered(number: usize) -> fleet_server::store::Device {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    let mut device = device(&format!("d{number:05}"), 1);
    device.key = Some(PublicKey::from_bytes(key));
    device
}
