//! Peers that mean no good, or know no better.

use std::io::Write as _;
use std::net::Ipv4Addr;

use flate2::Compression;
use flate2::write::GzEncoder;
use fleet_core::net::http::connect_address;
use fleet_core::net::tls::Pin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server_kit::{Answer, BOUND, Rig, send};

async fn post(rig: &Rig, path: &str, extra: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut headers = vec![
        ("authorization", format!("Bearer {}", rig.admin())),
        ("content-type", "application/json".to_owned()),
    ];
    headers.extend(extra.iter().map(|(name, value)| (*name, (*value).to_owned())));
    send(rig.address(), Ipv4Addr::LOCALHOST.into(), "POST", path, &headers, body).await
}

/// Reads until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is as good an end as any.
    let read = timeout(BOUND, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn raw(rig: &Rig, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_are_bounded_in_every_dimension() {
    let rig = Rig::start().await;
    let keys = "/api/v1/keys";
    let telemetry = "/api/v1/telemetry";
    post(&rig, keys, &[], vec![b' '; 1024 * 1024 + 1]).await.problem(413);
    post(&rig, telemetry, &[], vec![b' '; 10 * 1024 * 1024 + 1]).await.problem(413);
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let detail = post(&rig, keys, &[], deep.clone().into_bytes()).await.problem(422);
    assert!(detail.contains("nested"), "{detail}");
    post(&rig, telemetry, &[], deep.into_bytes()).await.problem(422);
    let many = vec![r#"{"device_id":"a","metric_name":"m","value":1}"#; 20_001].join(",");
    post(&rig, telemetry, &[], format!("[{many}]").into_bytes()).await.problem(413);
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        bomb.write_all(&vec![b' '; 1024 * 1024]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    post(&rig, telemetry, &[("content-encoding", "gzip")], bomb).await.problem(413);
    post(&rig, keys, &[("content-encoding", "gzip")], vec![1]).await.problem(415);
}

/// The bytes of a packed body that comes to a thousand times as much.
fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..mebibytes {
        bomb.write_all(&vec![b' '; 1024 * 1024]).unwrap();
    }
    bomb.finish().unwrap()
}

#[tokio::test]
async fn t24_bodies_that_would_fill_the_memory_are_refused() {
    let rig = Rig::start_patient().await;
    let telemetry = "/api/v1/telemetry";
    let encoded = [("content-encoding", "gzip")];
    let bomb = gzip_bomb(256);
    assert!(bomb.len() < 512 * 1024);
    post(&rig, telemetry, &encoded, bomb).await.problem(413);
    // One frame of zstd that says that it is a terabyte, and one that repeats a byte for ever.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 0x03, 0, 0x80];
    let repeat = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58][..], &[0x02, 0, 0x10, b' '].repeat(900)];
    for body in [window.to_vec(), repeat.concat()] {
        let answer = post(&rig, telemetry, &[("content-encoding", "zstd")], body).await;
        assert!([400, 413].contains(&answer.status.as_u16()), "{answer:?}");
    }
    // Chunks without an end.
    let head = format!(
        "POST /api/v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        rig.admin()
    );
    let mut stream = raw(&rig, head.as_bytes()).await;
    let chunk = [&b"10000\r\n"[..], &vec![b' '; 0x10000], b"\r\n"].concat();
    let (mut read, mut write) = stream.split();
    let mut taken = 0;
    let endless = async {
        while write.write_all(&chunk).await.is_ok() {
            taken += chunk.len();
        }
    };
    let mut answer = Vec::new();
    // What it says may be lost where it hangs up on somebody who goes on.
    let answered = async { drop(read.read_to_end(&mut answer).await) };
    timeout(BOUND, async { tokio::join!(endless, answered) }).await.expect("an end in time");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 413"), "{answer:?}");
    // A body of JSON may have a mebibyte; the rest waits in the system's buffers.
    assert!(taken < 32 * 1024 * 1024, "{taken} bytes were taken");
    // Who stops in time hears why.
    let mut stream = raw(&rig, head.as_bytes()).await;
    stream.write_all(&chunk.repeat(17)).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413"), "a mebibyte is enough");
    let deep = [b"[".repeat(33), b"]".repeat(33)].concat();
    post(&rig, telemetry, &[], deep).await.problem(422);
}

#[tokio::test]
async fn a_body_of_impossible_length_is_refused_before_it_comes() {
    let rig = Rig::start().await;
    let head = format!(
        "POST /api/v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 1000000000000000000\r\n\r\n",
        rig.admin()
    );
    let mut stream = raw(&rig, head.as_bytes()).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn slow_peers_are_shown_out() {
    let rig = Rig::start().await;
    let mut head = raw(&rig, b"GET /health HTTP/1.1\r\nhost:").await;
    let body = format!(
        "POST /api/v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
        rig.admin()
    );
    let mut body = raw(&rig, body.as_bytes()).await;
    let answer = rest(&mut body).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    for length in ["content-length: 9000000", "transfer-encoding: chunked"] {
        let lines = format!(
            "POST /write HTTP/1.1\r\nhost: x\r\nauthorization: Token {}\r\n{length}\r\n\r\n",
            rig.admin()
        );
        let mut lines = raw(&rig, lines.as_bytes()).await;
        let answer = rest(&mut lines).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.ends_with(r#"{"error":"the body did not come in time"}"#), "{answer}");
    }
    rest(&mut head).await;
    rig.ask("GET", "/health", None).await.expect(200);
}

#[tokio::test]
async fn a_peer_that_reads_no_answers_is_shown_out() {
    let rig = Rig::start().await;
    let mut stream = raw(&rig, b"").await;
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    // Answers pile up until the server stops reading; what ends the writing is the server's reset.
    let ask = async { while stream.write_all(&request).await.is_ok() {} };
    timeout(BOUND, ask).await.expect("the server ends the connection");
    rig.ask("GET", "/health", None).await.expect(200);
}

#[tokio::test]
async fn a_silent_link_is_closed() {
    let rig = Rig::start().await;
    let (mut socket, _) = crate::server_kit::open_link(&rig).await;
    let end = timeout(BOUND, socket.receive()).await.expect("the server closes");
    assert!(format!("{end:?}").contains("in time"), "{end:?}");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let rig = Rig::start().await;
    let mut noise = vec![0_u8; 1024 * 1024];
    getrandom::fill(&mut noise).unwrap();
    for first in [b'G', 0x16, 0] {
        noise[0] = first;
        let mut stream = TcpStream::connect(rig.address()).await.unwrap();
        // The server may hang up before it has taken all of it.
        drop(stream.write_all(&noise).await);
        rest(&mut stream).await;
    }
    let pin = Pin::Server(rig.server().identity());
    let mut inside = connect_address(rig.address(), "server", pin).await.unwrap();
    drop(inside.write_all(&noise).await);
    let mut end = Vec::new();
    drop(timeout(BOUND, inside.read_to_end(&mut end)).await.expect("the server closes"));
    rig.ask("GET", "/health", None).await.expect(200);
}

#[tokio::test]
async fn t31_a_link_frame_that_is_none_ends_the_link_only() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    let mut other = rig.enrolled("b", 2).await;
    other.report(1, &[1], 1.0).await;
    agent
        .socket
        .send(&fleet_core::wire::Hello { versions: vec![], device_pub: [0; 32], nonce: [0; 32] })
        .await
        .unwrap();
    agent.ended().await;
    other.report(1, &[2], 1.0).await;
    rig.ask("GET", "/health", None).await.expect(200);
}

#[tokio::test]
async fn a_link_needs_tls_and_a_websocket() {
    let rig = Rig::start().await;
    let detail = rig.ask_with("GET", "/api/v1/link", None, None).await.problem(400);
    assert!(detail.contains("TLS"), "{detail}");
}

#[tokio::test]
async fn paths_match_exactly_or_not_at_all() {
    let rig = Rig::start().await;
    for path in [
        "//api/v1/devices",
        "/api/v1/./devices",
        "/api/v1/%64evices",
        "/api/v1/devices/",
        "/api/v1/devices/../keys",
    ] {
        let answer = rig.ask_with("GET", path, None, None).await;
        assert!([404, 401].contains(&answer.status.as_u16()), "{path}: {answer:?}");
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn t31_a_panic_ends_its_own_request_only() {
    let rig = Rig::start().await;
    rig.enrolled("a", 1).await;
    rig.clock.break_it(true);
    let detail = rig.ask("GET", "/api/v1/devices/a", None).await.problem(500);
    assert!(detail.contains("log"), "{detail}");
    rig.ask("GET", "/health", None).await.expect(200);
    rig.clock.break_it(false);
    rig.ask("GET", "/api/v1/devices/a", None).await.expect(200);
}
