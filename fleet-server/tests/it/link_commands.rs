//! Commands on their way to devices and back, through what may happen to either side.

use std::time::Duration;

use fleet_core::limits::COMMAND_OUTPUT_BYTES_MAX;
use fleet_core::wire::{Outcome, Progress, ToAgent};
use serde_json::{Value, json};

use crate::commands_kit::{
    becomes, bytes, cancel, command, done, ends, give, given, id_of, ordered, says, state, text,
    told, uid,
};
use crate::server_kit::{Agent, Rig, key_id, wait_for};

/// That nothing else is on its way: reports are answered next.
async fn nothing_more(agent: &mut Agent, seq: u64) {
    agent.report(9, &[seq], 1.0).await;
}

#[tokio::test]
async fn an_order_comes_once_signed_and_is_followed_to_its_end() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let wish = json!({"device_id": "a", "command": "exec", "args": ["echo", "a b", ""],
        "expires_in": "10m", "timeout": "5s"});
    let view = rig.ask("POST", "/api/v1/commands", Some(wish)).await.expect(201);
    let id = text(&view, "id");
    let order = ordered(&mut agent).await;
    assert_eq!(id_of(&order), id);
    assert_eq!(
        (order.word.as_str(), order.args.as_slice()),
        ("exec", &["echo", "a b", ""].map(str::to_owned)[..])
    );
    assert_eq!((order.expires_in_millis, order.timeout_millis), (600_000, 5_000));
    assert_eq!(order.expires_millis, 1_705_314_600_000 + 600_000);
    let identity = rig.ask("GET", "/api/v1/identity", None).await.json();
    let server = serde_json::from_value(identity["public_key"].clone()).unwrap();
    assert!(order.is_signed(uid(&agent), server));
    assert!(!order.is_signed([0; 16], server), "it is for this device alone");
    assert_eq!(state(&rig, &id).await.0, "sent");

    says(&mut agent, order.id, Progress::Accepted).await;
    becomes(&rig, &id, "accepted").await;
    says(&mut agent, order.id, Progress::Running).await;
    becomes(&rig, &id, "running").await;
    // What comes late moves nothing back.
    says(&mut agent, order.id, Progress::Accepted).await;
    let Progress::Done(mut result) = done(Outcome::Failed, "exit code 3", b"\xffout\n") else {
        panic!("an end")
    };
    result.exit_code = Some(3);
    result.left_out_bytes = 7;
    ends(&mut agent, order.id, Progress::Done(result)).await;
    let view = command(&rig, &id).await;
    assert_eq!(state(&rig, &id).await, ("failed".to_owned(), "exit code 3".to_owned()));
    let output = (&view["exit_code"], &view["output"], &view["output_left_out"]);
    assert_eq!(output, (&json!(3), &json!("\u{fffd}out\n"), &json!(7)));
    nothing_more(&mut agent, 1).await;

    let admin = format!("operator:{}", key_id(&rig.admin()));
    let words = format!("{id} exec echo \"a b\" \"\"");
    assert_eq!(
        told(&rig).await,
        [
            ["command.queued", &admin, &format!("{words}, until 2024-01-15T10:40:00Z")],
            ["command.failed", "device", &format!("{words}: exit code 3")],
        ]
    );
}

#[tokio::test]
async fn what_is_not_answered_for_is_sent_again_with_each_link() {
    let mut rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let id = given(&rig, "a", "restart").await;
    let first = ordered(&mut agent).await;
    drop(agent);
    rig.clock.advance(Duration::from_secs(60));
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    let again = ordered(&mut agent).await;
    // Less of its time is left, and all else is the same.
    assert_eq!(first.expires_in_millis - again.expires_in_millis, 60_000);
    assert_eq!((again.id, again.expires_millis), (first.id, first.expires_millis));
    assert_eq!(again.signature, first.signature);
    says(&mut agent, first.id, Progress::Accepted).await;
    becomes(&rig, &id, "accepted").await;

    // Also by a server that begins anew.
    rig.restart().await;
    assert_eq!(state(&rig, &id).await.0, "accepted");
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    assert_eq!(ordered(&mut agent).await.id, first.id);
    ends(&mut agent, first.id, done(Outcome::Succeeded, "", b"")).await;
    assert_eq!(state(&rig, &id).await.0, "succeeded");
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    nothing_more(&mut agent, 1).await;
}

