//! The claim of one device, in two steps with the server's word between them: [`meet`] the device
//! and learn its whole key, then [`deliver`] the grant that the server made out to that key.
//!
//! Both steps speak to the one key whose fingerprint was announced; a stranger at the same address
//! learns nothing. Nothing that is delivered is secret: of a claim code or key, a device is shown a
//! proof that is good on that connection alone.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, header};
use serde::Deserialize;

use crate::api::{ClaimMode, DiscoverOutcome};
use crate::claim::{ClaimContext, ClaimSecret};
use crate::grant::{ClaimAccepted, ClaimRequest, Grant};
use crate::id::DeviceId;
use crate::identity::{Fingerprint, PublicKey, ServerIdentity};
use crate::limits::CLAIM_BYTES_MAX;
use crate::net::http::{self, HttpError};
use crate::net::tls::{self, Pin};
use crate::untrusted::Untrusted;

/// Addresses of one device that are tried.
pub const ADDRESSES_MAX: usize = 8;
/// How long the next address waits for the one before it.
const STAGGER: Duration = Duration::from_millis(250);
/// How long a device may take to answer a claim; it writes it to its disk first.
const ANSWER: Duration = Duration::from_secs(10);

/// A device to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The id it gives.
    pub device_id: DeviceId,
    /// Where it is, best first: only addresses that its own packets came from.
    pub addresses: Vec<SocketAddr>,
    /// The key it announces.
    pub fingerprint: Fingerprint,
    /// What it says that its claimer must prove.
    pub claim: Option<ClaimMode>,
}

/// A device that proved to hold the key it announces.
#[derive(Clone, Debug)]
pub struct Met {
    /// The id it gives.
    pub device_id: DeviceId,
    /// Its key.
    pub device_key: PublicKey,
    /// Where it answered.
    pub address: SocketAddr,
}

/// Connects to the device at whichever of its addresses answers first, and learns its key.
pub async fn meet(target: &Target) -> Result<Met, ClaimFailure> {
    let mut attempts: FuturesUnordered<_> = (0_u32..)
        .zip(target.addresses.iter().take(ADDRESSES_MAX))
        .map(|(position, address)| async move {
            tokio::time::sleep(STAGGER * position).await;
            meet_at(target, *address).await
        })
        .collect();
    let mut failure = ClaimFailure::NoAddress;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(met) => return Ok(met),
            // That a stranger sits at an address tells more than that another does not answer.
            Err(_) if matches!(failure, ClaimFailure::WrongKey) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn meet_at(target: &Target, address: SocketAddr) -> Result<Met, ClaimFailure> {
    let pin = Pin::Device(target.fingerprint);
    let stream = http::connect_address(address, &address.to_string(), pin).await?;
    // A finished handshake has shown a key; without one the peer is not who it should be.
    let device_key = tls::peer_key(stream.get_ref().1).ok_or(ClaimFailure::WrongKey)?;
    Ok(Met { device_id: target.device_id.clone(), device_key, address })
}

/// Brings the grant to the device, with the proof that it asks for. The connection is a new one, to
/// the same key: a server may take longer over a grant than a device waits for a request.
pub async fn deliver(
    met: &Met,
    grant: &str,
    secret: Option<&ClaimSecret>,
) -> Result<ClaimAccepted, ClaimFailure> {
    let peer = met.address.to_string();
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| {
        ClaimFailure::Unreachable(HttpError::Answer { peer: peer.clone(), source })
    };
    let pin = Pin::Device(met.device_key.fingerprint());
    let stream = http::connect_address(met.address, &peer, pin).await?;
    let proof = secret.map(|secret| -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        let context = ClaimContext {
            exporter: tls::exporter(stream.get_ref().1)?,
            device_pub: met.device_key.bytes(),
            server_pub: Grant::open(grant)?.server_pub,
            grant,
        };
        Ok(secret.prove(&context))
    });
    let proof = proof.transpose().map_err(unreadable)?;
    let body = serde_json::to_vec(&ClaimRequest { grant: grant.to_owned(), proof })
        .map_err(|error| unreadable(error.into()))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/claim")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(Bytes::from(body)))
        .map_err(|error| unreadable(error.into()))?;
    let answer = http::send(stream, &peer, request, CLAIM_BYTES_MAX, ANSWER).await?;
    if answer.status == StatusCode::OK {
        return serde_json::from_slice(&answer.body).map_err(|error| unreadable(error.into()));
    }
    let refusal = serde_json::from_slice::<Refusal>(&answer.body).unwrap_or_default();
    Err(ClaimFailure::Refused {
        status: answer.status.as_u16(),
        detail: refusal.detail,
        server: refusal.server,
        claim: refusal.claim,
    })
}

/// What a device's problem says. All of it may be missing in a stranger's answer.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    detail: Untrusted,
    #[serde(default)]
    server: Option<ServerIdentity>,
    #[serde(default)]
    claim: Option<ClaimMode>,
}

/// Why a device was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimFailure {
    /// No packet came from an address that it announced.
    #[error("it announced no address that it answers from")]
    NoAddress,
    /// It cannot be reached, or its answer not read.
    #[error("unreachable")]
    Unreachable(#[source] HttpError),
    /// Somebody else answers at its address.
    #[error("wrong key: what answers there is not the device that was announced")]
    WrongKey,
    /// It said no.
    #[error("{}", refusal_text(*status, detail, *server))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        detail: Untrusted,
        /// The server it belongs to.
        server: Option<ServerIdentity>,
        /// What it asks its claimer to prove, if that was missing or wrong.
        claim: Option<ClaimMode>,
    },
}

