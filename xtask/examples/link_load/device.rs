//! A device as the server sees it: TLS, the hello with both proofs, and what it measures.

use anyhow::bail;
use fleet_core::api::{KeyCreate, Rights, Route};
use fleet_core::identity::PrivateKey;
use fleet_core::metric::Sample;
use fleet_core::net::authorities::Authorities;
use fleet_core::net::http;
use fleet_core::net::socket::FrameSocket;
use fleet_core::net::tls::{self, Pin};
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::client::Client;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;
use fleet_core::wire::{
    Binding, Facts, Greeting, Hello, LinkContext, Proof, QueuedReport, Standing, ToAgent, VERSION,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Between two reports, as devices say.
const INTERVAL_SECS: u32 = 10;

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

/// A key that lets devices in.
pub(crate) async fn enrol_key(client: &Client) -> anyhow::Result<String> {
    let wish = KeyCreate {
        install_url: false,
        kind: KeyKind::Enrol,
        label: "bench".to_owned(),
        uses: None,
        expires_in_secs: None,
        never_expires: false,
        device_id: None,
        role: None,
        rights: Rights::new(),
        scope: None,
    };
    Ok(client.key_create(&wish).await?.key)
}

/// A device on its link.
pub(crate) struct Device {
    pub(crate) socket: FrameSocket<TlsStream<TcpStream>>,
    pub(crate) stream: [u8; 16],
    pub(crate) seq: u64,
    values: [f64; METRICS.len()],
}

impl Device {
    /// Opens the link of the device of a number, which the server lets in by a key unless it knows
    /// it already.
    pub(crate) async fn open(
        url: &ServerUrl,
        pin: Pin,
        number: u32,
        enrol_key: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let key = PrivateKey::from_seed(&seed);
        let stream = http::connect(url, pin, &Authorities::default()).await?.stream;
        let exporter = tls::exporter(stream.get_ref().1)?;
        let mut socket =
            FrameSocket::connect(stream, &url.authority(), &Route::Link.path()).await?;
        let hello =
            Hello { versions: vec![VERSION], device_pub: key.public().bytes(), nonce: seed };
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
            binding: Binding::Exporter(exporter),
        };
        let proof = Proof {
            signature: context.sign_as_device(&key),
            device_id: format!("link-{number:05}"),
            enrol_key: enrol_key.map(str::to_owned),
            facts: Facts { interval_secs: INTERVAL_SECS, ..Facts::default() },
        };
        socket.send(&proof).await?;
        match socket.receive_frame().await? {
            ToAgent::Standing(Standing::Active { .. }) => {}
            other => bail!("the server did not let the device in: {other:?}"),
        }
        Ok(Self {
            socket,
            stream: seed[..16].try_into().expect("half of a seed"),
            seq: 0,
            values: METRICS.map(|(_, value, _)| value),
        })
    }

    /// The next report, collected at a time.
    pub(crate) fn collect(&mut self, at: Timestamp, now: Timestamp) -> QueuedReport {
        self.seq += 1;
        let mut dice = self.seq.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let samples = METRICS.iter().zip(&mut self.values).map(|((name, _, step), value)| {
            dice = (dice ^ (dice >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let moved = *value + step * ((dice >> 40) as f64 / f64::from(1 << 23) - 1.0);
            *value = (moved.max(0.0) * 100.0).round() / 100.0;
            Sample::new(name, *value)
        });
        let samples = samples.collect();
        let age_millis = now.since(at).as_millis() as u64;
        QueuedReport { seq: self.seq, at_millis: at.millis(), age_millis, samples }
    }
}
