//! Deleted devices over REST and with `fleets`: until when they are kept, and having them back.

use std::time::Duration;

use fleet_core::wire::Standing;
use serde_json::{Value, json};

use crate::cli_kit::Desk;
use crate::server_kit::{Agent, Rig, wait_for};

const DAY: Duration = Duration::from_secs(86_400);
const CONFLICT: i32 = 6;
const NOTHING_FOUND: i32 = 5;

async fn delete(rig: &Rig, id: &str) -> Value {
    rig.ask("DELETE", &format!("/api/v1/devices/{id}"), None).await.expect(200)
}

async fn deleted(rig: &Rig) -> Vec<Value> {
    let listed = rig.ask("GET", "/api/v1/deleted-devices", None).await.expect(200);
    listed.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_device_is_had_back_with_all_that_was_kept_of_it() {
    let mut rig = Rig::start().await;
    let mut agent = rig.enrolled("pump-1", 1).await;
    agent.report(1, &[1, 2, 3], 42.0).await;
    let notes = json!({"metadata": {"site": "lyon", "tags": "canary"}, "name": "Pump"});
    rig.ask("PUT", "/api/v1/devices/pump-1", Some(notes)).await.expect(200);
    for interval in [30, 20] {
        let config = json!({"config": {"telemetry": {"interval": interval}}});
        rig.ask("POST", "/api/v1/config?device_id=pump-1", Some(config)).await.expect(200);
    }
    let command = json!({"device_id": "pump-1", "command": "collect"});
    rig.ask("POST", "/api/v1/commands", Some(command)).await.expect(201);
    let uid = rig.ask("GET", "/api/v1/devices/pump-1", None).await.expect(200)["uid"].clone();
    let restore = format!("/api/v1/devices/{}/restore", uid.as_str().unwrap());
    rig.ask("POST", &restore, None).await.problem(404);

    let answer = delete(&rig, "pump-1").await;
    assert_eq!((&answer["status"], &answer["uid"]), (&json!("deleted"), &uid));
    assert_eq!(agent.ended().await, "the device was deleted");
    rig.restart().await;
    let listed = deleted(&rig).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["was"]), (&json!("pump-1"), &json!("active")));
    assert_eq!((&listed[0]["uid"], &listed[0]["kept_until"]), (&uid, &answer["kept_until"]));

    // Its agent asks anew, and is the one that waits now.
    let mut stranger = Agent::dial(&rig, "pump-1", 1, None).await;
    assert!(matches!(stranger.standing, Standing::Pending { .. }));
    let device = rig.ask("POST", "/api/v1/devices/pump-1/restore", None).await.expect(200);
    assert_eq!((&device["uid"], &device["name"]), (&uid, &json!("Pump")));
    assert_eq!(device["metadata"], json!({"site": "lyon", "tags": "canary"}));
    assert_eq!(device["config_version"], 2);
    assert_eq!(stranger.ended().await, "the device was deleted");
    assert_eq!(deleted(&rig).await, Vec::<Value>::new());
    let all = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    wait_for("a board with it alone", || async {
        let page = rig.ask("GET", "/api/v1/devices?filter=tag:canary", None).await.expect(200);
        page.as_array().unwrap().len() == 1
    })
    .await;
    let history = "/api/v1/config/history?device_id=pump-1";
    assert_eq!(rig.ask("GET", history, None).await.expect(200).as_array().unwrap().len(), 2);
    let points = "/api/v1/telemetry/metrics?device_id=pump-1&metric=cpu_usage";
    assert_eq!(rig.ask("GET", points, None).await.expect(200).as_array().unwrap().len(), 3);
    let commands = rig.ask("GET", "/api/v1/commands?device_id=pump-1", None).await.expect(200);
    assert_eq!(
        (&commands[0]["command"], commands.as_array().unwrap().len()),
        (&json!("collect"), 1)
    );
    let events = rig.ask("GET", "/api/v1/events?kind=device.restored", None).await.expect(200);
    assert_eq!((&events[0]["uid"], events.as_array().unwrap().len()), (&uid, 1));
    let waited =
        format!("whoever waited with {} gave way", device["fingerprint"].as_str().unwrap());
    assert!(events[0]["text"].as_str().unwrap().ends_with(&waited), "{events}");

    // No new enrolment: the key is all it takes.
    let again = Agent::dial(&rig, "pump-1", 1, None).await;
    assert_eq!(again.device_id(), "pump-1");
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("pump-1", 1).await;
    delete(&rig, "pump-1").await;
    let _namesake = rig.enrolled("pump-1", 2).await;
    let restore = "/api/v1/devices/pump-1/restore";
    let detail = rig.ask("POST", restore, None).await.problem(409);
    assert!(detail.contains("another device is called so now: pump-1 (active, uid "), "{detail}");
    // The two were called so; each is found by its uid.
    rig.clock.advance(Duration::from_secs(1));
    delete(&rig, "pump-1").await;
    let detail = rig.ask("POST", restore, None).await.problem(409);
    assert!(detail.contains("several deleted devices were called pump-1"), "{detail}");
    let listed = deleted(&rig).await;
    let by_uid =
        |device: &Value| format!("/api/v1/devices/{}/restore", device["uid"].as_str().unwrap());
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|device| detail.contains(device["uid"].as_str().unwrap())));

    // Whoever waits with the key of the first is not in the way, but who has its name.
    let _again = rig.enrolled("pump-1", 3).await;
    let _waits = Agent::dial(&rig, "pump-9", 1, None).await;
    let first = listed.last().unwrap();
    let detail = rig.ask("POST", &by_uid(first), None).await.problem(409);
    assert!(detail.contains("another device is called so now: pump-1 (active, uid "), "{detail}");
    delete(&rig, "pump-1").await;
    delete(&rig, "pump-9").await;

    // The key of the first joins anew under another id.
    let _anew = rig.enrolled("pump-2", 1).await;
    let detail = rig.ask("POST", &by_uid(first), None).await.problem(409);
    let words = "its key is in the fleet anew, as pump-2 (active, uid ";
    assert!(detail.contains(words) && detail.contains("delete that one first"), "{detail}");
    delete(&rig, "pump-2").await;
    rig.ask("POST", &by_uid(first), None).await.expect(200);
    rig.ask("POST", "/api/v1/devices/nobody/restore", None).await.problem(404);
}

