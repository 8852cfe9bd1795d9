//! `fleets command` as an operator uses it, with a device that answers.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fleet_core::wire::{Outcome, Progress, ToAgent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cli_kit::{Desk, Said};
use crate::commands_kit::{COMMANDS, bytes, done, ends, id_of, ordered, says, state};
use crate::server_kit::{Agent, wait_for};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_DONE: i32 = 3;
const NOTHING_FOUND: i32 = 5;
const CONFLICT: i32 = 6;
const TIMED_OUT: i32 = 124;
const INTERRUPTED: i32 = 130;

fn piped(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a call said in the end, while the server goes on.
async fn said(child: Child) -> Said {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    Said::of(&output.await.unwrap())
}

/// `fleets command run`, begun; words of the device's own program may follow.
fn begin(desk: &Desk, args: &[&str]) -> Child {
    let key = format!("@{}", desk.key_file());
    let server = ["command", "run", "--server", &desk.url, "--api-key", &key];
    piped(desk.bare_command(&[&server[..], args].concat()))
}

/// The id of the one command that there is.
async fn only_id(desk: &Desk) -> String {
    let listed = said(piped(desk.command(&["command", "list", "-o", "name"]))).await.ends(0);
    listed.out.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_run_and_its_output_and_end_are_told() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    let mut agent = desk.agents.pop().unwrap();
    for (outcome, code, mark) in
        [(Outcome::Succeeded, 0, "✅ pump-1"), (Outcome::Failed, FAILED, "✗ pump-1")]
    {
        let child = begin(&desk, &["-y", "pump-1", "exec", "--", "ls", "-l", "--yes", "a b"]);
        let order = ordered(&mut agent).await;
        assert_eq!(order.args, ["ls", "-l", "--yes", "a b"]);
        assert_eq!(order.expires_in_millis / 1_000, 600);
        says(&mut agent, order.id, Progress::Accepted).await;
        says(&mut agent, order.id, Progress::Running).await;
        ends(&mut agent, order.id, done(outcome, "so it went", b"a\tline\n\x1b[2J")).await;
        let said = said(child).await.ends(code);
        assert_eq!(said.out, "a\tline\n\u{1b}[2J", "a program reads it as it is");
        let word = if code == 0 { "succeeded" } else { "failed" };
        let told = format!("{mark}: exec ls -l --yes \"a b\" {word}: so it went\n");
        assert!(said.err.ends_with(&told), "{said:#?}");
    }
    let listed = desk.fleets(&["command", "list", "--device", "pump-1", "--json"]).ends(0);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let id = listed[0]["id"].as_str().unwrap();
    let shown = desk.fleets(&["command", "show", id]).ends(0);
    assert!(shown.out.contains("failed") && shown.out.contains("a\tline"), "{shown:#?}");
    let shown: Value =
        serde_json::from_str(&desk.fleets(&["command", "show", id, "--json"]).ends(0).out).unwrap();
    assert_eq!(shown["output"], "a\tline\n\u{1b}[2J");
    let found = desk.fleets(&["command", "list", "--state", "succeeded", "-o", "name"]).ends(0);
    assert_eq!(found.out.trim(), listed[1]["id"].as_str().unwrap());
    desk.fleets(&["command", "list", "--state", "open"]).refuses(NOTHING_FOUND, &["no such"]);
    desk.fleets(&["command", "cancel", id]).refuses(CONFLICT, &["the command is over: failed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_interrupts_a_device_needs_a_yes() {
    let desk = Desk::new().await;
    drop(desk.rig.enrolled("pump-1", 1).await);
    let run = |args: &[&str]| desk.fleets(&[&["command", "run", "pump-1"], args].concat());
    for words in [&["reboot"][..], &["restart", "nginx"], &["exec", "true"]] {
        run(words).refuses(USAGE, &["no terminal to ask", "hint: give --yes"]);
    }
    run(&["restrat"]).refuses(USAGE, &["did you mean restart?"]);
    assert_eq!(desk.fleets(&["command", "list"]).code, Some(NOTHING_FOUND), "nothing was sent");
    let id = run(&["reboot", "--yes", "--no-wait", "-o", "name"]).ends(0).out;
    assert_eq!(state(&desk.rig, id.trim()).await.0, "queued");
    let said = run(&["collect", "--no-wait"]).ends(0);
    assert!(said.out.starts_with("⏳ pump-1: collect is given as "), "{said:#?}");
    let gone = ["command", "run", "nobody", "collect"];
    desk.fleets(&gone).refuses(NOTHING_FOUND, &["there is no device nobody"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_waiting_knows_how_to_find_it_again() {
    let desk = Desk::new().await;
    drop(desk.rig.enrolled("pump-1", 1).await);
    let run = ["command", "run", "pump-1", "restart", "--wait", "3s"];
    let late = desk.fleets(&run).ends(TIMED_OUT);
    let id = only_id(&desk).await;
    for words in [
        "pump-1 is not connected; this waits for it until 2024-01-15T10:40:00Z",
        "error: pump-1: restart is not over yet: queued: waits for the device",
        &format!("hint: the command goes on: `fleets command show {id}`"),
    ] {
        assert!(late.err.contains(words), "{words}: {late:#?}");
    }
    assert_eq!(late.out, "");
    let cancelled = desk.fleets(&["command", "cancel", &id]).ends(0);
    assert_eq!(cancelled.out, format!("cancelled {id}: restart on pump-1\n"));
    desk.fleets(&["command", "cancel", &id]).ends(0);

    let child = begin(&desk, &["pump-1", "collect"]);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    wait_for("the command", async || {
        let open = ["command", "list", "--state", "queued"];
        said(piped(desk.command(&open))).await.code == Some(0)
    })
    .await;
    // It has heard that the command is there.
    tokio::time::sleep(Duration::from_millis(500)).await;
    kill(pid, Signal::SIGINT).unwrap();
    let said = said(child).await.ends(INTERRUPTED);
    assert!(said.err.contains("error: interrupted\nhint: the command goes on: "), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_id_names_a_command() {
    let desk = Desk::new().await;
    drop(desk.rig.enrolled("pump-1", 1).await);
    let ids = [
        "018d0a6e-5b2c-7c3d-8e4f-0123456789ab",
        "018d0a6e-5b2c-7c3d-8e4f-abcd456789ab",
        "018d0a6e-5b2c-7c3d-8e4f-0123456789cd",
    ];
    for id in ids {
        let wish = json!({"id": id, "device_id": "pump-1", "command": "logs"});
        desk.rig.ask("POST", COMMANDS, Some(wish)).await.expect(201);
    }
    let shown = desk.fleets(&["command", "show", "456789CD", "-o", "name"]).ends(0);
    assert_eq!(shown.out.trim(), ids[2]);
    let cancelled = desk.fleets(&["command", "cancel", "abcd456789ab", "-o", "name"]).ends(0);
    assert_eq!(cancelled.out.trim(), ids[1]);
    for action in ["show", "cancel"] {
        let both = &[ids[0], ids[1], "is the end of several command ids"];
        desk.fleets(&["command", action, "456789ab"]).refuses(USAGE, both);
        let none = &["no command's id ends in ffffff"];
        desk.fleets(&["command", action, "ffffff"]).refuses(NOTHING_FOUND, none);
        let short = &["not an id, nor the last 6 or more characters of one"];
        desk.fleets(&["command", action, "999"]).refuses(USAGE, short);
    }
    // A program sees all of it, and the columns that it asks for.
    let listed = desk.fleets(&["command", "list", "--columns", "id,state"]).ends(0);
    assert_eq!(listed.out.lines().next().unwrap().split_whitespace().last(), Some("STATE"));
    assert!(ids.iter().all(|id| listed.out.contains(id)), "{listed:#?}");
    let unknown = ["command", "list", "--columns", "id,sate"];
    desk.fleets(&unknown).refuses(USAGE, &["must be one of state, device_id, command, id"]);
}

/// A command that is on its way, and somebody who takes it back.
async fn begun(desk: &Desk, agent: &mut Agent, give: &[&str]) -> (String, Child) {
    let id = said(piped(desk.command(give))).await.ends(0).out.trim().to_owned();
    assert_eq!(id_of(&ordered(agent).await), id);
    let cancel = piped(desk.command(&["command", "cancel", &id, "--wait", "2s"]));
    assert_eq!(agent.next().await, ToAgent::CancelCommand { id: bytes(&id) });
    (id, cancel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_back_waits_for_the_device() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    let mut agent = desk.agents.pop().unwrap();
    let give = ["command", "run", "pump-1", "collect", "--no-wait", "-o", "name"];
    let (id, cancel) = begun(&desk, &mut agent, &give).await;
    ends(&mut agent, bytes(&id), done(Outcome::Cancelled, "", b"")).await;
    let told = said(cancel).await.ends(0);
    assert_eq!(told.out, format!("cancelled {id}: collect on pump-1\n"));
    let (id, cancel) = begun(&desk, &mut agent, &give).await;
    says(&mut agent, bytes(&id), Progress::Running).await;
    said(cancel).await.refuses(CONFLICT, &["it is too late: running: the device is at it"]);
    ends(&mut agent, bytes(&id), done(Outcome::Succeeded, "", b"")).await;
    let (_, cancel) = begun(&desk, &mut agent, &give).await;
    let told = said(cancel).await.ends(NOT_DONE);
    assert!(told.out.contains("pump-1 has not answered yet"), "{told:#?}");
}
