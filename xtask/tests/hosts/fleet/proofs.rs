//! Devices whose policy asks their claimer for a code or a key.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::{Agent, SOON, Said, Server, terminate};
use crate::lab::{Host, Lab, wait_for};

/// An agent with this policy, and this key if that is one.
fn agent<'a>(host: &'a Host, claim: &str, key: Option<&str>) -> Agent<'a> {
    let folder = host.path("root/etc/fleetd");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("policy.yaml"), format!("claim: {claim}\n")).expect("a policy");
    if let Some(key) = key {
        fs::write(folder.join("claim.key"), key).expect("a key");
        fs::set_permissions(folder.join("claim.key"), Permissions::from_mode(0o600)).expect("mode");
    }
    fs::create_dir_all(host.path("root/proc")).expect("a folder");
    fs::write(host.path("root/proc/uptime"), "100.00 100.00\n").expect("a file");
    let mut agent = Agent::idle(host, host.name());
    agent.sysroot = Some(host.path("root"));
    agent.start_again();
    agent
}

/// What `fleetd info` says on the device, once its agent runs.
#[track_caller]
fn info(agent: &Agent<'_>) -> Value {
    wait_for("the agent to answer", SOON, || {
        let said = Said::of(&mut agent.command(&["info", "--json"]));
        let info: Value = serde_json::from_str(&said.stdout).ok()?;
        (info["agent"] == "running").then_some(info)
    })
}

#[track_caller]
fn code(agent: &Agent<'_>) -> String {
    let code = || info(agent)["claim_code"].as_str().map(str::to_owned);
    wait_for("the device's claim code", SOON, code)
}

#[test]
fn t09_a_device_that_asks_for_its_code_is_claimed_by_who_knows_it() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, one, two] = ["desk", "one", "two"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let [one, two] = [agent(&one, "code", None), agent(&two, "code", None)];
    let [first, second] = [code(&one), code(&two)];
    assert!(one.host.log(&one.log_name()).contains(&first), "the log has it once");
    server.sees_devices(&["one", "two"]);
    let seen = server.fleets(&["discover", "--timeout", "2s"]).exits(0);
    assert_eq!(seen.stdout.matches("unclaimed (code)").count(), 2, "{seen:#?}");

    // --auto has no codes, and no terminal to ask on.
    let said = server.fleets(&["configure", "--auto", "--timeout", "3s"]).exits(3);
    assert_eq!(said.stdout.matches("it asks for its claim code").count(), 2, "{said:#?}");

    // Another device's code, as somebody types it.
    let wrong = ["configure", "--device", "one", "--code", &second];
    let said = server.fleets(&wrong).exits(3);
    assert!(said.stdout.contains("4 tries are left"), "{said:#?}");
    assert_eq!(info(&one)["claim_tries_left"], 4);

    let typed = first.to_lowercase().replace('-', "").replace('0', "o");
    server.fleets(&["configure", "--device", "one", "--code", &typed]).exits(0);
    assert_eq!(info(&one)["claim_code"], Value::Null, "it is used up");
    let codes = desk.path("codes.csv");
    fs::write(&codes, format!("device_id,code\ntwo,{second}\nother,{first}\n")).expect("a file");
    let codes = codes.to_str().expect("a plain path");
    server.fleets(&["configure", "--auto", "--codes", codes, "--timeout", "3s"]).exits(0);
    server.shows_online(&["one", "two"]);

    // A reset makes another code, and the server can be asked to use it.
    Said::of(&mut one.command(&["reset"])).exits(0);
    let third = code(&one);
    assert_ne!(third, first);
    server.fleets(&["devices", "delete", "one", "--yes"]).exits(0);
    let discover = |body: String| {
        let key = fs::read_to_string(server.key_file()).expect("the admin key");
        let key = format!("Authorization: Bearer {}", key.trim());
        let url = format!("{}/api/v1/discover", server.url());
        let json = "Content-Type: application/json";
        let args = ["-s", "-m60", "-H", &key, "-H", json, "-d", &body, &url];
        Said::of(desk.command("curl").args(args)).exits(0).json::<Value>()
    };
    let bare = discover(r#"{"device_id":"one"}"#.to_owned());
    assert_eq!(bare["status"], "refused", "{bare}");
    let done = discover(format!(r#"{{"device_id":"one","code":"{third}"}}"#));
    assert_eq!(done["status"], "configured", "{done}");
}

#[test]
fn t09_five_wrong_codes_end_claims_for_a_while_and_a_restart_is_no_way_out() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agent = agent(&cam, "code", None);
    let right = code(&agent);
    server.sees_devices(&["cam"]);
    for _ in 0..5 {
        let wrong = ["configure", "--device", "cam", "--code", "00000-00000-00000-00000"];
        server.fleets(&wrong).exits(3);
    }
    let configure = || server.fleets(&["configure", "--device", "cam", "--code", &right]);
    let asleep = "after 5 wrong proofs this device takes no claims";
    assert!(configure().exits(3).stdout.contains(asleep));
    assert!(cam.log(&agent.log_name()).contains("too many wrong proofs"));

    terminate(&cam, agent.pid.get());
    agent.start_again();
    let left =
        wait_for("the agent to answer", SOON, || info(&agent)["claim_seconds_asleep"].as_u64());
    assert!((1..=600).contains(&left), "{left}");
    server.sees_devices(&["cam"]);
    assert!(configure().exits(3).stdout.contains(asleep));

    // Eleven minutes later, by the device's clock.
    terminate(&cam, agent.pid.get());
    let mut later = agent;
    let words = ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", "+11m"];
    later.wrapper = words.map(str::to_owned).into();
    later.wrapper.push(super::program("fleetd"));
    later.start_again();
    server.sees_devices(&["cam"]);
    configure().exits(0);
    server.shows_online(&["cam"]);
}

#[test]
fn a_claim_key_lets_its_owner_claim_all_devices_that_have_it() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, one, two] = ["desk", "one", "two"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let key = "ab".repeat(32);
    let [_one, _two] = [agent(&one, "key", Some(&key)), agent(&two, "key", Some(&key))];
    server.sees_devices(&["one", "two"]);
    let file = |name: &str, text: &str| {
        let path = desk.path(name);
        fs::write(&path, text).expect("a key file");
        path.to_str().expect("a plain path").to_owned()
    };
    let (right, wrong) = (file("right.key", &key), file("wrong.key", &"cd".repeat(32)));
    let configure =
        |key: &[&str]| server.fleets(&[&["configure", "--auto", "--timeout", "3s"], key].concat());
    assert!(configure(&[]).exits(3).stdout.contains("claim key of its owner"));
    assert!(configure(&["--claim-key-file", &wrong]).exits(3).stdout.contains("4 tries are left"));
    configure(&["--claim-key-file", &right]).exits(0);
    server.shows_online(&["one", "two"]);
}
