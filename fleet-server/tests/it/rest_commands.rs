//! Commands over HTTP: what is taken, what is refused and why, lists, and waiting.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fleet_core::id::Uid;
use fleet_core::wire::{Outcome, Progress};
use serde_json::{Value, json};

use crate::commands_kit::{
    COMMANDS, becomes, cancel, command, done, ends, give, given, ordered, says, text,
};
use crate::server_kit::{Agent, Answer, Rig, send, wait_for};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn post(rig: &Rig, wish: Value) -> Answer {
    rig.ask("POST", COMMANDS, Some(wish)).await
}

/// Whether no device is connected.
async fn is_alone(rig: &Rig) -> bool {
    let page = rig.ask("GET", "/metrics", None).await;
    String::from_utf8(page.body.to_vec()).unwrap().contains("\nfleets_links 0\n")
}

#[tokio::test]
async fn a_command_is_read_before_anything_is_stored() {
    let rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    for (wish, field) in [
        (json!({"command": "restrat"}), "command: there is no command restrat"),
        (json!({"command": "restart a b"}), "command: the form is: restart [SERVICE]"),
        (json!({"command": "restart", "args": ["-H"]}), "command: -H is not the name"),
        (json!({"command": "exec 'a b'"}), "command: quotes mean nothing here"),
        (json!({"command": "exec", "args": [1]}), "args: "),
        (
            json!({"command": "restart", "expires_in": "8d"}),
            "expires_in: must be more than nothing and at most 604800 s",
        ),
        (json!({"command": "restart", "expires_in": "0"}), "expires_in: must be more"),
        (json!({"command": "restart", "expires_in": "soon"}), "expires_in: not a duration"),
        (
            json!({"command": "restart", "timeout": "2h"}),
            "timeout: must be more than nothing and at most 3600 s",
        ),
        (json!({"command": "restart", "id": "7"}), "id: "),
        (
            json!({"command": "restart", "id": "00000000-0000-4000-8000-000000000000"}),
            "id: must be a UUID of version 7",
        ),
        (json!({"command": "restart", "shell": true}), "shell: "),
    ] {
        let mut wish = wish;
        wish["device_id"] = json!("a");
        let detail = post(&rig, wish.clone()).await.problem(422);
        assert!(detail.starts_with(field), "{wish}: {detail}");
    }
    give(&rig, "nobody", "restart").await.problem(404);
    assert_eq!(rig.ask("GET", COMMANDS, None).await.expect(200), json!([]));
    let view = give(&rig, "a", "restart nginx").await.expect(201);
    assert_eq!(
        (text(&view, "command"), &view["args"]),
        ("restart".to_owned(), &json!(["nginx.service"]))
    );
    assert_eq!(view["expires_at"], "2024-01-16T10:30:00Z");
    assert_eq!(view["state"], "queued");
    assert!(text(&view, "author").starts_with("operator:"));
}

#[tokio::test]
async fn who_takes_no_commands_is_told_why() {
    let rig = Rig::start().await;
    let admin = [("authorization", format!("Bearer {}", rig.admin()))];
    let lines = b"cpu,host=third value=1".to_vec();
    send(rig.address(), HERE, "POST", "/write", &admin, lines).await.expect(204);
    let refused = give(&rig, "third", "restart").await.problem(409);
    assert_eq!(refused, "the device third is reported by a third party and takes no commands");
    let _pending = Agent::dial(&rig, "new", 1, None).await;
    let refused = give(&rig, "new", "restart").await.problem(409);
    assert_eq!(refused, "the device new is pending: accept it first");
}

#[tokio::test]
async fn the_same_under_the_same_id_is_one_command() {
    let rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    drop(rig.enrolled("b", 2).await);
    let id = Uid::new();
    let wish =
        |device: &str, command: &str| json!({"id": id, "device_id": device, "command": command});
    let first = post(&rig, wish("a", "restart nginx")).await.expect(201);
    assert_eq!(text(&first, "id"), id.to_string());
    rig.clock.advance(Duration::from_secs(5));
    assert_eq!(post(&rig, wish("a", "restart nginx.service")).await.expect(200), first);
    for other in [wish("a", "restart"), wish("b", "restart nginx")] {
        let refused = post(&rig, other).await.problem(409);
        assert_eq!(refused, format!("another command has the id {id}"));
    }
    // Also when the device would take no new one; what it had to do is called off then.
    rig.ask("POST", "/api/v1/devices/a/revoke", None).await.expect(200);
    let again = post(&rig, wish("a", "restart nginx")).await.expect(200);
    assert_eq!((&again["id"], text(&again, "state").as_str()), (&first["id"], "cancelled"));
}

