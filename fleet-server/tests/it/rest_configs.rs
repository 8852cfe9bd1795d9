//! Versions of configurations over HTTP: what was before, going back to it, and two operators who
//! change the same device at once.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::server_kit::{Answer, Rig, send};

const CONFIG: &str = "/api/v1/config?device_id=rpi4-001";
const HISTORY: &str = "/api/v1/config/history?device_id=rpi4-001";
/// Changes of both operators together.
const RACES: usize = 200;

async fn set(rig: &Rig, body: Value) -> Value {
    rig.ask("POST", CONFIG, Some(body)).await.expect(200)
}

/// A change of the version that its author has seen.
async fn set_from(rig: &Rig, version: u64, body: &Value) -> Answer {
    let headers = [
        ("authorization", format!("Bearer {}", rig.admin())),
        ("content-type", "application/json".to_owned()),
        ("if-match", format!("\"{version}\"")),
    ];
    let body = body.to_string().into_bytes();
    send(rig.address(), Ipv4Addr::LOCALHOST.into(), "POST", CONFIG, &headers, body).await
}

#[tokio::test]
async fn every_version_is_kept_and_can_be_gone_back_to() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    assert_eq!(rig.ask("GET", HISTORY, None).await.expect(200), json!([]));
    set(&rig, json!({"config": {"telemetry_interval": 10}, "comment": "fast"})).await;
    set(&rig, json!({"config": {"telemetry": {"interval": 20, "metrics": ["cpu_usage"]}}})).await;
    set(&rig, json!({"config": {}})).await;

    let versions = rig.ask("GET", HISTORY, None).await.expect(200);
    let numbers: Vec<_> = versions.as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(numbers, [3, 2, 1]);
    let first = &versions[2];
    assert_eq!(first["document"], json!({"telemetry": {"interval": 10}}));
    assert_eq!((&first["comment"], &first["at"]), (&json!("fast"), &json!("2024-01-15T10:30:00Z")));
    assert!(first["author"].as_str().unwrap().starts_with("operator:"), "{first}");
    let page = rig.ask("GET", &format!("{HISTORY}&before=3&limit=1"), None).await.expect(200);
    assert_eq!((page.as_array().unwrap().len(), &page[0]["version"]), (1, &json!(2)));
    for bad in ["limit=0", "limit=501", "before=x", "before=-1"] {
        let field = bad.split('=').next().unwrap();
        let detail = rig.ask("GET", &format!("{HISTORY}&{bad}"), None).await.problem(422);
        assert!(detail.starts_with(field), "{detail}");
    }

    let back = set(&rig, json!({"rollback_to": 1})).await;
    assert_eq!((&back["version"], &back["comment"]), (&json!(4), &json!("as version 1")));
    assert_eq!((&back["config"], &back["hash"]), (&json!(text(first)), &first["hash"]));
    // Once more there is nothing to go back to.
    assert_eq!(set(&rig, json!({"rollback_to": 1})).await["version"], 4);
    let detail = rig.ask("POST", CONFIG, Some(json!({"rollback_to": 9}))).await.problem(404);
    assert!(detail.contains("version 9"), "{detail}");
    let both = json!({"rollback_to": 1, "config": {}});
    let detail = rig.ask("POST", CONFIG, Some(both)).await.problem(422);
    assert!(detail.starts_with("rollback_to: "), "{detail}");
    let stale = set_from(&rig, 3, &json!({"rollback_to": 2})).await;
    let problem = stale.expect(409);
    assert_eq!((&problem["current_version"], &problem["expected_version"]), (&json!(4), &json!(3)));
    assert_eq!(stale.problem(409), "the configuration is at version 4, not at 3");
}

fn text(version: &Value) -> String {
    version["document"].to_string()
}

/// An operator who adds names one after the other, each to what is there.
async fn adds(rig: &Rig, names: Vec<String>) -> usize {
    let mut conflicts = 0;
    for name in names {
        loop {
            let seen = rig.ask("GET", CONFIG, None).await.expect(200);
            let mut document: Value =
                serde_json::from_str(seen["config"].as_str().unwrap()).unwrap();
            let metrics = &mut document["telemetry"]["metrics"];
            let mut list = metrics.as_array().cloned().unwrap_or_default();
            list.push(json!(name));
            *metrics = json!(list);
            let version = seen["version"].as_u64().unwrap();
            let answer = set_from(rig, version, &json!({"config": document})).await;
            if answer.status == 409 {
                conflicts += 1;
                continue;
            }
            assert_eq!(answer.expect(200)["version"], version + 1);
            break;
        }
    }
    conflicts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_operators_who_race_none_loses_an_update() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let names = |who: &str| (0..RACES / 2).map(|n| format!("{who}{n}")).collect::<Vec<_>>();
    let (first, second) = (names("a"), names("b"));
    tokio::join!(adds(&rig, first.clone()), adds(&rig, second.clone()));
    let shown = rig.ask("GET", CONFIG, None).await.expect(200);
    assert_eq!(shown["version"], RACES);
    let document: Value = serde_json::from_str(shown["config"].as_str().unwrap()).unwrap();
    let metrics = document["telemetry"]["metrics"].as_array().unwrap();
    let found: BTreeSet<_> = metrics.iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(metrics.len(), RACES, "each is there once");
    assert_eq!(found, first.iter().chain(&second).map(String::as_str).collect());
}
