//! Simulates devices that report over links of their own, as fast as a server takes it, and prints
//! as JSON what came of it: `link_load URL KEYFILE PID LINKS SECONDS`. `cargo xtask bench telemetry`
//! runs it.
//!
//! Each device does what the agent does: TLS, the hello with both proofs, then frames of reports,
//! of which one at a time is under way. They are ordinary devices that an enrolment key lets in.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::api::{KeyCreate, Route};
use fleet_core::identity::PrivateKey;
use fleet_core::metric::Sample;
use fleet_core::net::http;
use fleet_core::net::socket::FrameSocket;
use fleet_core::net::tls::{self, Pin};
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::client::Client;
use fleet_core::secret::{ApiKey, KeyKind};
use fleet_core::time::{Clock as _, SystemClock, Timestamp};
use fleet_core::wire::{
    Facts, Greeting, Hello, LinkContext, Proof, QueuedReport, Samples, Standing, ToAgent, ToServer,
    VERSION,
};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use xtask::child::cpu_secs;

/// Reports of a frame at most: what has come together while the last frame was under way.
const FRAME_REPORTS: u64 = 32;
/// Between two reports of a device, by its own clock.
const INTERVAL_MILLIS: i64 = 1000;
/// How long ago each device's first report was made: it has been away.
const AWAY: Duration = Duration::from_secs(24 * 3600);
/// How long a server's work counts after the last answer: what it has put off is part of it.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// What a device measures, and what digits of a number it changes from report to report.
const METRICS: [(&str, f64, f64); 12] = [
    ("cpu_usage", 37.0, 3.0),
    ("memory_usage", 61.0, 0.05),
    ("disk_usage", 48.0, 0.01),
    ("load1", 1.5, 0.08),
    ("load5", 1.4, 0.02),
    ("temperature_celsius", 52.0, 0.5),
    ("memory_used_bytes", 2e9, 4096.0),
    ("disk_used_bytes", 2e10, 4096.0),
    ("network_receive_bytes_total", 1e10, 20_000.0),
    ("network_transmit_bytes_total", 1e9, 8_000.0),
    ("latency_ms", 12.0, 4.0),
    ("uptime_seconds", 1e6, 1.0),
];

