//! The operator's own certificate: shown to curl, and nothing that agents or the command line need.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use super::{Agent, SOON, Said, Server, ours};
use crate::lab::{Host, Lab, wait_for};

/// A certificate for `fleet.test` and its key, made as the documents show it, with its questions
/// answered by return.
#[track_caller]
fn certificate(host: &Host, days: &str) -> [PathBuf; 2] {
    let folder = host.path("tls");
    fs::create_dir_all(&folder).expect("a folder");
    let mut openssl = host.command("openssl");
    openssl.current_dir(&folder);
    openssl.args(["req", "-x509", "-newkey", "rsa:4096", "-keyout", "server.key"]);
    openssl.args(["-out", "server.crt", "-days", days, "-nodes"]);
    openssl.args(["-addext", "subjectAltName=DNS:fleet.test"]);
    openssl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut openssl = openssl.spawn().expect("openssl");
    let mut answers = openssl.stdin.take().expect("a pipe");
    answers.write_all(&[b'\n'; 7]).expect("openssl asks");
    drop(answers);
    assert!(openssl.wait().expect("openssl ends").success());
    ["server.crt", "server.key"].map(|name| folder.join(name))
}

/// When the certificate ends that curl is shown.
#[track_caller]
fn shown(server: &Server<'_>) -> String {
    let url = format!("{}/health", server.url());
    let mut curl = server.host.command("curl");
    curl.args(["-sk", "-m5", "-o", "/dev/null", "-w", "%{certs}", &url]);
    let said = Said::of(&mut curl).exits(0);
    let line = said.stdout.lines().find(|line| line.starts_with("Expire date:"));
    line.unwrap_or_else(|| panic!("no certificate: {said:#?}")).to_owned()
}

#[test]
fn a_certificate_is_shown_renewed_and_warned_of_and_no_device_minds() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let files = certificate(&desk, "365");
    let server = Server::start_with(&desk, Some(files.clone()));
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);

    // A third party sees the operator's certificate; without TLS it is sent on.
    let plain = format!("http://{}:8080/api/v1/devices?limit=1", desk.address());
    let mut curl = desk.command("curl");
    let said = Said::of(curl.args([
        "-s",
        "-m5",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{redirect_url}",
        &plain,
    ]));
    assert_eq!(said.exits(0).stdout, format!("308 {}", plain.replace("http:", "https:")));
    // By what it has no name for, it is not believed.
    let by_name = |name: &str| {
        let mut curl = desk.command("curl");
        curl.args(["-sS", "-m5", "--resolve", &format!("fleet.test:8080:{}", desk.address())]);
        curl.arg("--cacert").arg(&files[0]).arg(format!("https://{name}:8080/health"));
        Said::of(&mut curl)
    };
    assert!(by_name("fleet.test").exits(0).stdout.contains("ok"));
    by_name("localhost").exits(60).explains(&["certificate"]);

    let before = shown(&server);
    certificate(&desk, "20");
    wait_for("the renewed certificate to be shown", SOON, || {
        (shown(&server) != before).then_some(())
    });
    let is_told = |kind: &str, words: &str| {
        let said = server.fleets(&["events", "--kind", kind, "-o", "json"]).exits(0);
        said.stdout.contains(words)
    };
    let is_told = |kind: &str, words: &str| {
        wait_for(words, SOON, || is_told(kind, words).then_some(()));
    };
    is_told("certificate.renewed", "server.crt is a new one, until ");
    // It ends within a month.
    is_told("certificate.at_risk", "server.crt ends at ");
    let kept = shown(&server);
    fs::write(&files[1], "no key").expect("a file");
    is_told("certificate.at_risk", "stays the one before");
    assert_eq!(shown(&server), kept);
    // One that has ended is worse than one that ends soon.
    let mut openssl = desk.command("faketime");
    openssl.args([
        "2020-01-01 00:00:00",
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ed25519",
        "-nodes",
    ]);
    openssl.args(["-subj", "/CN=fleet.test", "-days", "1", "-keyout"]).arg(&files[1]);
    Said::of(openssl.arg("-out").arg(&files[0])).exits(0);
    is_told("certificate.at_risk", "server.crt ended at 2020-01-02T");
    assert_eq!(shown(&server), kept);

    let said = server.fleets(&["events", "--device", "cam", "-o", "json"]).exits(0);
    assert!(!said.stdout.contains("device.offline"), "{said:#?}");
    server.shows_online(&["cam"]);
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let [certificate, key] = certificate(&desk, "9");
    let other = desk.path("other.key");
    let mut openssl = desk.command("openssl");
    openssl.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&other);
    Said::of(&mut openssl).exits(0);
    let locked = desk.path("locked.key");
    let mut openssl = desk.command("openssl");
    openssl.args(["pkey", "-aes256", "-passout", "pass:secret", "-in"]).arg(&other);
    Said::of(openssl.arg("-out").arg(&locked)).exits(0);
    let gone = desk.path("gone.crt");
    for (certificate, key, words) in [
        (&gone, &key, &["cannot read", "gone.crt"][..]),
        (&key, &key, &["server.key has no certificate in PEM form"]),
        (&certificate, &certificate, &["server.crt has no private key in PEM form"]),
        (&certificate, &locked, &["locked.key has no private key in PEM form", "not encrypted"]),
        (&certificate, &other, &["other.key does not go with the certificate in"]),
    ] {
        let mut server = ours(&desk, "fleets");
        server.arg("server").arg("--database").arg(desk.path("server/fleet.db"));
        server.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
        Said::of(&mut server).exits(78).explains(words);
    }
    assert!(!desk.path("server").exists(), "nothing is written");
    let mut server = ours(&desk, "fleets");
    Said::of(server.arg("server").arg("--tls-cert").arg(&certificate))
        .exits(2)
        .explains(&["--tls-key"]);
}