#[tokio::test]
async fn what_a_device_says_nothing_of_is_sent_again_with_each_ping() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let id = given(&rig, "a", "restart").await;
    let first = ordered(&mut agent).await;
    // It had no room to take note of it, say.
    agent.socket.ping(b"1".to_vec()).await.unwrap();
    assert_eq!(ordered(&mut agent).await.id, first.id);
    says(&mut agent, first.id, Progress::Accepted).await;
    becomes(&rig, &id, "accepted").await;
    agent.socket.ping(b"2".to_vec()).await.unwrap();
    nothing_more(&mut agent, 1).await;
}

#[tokio::test]
async fn what_a_device_says_twice_is_noted_each_time_and_told_once() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let id = given(&rig, "a", "restart").await;
    let order = ordered(&mut agent).await;
    ends(&mut agent, order.id, done(Outcome::Succeeded, "began anew", b"first")).await;
    let commits = async || {
        let page = rig.ask("GET", "/metrics", None).await;
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        let line = page.lines().find(|line| line.starts_with("fleets_store_commits_total "));
        line.unwrap().to_owned()
    };
    let before = (command(&rig, &id).await, commits().await);
    for _ in 0..500 {
        ends(&mut agent, order.id, done(Outcome::Succeeded, "began anew", b"first")).await;
        ends(&mut agent, order.id, done(Outcome::Failed, "or not", b"second")).await;
        says(&mut agent, order.id, Progress::Running).await;
    }
    nothing_more(&mut agent, 1).await;
    assert_eq!(command(&rig, &id).await, before.0);
    assert_eq!(told(&rig).await.len(), 2);
    // The report that was just stored, and "last seen" perhaps; not one for each word.
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(number(&commits().await) < number(&before.1) + 20);
}

#[tokio::test]
async fn what_waits_for_a_device_comes_in_its_order() {
    let rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    let mut ids = Vec::new();
    for words in ["logs -n 5", "restart nginx", "collect", "restart nginx", "exec uptime"] {
        ids.push(given(&rig, "a", words).await);
    }
    assert_eq!(
        state(&rig, &ids[0]).await,
        ("queued".to_owned(), "waits for the device".to_owned())
    );
    let superseded = (String::from("cancelled"), format!("superseded by {}", ids[3]));
    assert_eq!(state(&rig, &ids[1]).await, superseded);
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    for id in [&ids[0], &ids[2], &ids[3], &ids[4]] {
        assert_eq!(&id_of(&ordered(&mut agent).await), id);
    }
    nothing_more(&mut agent, 1).await;
    let told = told(&rig).await;
    let cancelled = told.iter().find(|event| event[0] == "command.cancelled").unwrap();
    assert!(cancelled[1].starts_with("operator:"), "{cancelled:?}");
    let words = format!("{} restart nginx.service: superseded by {}", ids[1], ids[3]);
    assert_eq!(cancelled[2], words);
}

#[tokio::test]
async fn what_was_not_sent_is_taken_back_at_once() {
    let rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    let id = given(&rig, "a", "reboot").await;
    for _ in 0..2 {
        let view = cancel(&rig, &id).await.expect(200);
        assert_eq!(view["state"], "cancelled");
        assert!(text(&view, "why").ends_with("before it was sent"), "{view}");
    }
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    nothing_more(&mut agent, 1).await;
    let told = told(&rig).await;
    assert_eq!(told.len(), 2, "{told:?}");
    cancel(&rig, "018d0d0a-0000-7000-8000-000000000001").await.problem(404);
}