struct Plan {
    url: ServerUrl,
    key: ApiKey,
    pid: u32,
    links: u32,
    time: Duration,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, key, pid, links, secs] = args.as_slice() else {
        bail!("link_load URL KEYFILE PID LINKS SECONDS");
    };
    let key = std::fs::read_to_string(key).with_context(|| format!("cannot read {key}"))?;
    let plan = Plan {
        url: url.parse()?,
        key: key.trim().parse()?,
        pid: pid.parse()?,
        links: links.parse()?,
        time: Duration::from_secs(secs.parse()?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(run(&plan))?;
    writeln!(io::stdout(), "{figures}")?;
    Ok(())
}

async fn run(plan: &Plan) -> anyhow::Result<serde_json::Value> {
    let client = Client::new(plan.url.clone(), plan.key.clone())?;
    let wish = KeyCreate {
        kind: KeyKind::Enrol,
        label: "bench".to_owned(),
        uses: None,
        expires_in_secs: None,
        device_id: None,
    };
    let made = client.key_create(&wish).await?;
    let mut links = Vec::new();
    for number in 0..plan.links {
        links.push(open(&plan.url, Pin::Server(client.server()), number, &made.key).await?);
    }
    let before = cpu_secs(plan.pid)?;
    let own_before = cpu_secs(std::process::id())?;
    let started = Instant::now();
    let until = started + plan.time;
    let reports = try_join_all(links.into_iter().map(|link| link.report(until))).await?;
    let (reports, took) = (reports.iter().sum::<u64>(), started.elapsed());
    let own = cpu_secs(std::process::id())? - own_before;
    sleep(AFTERWARDS).await;
    let used = cpu_secs(plan.pid)? - before;
    Ok(json!({
        "reports": reports,
        "secs": took.as_secs_f64(),
        "server_cpu_secs": used,
        "own_cpu_secs": own,
    }))
}

/// A device on its link.
struct Link<S> {
    socket: FrameSocket<S>,
    stream: [u8; 16],
    seq: u64,
    at: Timestamp,
    values: [f64; METRICS.len()],
}

async fn open(
    url: &ServerUrl,
    pin: Pin,
    number: u32,
    enrol_key: &str,
) -> anyhow::Result<Link<impl AsyncRead + AsyncWrite + Unpin>> {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let key = PrivateKey::from_seed(&seed);
    let stream = http::connect(url, pin).await?;
    let exporter = tls::exporter(stream.get_ref().1)?;
    let mut socket = FrameSocket::connect(stream, &url.authority(), &Route::Link.path()).await?;
    let hello = Hello { versions: vec![VERSION], device_pub: key.public().bytes(), nonce: seed };
    socket.send(&hello).await?;
    let (server_nonce, server_pub) = match socket.receive_frame().await? {
        Greeting::Welcome { nonce, server_pub, .. } => (nonce, server_pub),
        Greeting::Refused { detail, .. } => bail!("the server refused the link: {detail:?}"),
    };
    let context = LinkContext {
        device_pub: hello.device_pub,
        device_nonce: hello.nonce,
        server_pub,
        server_nonce,
        exporter,
    };
    let proof = Proof {
        signature: context.sign_as_device(&key),
        device_id: format!("link-{number:05}"),
        enrol_key: Some(enrol_key.to_owned()),
        facts: Facts { interval_secs: 1, ..Facts::default() },
    };
    socket.send(&proof).await?;
    match socket.receive_frame().await? {
        ToAgent::Standing(Standing::Active { .. }) => {}
        other => bail!("the server did not let the device in: {other:?}"),
    }
    Ok(Link {
        socket,
        stream: seed[..16].try_into().expect("half of a seed"),
        seq: 0,
        at: SystemClock.now().minus(AWAY),
        values: METRICS.map(|(_, value, _)| value),
    })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Reports, one frame after the other, until the time is up; says how many reports the server
    /// has acknowledged.
    async fn report(mut self, until: Instant) -> anyhow::Result<u64> {
        while Instant::now() < until {
            // Mixed by a multiplication, so that frames of all sizes come.
            let count = 1 + (self.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % FRAME_REPORTS;
            let now = SystemClock.now();
            let reports = (0..count).map(|_| self.collect(now)).collect();
            let samples = Samples { stream: self.stream, reports };
            self.socket.send(&ToServer::Samples(samples)).await?;
            self.acknowledged().await?;
        }
        let reported = self.seq;
        self.socket.close("the device leaves").await;
        Ok(reported)
    }

    fn collect(&mut self, now: Timestamp) -> QueuedReport {
        self.seq += 1;
        self.at = Timestamp::from_millis(self.at.millis() + INTERVAL_MILLIS);
        let mut dice = self.seq.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let samples = METRICS.iter().zip(&mut self.values).map(|((name, _, step), value)| {
            dice = (dice ^ (dice >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let moved = *value + step * ((dice >> 40) as f64 / f64::from(1 << 23) - 1.0);
            *value = (moved.max(0.0) * 100.0).round() / 100.0;
            Sample::new(name, *value)
        });
        let samples = samples.collect();
        let age_millis = now.since(self.at).as_millis() as u64;
        QueuedReport { seq: self.seq, at_millis: self.at.millis(), age_millis, samples }
    }

    async fn acknowledged(&mut self) -> anyhow::Result<()> {
        loop {
            match self.socket.receive_frame().await? {
                ToAgent::Ack { stream, seq } if stream == self.stream && seq == self.seq => {
                    return Ok(());
                }
                ToAgent::Standing(Standing::Active { .. })
                | ToAgent::Config(_)
                | ToAgent::Watch { .. } => {}
                other => bail!("the server said {other:?} instead of an acknowledgement"),
            }
        }
    }
}
