//! A server that does what a test tells it to, over real TLS and a real WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;

use fleet_core::codec;
use fleet_core::grant::Grant;
use fleet_core::identity::{PrivateKey, PublicKey};
use fleet_core::net::accept::{self, Accepted};
use fleet_core::net::socket::{FrameSocket, Incoming, derive_accept_key};
use fleet_core::net::tls;
use fleet_core::net::url::ServerUrl;
use fleet_core::wire::{
    Binding, CommandOrder, CommandResult, Greeting, Hello, LinkContext, Progress, Proof,
    SUBPROTOCOL, Samples, Standing, ToAgent, ToServer, VERSION,
};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::within::within;

/// The server's own name for every device.
pub(crate) const UID: [u8; 16] = [9; 16];

pub(crate) struct Server {
    pub(crate) key: PrivateKey,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
}

/// A server that nobody reaches, until it is started again.
pub(crate) struct Stopped {
    key: PrivateKey,
    tls: Arc<ServerConfig>,
    address: SocketAddr,
}

/// The server's end of a link whose agent has proved itself.
pub(crate) struct AgentEnd {
    pub(crate) proof: Proof,
    pub(crate) device: PublicKey,
    socket: FrameSocket<Accepted>,
}

impl Server {
    pub(crate) async fn start(seed: u8) -> Self {
        let key = PrivateKey::from_seed(&[seed; 32]);
        let tls = tls::server_config(&key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { key, listener, tls }
    }

    /// The same server after a restart at the same place.
    pub(crate) async fn restart(self) -> Self {
        self.stop().start_again().await
    }

    pub(crate) fn stop(self) -> Stopped {
        Stopped { key: self.key, tls: self.tls, address: self.listener.local_addr().unwrap() }
    }

    pub(crate) fn url(&self) -> ServerUrl {
        let address = self.listener.local_addr().unwrap();
        ServerUrl::from_address(address.ip(), address.port())
    }

    pub(crate) fn grant(&self, device: PublicKey) -> Grant {
        Grant {
            uid: [1; 16],
            device_pub: device.bytes(),
            device_id: "rpi4-001".to_owned(),
            urls: vec![self.url().to_string()],
            server_pub: self.key.public().bytes(),
            expires_millis: i64::MAX,
        }
    }

    /// The next link, up to the agent's proof.
    pub(crate) async fn link(&self) -> AgentEnd {
        within("an agent", async {
            loop {
                if let Some(agent) = self.try_link(&self.key).await {
                    return agent;
                }
            }
        })
        .await
    }

    /// The next link, greeted with another key's signature; nothing if the agent leaves.
    pub(crate) async fn link_signed_by(&self, key: &PrivateKey) -> Option<AgentEnd> {
        within("an agent", self.try_link(key)).await
    }

    async fn try_link(&self, key: &PrivateKey) -> Option<AgentEnd> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = accept::negotiate(stream, self.tls.clone()).await.ok()?;
        let exporter = stream.exporter().expect("agents speak TLS only");
        upgrade(&mut stream).await;
        let mut socket = FrameSocket::accepted(stream).await;
        let hello: Hello = socket.receive_frame().await.ok()?;
        let context = LinkContext {
            device_pub: hello.device_pub,
            device_nonce: hello.nonce,
            server_pub: self.key.public().bytes(),
            server_nonce: [3; 32],
            binding: Binding::Exporter(exporter),
        };
        let welcome = Greeting::Welcome {
            version: VERSION,
            nonce: context.server_nonce,
            server_pub: context.server_pub,
            signature: context.sign_as_server(key),
        };
        socket.send(&welcome).await.ok()?;
        let proof: Proof = socket.receive_frame().await.ok()?;
        assert!(context.device_signed(&proof.signature), "the agent proves its key");
        Some(AgentEnd { proof, device: PublicKey::from_bytes(hello.device_pub), socket })
    }
}

impl Stopped {
    pub(crate) async fn start_again(self) -> Server {
        let listener = TcpListener::bind(self.address).await.unwrap();
        Server { key: self.key, tls: self.tls, listener }
    }
}

