//! Outgoing HTTP inside pinned TLS: one request, one connection, everything bounded.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
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
    request: Request<Full<Bytes>>,
    bytes_max: usize,
    deadline: Duration,
) -> Result<Answer, HttpError> {
    let exchange = async { begin(stream, peer, request).await?.rest(bytes_max).await };
    let exchanged = timeout(deadline, exchange).await;
    exchanged.unwrap_or_else(|_| Err(HttpError::Timeout { peer: peer.to_owned() }))
}

/// Sends one request over a fresh connection and waits for the head of the answer, whose body the
/// caller then reads as it comes.
pub async fn open(
    stream: TlsStream<TcpStream>,
    peer: &str,
    request: Request<Full<Bytes>>,
    deadline: Duration,
) -> Result<Arriving, HttpError> {
    let begun = timeout(deadline, begin(stream, peer, request)).await;
    begun.unwrap_or_else(|_| Err(HttpError::Timeout { peer: peer.to_owned() }))
}

/// An answer whose body is still to come.
pub struct Arriving {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: hyper::HeaderMap,
    body: Incoming,
    /// The connection moves only while it is polled; gone once it has ended.
    connection: Option<Connection>,
    peer: String,
}

type Connection = BoxFuture<'static, hyper::Result<()>>;

impl Arriving {
    /// The next bytes of the body; nothing at its end. What was read is not lost if this is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            tokio::select! {
                biased;
                frame = self.body.frame() => match frame {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(unreadable(&self.peer, error)),
                    Some(Ok(frame)) => {
                        if let Ok(bytes) = frame.into_data() {
                            return Ok(Some(bytes));
                        }
                    }
                },
                // Its error, if it has one, is the body's too.
                _ = ended(&mut self.connection) => self.connection = None,
            }
        }
    }

    /// The rest of the answer, at most `bytes_max` of it.
    pub async fn rest(mut self, bytes_max: usize) -> Result<Answer, HttpError> {
        let mut body = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if body.len() + bytes.len() > bytes_max {
                let problem = format!("it is longer than {bytes_max} bytes");
                return Err(unreadable(&self.peer, problem));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Answer { status: self.status, headers: self.headers, body: body.freeze() })
    }
}

async fn begin(
    stream: TlsStream<TcpStream>,
    peer: &str,
    mut request: Request<Full<Bytes>>,
) -> Result<Arriving, HttpError> {
    let host = header::HeaderValue::from_str(peer).map_err(|error| unreadable(peer, error))?;
    request.headers_mut().insert(header::HOST, host);
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreadable(peer, error))?;
    let mut connection: Option<Connection> = Some(Box::pin(connection));
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        _ = ended(&mut connection) => {
            connection = None;
            answer.await
        }
    };
    let (head, body) = answered.map_err(|error| unreadable(peer, error))?.into_parts();
    let peer = peer.to_owned();
    Ok(Arriving { status: head.status, headers: head.headers, body, connection, peer })
}

/// Moves a connection until it ends; one that has ended stays so.
async fn ended(connection: &mut Option<Connection>) -> hyper::Result<()> {
    match connection {
        Some(connection) => connection.await,
        None => std::future::pending().await,
    }
}

fn unreadable(
    peer: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> HttpError {
    HttpError::Answer { peer: peer.to_owned(), source: source.into() }
}
