//! The agents' links, from upgrade to goodbye. The frames are `fleet_core::wire`'s.
//!
//! A link goes through three stages, each with an end in time: the upgrade of an HTTP request,
//! which must have come by TLS, to here or to a trusted proxy ([`Links::upgrade`]); the hello, in which both sides prove their
//! keys (`hello`); the session (`session`), which lasts until either side leaves, a newer link of
//! the same device comes, the device says nothing for too long, or the server stops.

mod hello;
mod session;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::identity::PrivateKey;
use fleet_core::net::shutdown::Tasks;
use fleet_core::net::socket::{FrameSocket, SocketError, derive_accept_key};
use fleet_core::wire::{Binding, SUBPROTOCOL, Standing, ToAgent};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::door::Visit;
use crate::http::body::Payload;
use crate::http::reply::{Failure, Reply, whole};
use crate::hub::Hub;
use crate::logs::Logs;
use crate::ops::{Ops, OpsError};
use crate::watched::Watched;

/// A link's socket.
type Socket = FrameSocket<TokioIo<Upgraded>>;

/// What links need.
pub(crate) struct Links {
    pub(crate) ops: Arc<Ops>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) watched: Arc<Watched>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) server: Arc<PrivateKey>,
    pub(crate) tasks: Tasks,
    /// How long a peer may take for each frame of the hello.
    pub(crate) patience: Duration,
}

/// Why a link ended otherwise than by a goodbye.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the hello did not come in time")]
    Silent,
    #[error("the device's signature is wrong")]
    Signature,
    #[error("no common version")]
    Version,
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
    #[error("the upgrade failed")]
    Upgrade(#[from] hyper::Error),
    #[error("cannot do what the device asks")]
    Ops(#[from] OpsError),
}

impl Links {
    /// Answers the request for a link; the link itself then lives on a task of its own.
    pub(crate) fn upgrade(
        self: &Arc<Self>,
        visit: &Arc<Visit>,
        binding: Binding,
        mut request: Request<Payload>,
    ) -> Result<Reply, Failure> {
        let accept = check_upgrade(request.headers())?;
        let upgrade = hyper::upgrade::on(&mut request);
        self.tasks.spawn("link", self.clone().run(visit.clone(), binding, upgrade));
        let mut reply = Response::new(whole(Bytes::new()));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = reply.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        Ok(reply)
    }

    async fn run(self: Arc<Self>, visit: Arc<Visit>, binding: Binding, upgrade: OnUpgrade) {
        let remote = visit.remote();
        match self.talk(&visit, binding, upgrade).await {
            Ok(reason) => tracing::debug!(%remote, reason, "a link ended"),
            Err(error) => tracing::debug!(%remote, error = %Chain(&error), "a link broke"),
        }
    }

    async fn talk(
        &self,
        visit: &Visit,
        binding: Binding,
        upgrade: OnUpgrade,
    ) -> Result<&'static str, LinkError> {
        let mut socket = FrameSocket::accepted(TokioIo::new(upgrade.await?)).await;
        let proven = hello::greet(self, &mut socket, binding).await;
        let (key, proof) = match proven {
            Ok(proven) => proven,
            Err(error) => {
                socket.close(&error.to_string()).await;
                return Err(error);
            }
        };
        // Large, and over long before the session is.
        let device = match Box::pin(self.ops.enrolment.admit(key, proof, visit.remote().ip())).await
        {
            Err(OpsError::Forbidden(reason)) => {
                socket.send(&ToAgent::Standing(Standing::Revoked { reason })).await?;
                socket.close("the device has another key").await;
                return Ok("its key is a former one");
            }
            admitted => admitted?,
        };
        tracing::info!(remote = %visit.remote(), device_id = %device.id, uid = %device.uid, state = ?device.state, "a device has connected");
        session::run(self, visit, socket, device.uid).await
    }
}

fn check_upgrade(headers: &HeaderMap) -> Result<HeaderValue, Failure> {
    let bad = |detail: &str| Failure::new(StatusCode::BAD_REQUEST, detail);
    let has =
        |name, wanted: &str| {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
            })
        };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(Failure::new(StatusCode::UPGRADE_REQUIRED, "a link is a WebSocket")
            .with_header(header::UPGRADE, HeaderValue::from_static("websocket")));
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(bad("a link needs Sec-WebSocket-Version: 13"));
    }
    if !has(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(bad("a link needs Sec-WebSocket-Protocol: fleetd.v1"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| bad("a link needs Sec-WebSocket-Key"))?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| bad("Sec-WebSocket-Key is no key"))
}
