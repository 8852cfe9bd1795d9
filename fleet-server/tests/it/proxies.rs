//! Behind a proxy: what its word is good for, and that nobody else's is good for anything.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fleet_core::api::{Identity, Nonce};
use fleet_core::codec;
use fleet_core::identity::PrivateKey;
use fleet_core::net::http::connect_address;
use fleet_core::net::tls::{self, Pin};
use fleet_core::wire::{
    Binding, Facts, Greeting, Hello, LinkContext, Proof, Standing, ToAgent, VERSION,
};
use fleet_server::config::ServerConfig;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message, http};

use crate::page_kit::Browser;
use crate::server_kit::{Answer, BOUND, Rig, send};

/// Addresses that a guesser pretends to have.
const PRETENDED: u32 = 500;
/// The name that the proxy's certificate is for.
const NAME: &str = "fleet.example";

/// A server that trusts a proxy at 127.0.0.1, and at no other address.
async fn behind_a_proxy() -> Rig {
    Rig::start_with(|rig| ServerConfig {
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        public_url: Some(format!("https://{NAME}").parse().unwrap()),
        ..rig.config()
    })
    .await
}

async fn ask(rig: &Rig, from: u8, path: &str, headers: &[(&str, &str)]) -> Answer {
    let from: IpAddr = Ipv4Addr::new(127, 0, 0, from).into();
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    send(rig.address(), from, "GET", path, &headers, Vec::new()).await
}

/// How many keys of a guesser were looked at, each from an address of its own, as it says.
async fn tries(rig: &Rig, from: u8, forwarded: impl Fn(Ipv4Addr) -> String) -> usize {
    let mut tried = 0;
    for number in 0..PRETENDED {
        let address = forwarded(Ipv4Addr::from_bits(0xc633_6400 + number));
        let headers = [
            ("authorization", "Bearer wrong"),
            ("x-forwarded-for", &address),
            ("forwarded", "for=192.0.2.1"),
            ("x-real-ip", &address),
        ];
        match ask(rig, from, "/api/v1/devices", &headers).await.status.as_u16() {
            401 => tried += 1,
            429 => {}
            other => panic!("{other}"),
        }
    }
    tried
}

#[tokio::test]
async fn t30_headers_do_not_make_more_guesses() {
    let rig = Rig::start().await;
    assert_eq!(tries(&rig, 1, |address| address.to_string()).await, 10);
    let rig = behind_a_proxy().await;
    // A guesser who goes around the proxy, and one who sends the header through it.
    assert_eq!(tries(&rig, 2, |address| address.to_string()).await, 10);
    assert_eq!(tries(&rig, 1, |address| format!("{address}, 192.0.2.7")).await, 10);
    // The guesser's neighbours behind the same proxy are none the worse for it.
    let neighbour = [
        ("authorization", format!("Bearer {}", rig.admin())),
        ("x-forwarded-for", "192.0.2.8".to_owned()),
    ];
    let from = Ipv4Addr::LOCALHOST.into();
    let answer = send(rig.address(), from, "GET", "/api/v1/devices", &neighbour, vec![]).await;
    answer.expect(200);
}

#[tokio::test]
async fn a_proxy_inside_tls_gets_secure_cookies_and_nobody_else_does() {
    let rig = behind_a_proxy().await;
    let page = |from, headers| ask_page(&rig, from, headers);
    let secure = [("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1")];
    for (from, headers, is_secure) in [
        (1, &secure[..], true),
        (1, &[("x-forwarded-proto", "http"), ("x-forwarded-for", "192.0.2.1")], false),
        (1, &[], false),
        (2, &secure, false),
    ] {
        let answer = page(from, headers).await;
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        assert_eq!(cookie.starts_with("__Host-"), is_secure, "{from} {headers:?} {cookie}");
        assert_eq!(cookie.contains("; Secure"), is_secure, "{from} {headers:?} {cookie}");
        let warns = String::from_utf8_lossy(&answer.body).contains("not encrypted");
        assert!(!(is_secure && warns));
    }
}

