//! The agent's port as strangers and claimers meet it.

use std::time::{Duration, Instant};

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD, HEXLOWER};
use fleet_agent::app::App;
use fleet_agent::config::{ClaimPolicy, Policy};
use fleet_agent::state::membership::Provisioned;
use fleet_core::api::{AgentInfo, ClaimMode, ClaimRefusal, DeviceState, LinkState};
use fleet_core::grant::{ClaimAccepted, ClaimStatus};
use fleet_core::identity::PrivateKey;
use fleet_core::net::http::{self, HttpError};
use fleet_core::net::tls::Pin;
use fleet_core::secret::{ApiKey, KeyKind};
use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::{claim, key, post_claim, settings};
use crate::server::Server;
use crate::within::within;

fn refusal(answer: &http::Answer) -> ClaimRefusal {
    serde_json::from_slice(&answer.body).unwrap()
}

/// One request over a plain connection: the status and the body.
pub(crate) async fn plain(app: &App, method: &str, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: device\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = within("an answer", exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_port_says_how_the_device_is_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = PrivateKey::from_seed(&[7; 32]).public().identity();
    let enrol = ApiKey::generate(KeyKind::Enrol, server).unwrap();
    let mut secret = settings(folder.path());
    secret.provisioned =
        Some(Provisioned { url: "http://127.0.0.1:1".parse().unwrap(), key: Some(enrol.clone()) });
    let app = App::start(secret).unwrap();
    let seed = app.device().identity.key.seed();
    let seed = seed.as_slice();
    let secrets = [
        HEXLOWER.encode(seed),
        BASE64.encode(seed),
        BASE64URL_NOPAD.encode(seed),
        BASE32_NOPAD.encode(seed),
        enrol.reveal().splitn(4, '_').nth(3).unwrap()[..40].to_owned(),
    ];

    let words = [
        "health",
        "info",
        "claim",
        "v1",
        "api",
        "config",
        "keys",
        "key",
        "execute-command",
        "exec",
        "deploy",
        "update",
        "start",
        "stop",
        "status",
        "reset",
        "logs",
        "files",
        "metrics",
        "debug",
        "HEALTH",
        "Info",
        "%68ealth",
        "health%00",
        "..",
        ".",
        "",
        "*",
        "device.key",
        "claim.json",
    ];
    let methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"];
    let mut answered = Vec::new();
    let mut asked = 0;
    for first in words {
        let nested = words.iter().map(|second| format!("/{first}/{second}"));
        for path in nested.chain([format!("/{first}")]) {
            for method in methods {
                let (status, body) = plain(&app, method, &path).await;
                asked += 1;
                if status != 404 {
                    answered.push(format!("{method} {path} {status}"));
                }
                assert!(!secrets.iter().any(|secret| body.contains(secret)), "{method} {path}");
            }
        }
    }
    assert!(asked > 5_000, "{asked}");
    // A claim over a plain connection is as if there were no such thing.
    assert_eq!(answered, ["GET /health 200", "GET /info 200"]);

    let (_, body) = plain(&app, "GET", "/info").await;
    let info: AgentInfo = serde_json::from_str(&body).unwrap();
    assert_eq!(info.device_id.as_str(), "rpi4-001");
    assert_eq!(info.fingerprint, key(&app).fingerprint());
    assert_eq!((info.state, info.server), (DeviceState::Claimed, Some(server)));
    assert_eq!(info.link.state, LinkState::Connecting);
    assert_eq!(plain(&app, "GET", "/health").await.1, "{\"status\":\"ok\"}");
    app.stop().await;
}

#[tokio::test]
async fn a_claimed_device_keeps_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let (server, other) = (Server::start(7).await, Server::start(8).await);
    let app = App::start(settings(folder.path())).unwrap();
    let device = key(&app);
    let grant = server.grant(device).sign(&server.key).unwrap();
    assert_eq!(claim(&app, &grant).await.status, StatusCode::OK);

    let answer = claim(&app, &other.grant(device).sign(&other.key).unwrap()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(refusal(&answer).server, Some(server.key.public().identity()));

    let answer = claim(&app, &grant).await;
    let accepted: ClaimAccepted = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(accepted.status, ClaimStatus::Updated);
    app.stop().await;
}

#[tokio::test]
async fn what_is_no_grant_for_this_device_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(7).await;
    let app = App::start(settings(folder.path())).unwrap();
    let device = key(&app);

    let other_device = PrivateKey::from_seed(&[1; 32]).public();
    let for_another = server.grant(other_device).sign(&server.key).unwrap();
    let forged = server.grant(device).sign(&PrivateKey::from_seed(&[8; 32])).unwrap();
    for grant in [for_another.as_str(), forged.as_str(), "", "AAAA", "\u{1b}[31m"] {
        let answer = claim(&app, grant).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{grant}");
    }
    for body in [&b""[..], b"{}", b"[]", b"{\"grant\":1}", b"{\"grant\":\"a\",\"run\":\"b\"}"] {
        let answer = post_claim(&app, device.fingerprint(), body.to_vec()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body:?}");
    }
    let huge = post_claim(&app, device.fingerprint(), vec![b' '; 17 * 1024]).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(app.device().state(), DeviceState::Unclaimed);

    // Whoever expects another device finds out before it says anything.
    let pin = Pin::Device(other_device.fingerprint());
    let wrong = http::connect_address(app.address(), "agent", pin).await.unwrap_err();
    assert!(matches!(wrong, HttpError::WrongKey { .. }), "{wrong}");
    app.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_cannot_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(folder.path())).unwrap();
    let mut silent = TcpStream::connect(app.address()).await.unwrap();
    // A TLS handshake that never goes on has a longer patience than a stop.
    silent.write_all(&[0x16]).await.unwrap();
    // Connections are taken in turn, so with this answer the silent one is being waited for.
    assert_eq!(plain(&app, "GET", "/health").await.0, 200);
    let began = Instant::now();
    app.stop().await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_policy_without_claims_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(7).await;
    let mut closed = settings(folder.path());
    closed.policy = Policy { claim: ClaimPolicy::Disabled, ..Policy::default() };
    let app = App::start(closed).unwrap();
    let (_, body) = plain(&app, "GET", "/info").await;
    let info: AgentInfo = serde_json::from_str(&body).unwrap();
    assert_eq!((info.state, info.claim), (DeviceState::Closed, ClaimMode::Disabled));
    assert_eq!(info.claim_seconds_left, 0);
    let answer = claim(&app, &server.grant(key(&app)).sign(&server.key).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    app.stop().await;
}
