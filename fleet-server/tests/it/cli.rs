//! `fleets` as an operator uses it, against a server with devices.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cli_kit::Desk;

const USAGE: i32 = 2;
const NOT_ALLOWED: i32 = 4;
const NOTHING_FOUND: i32 = 5;
const UNREACHABLE: i32 = 7;
const CONFIGURATION: i32 = 78;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn lists_are_filtered_sorted_and_cut_to_columns() {
    let mut desk = Desk::new().await;
    for (id, cpu, tags) in
        [("pump-1", 20.0, "eu-west canary"), ("pump-2", 95.0, "eu-west"), ("door", 50.0, "us")]
    {
        desk.add(id, cpu, tags).await;
    }
    let list = |args: &[&str]| desk.fleets(&[&["devices", "list"], args].concat());

    let said = list(&["--filter", "tag:eu-west", "--sort", "-cpu", "-o", "name"]).ends(0);
    assert_eq!(said.out, "pump-2\npump-1\n");
    let columns = ["--columns", "device,cpu,tag", "--sort", "cpu"];
    let said = list(&[&columns[..], &["-o", "csv", "--limit", "2"]].concat()).ends(0);
    assert_eq!(said.out, "device,cpu,tag\npump-1,20,eu-west canary\ndoor,50,us\n");
    let said = list(&[&columns[..], &["--no-headers"]].concat()).ends(0);
    let expected = "pump-1  20 %  eu-west canary\ndoor    50 %  us\npump-2  95 %  eu-west\n";
    assert_eq!(said.out, expected);
    let found: Value = serde_json::from_str(&list(&["--filter", "cpu>90", "--json"]).out).unwrap();
    assert_eq!(found[0]["id"], "pump-2");
    assert_eq!(found.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_filter_that_is_none_or_finds_nothing_is_told() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    let list = |filter: &str| desk.fleets(&["devices", "--filter", filter]);
    list("status=of").refuses(USAGE, &["error: --filter: ", "\n  status=of\n", "\n         ^^\n"]);
    // Nobody has to be asked for that.
    let far = ["devices", "--filter", "cpu>", "--server", "http://127.0.0.1:9"];
    desk.bare(&far).refuses(USAGE, &["\n  cpu>\n"]);
    list("tag:eu-wset").refuses(NOTHING_FOUND, &["no device matches", "did you mean tag:eu-west?"]);
    list("cpu>90").refuses(NOTHING_FOUND, &["no device matches cpu>90"]);
    list("tgas~eu").refuses(NOTHING_FOUND, &[": none has tgas", "did you mean tag~eu?"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn events_tell_what_was_done() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    let list = |args: &[&str]| desk.fleets(&[&["events"], args].concat());
    let said = list(&["--device", "pump-1", "--kind", "device", "--since", "2024-01-15T10:00:00Z"])
        .ends(0);
    assert!(said.out.contains("device.updated") && said.out.contains("pump-1"), "{said:#?}");
    let events: Value =
        serde_json::from_str(&list(&["--limit", "1", "--json"]).ends(0).out).unwrap();
    assert_eq!(events.as_array().unwrap().len(), 1);
    assert_eq!(events[0]["kind"], "device.updated");
    list(&["--kind", "device.lost"]).refuses(NOTHING_FOUND, &["no such events"]);
    list(&["--kind", "device.gone"]).refuses(USAGE, &["device.offline"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn contexts_say_which_server_and_key() {
    let desk = Desk::new().await;
    let key = desk.key_file();
    let context = |args: &[&str]| desk.bare(&[&["context"], args].concat());
    assert_eq!(context(&["list", "--json"]).ends(0).out, "[]\n");
    let new = ["set", "prod", "--server", &desk.url, "--api-key-file", &key, "--colour", "red"];
    context(&new).ends(0);
    context(&["set", "far", "--server", "http://127.0.0.1:9", "--api-key-file", &key]).ends(0);
    context(&["test", "prod"]).ends(0);
    context(&["test", "far"]).refuses(UNREACHABLE, &["127.0.0.1:9"]);

    // Nobody has chosen yet, and there is no server with the usual address and key.
    assert_ne!(desk.bare(&["devices"]).code, Some(0));
    context(&["use", "prod"]).ends(0);
    desk.bare(&["devices"]).ends(0);
    desk.bare(&["devices", "--context", "far"]).refuses(UNREACHABLE, &["127.0.0.1:9"]);
    // The key is that of another server, so it is not used.
    let other = ["devices", "--server", "http://127.0.0.1:9"];
    desk.bare(&other).refuses(NOT_ALLOWED, &["no key to the server"]);
    desk.bare(&["devices", "--context", "prd"]).refuses(USAGE, &["did you mean prod?"]);

    let said = context(&["show", "--origin", "--json"]).ends(0);
    let settings: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let file = desk.path("home/.config/fleetd/contexts.toml");
    let origin = |name: &str| {
        let found = settings.iter().find(|setting| setting["name"] == name).unwrap();
        (found["value"].clone(), found["origin"].clone())
    };
    assert_eq!(origin("context"), (json!("prod"), json!(file)));
    assert_eq!(origin("server"), (json!(desk.url), json!("context prod")));
    assert_eq!(origin("key").1, json!(key));
    let secret = std::fs::read_to_string(&key).unwrap();
    assert!(!said.out.contains(&secret[20..40]), "a secret is shown: {said:#?}");

    context(&["remove", "prod"]).ends(0);
    assert_ne!(desk.bare(&["devices"]).code, Some(0));
    std::fs::write(&file, "[contexts.prod]\nsrver = \"http://x\"\n").unwrap();
    let place = format!("{}, line 2, column 1", file.display());
    desk.bare(&["devices"]).refuses(CONFIGURATION, &[&place, "did you mean server?"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_context_that_is_read_only_changes_nothing() {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west").await;
    let new = ["context", "set", "look", "--server", &desk.url, "--read-only", "true"];
    desk.bare(&[&new[..], &["--api-key-file", &desk.key_file()]].concat()).ends(0);
    let look = |args: &[&str]| desk.bare(&[args, &["--context", "look"]].concat());
    look(&["devices", "delete", "pump-1", "--yes"]).refuses(NOT_ALLOWED, &["read only"]);
    look(&["configure", "--auto"]).refuses(NOT_ALLOWED, &["read only"]);
    assert!(look(&["devices", "-o", "name"]).ends(0).out.contains("pump-1"));
    desk.bare(&["context", "set", "look", "--read-only", "false"]).ends(0);
    look(&["devices", "delete", "pump-1", "--yes"]).ends(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_home_is_not_needed() {
    let desk = Desk::new().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleets"));
    command.env_clear().env("FLEETD_SERVER", &desk.url).env("FLEETD_API_KEY_FILE", desk.key_file());
    let status = command.arg("devices").stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!desk.path("home").exists());
}
