//! The live stream, as a program of the operator's reads it.
//!
//! A stream is one long answer over a connection of its own. Whoever reads too slowly is not sent a
//! backlog but fewer, newer rows; so there is nothing here that grows.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{self, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::client::{Ask, Client};
use super::error::ClientError;
use super::sse::Parser;
use crate::api::{Route, StreamMessage, StreamView};
use crate::id::Uid;
use crate::net::http::{self, Arriving, HttpError};
use crate::net::url::ServerUrl;

/// Without a sign of life for so long, the server counts as gone. It gives one every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a refusal.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// An open stream.
pub struct EventStream(Events);

/// A message that has come.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Where to go on from, should the stream end after this message.
    pub id: Option<String>,
    /// The message.
    pub message: StreamMessage,
}

/// Server-sent events of a route, as they come.
pub(super) struct Events {
    url: ServerUrl,
    route: Route,
    arriving: Arriving,
    parser: Parser,
    heard: Instant,
    silence_max: Duration,
}

impl Client {
    /// Opens the stream; with the id of the last message that came, it goes on from there if the
    /// server still can.
    pub async fn stream(&self, since: Option<&str>) -> Result<EventStream, ClientError> {
        let mut ask = Ask::default();
        if let Some(since) = since {
            ask.query("since", since);
        }
        self.events(Route::StreamOpen, ask).await.map(EventStream)
    }

    /// Opens a stream of server-sent events.
    pub(super) async fn events(&self, route: Route, ask: Ask) -> Result<Events, ClientError> {
        let mut request = self.request(&route, ask)?;
        let kind = HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert(header::ACCEPT, kind);
        let arriving = self.open(request).await?;
        Ok(Events {
            url: self.url().clone(),
            route,
            arriving,
            parser: Parser::default(),
            heard: Instant::now(),
            silence_max: SILENCE_MAX,
        })
    }

    /// Asks, and waits for the head of an answer that is a yes.
    pub(super) async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Arriving, ClientError> {
        let exchange = self.connect().await?;
        let failed = |source| self.unanswered(source);
        let arriving = exchange.open(request, http::REQUEST).await.map_err(failed)?;
        if arriving.status.is_success() {
            return Ok(arriving);
        }
        Err(self.no(&arriving.rest(REFUSAL_BYTES_MAX).await.map_err(failed)?))
    }

    /// Says what the reader of a stream looks at.
    pub async fn stream_view(&self, stream: Uid, view: &StreamView) -> Result<(), ClientError> {
        self.exchange(&Route::StreamView(stream), Ask::body(view)?).await.map(drop)
    }
}

impl EventStream {
    /// The next message; nothing once the server has closed the stream. May be dropped at any
    /// moment and called again. Messages that only a later release knows are passed over.
    pub async fn next(&mut self) -> Result<Option<Arrived>, ClientError> {
        let arrived = self.0.next(StreamMessage::read).await?;
        Ok(arrived.map(|(id, message)| Arrived { id, message }))
    }
}

impl Events {
    /// The next event that `read` knows, with its id.
    pub(super) async fn next<T>(
        &mut self,
        read: impl Fn(&str, &str) -> Result<Option<T>, serde_json::Error>,
    ) -> Result<Option<(Option<String>, T)>, ClientError> {
        loop {
            while let Some(event) = self.parser.next().map_err(|error| self.unreadable(error))? {
                let message = read(&event.name, &event.data).map_err(|source| {
                    ClientError::Answer { route: Box::new(self.route.clone()), source }
                })?;
                if let Some(message) = message {
                    return Ok(Some((event.id, message)));
                }
            }
            let bytes = tokio::select! {
                biased;
                bytes = self.arriving.next() => bytes,
                () = sleep_until(self.heard + self.silence_max) => {
                    let secs = self.silence_max.as_secs();
                    return Err(ClientError::Silent { url: self.url.clone(), secs });
                }
            };
            let failed = |source| ClientError::Exchange { url: self.url.clone(), source };
            let Some(bytes) = bytes.map_err(failed)? else { return Ok(None) };
            self.heard = Instant::now();
            self.parser.push(bytes);
        }
    }

