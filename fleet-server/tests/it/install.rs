//! Links by which agents are installed: what an operator is given, what a device fetches, and who is
//! told nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fleet_server::config::ServerConfig;
use serde_json::json;

use crate::server_kit::{Answer, Rig, send};

const KEYS: &str = "/api/v1/keys";
const PACKAGE: &str = "fleetd_9.9.9_amd64.deb";

fn folder(rig: &Rig) -> PathBuf {
    rig.folder.path().join("packages")
}

async fn rig() -> Rig {
    let config = |rig: &Rig| ServerConfig { agent_packages: folder(rig), ..rig.config() };
    let rig = Rig::start_with(config).await;
    fs::create_dir(folder(&rig)).unwrap();
    rig
}

fn content() -> Vec<u8> {
    (0..700_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// The server, with a package of a few megabytes.
async fn stocked() -> Rig {
    let rig = rig().await;
    fs::write(folder(&rig).join(PACKAGE), content()).unwrap();
    rig
}

async fn fetch_from(rig: &Rig, from: IpAddr, path: &str) -> Answer {
    let own = [("host", rig.address().to_string())];
    send(rig.address(), from, "GET", path, &own, Vec::new()).await
}

async fn fetch(rig: &Rig, path: &str) -> Answer {
    fetch_from(rig, Ipv4Addr::LOCALHOST.into(), path).await
}

/// A key's id, and the path of its link.
async fn link(rig: &Rig, wish: serde_json::Value) -> (String, String) {
    let mut all = json!({"kind": "enrol", "uses": 2, "install_url": true});
    all.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
    let own = [
        ("host", rig.address().to_string()),
        ("authorization", format!("Bearer {}", rig.admin())),
        ("content-type", "application/json".to_owned()),
    ];
    let body = all.to_string().into_bytes();
    let made = send(rig.address(), Ipv4Addr::LOCALHOST.into(), "POST", KEYS, &own, body).await;
    let made = made.expect(201);
    let url = made["install"]["url"].as_str().unwrap();
    let command = made["install"]["command"].as_str().unwrap();
    assert!(command.contains(url) && command.contains("--pinnedpubkey 'sha256//"), "{command}");
    let path = url.split_once("/install/").unwrap().1;
    (made["id"].as_str().unwrap().to_owned(), format!("/install/{path}"))
}

/// What a shell says that is given a refusal to run.
fn said(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "text/x-shellscript; charset=utf-8");
    let script = std::str::from_utf8(&answer.body).unwrap();
    let told = Command::new("sh").args(["-c", script]).output().unwrap();
    assert_eq!((told.status.code(), told.stdout.len()), (Some(1), 0));
    String::from_utf8(told.stderr).unwrap()
}

#[tokio::test]
async fn a_link_leads_to_a_script_with_the_key_and_to_the_package_it_names() {
    let rig = stocked().await;
    let (id, path) = link(&rig, json!({})).await;
    let keys = rig.ask("GET", KEYS, None).await.expect(200);
    let key = keys.as_array().unwrap().iter().find(|key| key["id"] == id.as_str()).unwrap();
    assert_eq!((&key["kind"], &key["uses_left"]), (&json!("enrol"), &json!(2)));
    assert_eq!(key["expires_at"], "2024-01-16T10:30:00Z", "a link lasts for a day");

    let answer = fetch(&rig, &path).await;
    answer.expect(200);
    let script = String::from_utf8(answer.body.to_vec()).unwrap();
    let identity = rig.server().identity().to_string();
    assert!(script.contains(&format!("flt_en_{id}_")) && script.contains(&format!("@{identity}")));
    assert!(script.contains(&format!("server='http://{}'", rig.address())), "{script}");
    let package = fetch(&rig, &format!("{path}?architecture=amd64")).await;
    package.expect(200);
    assert_eq!(package.body, content());
    let sum = Command::new("sha256sum").arg(folder(&rig).join(PACKAGE)).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let sum = sum.split(' ').next().unwrap();
    assert!(script.contains(&format!("    amd64) package='{PACKAGE}' sum={sum} ;;\n")), "{script}");

    let none = fetch(&rig, &format!("{path}?architecture=riscv64")).await;
    assert_eq!(said(&none, 404), "fleetd: there is no such package\n");
    let odd = fetch(&rig, &format!("{path}?arch=amd64")).await;
    assert!(said(&odd, 422).contains("unknown parameter"));
}

#[tokio::test]
async fn a_link_ends_with_its_key_and_says_so() {
    let rig = stocked().await;
    let (id, path) = link(&rig, json!({"expires_in_secs": 60})).await;
    rig.ask("DELETE", &format!("{KEYS}/{id}"), None).await.expect(200);
    assert!(said(&fetch(&rig, &path).await, 404).contains("was revoked"));
    let (_, path) = link(&rig, json!({"expires_in_secs": 60})).await;
    rig.clock.advance(Duration::from_secs(60));
    assert!(said(&fetch(&rig, &path).await, 404).contains("has expired"));
    let package = fetch(&rig, &format!("{path}?architecture=amd64")).await;
    assert!(said(&package, 404).contains("has expired"));
}

#[tokio::test]
async fn links_are_not_guessed() {
    let rig = stocked().await;
    let (_, path) = link(&rig, json!({})).await;
    let guesser: IpAddr = Ipv4Addr::new(127, 0, 0, 9).into();
    for guess in 0..10 {
        let token = data_encoding::BASE64URL_NOPAD.encode(&[guess; 32]);
        let answer = fetch_from(&rig, guesser, &format!("/install/{token}")).await;
        assert!(said(&answer, 404).contains("is not known here"));
    }
    let answer = fetch_from(&rig, guesser, &path).await;
    assert!(answer.headers.contains_key("retry-after"));
    assert!(said(&answer, 429).contains("wait a minute"));
    fetch(&rig, &path).await.expect(200);
    // What has not the shape of a link is no guess.
    let elsewhere: IpAddr = Ipv4Addr::new(127, 0, 0, 10).into();
    for odd in ["x", "--", "flt_en_abcdefghij_x"].iter().cycle().take(12) {
        assert!(
            said(&fetch_from(&rig, elsewhere, &format!("/install/{odd}")).await, 404)
                .contains("known")
        );
    }
    fetch_from(&rig, elsewhere, &path).await.expect(200);
    // Nor does an ordinary enrolment key open one.
    let key = rig.key(json!({"kind": "enrol"})).await;
    let secret = key.splitn(4, '_').nth(3).unwrap();
    assert_eq!(fetch(&rig, &format!("/install/{}", &secret[..43])).await.status.as_u16(), 404);
}

#[tokio::test]
async fn no_link_is_made_that_leads_to_nothing() {
    let rig = rig().await;
    let wish = json!({"kind": "enrol", "install_url": true});
    let told = rig.ask("POST", KEYS, Some(wish)).await.problem(409);
    assert!(told.ends_with("put fleetd_VERSION_ARCHITECTURE.deb there"), "{told}");
    fs::write(folder(&rig).join(PACKAGE), "").unwrap();
    let wish = json!({"kind": "operator", "install_url": true});
    let told = rig.ask("POST", KEYS, Some(wish)).await.problem(422);
    assert_eq!(told, "install_url: goes with an enrolment key only");
    let keys = rig.ask("GET", KEYS, None).await.expect(200);
    assert_eq!(keys.as_array().unwrap().len(), 1, "{keys}");
    let (_, path) = link(&rig, json!({})).await;
    // The package goes, and the device is told in its shell.
    fs::remove_file(folder(&rig).join(PACKAGE)).unwrap();
    assert!(said(&fetch(&rig, &path).await, 409).contains("has no package of the agent"));
}
