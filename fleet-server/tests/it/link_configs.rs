//! Configurations that a device tries: what is shown meanwhile, and what waits for the end of it.

use fleet_core::wire::{ConfigReported, ConfigTrial, ToAgent, ToServer, TrialState};
use serde_json::{Value, json};

use crate::batches_kit::{batch, becomes, begun, members};
use crate::commands_kit::text;
use crate::server_kit::{Agent, Rig, wait_for};

const CONFIG: &str = "/api/v1/config?device_id=a";

fn trial(version: u64, state: TrialState) -> ToServer {
    ToServer::ConfigTrial(ConfigTrial { version, at_millis: 0, state })
}

fn reverted(version: u64, holds: u64) -> ToServer {
    trial(version, TrialState::Reverted { holds, why: "no report reached the server".to_owned() })
}

fn applied(version: u64) -> ToServer {
    ToServer::ConfigReported(ConfigReported { version, at_millis: 0, error: None })
}

async fn shown(rig: &Rig) -> Value {
    rig.ask("GET", CONFIG, None).await.expect(200)
}

async fn device(rig: &Rig) -> Value {
    rig.ask("GET", "/api/v1/devices/a", None).await.expect(200)
}

async fn set(rig: &Rig, secs: u32) -> Value {
    let wish = json!({"config": {"telemetry": {"interval": secs}}});
    rig.ask("POST", CONFIG, Some(wish)).await.expect(200)
}

async fn stands(rig: &Rig, state: &str) {
    wait_for(&format!("a device that is {state}"), async || shown(rig).await["state"] == state)
        .await;
    assert_eq!(device(rig).await["config_state"], state);
}

async fn pushed(agent: &mut Agent) -> u64 {
    let ToAgent::Config(push) = agent.next().await else { panic!("a configuration") };
    push.version
}

#[tokio::test]
async fn a_device_is_shown_as_it_goes_through_a_trial() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    stands(&rig, "none").await;
    set(&rig, 60).await;
    assert_eq!(pushed(&mut agent).await, 1);
    stands(&rig, "sent").await;
    agent.say(&trial(1, TrialState::Trying)).await;
    stands(&rig, "trying").await;
    assert_eq!(device(&rig).await.get("config_drift"), None);
    agent.say(&applied(1)).await;
    stands(&rig, "applied").await;
    assert_eq!(shown(&rig).await.get("drift"), None);

    set(&rig, 10).await;
    assert_eq!(pushed(&mut agent).await, 2);
    agent.say(&trial(2, TrialState::Trying)).await;
    stands(&rig, "trying").await;
    agent.say(&reverted(2, 1)).await;
    stands(&rig, "reverted").await;
    let now = shown(&rig).await;
    assert_eq!(now["reported"]["holds"], 1);
    assert_eq!(now["reported"]["error"], "no report reached the server");
    assert_eq!(now["drift"], json!([{"path": "telemetry.interval", "before": 60, "after": 10}]));
    assert_eq!(device(&rig).await["config_drift"], true);
    // What it says whenever it connects is no news, and it is not sent the same again.
    drop(agent);
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    agent.say(&reverted(2, 1)).await;
    agent.report(1, &[1], 1.0).await;
    let events = rig.ask("GET", "/api/v1/events?kind=config", None).await.expect(200);
    let events: Vec<_> = events.as_array().unwrap().iter().rev().collect();
    let kinds: Vec<_> = events.iter().map(|event| text(event, "kind")).collect();
    assert_eq!(kinds, ["config.set", "config.applied", "config.set", "config.reverted"]);
    let told = "version 2, back to version 1: no report reached the server";
    assert_eq!(text(events[3], "text"), told);

    // Who wants the same once more wants it tried anew.
    assert_eq!(set(&rig, 10).await["version"], 3);
    assert_eq!(pushed(&mut agent).await, 3);
    agent.say(&applied(3)).await;
    stands(&rig, "applied").await;
    // It says by itself that it goes by another interval than it shall.
    assert_eq!(device(&rig).await["config_drift"], true);
    let drift = shown(&rig).await["drift"].clone();
    assert_eq!(drift, json!([{"path": "telemetry.interval", "before": 60, "after": 10}]));

    drop(agent);
    set(&rig, 60).await;
    stands(&rig, "waiting").await;
    let found = rig.ask("GET", "/api/v1/devices?filter=config%3Dwaiting", None).await.expect(200);
    assert_eq!(found.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_waits_for_the_end_of_a_trial() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    for (version, word, state) in [(1, applied(1), "succeeded"), (2, reverted(2, 1), "failed")] {
        let wish = json!({"config": {"telemetry": {"interval": 10 + version}}, "max_fail": 5});
        let id = begun(&rig, wish).await;
        assert_eq!(pushed(&mut agent).await, version);
        agent.say(&trial(version, TrialState::Trying)).await;
        stands(&rig, "trying").await;
        // What comes behind it was worked through after it.
        agent.report(1, &[version], 1.0).await;
        assert_eq!(batch(&rig, &id).await["counts"], json!({"running": 1}));
        agent.say(&word).await;
        becomes(&rig, &id, "done").await;
        assert_eq!(members(&rig, &id).await["a"].0, state);
        if state == "failed" {
            let why = "version 2: tried and left: no report reached the server";
            assert_eq!(members(&rig, &id).await["a"].1, why);
        }
    }
}
