//! Batches through what may happen to devices and to the server.

use std::time::Duration;

use fleet_core::wire::{ConfigReported, Outcome, Progress, ToAgent, ToServer};
use serde_json::json;

use crate::batches_kit::{
    BATCHES, Deeds, act, are_away, batch, becomes, begun, deeds, fleet, lives, members,
    members_become, name, states, told,
};
use crate::commands_kit::{done, ends, ordered, says, text};
use crate::server_kit::{Agent, Rig, key_id, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_pauses_at_failures_and_goes_on_when_told_to() {
    let rig = Rig::start().await;
    let done = Deeds::default();
    fleet(&rig, 20, &[1, 2, 4, 10, 11], &done).await;
    let wish = json!({"command": "restart", "window": 1, "max_fail": 3, "reason": "ticket 4411"});
    let id = begun(&rig, wish).await;
    let paused = becomes(&rig, &id, "paused").await;
    assert_eq!(text(&paused, "why"), "3 devices failed, and it pauses at 3");
    assert_eq!(paused["counts"], json!({"waiting": 15, "succeeded": 2, "failed": 3}));
    let failed = members(&rig, &id).await["d01"].clone();
    assert_eq!(failed, ("failed".to_owned(), "so it went".to_owned()));
    // Nobody begins meanwhile, whatever wakes the task.
    drop(Agent::dial(&rig, "d19", 20, None).await);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(deeds(&done).len(), 5);

    act(&rig, &id, "continue").await.expect(200);
    let last = Agent::dial(&rig, "d19", 20, None).await;
    lives(last, Outcome::Succeeded, &done);
    let over = becomes(&rig, &id, "done").await;
    assert_eq!(over["counts"], json!({"succeeded": 15, "failed": 5}));
    assert_eq!(over["total"], 20);
    assert_eq!(deeds(&done).len(), 20);
    assert!(deeds(&done).values().all(|count| *count == 1), "{:?}", deeds(&done));
    act(&rig, &id, "continue").await.problem(409);
    act(&rig, &id, "cancel").await.problem(409);

    let admin = format!("operator:{}", key_id(&rig.admin()));
    let (heads, texts) = told(&rig).await;
    let head = |kind: &str, actor: &str| [kind.to_owned(), actor.to_owned()];
    assert_eq!(
        heads,
        [
            head("batch.begun", &admin),
            head("batch.paused", "server"),
            head("batch.continued", &admin),
            head("batch.done", "server"),
        ]
    );
    assert_eq!(texts[0], format!("{id} restart: of 20 devices 20 waiting"));
    assert_eq!(texts[3], format!("{id} restart: of 20 devices 15 succeeded, 5 failed"));

    // What failed is tried anew by a batch of its own.
    let again = act(&rig, &id, "retry").await.expect(201);
    assert_eq!((&again["total"], &again["retry_of"]), (&json!(5), &json!(id)));
    let again = text(&again, "id");
    let paused = becomes(&rig, &again, "paused").await;
    assert_eq!(paused["counts"], json!({"waiting": 2, "failed": 3}));
    act(&rig, &again, "cancel").await.expect(200);
    members_become(&rig, &again, &["failed", "failed", "failed", "cancelled", "cancelled"]).await;
    let why = members(&rig, &again).await["d11"].1.clone();
    assert_eq!(why, format!("the batch was cancelled by {admin}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_begins_anew_goes_on_where_it_was() {
    let mut rig = Rig::start().await;
    let (first, second) = (Deeds::default(), Deeds::default());
    // Two of the devices take an order and are not heard of.
    fleet(&rig, 18, &[], &first).await;
    let mut silent = [rig.enrolled("d18", 19).await, rig.enrolled("d19", 20).await];
    let id = begun(&rig, json!({"command": "collect", "window": 3, "canary": 1})).await;
    wait_for("some of it", async || batch(&rig, &id).await["counts"]["succeeded"] == 18).await;
    let orders = [ordered(&mut silent[0]).await.id, ordered(&mut silent[1]).await.id];
    let before = deeds(&first);
    rig.restart().await;
    let shown = batch(&rig, &id).await;
    assert_eq!(shown["counts"], json!({"succeeded": 18, "running": 2}));
    for number in 0..20 {
        let agent = Agent::dial(&rig, &name(number), number + 1, None).await;
        lives(agent, Outcome::Succeeded, &second);
    }
    let over = becomes(&rig, &id, "done").await;
    assert_eq!(over["counts"], json!({"succeeded": 20}));
    assert_eq!(before.len(), 18);
    assert!(before.values().all(|count| *count == 1), "{before:?}");
    let mut again: Vec<_> = second.lock().unwrap().iter().map(|(_, order)| *order).collect();
    again.sort_unstable();
    let mut orders = orders;
    orders.sort_unstable();
    assert_eq!(again, orders, "the same two orders, and no others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_in_the_middle_gives_each_device_one_order() {
    let mut rig = Rig::start().await;
    let done = Deeds::default();
    fleet(&rig, 20, &[], &done).await;
    let id = begun(&rig, json!({"command": "restart", "window": 1})).await;
    wait_for("a part of it", async || deeds(&done).len() >= 3).await;
    rig.restart().await;
    assert!(deeds(&done).len() < 20, "it stopped in the middle");
    for number in 0..20 {
        let agent = Agent::dial(&rig, &name(number), number + 1, None).await;
        lives(agent, Outcome::Succeeded, &done);
    }
    let over = becomes(&rig, &id, "done").await;
    assert_eq!(over["counts"], json!({"succeeded": 20}));
    assert_eq!(deeds(&done).len(), 20);
    assert!(deeds(&done).values().all(|count| *count == 1), "{:?}", deeds(&done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_are_away_do_it_when_they_come_until_it_is_too_late() {
    let rig = Rig::start().await;
    let done = Deeds::default();
    fleet(&rig, 1, &[], &done).await;
    for (id, seed) in [("d01", 2), ("d02", 3)] {
        drop(rig.enrolled(id, seed).await);
    }
    are_away(&rig, 2).await;
    let id = begun(&rig, json!({"command": "restart", "window": 3})).await;
    members_become(&rig, &id, &["succeeded", "waiting", "waiting"]).await;
    let why = members(&rig, &id).await["d01"].1.clone();
    let since = "offline since 2024-01-15T10:30:00Z";
    assert_eq!(why, format!("{since}; waited for until 2024-01-16T10:30:00Z"));
    rig.clock.advance(Duration::from_secs(3_600));
    lives(Agent::dial(&rig, "d01", 2, None).await, Outcome::Succeeded, &done);
    members_become(&rig, &id, &["succeeded", "succeeded", "waiting"]).await;
    rig.clock.advance(Duration::from_secs(23 * 3_600));
    let over = becomes(&rig, &id, "done").await;
    assert_eq!(over["counts"], json!({"succeeded": 2, "expired": 1}));
    let why = members(&rig, &id).await["d02"].1.clone();
    assert_eq!(why, "it did not come before 2024-01-16T10:30:00Z");

    for (way, state) in [("skip", "skipped"), ("fail", "failed")] {
        let wish = json!({"command": "restart", "offline": way, "window": 3, "max_fail": 3});
        let id = begun(&rig, wish).await;
        becomes(&rig, &id, "done").await;
        assert_eq!(states(&rig, &id).await, ["succeeded", "succeeded", state]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_first_goes_alone_and_who_does_not_answer_frees_its_place() {
    let rig = Rig::start().await;
    let mut agents = Vec::new();
    for number in 0..4 {
        agents.push(rig.enrolled(&name(number), number + 1).await);
    }
    let wish = json!({"command": "logs", "canary": 2, "window": 4, "max_fail": 2,
        "timeout": "10s"});
    let id = begun(&rig, wish).await;
    let first = ordered(&mut agents[0]).await;
    let second = ordered(&mut agents[1]).await;
    assert_eq!(first.timeout_millis, 10_000);
    ends(&mut agents[0], first.id, done(Outcome::Succeeded, "", b"")).await;
    members_become(&rig, &id, &["succeeded", "running", "waiting", "waiting"]).await;
    rig.clock.advance(Duration::from_secs(39));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(states(&rig, &id).await[1], "running", "it may still answer");
    rig.clock.advance(Duration::from_secs(1));
    // Of those who go first one is enough.
    becomes(&rig, &id, "paused").await;
    assert_eq!(text(&batch(&rig, &id).await, "why"), "1 device failed, and it pauses at 1");
    assert_eq!(members(&rig, &id).await["d01"].1, "no answer within 10 s");
    // The order is taken back; it would be done much later otherwise.
    assert_eq!(agents[1].next().await, ToAgent::CancelCommand { id: second.id });
    act(&rig, &id, "continue").await.expect(200);
    members_become(&rig, &id, &["succeeded", "unknown", "running", "running"]).await;
    for agent in &mut agents[2..] {
        let order = ordered(agent).await;
        says(agent, order.id, Progress::Running).await;
        ends(agent, order.id, done(Outcome::Succeeded, "", b"")).await;
    }
    becomes(&rig, &id, "done").await;
    // What it says after all is the truth.
    ends(&mut agents[1], second.id, done(Outcome::Succeeded, "at last", b"")).await;
    members_become(&rig, &id, &["succeeded"; 4]).await;
    assert_eq!(members(&rig, &id).await["d01"].1, "at last");
    let over = batch(&rig, &id).await;
    assert_eq!(
        (text(&over, "state"), &over["counts"]),
        ("done".to_owned(), &json!({"succeeded": 4}))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cancelled_takes_back_what_waits_and_lets_the_rest_end() {
    let rig = Rig::start().await;
    let mut at_it = rig.enrolled("d00", 1).await;
    drop(rig.enrolled("d01", 2).await);
    let _later = rig.enrolled("d02", 3).await;
    let id = begun(&rig, json!({"command": "restart", "window": 1})).await;
    let order = ordered(&mut at_it).await;
    says(&mut at_it, order.id, Progress::Running).await;
    act(&rig, &id, "pause").await.expect(200);
    act(&rig, &id, "pause").await.expect(200);
    let admin = format!("operator:{}", key_id(&rig.admin()));
    assert_eq!(text(&batch(&rig, &id).await, "why"), format!("paused by {admin}"));
    act(&rig, &id, "cancel").await.expect(200);
    members_become(&rig, &id, &["running", "cancelled", "cancelled"]).await;
    ends(&mut at_it, order.id, done(Outcome::Succeeded, "", b"")).await;
    members_become(&rig, &id, &["succeeded", "cancelled", "cancelled"]).await;
    assert_eq!(text(&batch(&rig, &id).await, "state"), "cancelled");
    act(&rig, &id, "retry").await.problem(404);
    act(&rig, &id, "pause").await.problem(409);
    let kinds: Vec<_> = told(&rig).await.0.into_iter().map(|[kind, _]| kind).collect();
    assert_eq!(kinds, ["batch.begun", "batch.paused", "batch.cancelled"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_makes_way_for_a_newer_one_is_called_off() {
    let rig = Rig::start().await;
    let agent = rig.enrolled("d00", 1).await;
    let id = begun(&rig, json!({"command": "restart"})).await;
    members_become(&rig, &id, &["running"]).await;
    drop(agent);
    are_away(&rig, 1).await;
    // It has its order already, so somebody else's is another one, and both are open.
    let wish = json!({"device_id": "d00", "command": "restart"});
    let other = rig.ask("POST", "/api/v1/commands", Some(wish)).await.expect(201);
    let path = format!("/api/v1/commands/{}/cancel", text(&other, "id"));
    rig.ask("POST", &path, None).await.expect(200);
    let members = rig.ask("GET", &format!("{BATCHES}/{id}/devices"), None).await.expect(200);
    let command = text(&members[0], "command_id");
    let mut agent = Agent::dial(&rig, "d00", 1, None).await;
    let order = ordered(&mut agent).await;
    assert_eq!(crate::commands_kit::id_of(&order), command);
    ends(&mut agent, order.id, done(Outcome::Expired, "too late", b"")).await;
    becomes(&rig, &id, "done").await;
    assert_eq!(states(&rig, &id).await, ["expired"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_are_changed_and_devices_say_so() {
    let rig = Rig::start().await;
    let done = Deeds::default();
    fleet(&rig, 3, &[2], &done).await;
    let config = "/api/v1/config?device_id=d01";
    let wish = json!({"config": {"telemetry": {"metrics": ["cpu_usage"]}}});
    rig.ask("POST", config, Some(wish)).await.expect(200);
    let wish = json!({"config": {"telemetry_interval": 30}, "window": 3, "max_fail": 3});
    let id = begun(&rig, wish.clone()).await;
    let over = becomes(&rig, &id, "done").await;
    assert_eq!(over["config"], json!({"telemetry": {"interval": 30}}));
    let found = members(&rig, &id).await;
    let state = |name: &str| (found[name].0.as_str(), found[name].1.as_str());
    assert_eq!(state("d00"), ("succeeded", "the device has version 1"));
    assert_eq!(state("d01"), ("succeeded", "the device has version 2"));
    assert_eq!(state("d02"), ("failed", "version 1: no"));
    let kept = rig.ask("GET", config, None).await.expect(200);
    let document = r#"{"telemetry":{"interval":30,"metrics":["cpu_usage"]}}"#;
    assert_eq!(text(&kept, "config"), document, "what it does not name is left");
    assert_eq!(kept["comment"], format!("batch {id}"));

    // What says so already has no new version.
    let again = begun(&rig, wish).await;
    becomes(&rig, &again, "done").await;
    assert_eq!(states(&rig, &again).await, ["succeeded", "succeeded", "failed"]);
    assert_eq!(rig.ask("GET", config, None).await.expect(200)["version"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_late_has_its_configuration_noted_all_the_same() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("d00", 1).await;
    let id = begun(&rig, json!({"config": {"telemetry_interval": 30}})).await;
    let ToAgent::Config(push) = agent.next().await else { panic!("a configuration") };
    rig.clock.advance(Duration::from_secs(90));
    becomes(&rig, &id, "done").await;
    assert_eq!(states(&rig, &id).await, ["unknown"]);
    let word = ConfigReported { version: push.version, at_millis: 0, error: None };
    agent.say(&ToServer::ConfigReported(word)).await;
    members_become(&rig, &id, &["succeeded"]).await;
}
