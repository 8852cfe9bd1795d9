//! A server in this process on a port of its own, an HTTP client, and an agent that speaks the
//! real link over real TLS.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleet_core::codec::{self, Coded};
use fleet_core::identity::{PrivateKey, ServerIdentity};
use fleet_core::metric::Sample;
use fleet_core::net::http::connect_address;
use fleet_core::net::socket::{FrameSocket, Incoming};
use fleet_core::net::tls::{self, Pin};
use fleet_core::secret::ApiKey;
use fleet_core::time::{Clock, Timestamp};
use fleet_core::wire::{
    Binding, Facts, Greeting, Hello, LinkContext, Proof, QueuedReport, Samples, Standing, ToAgent,
    ToServer, VERSION,
};
use fleet_server::app::{Server, StartError};
use fleet_server::config::{Patience, ServerConfig};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

/// No test waits longer than this for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A clock that stands where it was put, and breaks when told to.
pub(crate) struct ManualClock {
    millis: AtomicI64,
    is_broken: AtomicBool,
}

impl ManualClock {
    pub(crate) fn advance(&self, duration: Duration) {
        self.millis.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// From now on, whoever reads the clock panics.
    pub(crate) fn break_it(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        assert!(!self.is_broken.load(Ordering::SeqCst), "the clock is broken, as the test wants");
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }
}

/// A server and its folder.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    server: Option<Server>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(Self::config).await
    }

    /// A server for other programs, which may take their time on a busy machine.
    pub(crate) async fn start_patient() -> Self {
        Self::start_with(Self::patient_config).await
    }

    fn patient_config(&self) -> ServerConfig {
        let patience = ServerConfig::new(PathBuf::new()).patience;
        ServerConfig { patience, ..self.config() }
    }

    /// The server again, after something was done to its database; on another port.
    pub(crate) async fn restart_patient(&mut self, meanwhile: impl AsyncFnOnce(&Path)) {
        self.stop().await;
        meanwhile(&self.database()).await;
        self.server = Some(self.launch(self.patient_config()).await.unwrap());
    }

    pub(crate) async fn start_with(config: impl FnOnce(&Self) -> ServerConfig) -> Self {
        let now: Timestamp = "2024-01-15T10:30:00Z".parse().unwrap();
        let mut rig = Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock {
                millis: AtomicI64::new(now.millis()),
                is_broken: AtomicBool::new(false),
            }),
            server: None,
        };
        rig.server = Some(rig.launch(config(&rig)).await.unwrap());
        rig
    }

    pub(crate) fn config(&self) -> ServerConfig {
        let mut config = ServerConfig::new(self.database());
        config.port = 0;
        config.bind = Some(Ipv4Addr::LOCALHOST.into());
        config.interfaces = vec!["lo".to_owned()];
        config.patience = Patience {
            head: Duration::from_millis(300),
            body: Duration::from_millis(300),
            hello: Duration::from_millis(300),
            reply: Duration::from_millis(300),
            lines: Duration::from_millis(300),
        };
        config
    }

    pub(crate) async fn launch(&self, config: ServerConfig) -> Result<Server, StartError> {
        Server::start(config, self.clock.clone()).await
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.server = Some(self.launch(self.config()).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("data/fleet.db")
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server().address()
    }

    /// Where it is, and who.
    pub(crate) fn whereabouts(&self) -> (SocketAddr, ServerIdentity) {
        (self.address(), self.server().identity())
    }

    pub(crate) fn admin(&self) -> String {
        let text = std::fs::read_to_string(self.server().admin_path()).unwrap();
        text.trim().to_owned()
    }

    /// A request as an operator sends it.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.ask_with(method, path, Some(&self.admin()), body).await
    }

    pub(crate) async fn ask_with(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut headers = Vec::new();
        if let Some(key) = key {
            headers.push(("authorization", format!("Bearer {key}")));
        }
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        send(self.address(), Ipv4Addr::LOCALHOST.into(), method, path, &headers, body).await
    }

    pub(crate) async fn key(&self, wish: Value) -> String {
        let made = self.ask("POST", "/api/v1/keys", Some(wish)).await.expect(201);
        made["key"].as_str().unwrap().to_owned()
    }

    /// A device of the fleet, let in by an operator's grant; it stays connected.
    pub(crate) async fn enrolled(&self, id: &str, seed: u8) -> Agent {
        let key = PrivateKey::from_seed(&[seed; 32]);
        let wish =
            json!({"device_id": id, "device_key": key.public(), "device_address": "127.0.0.1"});
        self.ask("POST", "/api/v1/grants", Some(wish)).await.expect(201);
        let agent = Agent::dial(self, id, seed, None).await;
        assert!(matches!(agent.standing, Standing::Active { .. }), "{:?}", agent.standing);
        agent
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body, if the status is this.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.json()
    }

    /// The detail of a problem with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        let body = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.headers["x-request-id"].to_str().unwrap());
        body["detail"].as_str().unwrap().to_owned()
    }
}

