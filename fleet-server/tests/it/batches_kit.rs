//! What the tests of batches share: asking for them, and devices that do what they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fleet_core::net::shutdown::Tasks;
use fleet_core::wire::{CommandNews, ConfigReported, Outcome, ToAgent, ToServer};
use serde_json::{Value, json};

use crate::commands_kit::{done, text};
use crate::server_kit::{Agent, Answer, Rig, wait_for};

pub(crate) const BATCHES: &str = "/api/v1/batches";

pub(crate) async fn post(rig: &Rig, wish: Value) -> Answer {
    rig.ask("POST", BATCHES, Some(wish)).await
}

/// The id of a batch of all devices that has begun.
pub(crate) async fn begun(rig: &Rig, wish: Value) -> String {
    let mut wish = wish;
    if wish.get("devices").is_none() && wish.get("filter").is_none() {
        wish["filter"] = json!("");
    }
    text(&post(rig, wish).await.expect(201), "id")
}

pub(crate) async fn batch(rig: &Rig, id: &str) -> Value {
    rig.ask("GET", &format!("{BATCHES}/{id}"), None).await.expect(200)
}

pub(crate) async fn act(rig: &Rig, id: &str, what: &str) -> Answer {
    rig.ask("POST", &format!("{BATCHES}/{id}/{what}"), None).await
}

/// State and reason of each device of a batch.
pub(crate) async fn members(rig: &Rig, id: &str) -> BTreeMap<String, (String, String)> {
    let path = format!("{BATCHES}/{id}/devices?limit=500");
    let members = rig.ask("GET", &path, None).await.expect(200);
    let members = members.as_array().unwrap().iter();
    members
        .map(|member| (text(member, "device_id"), (text(member, "state"), text(member, "why"))))
        .collect()
}

/// The states of a batch's devices, in the order of their ids.
pub(crate) async fn states(rig: &Rig, id: &str) -> Vec<String> {
    members(rig, id).await.into_values().map(|(state, _)| state).collect()
}

/// Waits until a batch is in a state.
pub(crate) async fn becomes(rig: &Rig, id: &str, wanted: &str) -> Value {
    wait_for(&format!("a batch that is {wanted}"), async || {
        text(&batch(rig, id).await, "state") == wanted
    })
    .await;
    batch(rig, id).await
}

/// Waits until the devices of a batch are in these states.
pub(crate) async fn members_become(rig: &Rig, id: &str, wanted: &[&str]) {
    wait_for(&format!("devices that are {wanted:?}"), async || states(rig, id).await == wanted)
        .await;
}

/// Waits until the server knows that so many devices are not connected.
pub(crate) async fn are_away(rig: &Rig, count: usize) {
    wait_for("devices that are gone", async || {
        let wish = json!({"filter": "", "command": "restart"});
        let path = format!("{BATCHES}/preview");
        rig.ask("POST", &path, Some(wish)).await.expect(200)["offline"] == count
    })
    .await;
}

/// Kind and actor of what is told of batches, oldest first, and the texts.
pub(crate) async fn told(rig: &Rig) -> (Vec<[String; 2]>, Vec<String>) {
    let events = rig.ask("GET", "/api/v1/events?kind=batch", None).await.expect(200);
    let events: Vec<_> = events.as_array().unwrap().iter().rev().cloned().collect();
    let heads = events.iter().map(|event| ["kind", "actor"].map(|field| text(event, field)));
    (heads.collect(), events.iter().map(|event| text(event, "text")).collect())
}

/// What devices did: who, and the order's number.
pub(crate) type Deeds = Arc<Mutex<Vec<(String, [u8; 16])>>>;

/// How often each device did something.
pub(crate) fn deeds(deeds: &Deeds) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut known = std::collections::BTreeSet::new();
    for (device, order) in deeds.lock().unwrap().iter() {
        if known.insert(*order) {
            *counts.entry(device.clone()).or_default() += 1;
        }
    }
    counts
}

/// A device that does what it is told until its link ends, so or so.
pub(crate) fn lives(mut agent: Agent, outcome: Outcome, deeds: &Deeds) {
    let deeds = deeds.clone();
    let id = agent.device_id().to_owned();
    let life = async move {
        while let Ok(frame) = agent.socket.receive_frame::<ToAgent>().await {
            let word = match frame {
                ToAgent::Command(order) => {
                    deeds.lock().unwrap().push((id.clone(), order.id));
                    let progress = done(outcome, "so it went", b"");
                    ToServer::Command(CommandNews { id: order.id, progress })
                }
                ToAgent::Config(push) => {
                    let error = (outcome != Outcome::Succeeded).then(|| "no".to_owned());
                    let version = push.version;
                    ToServer::ConfigReported(ConfigReported { version, at_millis: 0, error })
                }
                _ => continue,
            };
            if agent.socket.send(&word).await.is_err() {
                return;
            }
        }
    };
    drop(Tasks::default().spawn("device", life));
}

/// So many devices, d00 and so on, of which some fail at whatever they are told.
pub(crate) async fn fleet(rig: &Rig, count: u8, fail: &[u8], deeds: &Deeds) {
    for number in 0..count {
        let agent = rig.enrolled(&name(number), number + 1).await;
        let outcome = if fail.contains(&number) { Outcome::Failed } else { Outcome::Succeeded };
        lives(agent, outcome, deeds);
    }
}

pub(crate) fn name(number: u8) -> String {
    format!("d{number:02}")
}
