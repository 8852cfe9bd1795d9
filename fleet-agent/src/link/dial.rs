//! From a URL to a link on which both ends have proved who they are.

use std::error::Error;
use std::io;
use std::time::Duration;

use fleet_core::api::Route;
use fleet_core::identity::PublicKey;
use fleet_core::net::authorities::Authorities;
use fleet_core::net::http::{self, HttpError};
use fleet_core::net::socket::{FrameSocket, SocketError};
use fleet_core::net::tls::{self, Shown, Voucher};
use fleet_core::net::url::ServerUrl;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::{
    Binding, Facts, Greeting, Hello, LinkContext, Proof, RefusedReason, Standing, ToAgent, VERSION,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::state::Device;
use crate::state::folder::StateError;
use crate::state::membership::Target;

/// How long the server may take from the upgrade to the standing.
const HELLO: Duration = Duration::from_secs(20);

/// A link's socket on this side.
pub(super) type Socket = FrameSocket<TlsStream<TcpStream>>;

/// A link, open on both sides.
pub(super) struct Opened {
    pub(super) socket: Socket,
    pub(super) server: PublicKey,
    /// Where it leads.
    pub(super) url: ServerUrl,
    pub(super) standing: Standing,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Socket(SocketError),
    #[error("the server closed the connection without a goodbye")]
    NoGoodbye,
    #[error("cannot take the connection's secret")]
    Exporter(#[from] rustls::Error),
    #[error("cannot make a nonce")]
    Random(#[from] getrandom::Error),
    #[error("cannot hold on to the server's key")]
    State(#[from] StateError),
    #[error("the server did not greet in time")]
    Slow,
    #[error("the server speaks no version of the link that this agent speaks: {0}")]
    Version(Untrusted),
    #[error("the server has no room now: {0}")]
    Busy(Untrusted),
    #[error("another server than this device's own answered")]
    OtherServer,
    #[error("another server than this device's own answered: {0}")]
    Stranger(Box<Shown>),
    /// Or a proxy passes on another name than the device calls it by, or the server does not know
    /// of the proxy.
    #[error("the server did not prove that it holds its key")]
    Unproved,
    #[error("the server said something else than how the device stands")]
    NoStanding,
    #[error("the server does not answer pings any more")]
    Silent,
    #[error("the server closed the link: {0}")]
    Closed(Untrusted),
}

/// A server that dies or is cut off leaves without the goodbyes of TLS and WebSocket; what the
/// libraries call that helps nobody.
impl From<SocketError> for LinkError {
    fn from(error: SocketError) -> Self {
        if is_cut_off(&error) { Self::NoGoodbye } else { Self::Socket(error) }
    }
}

fn is_cut_off(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind.is_some_and(|kind| matches!(kind, UnexpectedEof | ConnectionReset | BrokenPipe))
        // The WebSocket library's own error for it, whose type is not ours to name.
        || error.to_string().contains("without closing handshake")
        || error.source().is_some_and(is_cut_off)
}

/// Dials the places in turn; the first one that leads to the right server will do. The error is
/// that of the last place.
pub(super) async fn dial(
    target: &Target,
    device: &Device,
    facts: &Facts,
) -> Result<Opened, LinkError> {
    let mut last = LinkError::OtherServer;
    for url in &target.urls {
        let attempt = Box::pin(open(url, target, device, facts));
        match attempt.await {
            Ok(opened) => {
                tracing::info!(%url, server = %opened.server.identity(), "the server answered");
                return Ok(opened);
            }
            Err(error) => {
                tracing::debug!(%url, error = %fleet_core::Chain(&error), "no link by this URL");
                last = error;
            }
        }
    }
    Err(last)
}

async fn open(
    url: &ServerUrl,
    target: &Target,
    device: &Device,
    facts: &Facts,
) -> Result<Opened, LinkError> {
    let Device { identity, membership, .. } = device;
    // They may have changed since the last time, so they are read anew.
    let authorities = Authorities::of(device.ca_file.clone());
    let reached = match http::connect(url, target.server.pin(), &authorities).await {
        Err(HttpError::WrongKey { shown, .. }) => return Err(LinkError::Stranger(shown)),
        reached => reached?,
    };
    let stream = reached.stream;
    let (shown, binding) = match reached.voucher {
        Voucher::Key(key) => (Some(key), Binding::Exporter(tls::exporter(stream.get_ref().1)?)),
        Voucher::Name => (None, Binding::Proxied { name: url.host_name().to_owned() }),
    };
    let greet = async {
        let mut socket =
            FrameSocket::connect(stream, &url.authority(), &Route::Link.path()).await?;
        let hello = Hello {
            versions: vec![VERSION],
            device_pub: identity.key.public().bytes(),
            nonce: nonce()?,
        };
        socket.send(&hello).await?;
        let context = welcome(socket.receive_frame().await?, &hello, binding)?;
        let server = PublicKey::from_bytes(context.server_pub);
        let is_shown = shown.is_none_or(|shown| shown == server);
        if !is_shown || !target.server.accepts(server) || !membership.met(server)? {
            return Err(LinkError::OtherServer);
        }
        let proof = Proof {
            signature: context.sign_as_device(&identity.key),
            device_id: device.id().as_str().to_owned(),
            enrol_key: target.enrol_key.as_ref().map(|key| key.reveal().to_string()),
            facts: facts.clone(),
        };
        socket.send(&proof).await?;
        match socket.receive_frame().await? {
            ToAgent::Standing(standing) => {
                Ok(Opened { socket, server, url: url.clone(), standing })
            }
            ToAgent::Ack { .. }
            | ToAgent::Config(_)
            | ToAgent::Watch { .. }
            | ToAgent::Command(_)
            | ToAgent::CancelCommand { .. }
            | ToAgent::CommandNoted { .. }
            | ToAgent::Logs(_)
            | ToAgent::LogsEnd { .. }
            | ToAgent::LogsNoted { .. }
            | ToAgent::NewKeyNoted { .. } => Err(LinkError::NoStanding),
        }
    };
    timeout(HELLO, greet).await.map_err(|_| LinkError::Slow)?
}

/// What both ends sign, once the server has.
fn welcome(greeting: Greeting, hello: &Hello, binding: Binding) -> Result<LinkContext, LinkError> {
    match greeting {
        Greeting::Welcome { version: VERSION, nonce, server_pub, signature } => {
            let context = LinkContext {
                device_pub: hello.device_pub,
                device_nonce: hello.nonce,
                server_pub,
                server_nonce: nonce,
                binding,
            };
            if context.server_signed(&signature) { Ok(context) } else { Err(LinkError::Unproved) }
        }
        Greeting::Welcome { version, .. } => {
            Err(LinkError::Version(format!("it chose {version}").into()))
        }
        Greeting::Refused { reason: RefusedReason::Version, detail } => {
            Err(LinkError::Version(detail.into()))
        }
        Greeting::Refused { reason: RefusedReason::Busy, detail } => {
            Err(LinkError::Busy(detail.into()))
        }
    }
}

fn nonce() -> Result<[u8; 32], getrandom::Error> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}
