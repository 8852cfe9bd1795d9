//! Claims that have to prove something, at a whole agent.

use std::time::Duration;

use bytes::Bytes;
use fleet_agent::app::App;
use fleet_agent::config::{ClaimPolicy, Policy};
use fleet_agent::settings::Settings;
use fleet_agent::state::folder::Folder;
use fleet_agent::state::guard::load_code;
use fleet_core::api::{AgentInfo, ClaimMode, ClaimRefusal, DeviceState};
use fleet_core::claim::{ClaimContext, ClaimKey, ClaimSecret};
use fleet_core::grant::{ClaimRequest, Grant};
use fleet_core::net::http::{self, Answer};
use fleet_core::net::tls::{self, Pin};
use http_body_util::Full;
use hyper::Request;

use crate::agent::{claim, key, settings};
use crate::control::plain;
use crate::server::Server;
use crate::within::until;

fn by_code(path: &std::path::Path) -> Settings {
    let mut settings = settings(path);
    settings.policy = Policy { claim: ClaimPolicy::Code, ..Policy::default() };
    settings
}

fn code(path: &std::path::Path) -> ClaimSecret {
    ClaimSecret::Code(load_code(&Folder::new(path)).unwrap().expect("a code"))
}

/// Claims with a proof of this secret over another exporter than the connection's, if one is given.
async fn prove(
    app: &App,
    grant: &str,
    secret: &ClaimSecret,
    exporter: Option<[u8; 32]>,
) -> (Answer, [u8; 32]) {
    let pin = Pin::Device(key(app).fingerprint());
    let stream = http::connect_address(app.address(), "agent", pin).await.unwrap();
    let own = tls::exporter(stream.get_ref().1).unwrap();
    let context = ClaimContext {
        exporter: exporter.unwrap_or(own),
        device_pub: key(app).bytes(),
        server_pub: Grant::open(grant).unwrap().server_pub,
        grant,
    };
    let request = ClaimRequest { grant: grant.to_owned(), proof: Some(secret.prove(&context)) };
    let body = Full::new(Bytes::from(serde_json::to_vec(&request).unwrap()));
    let request = Request::post("/v1/claim").body(body).unwrap();
    let sent = Box::pin(http::send(stream, "agent", request, 100_000, http::REQUEST));
    (sent.await.unwrap(), own)
}

async fn info(app: &App) -> AgentInfo {
    serde_json::from_str(&plain(app, "GET", "/info").await.1).unwrap()
}

fn refusal(answer: &Answer) -> ClaimRefusal {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn a_code_is_good_for_one_claim_and_a_reset_makes_another() {
    let folder = tempfile::tempdir().unwrap();
    let (server, other) = (Server::start(7).await, Server::start(8).await);
    let mut brief = by_code(folder.path());
    // There is no time to be claimed in, and so no end to it.
    brief.claim_window = Duration::ZERO;
    let app = App::start(brief).unwrap();
    assert_eq!(app.device().state(), DeviceState::Unclaimed);
    let grant = server.grant(key(&app)).sign(&server.key).unwrap();

    let bare = claim(&app, &grant).await;
    assert_eq!((bare.status.as_u16(), refusal(&bare).claim), (403, Some(ClaimMode::Code)));
    let first = code(folder.path());
    let (answer, _) = prove(&app, &grant, &first, None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(load_code(&Folder::new(folder.path())).unwrap().is_none());

    // Its own server needs no proof, and another one none that would help.
    assert_eq!(claim(&app, &grant).await.status, 200);
    let theirs = other.grant(key(&app)).sign(&other.key).unwrap();
    let (answer, _) = prove(&app, &theirs, &first, None).await;
    assert_eq!(answer.status, 409);
    assert_eq!(refusal(&answer).server, Some(server.key.public().identity()));

    app.forget().unwrap();
    let (answer, _) = prove(&app, &theirs, &first, None).await;
    assert_eq!(answer.status, 403, "the old code is used up");
    let (answer, _) = prove(&app, &theirs, &code(folder.path()), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    app.stop().await;
}

#[tokio::test]
async fn a_proof_that_somebody_read_is_worth_nothing_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(7).await;
    let app = App::start(by_code(folder.path())).unwrap();
    let grant = server.grant(key(&app)).sign(&server.key).unwrap();
    let secret = code(folder.path());
    // What was proved over one connection, brought over another one.
    let (_, first) = prove(&app, &grant, &secret, Some([0; 32])).await;
    let (relayed, _) = prove(&app, &grant, &secret, Some(first)).await;
    assert_eq!(relayed.status, 403);
    assert!(refusal(&relayed).problem.detail.raw().contains("3 tries"), "{relayed:?}");
    let (answer, _) = prove(&app, &grant, &secret, None).await;
    assert_eq!(answer.status, 200);
    app.stop().await;
}

#[tokio::test]
async fn five_wrong_proofs_end_claims_for_a_while_over_restarts_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(7).await;
    let app = App::start(by_code(folder.path())).unwrap();
    let grant = server.grant(key(&app)).sign(&server.key).unwrap();
    let secret = code(folder.path());
    for left in (0..5).rev() {
        let (answer, _) = prove(&app, &grant, &secret, Some([0; 32])).await;
        assert_eq!(answer.status, 403);
        assert_eq!(info(&app).await.claim_tries_left, Some(left));
    }
    let (asleep, _) = prove(&app, &grant, &secret, None).await;
    assert_eq!(asleep.status, 429);
    assert!(refusal(&asleep).problem.detail.raw().contains("10 min"), "{asleep:?}");
    app.stop().await;

    let app = App::start(by_code(folder.path())).unwrap();
    let (asleep, _) = prove(&app, &grant, &secret, None).await;
    assert_eq!(asleep.status, 429);
    assert!(info(&app).await.claim_seconds_asleep.is_some_and(|left| left > 500));
    app.stop().await;

    // With a shorter rest it is over soon, and the code is as good as before.
    let mut rested = by_code(folder.path());
    rested.claim_rest = Duration::from_millis(50);
    let app = App::start(rested).unwrap();
    until("the device to take claims again", || app.device().guard.asleep().is_none()).await;
    let (answer, _) = prove(&app, &grant, &secret, None).await;
    assert_eq!(answer.status, 200);
    app.stop().await;
}

#[tokio::test]
async fn a_claim_key_is_good_for_every_device_that_has_it() {
    let server = Server::start(7).await;
    let text = "ab".repeat(32);
    let [right, wrong]: [ClaimKey; 2] = [&text, &"cd".repeat(32)].map(|text| text.parse().unwrap());
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let mut keyed = settings(folder.path());
        keyed.policy = Policy { claim: ClaimPolicy::Key, ..Policy::default() };
        keyed.claim_key = Some(text.parse().unwrap());
        let app = App::start(keyed).unwrap();
        assert_eq!(info(&app).await.claim, ClaimMode::Key);
        let grant = server.grant(key(&app)).sign(&server.key).unwrap();
        let (answer, _) = prove(&app, &grant, &ClaimSecret::Key(wrong.clone()), None).await;
        assert_eq!((answer.status.as_u16(), refusal(&answer).claim), (403, Some(ClaimMode::Key)));
        let (answer, _) = prove(&app, &grant, &ClaimSecret::Key(right.clone()), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        app.stop().await;
    }
}