impl ClaimFailure {
    /// What became of the device, in the words of `POST /discover`.
    pub fn outcome(&self) -> DiscoverOutcome {
        match self {
            Self::NoAddress | Self::Unreachable(_) => DiscoverOutcome::Unreachable,
            Self::WrongKey | Self::Refused { .. } => DiscoverOutcome::Refused,
        }
    }

    /// What would help, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { status: 409, .. } => Some("run `sudo fleetd reset` on the device"),
            Self::Refused { claim: Some(mode), .. } => secret_hint(*mode),
            // The device's own sentence says what to do about the rest.
            Self::Refused { status: 403, detail, .. } if detail.raw().contains("policy") => {
                Some("edit /etc/fleetd/policy.yaml on the device")
            }
            Self::Refused { .. } => None,
            Self::NoAddress | Self::Unreachable(_) => {
                Some("check that TCP port 6789 of the device is open to this host")
            }
            Self::WrongKey => Some("run `fleetd info` on the device and compare its fingerprint"),
        }
    }
}

/// Where the secret is that a device asks for.
pub(super) fn secret_hint(mode: ClaimMode) -> Option<&'static str> {
    match mode {
        ClaimMode::Code => Some("`sudo fleetd info` on the device shows its claim code"),
        ClaimMode::Key => {
            Some("`fleets configure --claim-key-file FILE` brings the key that its owner put on it")
        }
        ClaimMode::Open | ClaimMode::Disabled => None,
    }
}

impl From<HttpError> for ClaimFailure {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::WrongKey { .. } => Self::WrongKey,
            other => Self::Unreachable(other),
        }
    }
}

fn refusal_text(status: u16, detail: &Untrusted, server: Option<ServerIdentity>) -> String {
    match server {
        Some(server) => format!("already managed by {server}"),
        None if detail.raw().is_empty() => format!("the device refused with status {status}"),
        None => format!("the device refused: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::ClaimStatus;
    use crate::identity::PrivateKey;
    use crate::operator::pretend::Pretend;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed(&[seed; 32])
    }

    fn target(addresses: Vec<SocketAddr>, key: &PrivateKey) -> Target {
        Target {
            device_id: "rpi4-001".parse().unwrap(),
            addresses,
            fingerprint: key.public().fingerprint(),
            claim: None,
        }
    }

    fn closed_port() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_device_is_met_where_it_answers_and_takes_the_grant() {
        let agent = Pretend::start(&key(1), |_| {
            (200, r#"{"device_id":"rpi4-001","status":"claimed"}"#.to_owned())
        })
        .await;
        let target = target(vec![closed_port(), agent.address], &key(1));
        let met = meet(&target).await.unwrap();
        assert_eq!((met.device_key, met.address), (key(1).public(), agent.address));

        let accepted = deliver(&met, "the-grant", None).await.unwrap();
        assert_eq!(accepted.status, ClaimStatus::Claimed);
        let asked = agent.asked();
        assert_eq!(asked.len(), 1, "meeting asks nothing");
        assert_eq!(asked[0].line, "POST /v1/claim");
        assert_eq!(asked[0].body, r#"{"grant":"the-grant"}"#);
        assert!(!asked[0].headers.contains_key("authorization"));
    }

    #[tokio::test]
    async fn a_stranger_is_named_and_told_nothing() {
        let stranger = Pretend::start(&key(2), |_| (200, String::new())).await;
        let target = target(vec![stranger.address, closed_port()], &key(1));
        assert!(matches!(meet(&target).await, Err(ClaimFailure::WrongKey)));
        let met = Met {
            device_id: target.device_id,
            device_key: key(1).public(),
            address: stranger.address,
        };
        assert!(matches!(deliver(&met, "the-grant", None).await, Err(ClaimFailure::WrongKey)));
        assert!(stranger.asked().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_reason_and_an_absent_device_is_unreachable() {
        let server = key(9).public().identity();
        let body = format!(r#"{{"status":409,"detail":"taken\u001b[2J","server":"{server}"}}"#);
        let agent = Pretend::start(&key(1), move |_| (409, body.clone())).await;
        let met = meet(&target(vec![agent.address], &key(1))).await.unwrap();
        let failure = deliver(&met, "the-grant", None).await.unwrap_err();
        assert_eq!(failure.to_string(), format!("already managed by {server}"));
        assert_eq!(failure.outcome(), DiscoverOutcome::Refused);

        let absent = meet(&target(vec![closed_port()], &key(1))).await.unwrap_err();
        assert_eq!(absent.outcome(), DiscoverOutcome::Unreachable);
        assert!(matches!(meet(&target(vec![], &key(1))).await, Err(ClaimFailure::NoAddress)));
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_an_error() {
        for reply in ["", "{}", "<html>", r#"{"device_id":"x","status":"owned"}"#] {
            let agent = Pretend::start(&key(1), move |_| (200, reply.to_owned())).await;
            let met = meet(&target(vec![agent.address], &key(1))).await.unwrap();
            let failure = deliver(&met, "the-grant", None).await.unwrap_err();
            assert!(matches!(failure, ClaimFailure::Unreachable(HttpError::Answer { .. })));
        }
    }
}
