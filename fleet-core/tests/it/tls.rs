//! A pin holds: the right key is let in, any other is refused before a byte is said.

use std::net::SocketAddr;

use fleet_core::identity::PrivateKey;
use fleet_core::net::accept::{self, Accepted};
use fleet_core::net::http::{self, HttpError};
use fleet_core::net::shutdown::Tasks;
use fleet_core::net::tls::{self, Pin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Accepts one connection and says over it by which protocol it came.
async fn serve_once(
    key: PrivateKey,
    tasks: &Tasks,
) -> (SocketAddr, tokio::task::JoinHandle<Option<[u8; 32]>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tasks.spawn("serve", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut accepted =
            accept::negotiate(stream, tls::server_config(&key).unwrap()).await.ok()?;
        let word: &[u8] = match accepted {
            Accepted::Plain(_) => b"plain",
            Accepted::Tls { .. } => b"tls",
        };
        accepted.write_all(word).await.unwrap();
        accepted.shutdown().await.unwrap();
        accepted.exporter()
    });
    (address, serving)
}

#[tokio::test]
async fn the_right_key_is_let_in_and_both_ends_share_a_secret() {
    let tasks = Tasks::default();
    let key = PrivateKey::generate().unwrap();
    let public = key.public();
    for pin in [Pin::Server(public.identity()), Pin::Device(public.fingerprint()), Pin::Unknown] {
        let key = PrivateKey::from_seed(&key.seed());
        let (address, serving) = serve_once(key, &tasks).await;
        let mut stream = http::connect_address(address, "peer", pin).await.unwrap();
        assert_eq!(tls::peer_key(stream.get_ref().1), Some(public));
        let exported = tls::exporter(stream.get_ref().1).unwrap();
        let mut word = String::new();
        stream.read_to_string(&mut word).await.unwrap();
        assert_eq!(word, "tls");
        assert_eq!(serving.await.unwrap(), Some(exported));
    }
}

#[tokio::test]
async fn t10_another_key_is_refused() {
    let tasks = Tasks::default();
    let expected = PrivateKey::generate().unwrap().public();
    for pin in [Pin::Server(expected.identity()), Pin::Device(expected.fingerprint())] {
        let (address, serving) = serve_once(PrivateKey::generate().unwrap(), &tasks).await;
        let refused = http::connect_address(address, "peer", pin).await;
        assert!(matches!(refused, Err(HttpError::WrongKey { .. })), "{refused:?}");
        assert_eq!(serving.await.unwrap(), None, "the server saw a finished handshake");
    }
}

#[tokio::test]
async fn plain_http_comes_in_by_the_same_port() {
    let tasks = Tasks::default();
    let (address, serving) = serve_once(PrivateKey::generate().unwrap(), &tasks).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).await.unwrap();
    assert_eq!(word, "plain");
    assert_eq!(serving.await.unwrap(), None);
}
