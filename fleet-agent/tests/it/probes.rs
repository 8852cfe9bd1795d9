//! Probes of real sockets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleet_agent::collect::{Sampler, Selection};
use fleet_agent::probe::{Probe, Probes, Target};
use fleet_agent::sys::SysRoot;
use fleet_core::net::shutdown::Tasks;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::within::until;

/// Answers every request with a status, and notes none.
async fn web(tasks: &Tasks, status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = tasks.clone();
    tasks.spawn("web", async move {
        loop {
            let (mut stream, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = stopping.stopping() => return,
            };
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /health?a=b HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}/health?a=b")
}

#[tokio::test]
async fn what_is_reached_has_a_time_and_what_is_not_is_lost() {
    let tasks = Tasks::default();
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = open.local_addr().map(|address| (address, open)).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tcp = |address: &dyn ToString| Target::Tcp(address.to_string());
    let targets = [
        ("open", tcp(&open.0)),
        ("closed", tcp(&closed)),
        ("nowhere", tcp(&"no-such-host.invalid:80")),
        ("well", Target::Http(web(&tasks, "200 OK").await.parse().unwrap())),
        ("refused", Target::Http(web(&tasks, "404 Not Found").await.parse().unwrap())),
        ("ill", Target::Http(web(&tasks, "503 Service Unavailable").await.parse().unwrap())),
    ];
    let probe = |(name, target): (&str, Target)| Probe {
        name: name.to_owned(),
        target,
        interval: Duration::from_millis(500),
    };
    let probes = Probes::new(targets.map(probe).into());
    let mut sampler = Sampler::new(&SysRoot::real());
    sampler.add(Box::new(probes.clone())).unwrap();
    let selection = sampler.select(&["probes".to_owned()]).unwrap();
    let before = sampler.collect(Instant::now(), &selection);
    assert!(before.samples.is_empty() && before.failures.is_empty());

    probes.start(&tasks);
    let sampler = std::sync::Mutex::new(sampler);
    let measured = || measured(&sampler, &selection);
    until("two answers each", || {
        let found = measured();
        let has =
            |name: &str, metric: &str| found.contains_key(&(metric.to_owned(), name.to_owned()));
        ["open", "well", "refused"].iter().all(|name| has(name, "jitter_ms"))
            && ["closed", "nowhere", "ill"].iter().all(|name| has(name, "packet_loss"))
    })
    .await;
    let found = measured();
    let value =
        |metric: &str, name: &str| found.get(&(metric.to_owned(), name.to_owned())).copied();
    for name in ["open", "well", "refused"] {
        assert_eq!(value("packet_loss", name), Some(0.0), "{name}");
        assert!(value("rtt_p95_ms", name).is_some(), "{name}");
    }
    for name in ["closed", "nowhere", "ill"] {
        assert_eq!(value("packet_loss", name), Some(100.0), "{name}");
        assert_eq!(value("rtt_ms", name), None, "{name}");
    }
    tasks.finish(Duration::from_secs(5)).await.unwrap();
}

/// The values by metric and target.
fn measured(
    sampler: &std::sync::Mutex<Sampler>,
    selection: &Selection,
) -> BTreeMap<(String, String), f64> {
    let collected = sampler.lock().unwrap().collect(Instant::now(), selection);
    let samples = collected.samples.into_iter().map(|sample| {
        let (label, target) = sample.labels.first().expect("each has a target").clone();
        assert_eq!(label, "target");
        ((sample.name, target), sample.value)
    });
    samples.collect()
}

/// Whether the system lets this process send echo requests.
fn may_send(family: AddressFamily, protocol: SockProtocol) -> bool {
    [SockType::Datagram, SockType::Raw]
        .into_iter()
        .any(|kind| socket(family, kind, SockFlag::empty(), protocol).is_ok())
}

#[tokio::test]
async fn an_echo_comes_back() {
    let all = [
        ("four", "127.0.0.1", may_send(AddressFamily::Inet, SockProtocol::Icmp)),
        (
            "six",
            "[::1]",
            may_send(AddressFamily::Inet6, SockProtocol::IcmpV6)
                && std::net::TcpListener::bind("[::1]:0").is_ok(),
        ),
    ];
    let probe = |(name, host, _): &(&str, &str, bool)| Probe {
        name: (*name).to_owned(),
        target: Target::Icmp((*host).to_owned()),
        interval: Duration::from_millis(500),
    };
    let probes = Probes::new(all.iter().map(probe).collect());
    let mut sampler = Sampler::new(&SysRoot::real());
    sampler.add(Box::new(probes.clone())).unwrap();
    let selection = sampler.select(&["rtt_ms".to_owned()]).unwrap();
    let tasks = Tasks::default();
    probes.start(&tasks);
    let sampler = std::sync::Mutex::new(sampler);
    for (name, host, may_send) in all {
        let key = ("rtt_ms".to_owned(), name.to_owned());
        if may_send {
            until("an echo", || measured(&sampler, &selection).contains_key(&key)).await;
        } else {
            eprintln!("not run: this system lets nobody ask {host} for an echo");
        }
    }
    tasks.finish(Duration::from_secs(5)).await.unwrap();
}
