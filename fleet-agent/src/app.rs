//! The agent, put together: take the folder, learn who we are, open the port, then announce,
//! measure and keep the link, until told to stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::api::{DeviceState, LinkView};
use fleet_core::net::shutdown::Tasks;
use fleet_core::net::tls::{self, TlsError};
use fleet_core::time::{Clock, SystemClock};
use futures_util::future::select_all;
use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::announce::Announcement;
use crate::collect::Sampler;
use crate::commands::Commands;
use crate::commands::effects::Machine;
use crate::control::Control;
use crate::identity::{Identity, IdentityError};
use crate::journal;
use crate::link::status::{Latency, LinkStatus};
use crate::link::{FactsSource, Link};
use crate::logs::LogSources;
use crate::new_key::{self, NewKeys};
use crate::probe::Probes;
use crate::queue::{self, Queue};
use crate::running::Running;
use crate::settings::{Settings, SettingsError};
use crate::state::folder::{Folder, Lock, StateError};
use crate::state::guard::ClaimGuard;
use crate::state::membership::Membership;
use crate::state::{ClaimWindow, Device};
use crate::sys::host::HostFacts;
use crate::telemetry::Telemetry;

/// Connections that the kernel holds for us.
const BACKLOG: u32 = 64;
/// How long the parts may take to stop.
const STOP: Duration = Duration::from_secs(8);

/// A running agent.
pub struct App {
    device: Arc<Device>,
    queue: Arc<Queue>,
    commands: Arc<Commands>,
    status: Arc<LinkStatus>,
    telemetry: Arc<Telemetry>,
    restarts: Arc<Notify>,
    folder: Folder,
    /// Whether its owner asked for an id.
    chose_id: bool,
    address: SocketAddr,
    tasks: Tasks,
    parts: Vec<Part>,
    _lock: Lock,
}

struct Part {
    name: &'static str,
    handle: JoinHandle<()>,
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its port is somebody else's.
    #[error("port {port} is in use by another program; choose another one with --port")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// Its port, for another reason.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Random numbers.
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

impl App {
    /// Starts all parts, in the runtime that this is called in. When this returns, the port
    /// answers.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let folder = Folder::new(&settings.data_dir);
        let lock = folder.lock()?;
        let host = HostFacts::read(&settings.root, settings.config.device_type);
        if let Err(error) = new_key::take_over(folder.path()) {
            tracing::warn!(%error, "cannot take over the device's new key; tries again at the next start");
        }
        let identity = Identity::load_or_make(&folder, settings.device_id.as_ref(), &host)?;
        let tls = tls::server_config(&identity.key)?;
        let membership = Membership::open(folder.clone(), settings.provisioned)?;
        let window = ClaimWindow::open(settings.policy.claim, settings.claim_window);
        let (policy, rest) = (settings.policy.claim, settings.claim_rest);
        let guard =
            ClaimGuard::open(folder.clone(), policy, settings.claim_key, rest, clock.clone())?;
        let ca_file = settings.ca_file;
        let device = Arc::new(Device { identity, membership, window, guard, ca_file });
        let latency = Latency::default();
        let mut sampler = Sampler::new(&settings.root);
        sampler.add(Box::new(latency.clone())).expect("no built-in metric is called latency_ms");
        let probes = Probes::new(settings.config.probes);
        sampler.add(Box::new(probes.clone())).expect("no built-in metric is one of theirs");
        let telemetry = Telemetry::new(sampler, &settings.config.telemetry);
        let telemetry = Arc::new(telemetry.map_err(SettingsError::Metrics)?);
        let spool = folder.path().join(queue::FOLDER);
        let queue = Queue::open(spool, settings.config.spool, &settings.root, clock.clone())?;
        let queue = Arc::new(queue);
        if Running::find(&folder)?.is_some() {
            tracing::warn!("the last run did not end by itself; its last seconds may be lost");
            queue.unclean_end();
        }
        let status = Arc::new(LinkStatus::new(clock.clone()));

        let listener = listen(settings.bind, settings.port)?;
        let address = listener.local_addr().map_err(|source| {
            let address = SocketAddr::new(unspecified(settings.bind), settings.port);
            StartError::Listen { address, source }
        })?;
        note(&device, address).note(&folder)?;
        device.guard.settle(device.membership.server().is_some())?;

