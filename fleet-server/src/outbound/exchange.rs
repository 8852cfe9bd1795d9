//! One request over one connection: what is sent is checked first, what comes back is bounded and
//! thrown away, but for its status.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fleet_core::net::authorities::{self, Authorities, AuthoritiesError};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Target;

/// Bytes of a body that is sent: some hundred events.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Headers of the caller's, and the bytes of all of them; receivers take no more than about this.
pub const HEADERS_MAX: usize = 32;
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an answer, of whatever they are: heads, sizes of chunks and what is in them.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of an answer.
const ANSWER_HEADERS_MAX: usize = 64;
/// How long the next address waits for the one before it.
const STAGGER: Duration = Duration::from_millis(250);

/// Headers that say how a request is sent, and so are not the caller's.
const OURS: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::USER_AGENT,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Why there was no exchange.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The body is too long.
    #[error("a body of {0} bytes is not sent: {REQUEST_BYTES_MAX} are the most")]
    Body(usize),
    /// Too many headers.
    #[error("more than {HEADERS_MAX} headers, or {HEADER_BYTES_MAX} bytes of them, are not sent")]
    Headers,
    /// A header that is none, or not the caller's to set. What it says is not repeated: it may be a
    /// secret.
    #[error("header {number} of the request is {problem}")]
    Header {
        /// Which one of them, counted from 1.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No certificate can be judged here.
    #[error("certificates cannot be judged here")]
    Authorities(#[from] AuthoritiesError),
    /// Nobody listens there.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// It took too long until a connection was there.
    #[error("no connection within {:?}", super::CONNECT)]
    Unconnected,
    /// Its certificate is not for this name, or nobody vouches for it; or it speaks no TLS.
    #[error("no trusted connection: {0}")]
    Tls(String),
    /// The answer is no HTTP, or breaks off.
    #[error("the answer cannot be read")]
    Answer(#[source] hyper::Error),
    /// The answer has no end.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    Long,
}

/// What a connection has to do.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The request, if all of it may be sent.
pub(super) fn request(
    target: &Target,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, ExchangeError> {
    if body.len() > REQUEST_BYTES_MAX {
        return Err(ExchangeError::Body(body.len()));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(ExchangeError::Headers);
    }
    let mut checked = HeaderMap::new();
    for (number, (name, value)) in (1..).zip(headers) {
        let wrong = |problem| ExchangeError::Header { number, problem };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("without a name"))?;
        if OURS.contains(&name) {
            return Err(wrong("one that is set by the way it is sent"));
        }
        let value = HeaderValue::from_str(value);
        let value = value.map_err(|_| wrong("of characters that no header has"))?;
        checked.append(name, value);
    }
    let host = target.host_header();
    let host = HeaderValue::from_str(&host).expect("hosts are names or addresses, in ASCII");
    checked.insert(header::HOST, host);
    let agent = HeaderValue::from_static(concat!("FleetD/", env!("CARGO_PKG_VERSION")));
    checked.insert(header::USER_AGENT, agent);
    checked.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.path().clone().into();
    *request.headers_mut() = checked;
    Ok(request)
}

/// Connects to whichever of these addresses answers first, and makes sure of the host's name.
pub(super) async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    authorities: &Authorities,
) -> Result<Box<dyn Stream>, ExchangeError> {
    // Before anybody is called who could not be believed.
    let config = target.is_secure().then(|| authorities.client_config()).transpose()?;
    let stream = connect_first(addresses).await.map_err(ExchangeError::Connect)?;
    let Some(config) = config else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(target.host_name().to_owned());
    let name = name.map_err(|error| ExchangeError::Tls(error.to_string()))?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(ExchangeError::Tls(authorities::connect_problem(&error))),
    }
}

async fn connect_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let attempts = (0_u32..).zip(addresses).map(|(position, address)| async move {
        tokio::time::sleep(STAGGER * position).await;
        TcpStream::connect(address).await
    });
    let mut attempts: FuturesUnordered<_> = attempts.collect();
    let mut failure = io::ErrorKind::NotFound.into();
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Sends a request and reads the whole answer.
pub(super) async fn ask(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, ExchangeError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(ANSWER_HEADERS_MAX);
    let is_over = Arc::new(AtomicBool::new(false));
    let stream = Bounded { stream, left: ANSWER_BYTES_MAX, is_over: is_over.clone() };
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(ExchangeError::Answer)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(ExchangeError::Answer)?;
        let (head, body) = answer.into_parts();
        read_to_end(body).await?;
        Ok(head.status)
    };
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It moves while it is polled; what it fails with, the answer does too.
        _ = &mut connection => answer.await,
    };
    answer
        .map_err(|error| if is_over.load(Ordering::Relaxed) { ExchangeError::Long } else { error })
}

async fn read_to_end(mut body: Incoming) -> Result<(), ExchangeError> {
    while let Some(frame) = body.frame().await {
        frame.map_err(ExchangeError::Answer)?;
    }
    Ok(())
}

/// A stream of which only so much is read, whatever it is that comes.
struct Bounded {
    stream: Box<dyn Stream>,
    left: usize,
    is_over: Arc<AtomicBool>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match self.left.checked_sub(buffer.filled().len() - before) {
            Some(left) => {
                self.left = left;
                read
            }
            None => {
                self.is_over.store(true, Ordering::Relaxed);
                Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()))
            }
        }
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::Chain;

    use super::*;

    #[test]
    fn t15_headers_cannot_end_a_line_nor_say_how_a_request_is_sent() {
        let target: Target = "http://hooks.example/x".parse().unwrap();
        let made = |headers: &[(&str, &str)]| request(&target, headers, Bytes::new());
        for header in [
            ("X-Token", "a\r\nX-Other: b"),
            ("X-Token", "a\nb"),
            ("X-Token", "a\0b"),
            ("X-Token", "\u{7f}"),
            ("X-Token: a\r\nX-Other", "b"),
            ("X Token", "a"),
            ("", "a"),
            ("Schlüssel", "a"),
            ("Host", "127.0.0.1"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("CONNECTION", "upgrade"),
            ("Proxy-Connection", "x"),
        ] {
            let error = made(&[("X-Fine", "fine"), header]).expect_err("a bad header");
            let said = Chain(&error).to_string();
            assert!(said.starts_with("header 2 of the request is "), "{header:?}: {said}");
        }
        let many = [("X-Many", "x"); HEADERS_MAX + 1];
        assert!(matches!(made(&many), Err(ExchangeError::Headers)));
        let long = "x".repeat(HEADER_BYTES_MAX);
        assert!(matches!(made(&[("X-Long", &long)]), Err(ExchangeError::Headers)));
        let body = Bytes::from(vec![0; REQUEST_BYTES_MAX + 1]);
        assert!(matches!(request(&target, &[], body), Err(ExchangeError::Body(_))));

        let request = made(&[("X-Token", "a"), ("x-token", "b")]).expect("a request");
        assert_eq!(request.headers().get_all("x-token").iter().count(), 2);
        assert_eq!(request.headers()[header::HOST], "hooks.example");
        assert_eq!(request.uri(), "/x");
    }
}