#[tokio::test]
async fn what_is_on_its_way_is_taken_back_by_the_device() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let id = given(&rig, "a", "reboot").await;
    ordered(&mut agent).await;
    let view = cancel(&rig, &id).await.expect(200);
    assert_eq!(view["state"], "sent");
    assert!(text(&view, "why").ends_with("wants it taken back"), "{view}");
    let taken_back = ToAgent::CancelCommand { id: bytes(&id) };
    assert_eq!(agent.next().await, taken_back);
    cancel(&rig, &id).await.expect(200);
    nothing_more(&mut agent, 1).await;
    // Who was not there hears that, and never the order.
    drop(agent);
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    assert_eq!(agent.next().await, taken_back);
    ends(&mut agent, bytes(&id), done(Outcome::Cancelled, "", b"")).await;
    let why = "taken back before the device began".to_owned();
    assert_eq!(state(&rig, &id).await, ("cancelled".to_owned(), why));
    cancel(&rig, &id).await.expect(200);
    nothing_more(&mut agent, 2).await;
}

#[tokio::test]
async fn what_a_device_has_begun_is_not_taken_back() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let id = given(&rig, "a", "reboot").await;
    let order = ordered(&mut agent).await;
    // The device was quicker than the word to take it back.
    cancel(&rig, &id).await.expect(200);
    says(&mut agent, order.id, Progress::Accepted).await;
    becomes(&rig, &id, "accepted").await;
    assert_eq!(agent.next().await, ToAgent::CancelCommand { id: order.id });
    let late = cancel(&rig, &id).await.problem(409);
    assert_eq!(late, "it is too late: the device has accepted the command");
    drop(agent);
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    assert_eq!(ordered(&mut agent).await.id, order.id, "it is not to be taken back any more");
    ends(&mut agent, order.id, done(Outcome::Succeeded, "", b"")).await;
    assert_eq!(cancel(&rig, &id).await.problem(409), "the command is over: succeeded");
}

#[tokio::test]
async fn a_queue_of_a_month_ago_is_not_sent() {
    let rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    let ids = [given(&rig, "a", "reboot").await, given(&rig, "a", "restart").await];
    rig.clock.advance(Duration::from_secs(30 * 86_400));
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    nothing_more(&mut agent, 1).await;
    for id in &ids {
        becomes(&rig, id, "expired").await;
        let why = "the device did not come before 2024-01-16T10:30:00Z".to_owned();
        assert_eq!(state(&rig, id).await.1, why);
    }
    nothing_more(&mut agent, 2).await;
    // What happened is told after it has.
    wait_for("both events", async || {
        let told = told(&rig).await;
        let expired = |event: &&[String; 3]| event[0] == "command.expired" && event[1] == "server";
        told.iter().filter(expired).count() == 2
    })
    .await;
}

#[tokio::test]
async fn a_device_that_is_not_heard_of_is_given_up_and_still_believed() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let (lost, refused) = (given(&rig, "a", "exec x").await, given(&rig, "a", "exec y").await);
    for _ in 0..2 {
        ordered(&mut agent).await;
    }
    says(&mut agent, bytes(&refused), Progress::Running).await;
    becomes(&rig, &refused, "running").await;
    drop(agent);
    rig.clock.advance(Duration::from_secs(24 * 3_600 + 599));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(state(&rig, &lost).await.0, "sent", "it may have begun at the last moment");
    rig.clock.advance(Duration::from_secs(1));
    becomes(&rig, &lost, "unknown").await;
    becomes(&rig, &refused, "unknown").await;
    let why = state(&rig, &lost).await.1;
    assert!(why.starts_with("sent at 2024-01-15T10:30:00Z, and not heard of until "), "{why}");
    // What is over is not sent again, and the device's own word replaces what was supposed.
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    nothing_more(&mut agent, 1).await;
    ends(&mut agent, bytes(&lost), done(Outcome::Succeeded, "did it", b"")).await;
    ends(&mut agent, bytes(&refused), done(Outcome::Unknown, "power cut", b"")).await;
    assert_eq!(state(&rig, &lost).await, ("succeeded".to_owned(), "did it".to_owned()));
    assert_eq!(state(&rig, &refused).await.0, "unknown");
}