        let tasks = Tasks::default();
        let restarts = Arc::new(Notify::new());
        let new_keys = Arc::new(NewKeys::new(folder.path().to_owned()));
        let machine = Machine {
            root: settings.root.clone(),
            telemetry: telemetry.clone(),
            queue: queue.clone(),
            clock: clock.clone(),
            log: settings.log.clone(),
            restart: restarts.clone(),
            new_keys: new_keys.clone(),
            tasks: tasks.clone(),
        };
        let logs = Arc::new(LogSources {
            root: settings.root.clone(),
            policy: settings.policy.commands.clone(),
            own: settings.log,
        });
        let commands = Commands::new(
            folder.path().join(journal::FOLDER),
            &settings.root,
            settings.policy.commands,
            Box::new(machine),
            clock.clone(),
        );
        let commands = Arc::new(commands?);
        if let Some(server) = device.membership.server() {
            commands.serve(server);
        }
        let control =
            Control { device: device.clone(), status: status.clone(), queue: queue.clone() };
        let announcement = Announcement {
            interfaces: settings.interfaces,
            address: settings.bind.filter(|address| !address.is_unspecified()),
            hostname: host.hostname,
            port: address.port(),
        };
        let link = Link {
            device: device.clone(),
            queue: queue.clone(),
            commands: commands.clone(),
            logs,
            new_keys,
            telemetry: telemetry.clone(),
            folder: folder.clone(),
            facts: FactsSource {
                root: settings.root,
                device_type: settings.config.device_type,
                name: settings.config.device_name,
            },
            status: status.clone(),
            latency,
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        let mut app = Self {
            device,
            queue: queue.clone(),
            commands: commands.clone(),
            status,
            telemetry: telemetry.clone(),
            restarts,
            folder,
            chose_id: settings.device_id.is_some(),
            address,
            tasks,
            parts: Vec::new(),
            _lock: lock,
        };
        app.introduce();
        let device = app.device.clone();
        let tasks = app.tasks.clone();
        app.part("control port", Arc::new(control).serve(listener, tls, tasks.clone()));
        app.part("announcement", announcement.run(device.clone(), tasks.clone()));
        app.part("link", link.run());
        probes.start(&app.tasks);
        let stopping = tasks.clone();
        app.part("commands", async move { commands.run(&stopping).await });
        let (kept, stopping) = (queue.clone(), tasks.clone());
        app.part("queue", async move {
            tokio::select! {
                () = kept.keep() => {}
                () = stopping.stopping() => {}
            }
        });
        app.part("telemetry", async move {
            tokio::select! {
                () = telemetry.run(queue, &device.membership, clock.as_ref()) => {}
                () = tasks.stopping() => {}
            }
        });
        Ok(app)
    }

    /// Where the port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who the device is, and how it stands.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How its link stands.
    pub fn link(&self) -> LinkView {
        self.status.view()
    }

    /// For how long it should have reported already.
    pub fn overdue(&self) -> Duration {
        self.telemetry.overdue()
    }

    /// Told when the server wants the agent to begin anew.
    pub fn restarts(&self) -> Arc<Notify> {
        self.restarts.clone()
    }

    /// Waits until a part ends that should run until it is told to stop, and says which.
    pub async fn failed(&mut self) -> &'static str {
        let names: Vec<&'static str> = self.parts.iter().map(|part| part.name).collect();
        let (_, index, _) = select_all(self.parts.iter_mut().map(|part| &mut part.handle)).await;
        names[index]
    }

    /// Makes the device nobody's again, and its time to be claimed begin anew. What waits was for
    /// the server that is forgotten.
    pub fn forget(&self) -> Result<(), StateError> {
        self.device.window.reopen();
        let had = self.device.membership.forget()?;
        self.device.guard.begin_anew(self.device.membership.server().is_some())?;
        self.queue.begin_anew();
        self.commands.forget();
        tracing::info!(had_server = had, "forgot its server, as its owner asked");
        Ok(())
    }

    /// Stops all parts: the link says goodbye, the announcement too, and the folder is free.
    pub async fn stop(self) {
        if let Err(running) = self.tasks.finish(STOP).await {
            tracing::warn!(?running, "these parts did not stop in time");
        }
        self.queue.close();
        if let Err(error) = Running::forget(&self.folder) {
            tracing::warn!(error = %fleet_core::Chain(&error), "a note was left behind");
        }
    }

    fn part(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(name, task);
        self.parts.push(Part { name, handle });
    }

    /// The lines by which a person recognises the device.
    fn introduce(&self) {
        let device = &self.device;
        tracing::info!(
            id = %device.id(),
            fingerprint = %device.identity.fingerprint(),
            address = %self.address,
            version = fleet_core::VERSION,
            "this device"
        );
        if let Some(asked) = device.asked_id().filter(|_| self.chose_id) {
            let known_as = device.id();
            tracing::warn!(%asked, %known_as, "its server knows this device by another id than asked for");
        }
        if let Some(target) = device.membership.target() {
            let server = target.server.identity().map(|identity| identity.to_string());
            tracing::info!(server, url = %target.urls[0], "looks for its server");
        }
        if device.state() == DeviceState::Unclaimed {
            let hours_left = device.window.left().map(|left| left.as_secs().div_ceil(3600));
            let claim = device.window.mode().word();
            tracing::info!(claim, hours_left, "waiting to be claimed: run fleets configure");
        }
        if device.state() == DeviceState::Closed {
            tracing::info!("this device takes no claims");
        }
    }
}

fn note(device: &Device, address: SocketAddr) -> Running {
    let reachable = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // An agent that listens on all addresses listens on IPv4 too.
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        specific => specific,
    };
    Running {
        pid: std::process::id(),
        address: reachable,
        port: address.port(),
        fingerprint: device.identity.fingerprint(),
    }
}

fn unspecified(bind: Option<IpAddr>) -> IpAddr {
    bind.unwrap_or(Ipv6Addr::UNSPECIFIED.into())
}

/// Listens on one address, or on all of both families; on IPv4 alone where there is no IPv6.
fn listen(bind: Option<IpAddr>, port: u16) -> Result<TcpListener, StartError> {
    let first = SocketAddr::new(unspecified(bind), port);
    let opened = open(first).or_else(|error| {
        if bind.is_none() && error.kind() != io::ErrorKind::AddrInUse {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        } else {
            Err(error)
        }
    });
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken { port },
        _ => StartError::Listen { address: first, source },
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, Ipv6V6Only, &false)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
