//! What strangers can do to the open ports: nothing that matters.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Agent, SOON, Said, Server, now_millis};
use crate::lab::{Host, Lab};

/// Bytes of garbage that one connection sends.
const GARBAGE_BYTES: usize = 1024 * 1024;

#[test]
fn t08_the_agents_port_answers_only_health_info_and_claim() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let base = format!("http://{}:6789", cam.address());

    for (path, status) in [("/health", "200"), ("/info", "200")] {
        assert_eq!(statuses(&desk, "GET", &[format!("{base}{path}")]), [status]);
    }
    let elsewhere: Vec<String> = ELSEWHERE.iter().map(|path| format!("{base}{path}")).collect();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for (path, status) in ELSEWHERE.iter().zip(statuses(&desk, method, &elsewhere)) {
            assert_eq!(status, "404", "{method} {path}");
        }
    }
    // A claim without TLS is not heard.
    let claim = statuses(&desk, "POST", &[format!("{base}/v1/claim")]);
    assert!(claim[0].starts_with('4'), "{claim:?}");
}

#[test]
fn t08_garbage_ends_its_own_connection_and_nothing_else() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, stranger] = ["desk", "cam", "stranger"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);

    for address in [(cam.address(), 6789), (desk.address(), 8080)].map(SocketAddr::from) {
        // As HTTP, as TLS, and as neither.
        for first in [b'G', 0x16, 0x00] {
            stranger.run(throw_garbage(address, first));
        }
    }

    assert!(agent.is_running());
    server.stores_after("cam", now_millis());
    let health = format!("http://{}:6789/health", cam.address());
    assert_eq!(statuses(&desk, "GET", &[health]), ["200"]);
}

#[test]
fn t10_tls_1_3_is_spoken_and_nothing_older() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, stranger] = ["desk", "cam", "stranger"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.configure(&["cam"]);

    for address in [(cam.address(), 6789), (desk.address(), 8080)].map(SocketAddr::from) {
        let offer = |version: &str| {
            let mut openssl = stranger.command("openssl");
            // What the library of a distribution would not offer by itself is no reason.
            openssl.args(["s_client", "-cipher", "ALL:@SECLEVEL=0", version, "-connect"]);
            Said::of(openssl.arg(address.to_string()).stdin(Stdio::null()))
        };
        let said = offer("-tls1_3");
        assert!(said.stdout.contains("New, TLSv1.3, Cipher is TLS_"), "{address}: {said:#?}");
        for (version, alert) in [
            ("-tls1_2", "alert protocol version"),
            ("-tls1_1", "SSL alert number"),
            ("-tls1", "SSL alert number"),
        ] {
            let said = offer(version);
            assert_ne!(said.code, Some(0), "{address} {version}: {said:#?}");
            assert!(said.stdout.contains("Cipher is (NONE)"), "{address} {version}: {said:#?}");
            assert!(said.stderr.contains(alert), "{address} {version}: {said:#?}");
        }
    }
}

/// Paths that an agent must not know.
const ELSEWHERE: [&str; 16] = [
    "/",
    "/health/",
    "//health",
    "/HEALTH",
    "/info/x",
    "/v1/claim/",
    "/v1/config",
    "/v1/exec",
    "/configure",
    "/metrics",
    "/api/v1/devices",
    "/api/v1/link",
    "/debug/pprof",
    "/%68ealth",
    "/../etc/passwd",
    "/health%00",
];

/// The status of each URL, asked by curl on a host.
#[track_caller]
fn statuses(host: &Host, method: &str, urls: &[String]) -> Vec<String> {
    let mut command = host.command("curl");
    command.args(["-s", "--path-as-is", "-m", "20", "-X", method, "-w", "%{http_code}\n"]);
    for url in urls {
        command.args(["-o", "/dev/null", url]);
    }
    Said::of(&mut command).stdout.lines().map(str::to_owned).collect()
}

/// Sends a megabyte that means nothing; the peer may end the connection at any time.
async fn throw_garbage(address: SocketAddr, first: u8) {
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let mut state = u32::from(first) + 1;
    let mut bytes = vec![first];
    bytes.resize_with(GARBAGE_BYTES, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let thrown = timeout(SOON, async {
        let written = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        (written, read)
    });
    // Either end of the conversation may be an error: both mean that it is over.
    let ended = thrown.await;
    assert!(ended.is_ok(), "{address} kept a connection open that said nothing it could use");
}
