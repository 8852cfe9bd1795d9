//! Batches over HTTP: what is taken, what is refused and why, previews and lists.

use fleet_core::id::Uid;
use serde_json::{Value, json};

use crate::batches_kit::{BATCHES, Deeds, act, batch, becomes, begun, fleet, members, post};
use crate::commands_kit::text;
use crate::server_kit::{Agent, Rig};

async fn preview(rig: &Rig, wish: Value) -> Value {
    rig.ask("POST", &format!("{BATCHES}/preview"), Some(wish)).await.expect(200)
}

#[tokio::test]
async fn a_wish_is_read_before_anything_is_done() {
    let rig = Rig::start().await;
    fleet(&rig, 1, &[], &Deeds::default()).await;
    for (wish, told) in [
        (json!({"command": "restart"}), "filter: name the devices"),
        (json!({"filter": ""}), "command: give a command or a config"),
        (json!({"filter": "cpu>", "command": "restart"}), "filter: "),
        (
            json!({"filter": "", "config": {"telemetry": {"intervall": 5}}}),
            "config.telemetry.intervall: is not a key",
        ),
        (json!({"filter": "", "command": "restart", "shell": 1}), "shell: "),
    ] {
        for path in [BATCHES.to_owned(), format!("{BATCHES}/preview")] {
            let detail = rig.ask("POST", &path, Some(wish.clone())).await.problem(422);
            assert!(detail.starts_with(told), "{wish}: {detail}");
        }
    }
    let nobody = json!({"filter": "type=fridge", "command": "restart"});
    let detail = post(&rig, nobody).await.problem(404);
    assert_eq!(detail, "there is no device that fits the filter");
    let wish = json!({"filter": "", "command": "restart", "expect": 2});
    let detail = post(&rig, wish).await.problem(409);
    assert_eq!(detail, "1 devices are found now, and 2 were expected");
    let wish = json!({"devices": [Uid::new()], "command": "restart"});
    let detail = post(&rig, wish).await.problem(409);
    assert_eq!(detail, "1 of these 1 devices are not there any more");
    assert_eq!(rig.ask("GET", BATCHES, None).await.expect(200), json!([]));
    act(&rig, &Uid::new().to_string(), "pause").await.problem(404);
    rig.ask("GET", &format!("{BATCHES}/{}", Uid::new()), None).await.problem(404);
}

#[tokio::test]
async fn a_preview_says_what_would_be_and_does_nothing() {
    let rig = Rig::start().await;
    fleet(&rig, 2, &[], &Deeds::default()).await;
    let _pending = Agent::dial(&rig, "new", 77, None).await;
    let wish = json!({"filter": "", "command": "restart", "canary": 1});
    let shown = preview(&rig, wish.clone()).await;
    let ids: Vec<_> =
        shown["devices"].as_array().unwrap().iter().map(|it| text(it, "device_id")).collect();
    assert_eq!(ids, ["d00", "d01"]);
    assert_eq!(shown["by_type"], json!({"raspberrypi": 2}));
    assert_eq!(shown["excluded"], json!([{"device_id": "new", "why": "pending: accept it first"}]));
    let bounds = [&shown["window"], &shown["canary"], &shown["max_fail"], &shown["offline"]];
    assert_eq!(bounds, [1, 1, 1, 0]);
    assert_eq!(shown["expires_at"], "2024-01-16T10:30:00Z");
    assert_eq!(rig.ask("GET", BATCHES, None).await.expect(200), json!([]));
    assert_eq!(
        preview(&rig, json!({"filter": "type=fridge", "command": "restart"})).await["devices"],
        json!([])
    );

    // What cannot take part is noted with the reason.
    let id = begun(&rig, wish).await;
    becomes(&rig, &id, "done").await;
    let left_out = members(&rig, &id).await["new"].clone();
    assert_eq!(left_out, ("skipped".to_owned(), "pending: accept it first".to_owned()));
    let wish = json!({"filter": "status=pending", "command": "restart"});
    let detail = post(&rig, wish).await.problem(404);
    assert_eq!(detail, "there is no device that can take part: new is pending: accept it first");
}

#[tokio::test]
async fn the_same_under_the_same_id_is_one_batch() {
    let rig = Rig::start().await;
    fleet(&rig, 1, &[], &Deeds::default()).await;
    let id = Uid::new();
    let wish = |command: &str| json!({"id": id, "filter": "", "command": command});
    let first = post(&rig, wish("restart nginx")).await.expect(201);
    assert_eq!(text(&first, "id"), id.to_string());
    becomes(&rig, &id.to_string(), "done").await;
    let again = post(&rig, wish("restart nginx.service")).await.expect(200);
    assert_eq!((&again["id"], &again["state"]), (&first["id"], &json!("done")));
    let refused = post(&rig, wish("restart")).await.problem(409);
    assert_eq!(refused, format!("another batch has the id {id}"));
}

#[tokio::test]
async fn batches_and_their_devices_are_listed_by_pages() {
    let rig = Rig::start().await;
    fleet(&rig, 5, &[3], &Deeds::default()).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = begun(&rig, json!({"command": "collect", "window": 5})).await;
        becomes(&rig, &id, "done").await;
        ids.push(id);
    }
    let page = async |query: &str| {
        let found = rig.ask("GET", &format!("{BATCHES}{query}"), None).await.expect(200);
        found.as_array().unwrap().iter().map(|row| text(row, "id")).collect::<Vec<_>>()
    };
    assert_eq!(page("").await, [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(page("?limit=2").await, [ids[2].clone(), ids[1].clone()]);
    assert_eq!(page(&format!("?limit=2&before={}", ids[1])).await, [ids[0].clone()]);
    let devices = async |query: &str| {
        let path = format!("{BATCHES}/{}/devices{query}", ids[0]);
        let found = rig.ask("GET", &path, None).await.expect(200);
        found.as_array().unwrap().iter().map(|row| text(row, "device_id")).collect::<Vec<_>>()
    };
    assert_eq!(devices("").await, ["d00", "d01", "d02", "d03", "d04"]);
    assert_eq!(devices("?after=d01&limit=2").await, ["d02", "d03"]);
    assert_eq!(devices("?state=failed,unknown").await, ["d03"]);
    let path = format!("{BATCHES}/{}/devices?state=begun", ids[0]);
    let detail = rig.ask("GET", &path, None).await.problem(422);
    assert!(detail.starts_with("state: there is no state begun; known are waiting"), "{detail}");
    assert_eq!(batch(&rig, &ids[0]).await["counts"], json!({"succeeded": 4, "failed": 1}));
}
