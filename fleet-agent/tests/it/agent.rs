//! The whole agent in this process, and how a claimer talks to it; then the whole way from a claim
//! to reports on a server, across restarts of either.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fleet_agent::app::{App, StartError};
use fleet_agent::config::{Config, Policy, Telemetry};
use fleet_agent::log_tail::LogTail;
use fleet_agent::settings::Settings;
use fleet_agent::sys::SysRoot;
use fleet_core::api::DeviceState;
use fleet_core::grant::{ClaimAccepted, ClaimRequest, ClaimStatus};
use fleet_core::identity::{Fingerprint, PublicKey};
use fleet_core::limits::{CLAIM_REST, CLAIM_WINDOW, JSON_BYTES_MAX};
use fleet_core::net::http::{self, Answer};
use fleet_core::net::tls::Pin;
use http_body_util::Full;
use hyper::Request;

use crate::server::Server;
use crate::within::until;

/// An agent that listens on loopback only, and reports fast.
pub(crate) fn settings(data_dir: &Path) -> Settings {
    let telemetry = Telemetry {
        interval: Duration::from_millis(20),
        metrics: Some(vec!["memory_usage".to_owned(), "latency_ms".to_owned()]),
    };
    Settings {
        ca_file: None,
        data_dir: data_dir.to_owned(),
        root: SysRoot::real(),
        port: 0,
        bind: Some("127.0.0.1".parse().unwrap()),
        interfaces: vec!["lo".to_owned()],
        device_id: Some("rpi4-001".parse().unwrap()),
        config: Config { telemetry, ..Config::default() },
        provisioned: None,
        policy: Policy::default(),
        claim_key: None,
        claim_window: CLAIM_WINDOW,
        claim_rest: CLAIM_REST,
        log: LogTail::default(),
    }
}

pub(crate) fn key(app: &App) -> PublicKey {
    app.device().identity.key.public()
}

/// Carries a grant to an agent, as an operator's program does.
pub(crate) async fn claim(app: &App, grant: &str) -> Answer {
    let request = ClaimRequest { grant: grant.to_owned(), proof: None };
    let body = serde_json::to_vec(&request).unwrap();
    post_claim(app, key(app).fingerprint(), body).await
}

pub(crate) async fn post_claim(app: &App, device: Fingerprint, body: Vec<u8>) -> Answer {
    let pin = Pin::Device(device);
    let stream = http::connect_address(app.address(), "agent", pin).await.unwrap();
    let request = Request::post("/v1/claim").body(Full::new(Bytes::from(body))).unwrap();
    Box::pin(http::send(stream, "agent", request, JSON_BYTES_MAX, http::REQUEST)).await.unwrap()
}

#[tokio::test]
async fn from_a_claim_to_reports_and_on_after_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(7).await;
    let app = App::start(settings(folder.path())).unwrap();
    let device = key(&app);

    let grant = server.grant(device).sign(&server.key).unwrap();
    let answer = claim(&app, &grant).await;
    let accepted: ClaimAccepted = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(accepted.status, ClaimStatus::Claimed);
    assert_eq!(accepted.device_id, "rpi4-001");
    assert_eq!(app.device().state(), DeviceState::Claimed);

    // The first reports come at once, numbered from one.
    let mut link = server.link().await;
    assert_eq!((link.device, link.proof.device_id.as_str()), (device, "rpi4-001"));
    assert_eq!(link.proof.enrol_key, None);
    link.activate().await;
    assert_eq!(link.config_reported().await, (0, None));
    let first = link.samples().await;
    assert_eq!(first.reports[0].seq, 1);
    assert_eq!(first.reports[0].samples[0].name, "memory_usage");

    // The server dies before it has acknowledged anything. All of it comes again.
    drop(link);
    let server = server.restart().await;
    let mut link = server.link().await;
    link.activate().await;
    let again = link.samples().await;
    assert_eq!(again.stream, first.stream);
    assert_eq!(again.reports[0].seq, 1);
    assert!(again.reports[0].age_millis >= first.reports[0].age_millis);
    link.acknowledge(&again).await;
    let next = link.samples().await;
    assert_eq!(next.reports[0].seq, again.reports.last().unwrap().seq + 1);
    link.acknowledge(&next).await;

    // The round trip of the link is a metric like any other.
    loop {
        let samples = link.samples().await;
        link.acknowledge(&samples).await;
        let mut all = samples.reports.iter().flat_map(|report| &report.samples);
        if all.any(|sample| sample.name == "latency_ms" && sample.value > 0.0) {
            break;
        }
    }

    // The agent restarts: the same device, the same server, a new stream.
    tokio::join!(app.stop(), async { while link.next().await.is_some() {} });
    let app = App::start(settings(folder.path())).unwrap();
    assert_eq!((key(&app), app.device().state()), (device, DeviceState::Claimed));
    let mut link = server.link().await;
    link.activate().await;
    let reports = link.samples().await;
    assert_ne!(reports.stream, first.stream);
    assert_eq!(reports.reports[0].seq, 1);
    drop(link);
    app.stop().await;
}

#[tokio::test]
async fn one_agent_a_folder_and_one_program_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(folder.path())).unwrap();
    let second = App::start(settings(folder.path())).err().expect("the folder is taken");
    assert!(matches!(second, StartError::State(_)), "{second}");

    let elsewhere = tempfile::tempdir().unwrap();
    let mut taken = settings(elsewhere.path());
    taken.port = app.address().port();
    let second = App::start(taken).err().expect("the port is taken");
    assert!(second.to_string().contains("is in use"), "{second}");

    let note = folder.path().join("agent.json");
    assert!(note.exists());
    app.stop().await;
    assert!(!note.exists());
    App::start(settings(folder.path())).unwrap().stop().await;
}

#[tokio::test]
async fn an_agent_notices_when_its_claim_window_closes() {
    let folder = tempfile::tempdir().unwrap();
    let mut brief = settings(folder.path());
    brief.claim_window = Duration::from_millis(50);
    let app = App::start(brief).unwrap();
    until("the window to close", || app.device().state() == DeviceState::Closed).await;
    let server = Server::start(7).await;
    let answer = claim(&app, &server.grant(key(&app)).sign(&server.key).unwrap()).await;
    assert_eq!(answer.status, 403);
    app.stop().await;
}
