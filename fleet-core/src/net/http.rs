//! Outgoing HTTP inside pinned TLS: one request, one connection, everything bounded.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{self, Pin, TlsError};
use super::url::ServerUrl;

/// How long a connection may take, TLS included.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long a whole request may take unless its caller says otherwise.
pub const REQUEST: Duration = Duration::from_secs(30);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The name has no address.
    #[error("cannot find the host {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot reach {peer}")]
    Connect {
        /// Where.
        peer: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers who holds another key.
    #[error("{peer} is not who it should be: it holds another key")]
    WrongKey {
        /// Where.
        peer: String,
    },
    /// The time is up.
    #[error("{peer} did not answer in time")]
    Timeout {
        /// Where.
        peer: String,
    },
    /// The answer is no HTTP, breaks off, or is too long.
    #[error("the answer of {peer} cannot be read")]
    Answer {
        /// Where.
        peer: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS could not be set up on our side.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: hyper::HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Connects to a URL's host, trying each of its addresses.
pub async fn connect(url: &ServerUrl, pin: Pin) -> Result<TlsStream<TcpStream>, HttpError> {
    let peer = url.authority();
    let resolve = tokio::net::lookup_host((url.host(), url.port()));
    let addresses = match timeout(CONNECT, resolve).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(source)) => {
            return Err(HttpError::Resolve { host: url.host().to_owned(), source });
        }
        Err(_) => return Err(HttpError::Timeout { peer }),
    };
    let mut last =
        HttpError::Resolve { host: url.host().to_owned(), source: io::ErrorKind::NotFound.into() };
    for address in addresses {
        match connect_address(address, &peer, pin).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to one address; `peer` is how errors call it.
pub async fn connect_address(
    address: SocketAddr,
    peer: &str,
    pin: Pin,
) -> Result<TlsStream<TcpStream>, HttpError> {
    let connector = TlsConnector::from(tls::client_config(pin)?);
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connector.connect(ServerName::IpAddress(address.ip().into()), stream).await
    };
    match timeout(CONNECT, attempt).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if tls::is_wrong_key(&error) => {
            Err(HttpError::WrongKey { peer: peer.to_owned() })
        }
        Ok(Err(source)) => Err(HttpError::Connect { peer: peer.to_owned(), source }),
        Err(_) => Err(HttpError::Timeout { peer: peer.to_owned() }),
    }
}

/// Sends one request over a fresh connection and reads the answer, at most `bytes_max` of it.
pub async fn send(
    stream: TlsStream<TcpStream>,
    peer: &str,
    mut request: Request<Full<Bytes>>,
    bytes_max: usize,
    deadline: Duration,
) -> Result<Answer, HttpError> {
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Answer {
        peer: peer.to_owned(),
        source,
    };
    let host = header::HeaderValue::from_str(peer).map_err(|error| broken(error.into()))?;
    request.headers_mut().insert(header::HOST, host);
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, bytes_max).collect().await?.to_bytes();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((head, body))
        };
        // The connection moves only while it is polled; the answer ends both.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            closed = connection => match closed {
                Ok(()) => answer.await,
                Err(error) => Err(error.into()),
            },
        }
    };
    match timeout(deadline, exchange).await {
        Ok(Ok((head, body))) => Ok(Answer { status: head.status, headers: head.headers, body }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(broken(format!("it is longer than {bytes_max} bytes").into()))
        }
        Ok(Err(error)) => Err(broken(error)),
        Err(_) => Err(HttpError::Timeout { peer: peer.to_owned() }),
    }
}
