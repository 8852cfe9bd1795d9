//! One port, two protocols: the first byte tells TLS from plain HTTP.
//!
//! A peer that says nothing is shown out before it costs more than a socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls;

/// How long a peer may take for its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// How long a peer may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to pause when the system is out of descriptors or memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection, its protocol known.
pub enum Accepted {
    /// Plain HTTP.
    Plain(TcpStream),
    /// Inside TLS; the secret is what link signatures cover.
    Tls {
        /// The stream.
        stream: Box<TlsStream<TcpStream>>,
        /// See [`tls::exporter`].
        exporter: [u8; 32],
    },
}

impl Accepted {
    /// Whether the peer came by TLS, and that connection's secret.
    pub fn exporter(&self) -> Option<[u8; 32]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls { exporter, .. } => Some(*exporter),
        }
    }
}

/// Learns the protocol of a fresh connection and does its handshake. To be run off the accept
/// loop. Errors are of the peer's making.
pub async fn negotiate(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let read = timeout(FIRST_BYTE, stream.peek(&mut first)).await.map_err(|_| silent())??;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first[0] != TLS_HANDSHAKE {
        return Ok(Accepted::Plain(stream));
    }
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = timeout(HANDSHAKE, handshake).await.map_err(|_| silent())??;
    let exporter = tls::exporter(stream.get_ref().1).map_err(io::Error::other)?;
    Ok(Accepted::Tls { stream: Box::new(stream), exporter })
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer said nothing in time")
}

/// What an accept loop does about an error: nothing for one lost connection, a pause when the
/// system has run out of something.
pub async fn pause_after(error: &io::Error) {
    let lost = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    );
    if !lost {
        tracing::warn!(%error, "cannot accept connections, pausing");
        tokio::time::sleep(EXHAUSTED).await;
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls { stream, .. } => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
