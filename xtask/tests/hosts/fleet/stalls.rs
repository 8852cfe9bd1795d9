//! Connections that are held open by the thousand: others are served meanwhile, and all of them end
//! by themselves.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Agent, Said, Server};
use crate::lab::{Host, Lab};

/// Connections of each kind, and from how many addresses.
const CONNECTIONS: usize = 2_000;
const ADDRESSES: usize = 32;
/// On top of a deadline, on a busy machine.
const SLACK: Duration = Duration::from_secs(10);
/// How long somebody honest waits at most.
const HONEST: Duration = Duration::from_secs(2);
pub(super) const MEBIBYTE: u64 = 1024 * 1024;
/// What the server may have taken more while and after so many stalled, all kinds together.
const STALLED_MAX: u64 = 64 * MEBIBYTE;
/// The same for bodies that come to more than they may.
const BOMBED_MAX: u64 = 8 * MEBIBYTE;

/// What is sent before nothing more comes, and how long the server bears it.
fn kinds(server: Ipv4Addr) -> [(&'static str, Vec<u8>, Duration); 4] {
    let head = format!(
        "POST /sign-in HTTP/1.1\r\nHost: {server}:8080\r\nOrigin: http://{server}:8080\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nkey="
    );
    [
        ("nothing", Vec::new(), Duration::from_secs(5)),
        ("half a hello", vec![0x16, 3, 1, 2, 0, 1], Duration::from_secs(10)),
        ("half a head", b"GET /health HTTP/1.1\r\nHost:".to_vec(), Duration::from_secs(10)),
        ("half a body", head.into_bytes(), Duration::from_secs(5)),
    ]
}

/// What of a program is in memory.
#[track_caller]
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a program that runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    let kibibytes = line.split_whitespace().nth(1).expect("a number");
    kibibytes.parse::<u64>().expect("a number") * 1024
}

/// Room for all connections in this process.
fn raise_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a limit that may be raised");
}

/// Opens a connection from an address and says the beginning of something.
async fn stall(from: Ipv4Addr, to: SocketAddr, said: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of this host");
    let mut stream = socket.connect(to).await.expect("the port is open");
    stream.write_all(said).await.expect("the beginning is taken");
    stream
}

/// How long it takes until the other end has closed all of these.
async fn closed(streams: Vec<TcpStream>, bound: Duration) -> Duration {
    let began = Instant::now();
    for mut stream in streams {
        let mut rest = Vec::new();
        let left = bound.saturating_sub(began.elapsed());
        let end = timeout(left, stream.read_to_end(&mut rest)).await;
        // A reset is as good an end as any.
        drop(end.expect("all are closed in time"));
    }
    began.elapsed()
}

/// How long an honest request takes, over a connection of its own.
pub(super) async fn honest(to: SocketAddr) -> Duration {
    let began = Instant::now();
    let ask = async {
        let mut stream = TcpStream::connect(to).await.expect("the port is open");
        let request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("a request is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    timeout(HONEST, ask).await.expect("somebody honest is served");
    began.elapsed()
}

/// Gives a host so many more addresses.
#[track_caller]
pub(super) fn addresses(host: &Host, count: usize) -> Vec<Ipv4Addr> {
    let [a, b, c, _] = host.address().octets();
    let all = (0..count).map(|number| Ipv4Addr::new(a, b, c, 100 + number as u8));
    let all: Vec<_> = all.collect();
    for address in &all {
        host.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"]);
    }
    all
}

#[test]
fn t25_thousands_of_stalled_connections_end_and_hold_up_nobody() {
    raise_descriptors();
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, crowd] = ["desk", "crowd"].map(|name| lab.host(name, &[&lan]));
    let from = addresses(&crowd, ADDRESSES);
    let to: SocketAddr = (desk.address(), 8080).into();
    let server = Server::idle(&desk);
    for (kind, said, patience) in kinds(desk.address()) {
        // A new process for each kind, so that no room which another kind left is used again unseen.
        server.start_again();
        let pid = server.pid.get();
        let before = resident(pid);
        let from = from.clone();
        let (waits, held, lasted) = crowd.run(async move {
            let mut streams = Vec::new();
            for number in 0..CONNECTIONS {
                streams.push(stall(from[number % ADDRESSES], to, &said).await);
            }
            let mut waits = Vec::new();
            for _ in 0..100 {
                waits.push(honest(to).await);
            }
            waits.sort();
            // While all of them are there, and again when they have gone.
            let held = resident(pid);
            (waits, held, closed(streams, patience + SLACK).await)
        });
        let growth = held.max(resident(pid)).saturating_sub(before);
        println!("{kind}: p99 {:?}, closed after {lasted:?}, {growth} bytes more", waits[98]);
        assert!(growth <= STALLED_MAX, "{kind}: {growth} bytes more in memory");
        server.kill();
    }
}

#[test]
fn t25_an_agents_port_bears_it_too() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [cam, crowd] = ["cam", "crowd"].map(|name| lab.host(name, &[&lan]));
    let _agent = Agent::start(&cam);
    let from = addresses(&crowd, 3);
    let to: SocketAddr = (cam.address(), 6789).into();
    crate::lab::wait_for("the agent to answer", super::SOON, || {
        let url = format!("http://{to}/health");
        let said = Said::of(crowd.command("curl").args(["-s", "-m2", &url]));
        said.stdout.contains("ok").then_some(())
    });
    let [nothing, hello, head, _] = kinds(cam.address());
    for (_, said, patience) in [nothing, hello, head] {
        let from = from.clone();
        crowd.run(async move {
            let mut streams = Vec::new();
            for number in 0..24 {
                streams.push(stall(from[number % 3], to, &said).await);
            }
            honest(to).await;
            closed(streams, patience + SLACK).await
        });
    }
}

#[test]
fn t24_bodies_that_would_fill_the_memory_do_not() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let server = Server::start(&desk);
    let bomb = desk.path("bomb.gz");
    let script = format!("head -c 268435456 /dev/zero | gzip -9 > {}", bomb.display());
    Said::of(desk.command("sh").args(["-c", &script])).exits(0);
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let bearer = format!("Authorization: Bearer {}", key.trim());
    let (sent, url) =
        (format!("@{}", bomb.display()), format!("{}/api/v1/telemetry", server.url()));
    let post = || {
        let mut curl = desk.command("curl");
        curl.args(["-s", "-m20", "-o", "/dev/null", "-w", "%{http_code}", "-H", &bearer]);
        curl.args(["-H", "Content-Type: application/json", "-H", "Content-Encoding: gzip"]);
        Said::of(curl.args(["--data-binary", &sent, &url])).stdout
    };
    assert_eq!(post(), "413");
    let before = resident(server.pid.get());
    for _ in 0..20 {
        assert_eq!(post(), "413");
    }
    let growth = resident(server.pid.get()).saturating_sub(before);
    assert!(growth <= BOMBED_MAX, "{growth} bytes more in memory");
}