async fn ask_page(rig: &Rig, from: u8, headers: &[(&str, &str)]) -> Answer {
    let accept = ("accept", "text/html");
    let headers = [&[accept, ("host", NAME)][..], headers].concat();
    let answer = ask(rig, from, "/sign-in", &headers).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

#[tokio::test]
async fn t10_a_server_proves_itself_to_those_whom_a_trusted_proxy_passes_on_and_to_no_others() {
    let rig = behind_a_proxy().await;
    let nonce = Nonce::generate().unwrap();
    let path = format!("/api/v1/identity?nonce={nonce}");
    let secure = ("x-forwarded-proto", "https");
    let answer = ask(&rig, 1, &path, &[secure, ("host", "Fleet.Example:443")]).await;
    let identity: Identity = serde_json::from_value(answer.expect(200)).unwrap();
    assert_eq!(identity.identity, rig.server().identity());
    let proof = identity.proof.unwrap();
    assert!(proof.holds(&nonce, NAME, identity.public_key));
    assert!(!proof.holds(&nonce, "evil.example", identity.public_key));
    // Under another's name it signs nothing.
    ask(&rig, 1, &path, &[secure, ("host", "evil.example")]).await.problem(421);
    for (from, headers) in [
        (2, &[secure, ("host", NAME)][..]),
        (1, &[("x-forwarded-proto", "http"), ("host", NAME)]),
        (1, &[("host", NAME)]),
    ] {
        let detail = ask(&rig, from, &path, headers).await.problem(400);
        assert!(detail.contains("--trusted-proxy"), "{detail}");
    }
    ask(&rig, 1, "/api/v1/identity?nonce=AAAA", &[secure]).await.problem(422);
    assert!(ask(&rig, 2, "/api/v1/identity", &[]).await.expect(200)["proof"].is_null());
}

/// How a link that is signed this way stands, or nothing if the server ends it.
async fn link<S>(
    rig: &Rig,
    stream: S,
    headers: &[(&str, &str)],
    binding: Binding,
) -> Option<Standing>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = http::Request::builder()
        .uri("ws://server/api/v1/link")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", fleet_core::wire::SUBPROTOCOL);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let opened = tokio_tungstenite::client_async(request.body(()).unwrap(), stream).await;
    let mut socket = match opened {
        Ok((socket, _)) => socket,
        Err(tungstenite::Error::Http(response)) => {
            assert!([400, 421].contains(&response.status().as_u16()), "{response:?}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let key = PrivateKey::from_seed(&[3; 32]);
    let device_pub = key.public().bytes();
    let hello = Hello { versions: vec![VERSION], device_pub, nonce: [9; 32] };
    socket.send(Message::Binary(codec::encode(&hello).unwrap().into())).await.unwrap();
    let heard = socket.next().await.unwrap().unwrap().into_data();
    let Greeting::Welcome { nonce, server_pub, signature, .. } = codec::decode(&heard).unwrap()
    else {
        panic!("the server refused");
    };
    let context =
        LinkContext { device_pub, device_nonce: [9; 32], server_pub, server_nonce: nonce, binding };
    // An agent would stop here if this were not so; a forger goes on.
    let is_signed = context.server_signed(&signature);
    let proof = Proof {
        signature: context.sign_as_device(&key),
        device_id: "cam".to_owned(),
        enrol_key: None,
        facts: Facts::default(),
    };
    socket.send(Message::Binary(codec::encode(&proof).unwrap().into())).await.unwrap();
    let heard = tokio::time::timeout(BOUND, socket.next()).await.expect("an answer in time");
    match heard.unwrap().unwrap() {
        Message::Binary(frame) => {
            assert!(is_signed, "both ends sign the same");
            let ToAgent::Standing(standing) = codec::decode(&frame).unwrap() else {
                panic!("the first frame tells how the device stands");
            };
            Some(standing)
        }
        Message::Close(_) => {
            assert!(!is_signed);
            assert_eq!(rig.ask("GET", "/api/v1/devices", None).await.expect(200), json!([]));
            None
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_link_without_tls_of_its_own_is_taken_from_a_trusted_proxy_only() {
    let rig = behind_a_proxy().await;
    let proxied = |name: &str| Binding::Proxied { name: name.to_owned() };
    let secure = ("x-forwarded-proto", "https");
    let plain = |from: u8| {
        let to = rig.address();
        async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(Ipv4Addr::new(127, 0, 0, from).into(), 0)).unwrap();
            socket.connect(to).await.unwrap()
        }
    };
    let own = [secure, ("host", NAME)];
    for (from, headers, binding) in [
        // Not through TLS, not from a proxy, under another's name, and signed otherwise.
        (1, &[("host", NAME)][..], proxied(NAME)),
        (2, &own, proxied(NAME)),
        (1, &[secure, ("host", "evil.example")], proxied("evil.example")),
        (1, &own, proxied("evil.example")),
        (1, &own, Binding::Exporter([0; 32])),
    ] {
        let stream: TcpStream = plain(from).await;
        let standing = link(&rig, stream, headers, binding.clone()).await;
        assert_eq!(standing, None, "{from} {headers:?} {binding:?}");
    }
    let standing = link(&rig, plain(1).await, &own, proxied(NAME)).await;
    assert!(matches!(standing, Some(Standing::Pending { .. })), "{standing:?}");
}

#[tokio::test]
async fn where_tls_ends_at_the_server_a_link_is_signed_over_its_secret_whatever_headers_say() {
    let rig = behind_a_proxy().await;
    let own = [("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1"), ("host", NAME)];
    let pin = Pin::Server(rig.server().identity());
    let connect = || connect_address(rig.address(), "server", pin);
    let proxied = Binding::Proxied { name: NAME.to_owned() };
    assert_eq!(link(&rig, connect().await.unwrap(), &own, proxied).await, None);
    let stream = connect().await.unwrap();
    let exporter = tls::exporter(stream.get_ref().1).unwrap();
    let standing = link(&rig, stream, &own, Binding::Exporter(exporter)).await;
    assert!(matches!(standing, Some(Standing::Pending { .. })), "{standing:?}");
}

#[tokio::test]
async fn a_browser_signs_in_through_a_proxy() {
    let rig = behind_a_proxy().await;
    let mut browser = Browser::new(&rig);
    let secure = [("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1"), ("host", NAME)];
    let headers = [&secure[..], &[("accept", "text/html")]].concat();
    let page = browser.get_with("/sign-in", &headers).await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let (_, rest) = page.split_once("name=\"token\" value=\"").unwrap();
    let token = rest.split('"').next().unwrap().to_owned();
    let (admin, origin) = (rig.admin(), format!("https://{NAME}"));
    let fields = [("key", admin.as_str()), ("token", &token), ("next", "/")];
    let origin = [&secure[..], &[("origin", origin.as_str())]].concat();
    let answer = browser.post_from("/sign-in", &fields, &origin).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
    browser.get_with("/api/v1/devices", &secure).await.expect(200);
    // The cookie is none where others can read it.
    let plain = [("x-forwarded-proto", "http"), ("x-forwarded-for", "192.0.2.1"), ("host", NAME)];
    browser.get_with("/api/v1/devices", &plain).await.problem(401);
}

#[tokio::test]
async fn a_proxy_may_have_more_connections_than_a_stranger() {
    let rig = behind_a_proxy().await;
    let open = |from: u8| {
        let to = rig.address();
        async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(Ipv4Addr::new(127, 0, 0, from).into(), 0)).unwrap();
            socket.connect(to).await.unwrap()
        }
    };
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(open(1).await);
    }
    let answer = tokio::time::timeout(Duration::from_secs(5), ask(&rig, 1, "/health", &[]));
    answer.await.expect("an answer in time").expect(200);
}