#[tokio::test]
async fn a_device_has_at_most_64_to_do() {
    let rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    for _ in 0..64 {
        given(&rig, "a", "logs").await;
    }
    let refused = give(&rig, "a", "restart").await.problem(409);
    assert!(refused.starts_with("the device has 64 commands to do already"), "{refused}");
    let newest = rig.ask("GET", &format!("{COMMANDS}?limit=1"), None).await.expect(200);
    cancel(&rig, &text(&newest[0], "id")).await.expect(200);
    give(&rig, "a", "restart").await.expect(201);
}

#[tokio::test]
async fn commands_come_in_pages_and_by_what_is_asked() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    drop(rig.enrolled("b", 2).await);
    let mut ids = Vec::new();
    for (device, words) in [("b", "logs"), ("a", "logs"), ("b", "reboot"), ("b", "restart")] {
        ids.push(given(&rig, device, words).await);
    }
    let order = ordered(&mut agent).await;
    ends(&mut agent, order.id, done(Outcome::Succeeded, "", b"lines")).await;
    cancel(&rig, &ids[2]).await.expect(200);
    let ask = async |query: &str| {
        let found = rig.ask("GET", &format!("{COMMANDS}?{query}"), None).await.expect(200);
        let place = |view: &Value| ids.iter().position(|id| *id == text(view, "id")).unwrap();
        found.as_array().unwrap().iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(ask("").await, [3, 2, 1, 0]);
    assert_eq!(ask("limit=2").await, [3, 2]);
    assert_eq!(ask(&format!("limit=2&before={}", ids[2])).await, [1, 0]);
    assert_eq!(ask("device_id=b").await, [3, 2, 0]);
    assert_eq!(ask("state=open").await, [3, 0]);
    assert_eq!(ask("state=cancelled,succeeded").await, [2, 1]);
    assert_eq!(ask("device_id=a&state=open").await, [0; 0]);
    let listed = rig.ask("GET", &format!("{COMMANDS}?state=succeeded"), None).await.expect(200);
    assert_eq!(listed[0]["output"], Value::Null, "lists go without it");
    assert_eq!(command(&rig, &ids[1]).await["output"], "lines");
    for bad in ["limit=0", "limit=501", "state=begun", "state=", "before=x", "x=1"] {
        let field = bad.split('=').next().unwrap();
        let detail = rig.ask("GET", &format!("{COMMANDS}?{bad}"), None).await.problem(422);
        assert!(detail.starts_with(field), "{bad}: {detail}");
    }
    rig.ask("GET", &format!("{COMMANDS}?device_id=nobody"), None).await.problem(404);
    rig.ask("GET", &format!("{COMMANDS}/{}", Uid::new()), None).await.problem(404);
}

#[tokio::test]
async fn whoever_waits_is_answered_when_something_becomes_of_it() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let id = given(&rig, "a", "restart").await;
    let order = ordered(&mut agent).await;
    let wait = async |query: &str| {
        let began = Instant::now();
        let view = rig.ask("GET", &format!("{COMMANDS}/{id}?{query}"), None).await.expect(200);
        (text(&view, "state"), began.elapsed())
    };
    // It is another one already.
    assert_eq!(wait("wait=10&after=queued").await.0, "sent");
    let (waited, ()) = tokio::join!(wait("wait=15&after=sent"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        says(&mut agent, order.id, Progress::Running).await;
    });
    assert_eq!(waited.0, "running");
    assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&waited.1), "{waited:?}");
    // Nothing becomes of it for a second.
    let (state, time) = wait("wait=1").await;
    assert_eq!(state, "running");
    assert!(time >= Duration::from_secs(1), "{time:?}");
    ends(&mut agent, order.id, done(Outcome::Succeeded, "", b"")).await;
    assert!(wait("wait=60").await.1 < Duration::from_secs(5), "it is over");
    for bad in ["wait=0", "wait=61", "wait=x", "wait=1&after=begun", "after=sent"] {
        let path = format!("{COMMANDS}/{id}?{bad}");
        rig.ask("GET", &path, None).await.problem(422);
    }
    rig.ask("GET", &format!("{COMMANDS}/{}?wait=60", Uid::new()), None).await.problem(404);
}

#[tokio::test]
async fn a_server_that_stops_keeps_nobody_waiting() {
    let mut rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    wait_for("the link to be gone", async || is_alone(&rig).await).await;
    let id = given(&rig, "a", "restart").await;
    let (address, key) = (rig.address(), rig.admin());
    let waiting = async {
        let headers = [("authorization", format!("Bearer {key}"))];
        let path = format!("{COMMANDS}/{id}?wait=60");
        send(address, HERE, "GET", &path, &headers, Vec::new()).await
    };
    let began = Instant::now();
    let (answer, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        rig.stop().await;
    });
    assert_eq!(answer.expect(200)["state"], "queued");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    rig.restart().await;
    becomes(&rig, &id, "queued").await;
}
