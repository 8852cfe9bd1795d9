//! Lists of devices that a filter finds, in an order that was asked for.

use serde_json::{Value, json};

use crate::server_kit::{Agent, Rig};

/// Three devices, of which two report and two have notes.
async fn fleet() -> (Rig, Vec<Agent>) {
    let rig = Rig::start().await;
    let mut agents = Vec::new();
    for (seed, id) in [(1, "pi-c"), (2, "pi-a"), (3, "pi-b")] {
        agents.push(rig.enrolled(id, seed).await);
    }
    agents[0].report(1, &[1], 45.2).await;
    agents[1].report(1, &[1], 95.0).await;
    for (id, metadata) in [
        ("pi-a", json!({"site": "Lyon", "tags": ["eu-west", "canary"]})),
        ("pi-b", json!({"site": "nice", "tags": "eu-west test"})),
    ] {
        let path = format!("/api/v1/devices/{id}");
        rig.ask("PUT", &path, Some(json!({ "metadata": metadata }))).await.expect(200);
    }
    (rig, agents)
}

fn ids(list: &Value) -> String {
    let ids = list.as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap());
    ids.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn lists_hold_what_was_asked_for_in_the_order_that_was_asked_for() {
    let (rig, _agents) = fleet().await;
    for (query, found) in [
        ("", "pi-a pi-b pi-c"),
        ("filter=", "pi-a pi-b pi-c"),
        // The reference's filters.
        ("filter=type=raspberrypi", "pi-a pi-b pi-c"),
        ("filter=status=offline", ""),
        ("filter=status%20in%20(online,late)", "pi-a pi-b pi-c"),
        ("filter=cpu%3E40", "pi-a pi-c"),
        ("filter=cpu%3E90+and+site=lyon", "pi-a"),
        ("filter=tag:eu-west+!tag:canary", "pi-b"),
        ("filter=has%20mem", ""),
        ("sort=cpu", "pi-c pi-a pi-b"),
        ("sort=-cpu", "pi-a pi-c pi-b"),
        ("sort=-device", "pi-c pi-b pi-a"),
        ("filter=not+site=nice&sort=-cpu", "pi-a pi-c"),
        ("sort=-cpu&limit=2", "pi-a pi-c"),
    ] {
        let list = rig.ask("GET", &format!("/api/v1/devices?{query}"), None).await;
        assert_eq!(ids(&list.expect(200)), found, "{query}");
        assert!(!list.headers.contains_key("link"), "{query}");
    }
}

#[tokio::test]
async fn what_a_filter_finds_comes_in_pages() {
    let (rig, _agents) = fleet().await;
    for order in ["", "&sort=device"] {
        let filter = "has+cpu+or+note=%22x+%26%C3%A9%22";
        let path = format!("/api/v1/devices?limit=1&filter={filter}{order}");
        let page = rig.ask("GET", &path, None).await;
        assert_eq!(ids(&page.expect(200)), "pi-a");
        let link = page.headers["link"].to_str().unwrap();
        let next = link.trim_start_matches('<').split('>').next().unwrap();
        let last = rig.ask("GET", next, None).await;
        assert_eq!(ids(&last.expect(200)), "pi-c");
        assert!(!last.headers.contains_key("link"));
    }
}

#[tokio::test]
async fn what_is_no_filter_is_shown_with_its_place() {
    let rig = Rig::start().await;
    for (query, told) in [
        (
            "filter=status=oflline",
            "filter: status is never oflline, it is one of online, late, offline, lost, pending, \
             rejected, revoked; did you mean status=offline?\n  status=oflline\n         ^^^^^^^",
        ),
        (
            "filter=pump",
            "filter: pump is compared with nothing; write name~pump or device~pump\n  pump\n  ^^^^",
        ),
        (
            "sort=-cpu&cursor=a",
            "cursor: pages follow each other by id only: leave out sort or cursor",
        ),
    ] {
        let answer = rig.ask("GET", &format!("/api/v1/devices?{query}"), None).await;
        assert_eq!(answer.problem(422), told, "{query}");
    }
    let detail = rig.ask("GET", "/api/v1/devices?sort=speed", None).await.problem(422);
    assert!(detail.starts_with("sort: there is no such field; known are status"), "{detail}");
    let long = format!("/api/v1/devices?filter={}", "(".repeat(2_000));
    let detail = rig.ask("GET", &long, None).await.problem(422);
    assert!(detail.contains("32 deep at most") && detail.len() < 300, "{detail}");
}