#[tokio::test]
async fn t06_words_about_commands_of_others_change_nothing() {
    let rig = Rig::start().await;
    let mut one = rig.enrolled("a", 1).await;
    let mut other = rig.enrolled("b", 2).await;
    let id = given(&rig, "a", "restart").await;
    let order = ordered(&mut one).await;
    for id in [order.id, [7; 16]] {
        for progress in [Progress::Accepted, Progress::Running] {
            says(&mut other, id, progress).await;
        }
        // It need not say that again.
        ends(&mut other, id, done(Outcome::Succeeded, "mine", b"")).await;
    }
    nothing_more(&mut other, 1).await;
    assert_eq!(state(&rig, &id).await.0, "sent");
    let page = rig.ask("GET", "/metrics", None).await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    // Of what it says of one command at once, the last word may stand for all.
    let ignored =
        page.lines().find_map(|line| line.strip_prefix("fleets_command_news_ignored_total "));
    let ignored: u32 = ignored.unwrap().parse().unwrap();
    assert!((2..=6).contains(&ignored), "{ignored}");
    ends(&mut one, order.id, done(Outcome::Succeeded, "", b"")).await;
}

#[tokio::test]
async fn a_device_that_says_too_much_is_cut_short() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let id = given(&rig, "a", "exec yes").await;
    let order = ordered(&mut agent).await;
    let long = "y".repeat(10_000);
    let much = vec![b'y'; 10 * COMMAND_OUTPUT_BYTES_MAX];
    ends(&mut agent, order.id, done(Outcome::Succeeded, &long, &much)).await;
    let view = command(&rig, &id).await;
    assert_eq!(text(&view, "output").len(), COMMAND_OUTPUT_BYTES_MAX);
    assert_eq!(view["output_left_out"], 9 * COMMAND_OUTPUT_BYTES_MAX);
    assert!(text(&view, "why").ends_with("y…"));
    assert!(told(&rig).await[1][2].len() < 1_100);
}

#[tokio::test]
async fn a_device_that_was_put_out_is_sent_nothing() {
    let rig = Rig::start().await;
    drop(rig.enrolled("a", 1).await);
    let id = given(&rig, "a", "reboot").await;
    rig.ask("POST", "/api/v1/devices/a/revoke", None).await.expect(200);
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    assert!(agent.ended().await.contains("revoked"));
    assert_eq!(state(&rig, &id).await.0, "cancelled");
    let refused = give(&rig, "a", "reboot").await.problem(409);
    assert_eq!(refused, "the device a was revoked and takes no commands");
    rig.ask("DELETE", "/api/v1/devices/a", None).await.expect(200);
    give(&rig, "a", "reboot").await.problem(404);
    // Nor has one that is deleted, but for what it has begun.
    let mut agent = rig.enrolled("b", 2).await;
    let begun = given(&rig, "b", "reboot").await;
    let order = ordered(&mut agent).await;
    says(&mut agent, order.id, Progress::Running).await;
    becomes(&rig, &begun, "running").await;
    drop(agent);
    let other = given(&rig, "b", "collect").await;
    rig.ask("DELETE", "/api/v1/devices/b", None).await.expect(200);
    assert_eq!(state(&rig, &begun).await.0, "running");
    becomes(&rig, &other, "cancelled").await;
    let list = format!("/api/v1/commands?device_id={}", text(&command(&rig, &id).await, "uid"));
    let listed: Value = rig.ask("GET", &list, None).await.expect(200);
    assert_eq!(listed.as_array().unwrap().len(), 1, "it is told of for a while");
}