/// A request over plain HTTP from one of this host's addresses.
pub(crate) async fn send(
    to: SocketAddr,
    from: IpAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Answer {
    try_send(to, from, method, path, headers, body).await.expect("an answer")
}

/// The same of a server that may end meanwhile.
pub(crate) async fn try_send(
    to: SocketAddr,
    from: IpAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Option<Answer> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(to).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "server");
    }
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let answer = async {
        let reply = sender.send_request(request).await.ok()?;
        let (head, body) = reply.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    };
    let exchange = async {
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    };
    tokio::time::timeout(BOUND, exchange).await.expect("an answer in time")
}

/// Waits until a condition holds.
pub(crate) async fn wait_for<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < BOUND, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A device's link.
pub(crate) struct Agent {
    pub(crate) socket: FrameSocket<TlsStream<TcpStream>>,
    pub(crate) standing: Standing,
    /// Every frame that was sent.
    pub(crate) sent: Vec<Vec<u8>>,
}

impl Agent {
    /// Dials, proves its key, and learns how it stands.
    pub(crate) async fn dial(rig: &Rig, id: &str, seed: u8, enrol: Option<&str>) -> Self {
        Self::dial_at(rig.whereabouts(), id, seed, enrol).await
    }

    /// The same at a server that is a program of its own.
    pub(crate) async fn dial_at(
        at: (SocketAddr, ServerIdentity),
        id: &str,
        seed: u8,
        enrol: Option<&str>,
    ) -> Self {
        let facts = Facts {
            device_type: "raspberrypi".to_owned(),
            version: "1.0.0".to_owned(),
            name: Some("Raspberry Pi 4".to_owned()),
            interval_secs: 60,
            ..Facts::default()
        };
        Self::dial_with(at, id, seed, enrol, facts).await
    }

    /// The same with facts of its own.
    pub(crate) async fn dial_with(
        at: (SocketAddr, ServerIdentity),
        id: &str,
        seed: u8,
        enrol: Option<&str>,
        facts: Facts,
    ) -> Self {
        let key = PrivateKey::from_seed(&[seed; 32]);
        let (mut socket, exporter) = open_link_at(at).await;
        let mut sent = Vec::new();
        let hello =
            Hello { versions: vec![VERSION], device_pub: key.public().bytes(), nonce: [9; 32] };
        say(&mut socket, &mut sent, &hello).await;
        let Greeting::Welcome { nonce, server_pub, signature, .. } =
            socket.receive_frame().await.unwrap()
        else {
            panic!("the server refused");
        };
        let context = LinkContext {
            device_pub: key.public().bytes(),
            device_nonce: [9; 32],
            server_pub,
            server_nonce: nonce,
            binding: Binding::Exporter(exporter),
        };
        assert!(context.server_signed(&signature));
        let proof = Proof {
            signature: context.sign_as_device(&key),
            device_id: id.to_owned(),
            enrol_key: enrol.map(str::to_owned),
            facts,
        };
        say(&mut socket, &mut sent, &proof).await;
        let ToAgent::Standing(standing) = socket.receive_frame().await.unwrap() else {
            panic!("the first frame tells how the device stands");
        };
        Self { socket, standing, sent }
    }

