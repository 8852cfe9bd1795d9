//! WebSocket messages as link frames: binary, bounded, pinged.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::codec::{self, CodecError, Coded};
use crate::limits::FRAME_BYTES_MAX;
use crate::untrusted::Untrusted;
use crate::wire::SUBPROTOCOL;

pub use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// How long the peer may take to make room for a message.
const SEND: Duration = Duration::from_secs(20);
/// Bytes of the reason in a close frame (RFC 6455 §5.5); a peer takes a longer one for an error.
const CLOSE_REASON_BYTES_MAX: usize = 123;
/// Small, because a server holds thousands of these.
const READ_BUFFER_BYTES: usize = 4096;

/// A link's socket.
pub struct FrameSocket<S> {
    inner: WebSocketStream<S>,
}

/// What the peer sent.
#[derive(Debug)]
pub enum Incoming {
    /// A frame.
    Frame(Bytes),
    /// The answer to a ping of ours, with the ping's payload.
    Pong(Bytes),
    /// A ping of the peer's, already answered.
    Ping,
    /// The end, and why.
    Closed(Option<Untrusted>),
}

/// Why a link broke.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The connection failed, or the peer broke the protocol.
    #[error("the link broke")]
    Broken(#[source] Box<Error>),
    /// The peer takes nothing more.
    #[error("the peer reads too slowly")]
    Slow,
    /// The peer sent a message larger than any frame.
    #[error("the peer sent more than {FRAME_BYTES_MAX} bytes at once")]
    TooLarge,
    /// The peer sent something that is no frame.
    #[error("the peer sent something that is no frame")]
    Frame(#[from] CodecError),
    /// The server refused the upgrade.
    #[error("the server answered {0} instead of a link")]
    Upgrade(http::StatusCode),
    /// The peer closed in the middle of the hello.
    #[error("the peer closed the link early: {0}")]
    Closed(Untrusted),
}

impl From<Error> for SocketError {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Self::TooLarge,
            Error::Http(response) => Self::Upgrade(response.status()),
            other => Self::Broken(Box::new(other)),
        }
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * FRAME_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameSocket<S> {
    /// The client's side: asks for an upgrade at `path` on a fresh connection.
    pub async fn connect(stream: S, authority: &str, path: &str) -> Result<Self, SocketError> {
        let request = http::Request::builder()
            .uri(format!("ws://{authority}{path}"))
            .header("Host", authority)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .header("Sec-WebSocket-Protocol", SUBPROTOCOL)
            .body(())
            .map_err(Error::from)?;
        let (inner, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config())).await?;
        Ok(Self { inner })
    }

    /// The server's side: a connection whose upgrade was answered already.
    pub async fn accepted(stream: S) -> Self {
        let inner = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
        Self { inner }
    }

    /// The next thing the peer says. May be dropped while it waits, without loss.
    pub async fn receive(&mut self) -> Result<Incoming, SocketError> {
        match self.inner.next().await {
            None => Ok(Incoming::Closed(None)),
            Some(Ok(Message::Binary(frame))) => Ok(Incoming::Frame(frame)),
            Some(Ok(Message::Pong(payload))) => Ok(Incoming::Pong(payload)),
            Some(Ok(Message::Ping(_))) => Ok(Incoming::Ping),
            Some(Ok(Message::Close(frame))) => {
                Ok(Incoming::Closed(frame.map(|frame| Untrusted::from(frame.reason.as_str()))))
            }
            Some(Ok(Message::Text(_) | Message::Frame(_))) => Err(CodecError::Malformed.into()),
            Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => Ok(Incoming::Closed(None)),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// The next frame, where nothing else makes sense: during the hello.
    pub async fn receive_frame<T: Coded>(&mut self) -> Result<T, SocketError> {
        loop {
            match self.receive().await? {
                Incoming::Frame(bytes) => return Ok(codec::decode(&bytes)?),
                Incoming::Ping | Incoming::Pong(_) => {}
                Incoming::Closed(reason) => {
                    return Err(SocketError::Closed(reason.unwrap_or_default()));
                }
            }
        }
    }

    /// Sends a frame.
    pub async fn send<T: Coded>(&mut self, frame: &T) -> Result<(), SocketError> {
        self.send_message(Message::Binary(codec::encode(frame)?.into())).await
    }

    /// Sends a ping; the answer comes as [`Incoming::Pong`].
    pub async fn ping(&mut self, payload: Vec<u8>) -> Result<(), SocketError> {
        self.send_message(Message::Ping(payload.into())).await
    }

    /// Says goodbye and waits a moment for the peer to say the same.
    pub async fn close(mut self, reason: &str) {
        let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let frame = CloseFrame { code: CloseCode::Normal, reason: reason[..end].into() };
        let goodbye = async {
            self.inner.send(Message::Close(Some(frame))).await?;
            while let Some(message) = self.inner.next().await {
                message?;
            }
            Ok::<_, Error>(())
        };
        // A peer that is gone already needs no goodbye.
        match timeout(Duration::from_secs(1), goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the peer left without a goodbye"),
            Err(_) => tracing::debug!("the peer did not answer the goodbye"),
        }
    }

    async fn send_message(&mut self, message: Message) -> Result<(), SocketError> {
        timeout(SEND, self.inner.send(message)).await.map_err(|_| SocketError::Slow)??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_long_goodbye_is_cut_and_understood() {
        let (near, far) = duplex(4096);
        let near = FrameSocket::accepted(near).await;
        let inner = WebSocketStream::from_raw_socket(far, Role::Client, Some(config())).await;
        let mut far = FrameSocket { inner };
        let long = "é".repeat(100);
        let (said, ()) = tokio::join!(far.receive(), near.close(&long));
        let Ok(Incoming::Closed(Some(reason))) = said else { panic!("{said:?}") };
        assert_eq!(reason.raw(), "é".repeat(61));
    }
}
