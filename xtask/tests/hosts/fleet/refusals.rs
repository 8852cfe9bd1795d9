//! Mistakes of people: each is answered by one clear sentence and the right exit code, and never
//! by a panic.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use fleet_core::secret::{ApiKey, KeyKind};

use super::{Agent, Said, Server, ours};
use crate::lab::{Host, Lab};

const USAGE: i32 = 2;
const NOT_ALLOWED: i32 = 4;
const NOTHING_FOUND: i32 = 5;
const UNREACHABLE: i32 = 7;
const CONFIGURATION: i32 = 78;

/// Runs a command to its refusal.
#[track_caller]
fn refused(mut command: Command, code: i32, words: &[&str]) {
    let said = Said::of(&mut command).exits(code).explains(words);
    assert!(!said.stderr.contains("panicked"), "{said:#?}");
    assert!(said.stdout.is_empty(), "a failure has no result: {said:#?}");
}

/// A command that would run for long if it were not refused.
fn bounded(host: &Host, name: &str, args: &[&str]) -> Command {
    let direct = ours(host, name);
    let mut command = host.command("timeout");
    command.arg("30").arg(super::program(name)).args(args);
    for (variable, value) in direct.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command
}

fn file(host: &Host, name: &str, text: &str) -> String {
    let path = host.path(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain path").to_owned()
}

#[test]
fn flags_and_files_that_are_wrong() {
    let mut lab = Lab::new();
    let host = lab.host("alone", &[]);
    let database = host.path("data/fleet.db").to_str().expect("a plain path").to_owned();
    let data = host.path("agent").to_str().expect("a plain path").to_owned();
    let missing = host.path("none.yaml").to_str().expect("a plain path").to_owned();
    let server_yaml = file(&host, "server.yaml", "bind: 127.0.0.1\nprot: 8080\n");
    let agent_yaml = file(&host, "agent-bad.yaml", "telemetry:\n  intervall: 60s\n");
    let folder = host.path("folder.yaml").to_str().expect("a plain path").to_owned();
    fs::create_dir(&folder).expect("a folder where a file should be");
    let postgres = "postgres://user:hunter2@db/fleetd";
    for (program, args, code, words) in [
        ("fleets", vec!["server", "--prot", "1"], USAGE, vec!["--prot", "--port"]),
        ("fleetd", vec!["agent", "--datadir", "/"], USAGE, vec!["--datadir", "--data-dir"]),
        (
            "fleets",
            vec!["server", "--database", &database, "--config", &missing],
            CONFIGURATION,
            vec!["none.yaml"],
        ),
        (
            "fleets",
            vec!["server", "--database", &database, "--config", &server_yaml],
            CONFIGURATION,
            vec!["server.yaml", "prot", "port", "2"],
        ),
        (
            "fleetd",
            vec!["agent", "--data-dir", &data, "--config", &folder],
            CONFIGURATION,
            vec![&folder],
        ),
        (
            "fleets",
            vec!["server", "--database", &database, "--config", &folder],
            CONFIGURATION,
            vec![&folder],
        ),
        ("fleets", vec!["server", "--database", postgres], CONFIGURATION, vec!["PostgreSQL"]),
        (
            "fleetd",
            vec!["agent", "--data-dir", &data, "--config", &missing],
            CONFIGURATION,
            vec!["none.yaml"],
        ),
        (
            "fleetd",
            vec!["agent", "--data-dir", &data, "--config", &agent_yaml],
            CONFIGURATION,
            vec!["agent-bad.yaml", "intervall", "interval", "2"],
        ),
    ] {
        refused(bounded(&host, program, &args), code, &words);
    }
}

#[test]
fn what_is_taken_or_broken() {
    let mut lab = Lab::new();
    let host = lab.host("desk", &[]);
    let _server = Server::start(&host);
    let other = host.path("other/fleet.db").to_str().expect("a plain path").to_owned();
    let own = host.path("server/fleet.db").to_str().expect("a plain path").to_owned();
    fs::create_dir_all(host.path("broken")).expect("a folder");
    let broken = file(&host, "broken/fleet.db", &"no database ".repeat(1000));

    let taken = ["server", "--database", &other];
    refused(bounded(&host, "fleets", &taken), 1, &["8080"]);
    let in_use = ["server", "--port", "0", "--database", &own];
    refused(bounded(&host, "fleets", &in_use), 1, &["fleet.db"]);
    let corrupt = ["server", "--port", "0", "--database", &broken];
    refused(bounded(&host, "fleets", &corrupt), 1, &["fleet.db"]);

    let agent = Agent::start(&host);
    super::wait_for("the agent to answer", super::SOON, || {
        let said = Said::of(&mut agent.command(&["status"]));
        (said.code == Some(5)).then_some(())
    });
    let mut second = bounded(&host, "fleetd", &["agent", "--port", "0"]);
    agent.complete(&mut second);
    refused(second, 1, &[]);
}

#[test]
fn keys_and_servers_that_do_not_fit() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, elsewhere] = ["desk", "elsewhere"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let other = Server::start(&elsewhere);
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let key: ApiKey = key.trim().parse().expect("a key");
    let identity = key.server().expect("a key that names its server");
    let wrong = ApiKey::generate(KeyKind::Operator, identity).expect("random numbers");
    let wrong = file(&desk, "wrong.key", wrong.reveal().as_str());

    let with_key = |path: &str| {
        let mut command = server.command(&["devices"]);
        command.env("FLEETD_API_KEY_FILE", path);
        command
    };
    refused(with_key(&wrong), NOT_ALLOWED, &[]);
    let foreign = other.key_file();
    let foreign = foreign.to_str().expect("a plain path");
    let said = Said::of(&mut with_key(foreign));
    assert!(matches!(said.code, Some(NOT_ALLOWED | UNREACHABLE)), "{said:#?}");
    assert!(said.stderr.contains(&identity.to_string()), "both servers are named: {said:#?}");
    refused(with_key(&file(&desk, "no.key", "hello")), NOT_ALLOWED, &["no.key"]);

    server.kill();
    refused(server.command(&["devices"]), UNREACHABLE, &["8080"]);
    refused(server.command(&["configure", "--auto"]), UNREACHABLE, &["8080"]);
}

#[test]
fn nobody_there() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let server = Server::start(&desk);
    let look = ["discover", "--timeout", "2s"];
    refused(server.command(&look), NOTHING_FOUND, &["no device"]);
    let said = server.fleets(&[&look[..], &["--json"]].concat()).exits(NOTHING_FOUND);
    assert_eq!(said.stdout.trim(), "[]");
    let said = server.fleets(&["configure", "--auto", "--timeout", "2s"]).exits(NOTHING_FOUND);
    said.explains(&["no device"]);
}

#[test]
fn a_server_of_this_host_is_reached_by_its_name_for_itself() {
    let mut lab = Lab::new();
    let host = lab.host("desk", &[]);
    let server = Server::start(&host);
    assert_eq!(host.address(), Ipv4Addr::LOCALHOST);
    let mut command = server.command(&["devices", "-o", "json"]);
    command.env_remove("FLEETD_SERVER");
    Said::of(&mut command).exits(0);
}