    fn unreadable(&self, error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
        let source = HttpError::Answer { peer: self.url.authority(), source: error.into() };
        ClientError::Exchange { url: self.url.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Chain;
    use crate::identity::PrivateKey;
    use crate::net::shutdown::Tasks;
    use crate::net::{accept, tls};
    use crate::operator::exit::Exit;
    use crate::operator::pretend::Pretend;
    use crate::secret::{ApiKey, KeyKind};

    async fn pretend(status: u16, body: &'static str) -> (Pretend, Client) {
        let key = PrivateKey::from_seed(&[7; 32]);
        let pretend = Pretend::start(&key, move |_| (status, body.to_owned())).await;
        let key = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let client = Client::new(pretend.url(), key).unwrap();
        (pretend, client)
    }

    #[tokio::test]
    async fn messages_come_with_their_ids_until_the_server_closes() {
        let (pretend, client) = pretend(
            200,
            "id: a-1-0\nevent: later\ndata: {}\n\nevent: ping\ndata: \
             {\"time\":\"2024-01-15T10:30:00Z\",\"skipped\":0}\n\n",
        )
        .await;
        let mut stream = client.stream(Some("a-0-0")).await.unwrap();
        let arrived = stream.next().await.unwrap().unwrap();
        assert_eq!(arrived.id.as_deref(), Some("a-1-0"));
        assert!(matches!(arrived.message, StreamMessage::Ping(_)));
        assert!(stream.next().await.unwrap().is_none());
        let asked = &pretend.asked()[0];
        assert_eq!(asked.line, "GET /api/v1/stream?since=a-0-0");
        assert_eq!(asked.headers["accept"], "text/event-stream");
    }

    #[tokio::test]
    async fn a_no_is_told_like_any_other() {
        let (_pretend, client) = pretend(503, "").await;
        let error = client.stream(None).await.err().unwrap();
        assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
        let (_pretend, client) = self::pretend(401, "").await;
        let error = client.stream(None).await.err().unwrap();
        assert_eq!(error.exit(), Exit::NotAllowed);
    }

    #[tokio::test]
    async fn what_is_not_understood_is_an_error() {
        let (_pretend, client) = pretend(200, "event: ping\ndata: nonsense\n\n").await;
        let error = client.stream(None).await.unwrap().next().await.unwrap_err();
        assert!(matches!(error, ClientError::Answer { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_drops_the_connection_is_told_in_our_words() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = tls::server_config(&key).unwrap();
        let tasks = Tasks::default();
        tasks.spawn("short server", async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = accept::negotiate(stream, config).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
        });
        let text = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let url = ServerUrl::from_address(address.ip(), address.port());
        let mut stream = Client::new(url, text).unwrap().stream(None).await.unwrap();
        let error = stream.next().await.unwrap_err();
        assert!(error.is_passing());
        let told = Chain(&error).to_string();
        assert!(told.ends_with(": the connection broke off"), "{told}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_gone() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = tls::server_config(&key).unwrap();
        let tasks = Tasks::default();
        tasks.spawn("silent server", async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = accept::negotiate(stream, config).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n: hello\n\n").await.unwrap();
            stream.flush().await.unwrap();
            // It stays until the client leaves.
            while stream.read_u8().await.is_ok() {}
        });
        let text = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let url = ServerUrl::from_address(address.ip(), address.port());
        let mut stream = Client::new(url, text).unwrap().stream(None).await.unwrap();
        stream.0.silence_max = Duration::from_millis(100);
        let error = stream.next().await.unwrap_err();
        assert!(matches!(error, ClientError::Silent { .. }), "{error:?}");
        assert_eq!(error.exit(), Exit::TimedOut);
    }
}
