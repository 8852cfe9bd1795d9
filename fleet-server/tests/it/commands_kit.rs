//! What the tests of commands share: asking for them, and a device that answers.

use fleet_core::id::Uid;
use fleet_core::wire::{
    CommandNews, CommandOrder, CommandResult, Outcome, Progress, Standing, ToAgent, ToServer,
};
use serde_json::{Value, json};

use crate::server_kit::{Agent, Answer, Rig, wait_for};

pub(crate) const COMMANDS: &str = "/api/v1/commands";

/// Asks for a command.
pub(crate) async fn give(rig: &Rig, device: &str, command: &str) -> Answer {
    let wish = json!({"device_id": device, "command": command});
    rig.ask("POST", COMMANDS, Some(wish)).await
}

/// The id of a command that is given.
pub(crate) async fn given(rig: &Rig, device: &str, command: &str) -> String {
    text(&give(rig, device, command).await.expect(201), "id")
}

pub(crate) fn text(view: &Value, field: &str) -> String {
    view[field].as_str().unwrap_or_else(|| panic!("no {field} in {view}")).to_owned()
}

pub(crate) async fn command(rig: &Rig, id: &str) -> Value {
    rig.ask("GET", &format!("{COMMANDS}/{id}"), None).await.expect(200)
}

pub(crate) async fn cancel(rig: &Rig, id: &str) -> Answer {
    rig.ask("POST", &format!("{COMMANDS}/{id}/cancel"), None).await
}

/// State and reason of a command.
pub(crate) async fn state(rig: &Rig, id: &str) -> (String, String) {
    let view = command(rig, id).await;
    (text(&view, "state"), text(&view, "why"))
}

/// Waits until a command is in a state.
pub(crate) async fn becomes(rig: &Rig, id: &str, wanted: &str) {
    wait_for(wanted, async || state(rig, id).await.0 == wanted).await;
}

/// Kind, actor and text of what is told of commands, oldest first.
pub(crate) async fn told(rig: &Rig) -> Vec<[String; 3]> {
    let events = rig.ask("GET", "/api/v1/events?kind=command", None).await.expect(200);
    let events = events.as_array().unwrap().iter().rev();
    events.map(|event| ["kind", "actor", "text"].map(|field| text(event, field))).collect()
}

/// The order that comes next.
pub(crate) async fn ordered(agent: &mut Agent) -> CommandOrder {
    match agent.next().await {
        ToAgent::Command(order) => *order,
        other => panic!("not an order: {other:?}"),
    }
}

pub(crate) fn id_of(order: &CommandOrder) -> String {
    Uid::from_bytes(order.id).to_string()
}

pub(crate) fn bytes(id: &str) -> [u8; 16] {
    id.parse::<Uid>().unwrap().bytes()
}

pub(crate) fn uid(agent: &Agent) -> [u8; 16] {
    match &agent.standing {
        Standing::Active { uid, .. } => *uid,
        other => panic!("not active: {other:?}"),
    }
}

pub(crate) fn done(outcome: Outcome, detail: &str, output: &[u8]) -> Progress {
    Progress::Done(CommandResult {
        outcome,
        detail: detail.to_owned(),
        exit_code: None,
        output: output.to_vec(),
        left_out_bytes: 0,
    })
}

/// Says how far a command is.
pub(crate) async fn says(agent: &mut Agent, id: [u8; 16], progress: Progress) {
    agent.say(&ToServer::Command(CommandNews { id, progress })).await;
}

/// Says what became of a command, and waits until the server has noted it.
pub(crate) async fn ends(agent: &mut Agent, id: [u8; 16], progress: Progress) {
    says(agent, id, progress).await;
    assert_eq!(agent.next().await, ToAgent::CommandNoted { id });
}