impl AgentEnd {
    pub(crate) async fn send(&mut self, frame: ToAgent) {
        self.socket.send(&frame).await.unwrap();
    }

    pub(crate) async fn stand(&mut self, standing: Standing) {
        self.send(ToAgent::Standing(standing)).await;
    }

    pub(crate) async fn activate(&mut self) {
        let device_id = self.proof.device_id.clone();
        self.stand(Standing::Active { uid: UID, device_id }).await;
    }

    /// The next frame; nothing at the end.
    pub(crate) async fn next(&mut self) -> Option<ToServer> {
        within("a frame", async {
            loop {
                match self.socket.receive().await {
                    Ok(Incoming::Frame(bytes)) => return Some(codec::decode(&bytes).unwrap()),
                    Ok(Incoming::Ping | Incoming::Pong(_)) => {}
                    Ok(Incoming::Closed(_)) | Err(_) => return None,
                }
            }
        })
        .await
    }

    /// The next reports.
    pub(crate) async fn samples(&mut self) -> Samples {
        loop {
            match self.next().await.expect("the agent stays") {
                ToServer::Samples(samples) => return samples,
                ToServer::Facts(_)
                | ToServer::ConfigReported(_)
                | ToServer::ConfigTrial(_)
                | ToServer::Command(_)
                | ToServer::Logs(_)
                | ToServer::NewKey(_) => {}
            }
        }
    }

    /// What the agent says of its configuration next.
    pub(crate) async fn config_reported(&mut self) -> (u64, Option<String>) {
        loop {
            match self.next().await.expect("the agent stays") {
                ToServer::ConfigReported(reported) => return (reported.version, reported.error),
                ToServer::ConfigTrial(_)
                | ToServer::Facts(_)
                | ToServer::Command(_)
                | ToServer::Logs(_)
                | ToServer::NewKey(_) => {}
                // What was collected under it is what shows that it works.
                ToServer::Samples(samples) => self.acknowledge(&samples).await,
            }
        }
    }

    /// Has the device do something, under a number.
    pub(crate) async fn order(&mut self, server: &Server, number: u8, words: &[&str]) {
        let order = CommandOrder {
            id: [number; 16],
            word: words[0].to_owned(),
            args: words[1..].iter().map(|&word| word.to_owned()).collect(),
            expires_millis: i64::MAX,
            expires_in_millis: 60_000,
            timeout_millis: 20_000,
            signature: [0; 64],
        };
        let order = order.signed(UID, &server.key);
        self.send(ToAgent::Command(Box::new(order))).await;
    }

    /// How far a command has come, by the next news.
    pub(crate) async fn news(&mut self) -> (u8, Progress) {
        loop {
            match self.next().await.expect("the agent stays") {
                ToServer::Command(news) => return (news.id[0], news.progress),
                ToServer::Facts(_)
                | ToServer::ConfigReported(_)
                | ToServer::ConfigTrial(_)
                | ToServer::Samples(_)
                | ToServer::Logs(_)
                | ToServer::NewKey(_) => {}
            }
        }
    }

    /// What becomes of a command, whatever else the agent says before.
    pub(crate) async fn result(&mut self, number: u8) -> CommandResult {
        loop {
            match self.news().await {
                (id, Progress::Done(result)) if id == number => return result,
                _ => {}
            }
        }
    }

    /// Says that a result is stored.
    pub(crate) async fn note(&mut self, number: u8) {
        self.send(ToAgent::CommandNoted { id: [number; 16] }).await;
    }

    /// Says that reports are stored.
    pub(crate) async fn acknowledge(&mut self, samples: &Samples) {
        let seq = samples.reports.last().unwrap().seq;
        self.send(ToAgent::Ack { stream: samples.stream, seq }).await;
    }
}

/// Answers the WebSocket's opening request.
async fn upgrade(stream: &mut Accepted) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /api/v1/link HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}")), "{head}");
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}