#[tokio::test]
async fn who_was_revoked_stays_so_and_after_a_month_nobody_is_had_back() {
    let rig = Rig::start().await;
    let _agents = [rig.enrolled("pump-1", 1).await, rig.enrolled("pump-2", 2).await];
    rig.ask("POST", "/api/v1/devices/pump-1/revoke", None).await.expect(200);
    delete(&rig, "pump-1").await;
    let device = rig.ask("POST", "/api/v1/devices/pump-1/restore", None).await.expect(200);
    assert_eq!(device["status"], "revoked");
    let refused = Agent::dial(&rig, "pump-1", 1, None).await;
    assert!(matches!(refused.standing, Standing::Revoked { .. }), "{:?}", refused.standing);

    delete(&rig, "pump-2").await;
    rig.clock.advance(DAY * 29);
    assert_eq!(deleted(&rig).await.len(), 1);
    rig.clock.advance(DAY);
    assert_eq!(deleted(&rig).await.len(), 0);
    rig.ask("POST", "/api/v1/devices/pump-2/restore", None).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleets_says_until_when_and_how_and_does_it() {
    let mut desk = Desk::new().await;
    for id in ["pump-1", "pump-2"] {
        desk.add(id, 20.0, "eu-west").await;
    }
    let none = desk.fleets(&["devices", "list", "--deleted"]).ends(0);
    assert!(none.err.contains("No deleted devices"), "{none:?}");
    let said = desk.fleets(&["devices", "delete", "pump-1", "pump-2", "--yes"]).ends(0);
    assert_eq!(said.out, "deleted pump-1\ndeleted pump-2\n");
    let how = "`fleets devices restore pump-1 pump-2` has them back";
    assert!(said.err.starts_with("until 2") && said.err.contains(how), "{said:?}");
    let listed = desk.fleets(&["devices", "--deleted"]).ends(0).out;
    assert!(listed.lines().count() == 3 && listed.contains("active"), "{listed}");
    let json = desk.fleets(&["devices", "list", "--deleted", "--json"]).ends(0).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    desk.fleets(&["devices", "list", "--deleted", "--sort", "cpu"]).refuses(2, &["--deleted"]);

    let said = desk.fleets(&["devices", "restore", "pump-1"]).ends(0);
    assert_eq!(said.out, "restored pump-1\n");
    assert!(said.err.starts_with("pump-1 is "), "{said:?}");
    desk.fleets(&["devices", "restore", "pump-1"]).refuses(NOTHING_FOUND, &["no deleted device"]);
    let _namesake = desk.rig.enrolled("pump-2", 9).await;
    desk.fleets(&["devices", "restore", "pump-2"]).refuses(CONFLICT, &["called so now: pump-2"]);
    let fleet = desk.fleets(&["devices", "list", "-o", "name"]).ends(0).out;
    assert_eq!(fleet.lines().count(), 2, "{fleet}");
}
