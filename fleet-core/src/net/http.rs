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

use super::authorities::Authorities;
use super::tls::{self, Pin, Shown, TlsError, Voucher};
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
        /// Whom they show to be.
        shown: Box<Shown>,
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

/// A connection to a server, or to a proxy in front of it.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// What tells that it leads to the right server.
    pub voucher: Voucher,
}

/// Connects to a URL's host, trying each of its addresses. At an `https` URL it may be a proxy with
/// a certificate that authorities vouch for; an `http` one leads to the server itself or nowhere.
pub async fn connect(
    url: &ServerUrl,
    pin: Pin,
    authorities: &Authorities,
) -> Result<Reached, HttpError> {
    let name = ServerName::try_from(url.host_name().to_owned()).ok();
    let by_name = name.filter(|_| url.is_secure()).map(|name| (name, authorities.clone()));
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
        match reach(address, &peer, pin, by_name.clone()).await {
            Ok(reached) => return Ok(reached),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to one address, by its key alone; `peer` is how errors call it.
pub async fn connect_address(
    address: SocketAddr,
    peer: &str,
    pin: Pin,
) -> Result<TlsStream<TcpStream>, HttpError> {
    reach(address, peer, pin, None).await.map(|reached| reached.stream)
}

async fn reach(
    address: SocketAddr,
    peer: &str,
    pin: Pin,
    by_name: Option<(ServerName<'static>, Authorities)>,
) -> Result<Reached, HttpError> {
    let (name, authorities) = match by_name {
        Some((name, authorities)) => (name, Some(authorities)),
        None => (ServerName::IpAddress(address.ip().into()), None),
    };
    let (config, verifier) = tls::client_config(pin, authorities)?;
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    let peer = peer.to_owned();
    match (timeout(CONNECT, attempt).await, verifier.verdict()) {
        (Ok(Ok(stream)), Some(Ok(voucher))) => Ok(Reached { stream, voucher: voucher.clone() }),
        (Ok(_), Some(Err(shown))) => {
            Err(HttpError::WrongKey { peer, shown: Box::new(shown.clone()) })
        }
        (Ok(Ok(_)), None) => {
            let source = io::Error::other("it showed no certificate");
            Err(HttpError::Connect { peer, source })
        }
        (Ok(Err(source)), _) => Err(HttpError::Connect { peer, source }),
        (Err(_), _) => Err(HttpError::Timeout { peer }),
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
    Exchange::over(stream, peer).await?.ask(request, bytes_max, deadline).await
}

/// A connection over which requests go one after the other.
pub struct Exchange {
    sender: http1::SendRequest<Full<Bytes>>,
    /// It moves only while it is polled; gone once it has ended.
    connection: Option<Connection>,
    peer: String,
}

impl Exchange {
    /// Begins to speak HTTP; `peer` is what the `Host` header and errors call the other end.
    pub async fn over(stream: TlsStream<TcpStream>, peer: &str) -> Result<Self, HttpError> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| unreadable(peer, error))?;
        let connection: Option<Connection> = Some(Box::pin(connection));
        Ok(Self { sender, connection, peer: peer.to_owned() })
    }

    /// Sends a request and reads the answer, at most `bytes_max` of it. Others may follow.
    pub async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        deadline: Duration,
    ) -> Result<Answer, HttpError> {
        let exchange = async {
            let mut arriving = self.begin(request).await?;
            let answer = arriving.take_rest(bytes_max).await;
            self.connection = arriving.connection.take();
            answer
        };
        let asked = timeout(deadline, exchange).await;
        asked.unwrap_or_else(|_| Err(HttpError::Timeout { peer: self.peer.clone() }))
    }

    /// Sends the last request and waits for the head of the answer, whose body the caller then reads
    /// as it comes.
    pub async fn open(
        mut self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<Arriving, HttpError> {
        let begun = timeout(deadline, self.begin(request)).await;
        begun.unwrap_or_else(|_| Err(HttpError::Timeout { peer: self.peer.clone() }))
    }

    async fn begin(&mut self, mut request: Request<Full<Bytes>>) -> Result<Arriving, HttpError> {
        let peer = self.peer.as_str();
        let host = header::HeaderValue::from_str(peer).map_err(|error| unreadable(peer, error))?;
        request.headers_mut().insert(header::HOST, host);
        let (sender, mut connection) = (&mut self.sender, self.connection.take());
        let answer = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
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
        self.take_rest(bytes_max).await
    }

    async fn take_rest(&mut self, bytes_max: usize) -> Result<Answer, HttpError> {
        let mut body = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if body.len() + bytes.len() > bytes_max {
                let problem = format!("it is longer than {bytes_max} bytes");
                return Err(unreadable(&self.peer, problem));
            }
            body.extend_from_slice(&bytes);
        }
        let headers = std::mem::take(&mut self.headers);
        Ok(Answer { status: self.status, headers, body: body.freeze() })
    }
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
