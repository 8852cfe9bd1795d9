//! The agent's own port. It says how the device is and takes a claim; it never does anything else.
//!
//! | | plain | TLS |
//! |---|---|---|
//! | `GET /health` | `{"status":"ok"}` | same |
//! | `GET /info` | [`fleet_core::api::AgentInfo`] | same |
//! | `POST /v1/claim` | 404 | see [`claim`] |
//!
//! All else is 404. One request a connection; connections, heads, bodies and their time are bounded.

pub mod claim;
mod on_link;
mod reply;
mod visitors;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::api::AgentInfo;
use fleet_core::net::accept::{self, Accepted};
use fleet_core::net::shutdown::Tasks;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::link::status::LinkStatus;
use crate::queue::Queue;
use crate::state::Device;
use claim::Claimer;
use reply::Reply;
use visitors::Visitors;

/// Connections at one time.
const CONNECTIONS_MAX: usize = 32;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take from its handshake to its end.
const CONNECTION: Duration = Duration::from_secs(20);
/// What is left of that when the agent stops: enough for an answer that is on its way.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What the port tells, and what a claim changes.
pub struct Control {
    /// Who the device is, and how it stands.
    pub device: Arc<Device>,
    /// The link to its server.
    pub status: Arc<LinkStatus>,
    /// What waits for its server.
    pub queue: Arc<Queue>,
}

/// A connection's other end.
#[derive(Clone, Copy)]
struct Peer {
    address: IpAddr,
    /// The secret of its connection, if that is inside TLS.
    exporter: Option<[u8; 32]>,
}

impl Control {
    /// Serves the port until the agent stops.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        tasks: Tasks,
    ) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let visitors = Arc::new(Visitors::default());
        loop {
            let permit = room.clone().acquire_owned().await.expect("the semaphore stays open");
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = tasks.stopping() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(visit) = visitors.enter(peer.ip().to_canonical()) else { continue };
                    let connection = self.clone().connection(stream, peer, tls.clone());
                    let stopping = tasks.clone();
                    tasks.spawn("control connection", async move {
                        tokio::select! {
                            () = connection => {}
                            () = cut_off(&stopping) => {}
                        }
                        drop((visit, permit));
                    });
                }
                Err(error) => accept::pause_after(&error).await,
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        tls: Arc<ServerConfig>,
    ) {
        let address = peer.ip().to_canonical();
        let accepted = match accept::negotiate(stream, tls).await {
            Ok(accepted) => accepted,
            Err(error) => return tracing::debug!(%address, %error, "no handshake"),
        };
        let peer = Peer { address, exporter: accepted.exporter() };
        let served = timeout(CONNECTION, self.serve_one(accepted, peer)).await;
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%address, %error, "a connection broke"),
            Err(_) => tracing::debug!(%address, "a connection took too long"),
        }
    }

    async fn serve_one(&self, accepted: Accepted, peer: Peer) -> hyper::Result<()> {
        let service = service_fn(|request| async move {
            Ok::<_, Infallible>(self.answer(request, peer).await.into_response())
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(accepted), service)
            .await
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Reply {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str(), peer.exporter) {
            (&Method::GET, "/health", _) => Reply::health(),
            (&Method::GET, "/info", _) => Reply::info(&self.info()),
            (&Method::POST, "/v1/claim", Some(exporter)) => {
                let body = Limited::new(request.into_body(), fleet_core::limits::CLAIM_BYTES_MAX);
                match body.collect().await {
                    Ok(body) => self.claim(&body.to_bytes(), peer.address, exporter),
                    Err(error) if error.is::<LengthLimitError>() => Reply::too_large(),
                    Err(error) => {
                        tracing::debug!(address = %peer.address, %error, "a claim broke off");
                        Reply::broken_off()
                    }
                }
            }
            _ => Reply::not_found(),
        }
    }

    fn claim(&self, body: &[u8], peer: IpAddr, exporter: [u8; 32]) -> Reply {
        let claimer = Claimer { peer, exporter, is_on_link: &on_link::is_on_link };
        match claim::take(&self.device, body, &claimer) {
            Ok(accepted) => Reply::accepted(&accepted),
            Err(refused) => Reply::refused(&refused),
        }
    }

    fn info(&self) -> AgentInfo {
        let device = &self.device;
        AgentInfo {
            device_id: device.id(),
            asked_id: device.asked_id(),
            version: fleet_core::VERSION.to_owned(),
            fingerprint: device.identity.fingerprint(),
            state: device.state(),
            claim: device.window.mode(),
            claim_seconds_left: device.window.left().unwrap_or_default().as_secs(),
            claim_tries_left: device.guard.tries_left(),
            claim_seconds_asleep: device.guard.asleep().map(|left| left.as_secs().max(1)),
            server: device.membership.server(),
            link: self.status.view(),
            queue: self.queue.view(),
            resets: Some(self.status.resets()),
        }
    }
}

/// Ends soon after the agent is told to stop, so that a silent peer cannot hold it up.
async fn cut_off(tasks: &Tasks) {
    tasks.stopping().await;
    sleep(LAST_WORDS).await;
}