    pub(crate) async fn say(&mut self, frame: &ToServer) {
        say(&mut self.socket, &mut self.sent, frame).await;
    }

    pub(crate) async fn next(&mut self) -> ToAgent {
        let frame = self.socket.receive_frame();
        tokio::time::timeout(BOUND, frame).await.expect("a frame in time").unwrap()
    }

    /// Sends reports and waits until they are acknowledged.
    pub(crate) async fn report(&mut self, stream: u8, seqs: &[u64], value: f64) {
        let report = |seq: &u64| QueuedReport {
            seq: *seq,
            at_millis: 1_705_314_600_000 + i64::try_from(*seq).unwrap(),
            age_millis: 0,
            samples: vec![Sample::new("cpu_usage", value)],
        };
        let samples = Samples { stream: [stream; 16], reports: seqs.iter().map(report).collect() };
        self.say(&ToServer::Samples(samples)).await;
        let last = *seqs.iter().max().unwrap();
        let next = loop {
            match self.next().await {
                // Somebody looks at its page, where lines of its log are.
                ToAgent::Logs(_) | ToAgent::LogsEnd { .. } => {}
                other => break other,
            }
        };
        assert_eq!(next, ToAgent::Ack { stream: [stream; 16], seq: last });
    }

    /// Waits for the end of the link.
    pub(crate) async fn ended(&mut self) -> String {
        let end = async {
            loop {
                match self.socket.receive().await {
                    Ok(Incoming::Closed(reason)) => {
                        return reason.map(|reason| reason.to_string()).unwrap_or_default();
                    }
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                }
            }
        };
        tokio::time::timeout(BOUND, end).await.expect("the link ends in time")
    }

    pub(crate) fn device_id(&self) -> &str {
        match &self.standing {
            Standing::Active { device_id, .. } => device_id,
            other => panic!("not active: {other:?}"),
        }
    }
}

async fn say<T: Coded>(
    socket: &mut FrameSocket<TlsStream<TcpStream>>,
    sent: &mut Vec<Vec<u8>>,
    frame: &T,
) {
    sent.push(codec::encode(frame).unwrap());
    socket.send(frame).await.unwrap();
}

/// A link before its hello, and its connection's secret.
pub(crate) async fn open_link(rig: &Rig) -> (FrameSocket<TlsStream<TcpStream>>, [u8; 32]) {
    open_link_at(rig.whereabouts()).await
}

async fn open_link_at(
    (address, identity): (SocketAddr, ServerIdentity),
) -> (FrameSocket<TlsStream<TcpStream>>, [u8; 32]) {
    let stream = connect_address(address, "server", Pin::Server(identity)).await.unwrap();
    let exporter = tls::exporter(stream.get_ref().1).unwrap();
    let socket = FrameSocket::connect(stream, "server", "/api/v1/link").await.unwrap();
    (socket, exporter)
}

/// What the server says to frames that were recorded elsewhere.
pub(crate) async fn replay(rig: &Rig, frames: &[Vec<u8>]) -> Vec<Bytes> {
    let pin = Pin::Server(rig.server().identity());
    let stream = connect_address(rig.address(), "server", pin).await.unwrap();
    let request = tokio_tungstenite::tungstenite::http::Request::builder()
        .uri("ws://server/api/v1/link")
        .header("Host", "server")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", fleet_core::wire::SUBPROTOCOL)
        .body(())
        .unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut heard = Vec::new();
    for frame in frames {
        // The server may have closed already, which is what it should do.
        if socket.send(Message::Binary(frame.clone().into())).await.is_err() {
            break;
        }
    }
    let listen = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Binary(bytes) = message {
                heard.push(bytes);
            }
        }
    };
    tokio::time::timeout(BOUND, listen).await.expect("the server ends a replayed link");
    heard
}

/// The key's id, out of its text.
pub(crate) fn key_id(text: &str) -> String {
    text.parse::<ApiKey>().unwrap().id().to_owned()
}
