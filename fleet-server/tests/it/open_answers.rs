//! Answers that are open for long end with the key that they were asked with, however that ends
//! (T05, T28).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::page_kit::Browser;
use crate::server_kit::{Agent, Rig, key_id};
use crate::stream_kit::Raw;

/// What is promised, and what a busy machine may take on top.
const SECS_MAX: u64 = 5 + 2;

/// How a key ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Revoked,
    Expired,
    Succeeded,
}

impl End {
    async fn come(self, rig: &Rig, key: &str) {
        let path = format!("/api/v1/keys/{}", key_id(key));
        match self {
            Self::Revoked => {
                rig.ask("DELETE", &path, None).await.expect(200);
            }
            Self::Succeeded => {
                let wish = json!({"overlap_secs": 0});
                rig.ask("POST", &format!("{path}/rotate"), Some(wish)).await.expect(201);
            }
            Self::Expired => rig.clock.advance(Duration::from_secs(3_600)),
        }
    }
}

async fn connected(rig: &Rig) -> Agent {
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1], 1.0).await;
    rig.ask("PUT", "/api/v1/devices/a", Some(json!({"metadata": {"site": "x"}}))).await.expect(200);
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn t28_whatever_is_open_ends_with_its_key() {
    for end in [End::Revoked, End::Expired, End::Succeeded] {
        let rig = Rig::start_patient().await;
        let _agent = connected(&rig).await;
        let wish = json!({"kind": "operator", "expires_in_secs": 3_600, "scope": "site=x"});
        let key = rig.key(wish).await;
        let order = json!({"device_id": "a", "command": "collect"});
        let order = rig.ask("POST", "/api/v1/commands", Some(order)).await.expect(201);
        let wait = format!("/api/v1/commands/{}?wait=60", order["id"].as_str().unwrap());
        let mut stream = Raw::open_with(&rig, &key, "/api/v1/stream").await;
        stream.read_until("event: index").await;
        let mut lines = Raw::open_with(&rig, &key, "/api/v1/devices/a/logs?follow=true").await;
        lines.read_until("event: hello").await;
        let close = format!("Host: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n");
        let wait = Raw::send(&rig, &wait, &close).await;
        let mut browser = Browser::signed_in(&rig, &key).await;
        let headers = browser.headers(&[("accept", "text/event-stream")]);
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let mut page = Raw::send(&rig, "/api/v1/stream", &headers.collect::<String>()).await;
        page.read_until("event: index").await;

        end.come(&rig, &key).await;
        let ended = Instant::now();
        assert_eq!(browser.get("/").await.status, 303, "{end:?}: the session is over at once");
        let (stream, lines, wait, page) = tokio::join!(
            stream.read_to_end(),
            lines.read_to_end(),
            wait.read_to_end(),
            page.read_to_end(),
        );
        assert!(ended.elapsed().as_secs() < SECS_MAX, "{end:?}: {:?}", ended.elapsed());
        assert!(stream.starts_with("HTTP/1.1 200"), "{end:?}: {stream}");
        assert!(page.starts_with("HTTP/1.1 200"), "{end:?}: {page}");
        assert!(lines.contains("the key is no longer good"), "{end:?}: {lines}");
        assert!(wait.starts_with("HTTP/1.1 403"), "{end:?}: {wait}");
        assert!(!wait.contains("\"command\""), "{end:?}: nothing is told of the command: {wait}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_end_when_their_device_leaves_the_scope() {
    let rig = Rig::start_patient().await;
    let _agent = connected(&rig).await;
    let key = rig.key(json!({"kind": "operator", "role": "viewer", "scope": "site=x"})).await;
    let mut lines = Raw::open_with(&rig, &key, "/api/v1/devices/a/logs?follow=true").await;
    lines.read_until("event: hello").await;
    let moved = json!({"metadata": {"site": "y"}});
    rig.ask("PUT", "/api/v1/devices/a", Some(moved)).await.expect(200);
    let moved = Instant::now();
    let lines = lines.read_to_end().await;
    assert!(moved.elapsed().as_secs() < SECS_MAX, "{:?}", moved.elapsed());
    assert!(lines.contains("no longer in the fleet"), "{lines}");
}
