//! Probes: how well the device reaches others, which its owner names in `config.yaml`.
//!
//! Each probe asks its target at an interval, on a task of its own, and remembers its last outcomes;
//! what they come to is in every report. Nothing is known of a target that was not asked yet, and
//! a probe that this device does not allow gives no numbers, and says once why.

mod echo;
mod window;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleet_core::net::shutdown::Tasks;
use fleet_core::untrusted::Untrusted;
use http_body_util::Empty;
use hyper::Uri;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::collect::{Batch, CollectError, Collector};
use window::Window;

/// Probes of a device.
pub const PROBES_MAX: usize = 16;
/// Between two questions of a probe.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// How long an answer is waited for, if the next question does not come earlier.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The metrics, each labelled with the probe's name.
const LABEL: &str = "target";
const METRICS: [&str; 4] = ["rtt_ms", "rtt_p95_ms", "jitter_ms", "packet_loss"];

/// A probe, as the device's owner wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it goes by.
    pub name: String,
    /// Whom it asks, and how.
    pub target: Target,
    /// Between two questions.
    pub interval: Duration,
}

/// Whom a probe asks, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An ICMP echo to this host.
    Icmp(String),
    /// A TCP connection to this host and port.
    Tcp(String),
    /// A GET request. Any answer is one, but for those that say the server is at fault.
    Http(Uri),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp(host) => write!(f, "icmp {host}"),
            Self::Tcp(host) => write!(f, "tcp {host}"),
            Self::Http(uri) => write!(f, "http {uri}"),
        }
    }
}

/// The probes of a device, as a collector of what came of them.
#[derive(Clone, Default)]
pub struct Probes(Arc<Vec<Running>>);

struct Running {
    probe: Probe,
    window: Mutex<Window>,
}

impl Probes {
    /// Some probes, of which none has asked yet.
    pub fn new(probes: Vec<Probe>) -> Self {
        let running = |probe| Running { probe, window: Mutex::default() };
        Self(Arc::new(probes.into_iter().map(running).collect()))
    }

    /// Has all probes ask, each on a task of its own, until the agent stops.
    pub fn start(&self, tasks: &Tasks) {
        for place in 0..self.0.len() {
            let (probes, stopping) = (self.clone(), tasks.clone());
            tasks.spawn("probe", async move {
                tokio::select! {
                    () = probes.0[place].run() => {}
                    () = stopping.stopping() => {}
                }
            });
        }
    }
}

impl Running {
    async fn run(&self) {
        let Probe { name, target, interval: time } = &self.probe;
        let mut due = interval(*time);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            due.tick().await;
            let answer = timeout(TIMEOUT.min(*time), ask(target)).await;
            let outcome = match answer {
                Ok(Ok(took)) => Some(took),
                Ok(Err(error)) if echo::is_forbidden(target, &error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(probe = %Untrusted::from(name.as_str()), %error,
                            "this device does not let its agent send echo requests; a tcp probe may do");
                    }
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::debug!(probe = %Untrusted::from(name.as_str()), %error, "a probe had no answer");
                    None
                }
                Err(_) => None,
            };
            self.window.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
        }
    }
}

/// Asks a target once; how long its answer took, without the time in which its name was looked up.
async fn ask(target: &Target) -> io::Result<Duration> {
    let address = match target {
        Target::Icmp(host) => resolve(format!("{host}:0")).await?,
        Target::Tcp(host) => resolve(host.clone()).await?,
        Target::Http(uri) => {
            let host = uri.host().unwrap_or_default();
            resolve(format!("{host}:{}", uri.port_u16().unwrap_or(80))).await?
        }
    };
    let asked = Instant::now();
    match target {
        Target::Icmp(_) => echo::ask(address.ip()).await?,
        Target::Tcp(_) => drop(TcpStream::connect(address).await?),
        Target::Http(uri) => get(uri, address).await?,
    }
    Ok(asked.elapsed())
}

/// One probe looks up a name at a time, however many have given up waiting: what a resolver is slow
/// about must not keep the agent from its server.
static LOOKING: Semaphore = Semaphore::const_new(1);

/// The first address of a host.
async fn resolve(host: String) -> io::Result<SocketAddr> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let looking = LOOKING.acquire().await.map_err(io::Error::other)?;
    let found = spawn_blocking(move || {
        let found = host.to_socket_addrs().map(|mut found| found.next());
        drop(looking);
        found
    });
    let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    found.await.map_err(io::Error::other)??.ok_or_else(none)
}

async fn get(uri: &Uri, address: SocketAddr) -> io::Result<()> {
    let host = uri.host().unwrap_or_default();
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = hyper::Request::get(path).header(HOST, authority).body(Empty::<Bytes>::new());
    let request = request.map_err(io::Error::other)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    // The body is not waited for. A connection may end with the answer, which is there then.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ended = connection => answer.await,
    };
    let status = answer.map_err(io::Error::other)?.status();
    if status.is_server_error() {
        return Err(io::Error::other(format!("the answer is {status}")));
    }
    Ok(())
}

impl Collector for Probes {
    fn name(&self) -> &'static str {
        "probes"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let [rtt, p95, jitter, loss] = METRICS;
        for running in &*self.0 {
            let window = running.window.lock().unwrap_or_else(PoisonError::into_inner);
            let known = [
                (rtt, window.last().map(millis)),
                (p95, window.p95().map(millis)),
                (jitter, window.jitter().map(millis)),
                (loss, window.loss_percent()),
            ];
            drop(window);
            for (metric, value) in known {
                if let Some(value) = value {
                    batch.push_labelled(metric, LABEL, &running.probe.name, value);
                }
            }
        }
        Ok(())
    }
}

/// Milliseconds, to the hundredth.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
