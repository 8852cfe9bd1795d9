//! The composition root: config, keys, store, operations, port; and the way back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{ADMIN_LABEL, AuditAction, EventKind};
use fleet_core::identity::ServerIdentity;
use fleet_core::net::notify::Notifier;
use fleet_core::net::shutdown::Tasks;
use fleet_core::net::tls::{self, TlsError};
use fleet_core::net::url::ServerUrl;
use fleet_core::time::{Clock, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

use crate::bell::Bell;
use crate::certificate::{Certificate, CertificateError};
use crate::config::ServerConfig;
use crate::discovery::Discovery;
use crate::door::Door;
use crate::http::intake::Intake;
use crate::http::{Http, Installer};
use crate::hub::Hub;
use crate::install::Packages;
use crate::keyring::{Complete, Keyring, KeyringError};
use crate::link::Links;
use crate::live::{Board, Keeper, Live};
use crate::logs::Logs;
use crate::meters::Meters;
use crate::ops::audit;
use crate::ops::configs::{Layers, Versions};
use crate::ops::events::NewEvent;
use crate::ops::judgement::Deaf;
use crate::ops::revoked;
use crate::ops::telemetry::LOOKERS_MAX;
use crate::ops::waiting::Waiting;
use crate::ops::{
    Actor, Audit, Backups, Batches, Commands, Configs, Database, Devices, Doubles, Enrolment,
    Events, Exports, Grants, Keys, Ops, Preauths, Presence, Senders, Sessions, Telemetry, World,
};
use crate::page::Page;
use crate::proxies::Proxies;
use crate::reach::Reach;
use crate::store::{EventQuery, OpenError, RedbStore, Settled, Store, StoreError};
use crate::tasks;
use crate::watchdog::Watchdog;
use crate::watched::Watched;

/// How long requests and links under way may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// A running server.
pub struct Server {
    address: SocketAddr,
    url: ServerUrl,
    identity: ServerIdentity,
    database: PathBuf,
    admin_path: PathBuf,
    notes: Vec<String>,
    store: Arc<RedbStore>,
    board: Arc<Board>,
    world: World,
    presence: Arc<Presence>,
    audit: Arc<Audit>,
    tasks: Tasks,
}

/// Why a server does not start. Each is one sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its keys.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Its database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something in its database.
    #[error("cannot read the database")]
    Store(#[from] StoreError),
    /// Its port.
    #[error("port {port} is in use: stop what uses it, or give --port another")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// Its address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The keys of its connections.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// The operator's certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl StartError {
    /// Whether it is about what the server was told, rather than about the machine.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Keyring(error) => error.is_configuration(),
            Self::Certificate(_) => true,
            // A port below 1024; an address, on the other hand, may be there later.
            Self::Listen { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }
}

impl Server {
    /// Starts a server. When this returns, it serves.
    pub async fn start(config: ServerConfig, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let certificate = config.certificate.clone().map(Certificate::load).transpose()?;
        let keyring = Keyring::read(&config.database, config.secret_key.clone())?;
        let redb = Arc::new(RedbStore::open(&config.database)?);
        let listener = listen(&config).await?;
        let address = local_address(&config, &listener)?;
        let told_by = clock.clone();
        let telling = move |settled: &Settled| revoked::words(settled, told_by.now());
        let anew = redb.settle_revoked(Box::new(telling)).await?;
        let store: Arc<dyn Store> = redb.clone();
        let world = World { store, clock };
        let mut keys = keyring.complete(world.store.as_ref(), world.now()).await?;
        keys.notes.extend(revoked::notes(&anew));
        let reach = Reach {
            bound: address.ip(),
            port: address.port(),
            is_secure: certificate.is_some(),
            public_url: config.public_url.clone(),
            interfaces: config.interfaces.clone(),
        };
        let presence = Arc::new(remembered(&world).await?);
        let events = Arc::new(Events::new(world.clone()));
        let hub = Arc::new(Hub::default());
        let watched = Arc::new(Watched::new(hub.clone()));
        let logs = Arc::new(Logs::new(hub.clone()));
        let ops = Arc::new(wire(&world, &keys, &presence, &hub, &events, &watched, &reach));
        let audit = ops.audit.clone();
        audit.close_open().await?;
        let made = keys.made.iter().map(|id| (id, AuditAction::KeyCreate));
        let ended = keys.ended.iter().map(|id| (id, AuditAction::KeyRevoke));
        for (id, action) in made.chain(ended) {
            audit.note(audit::own_key(id, action), None).await;
        }
        let (commands, batches) = (ops.commands.clone(), ops.batches.clone());
        let tasks = Tasks::default();
        let page = Page::new(&config, keys.server.public().identity());
        let keeper = Keeper::begin(ops.clone()).await?;
        let patience = config.patience.reply;
        let live =
            Live::new(ops.clone(), &keeper, watched.clone(), logs.clone(), tasks.clone(), patience);
        let hub_of_links = hub.clone();
        let links = Arc::new(Links {
            ops: ops.clone(),
            hub,
            watched,
            logs,
            server: keys.server.clone(),
            tasks: tasks.clone(),
            patience: config.patience.hello,
        });
        let database = Arc::new(Database {
            world: world.clone(),
            path: config.database.clone(),
            keep: config.keep.clone(),
            events: events.clone(),
            checking: Mutex::default(),
        });
        let http = Arc::new(Http {
            links,
            live: Arc::new(live),
            exports: Exports::default(),
            backups: Backups::new(config.database.clone()),
            database: database.clone(),
            installer: Installer::new(reach.clone(), Packages::new(config.agent_packages.clone())),
            discovery: Discovery::new(config.interfaces.clone(), reach.clone(), tasks.clone()),
            door: Arc::new(Door::new(Proxies::new(config.trusted_proxies.clone()))),
            tls: match &certificate {
                Some(certificate) => tls::server_config_beside(&keys.server, certificate.clone())?,
                None => tls::server_config(&keys.server)?,
            },
            certificate: certificate.clone(),
            server: keys.server.clone(),
            patience: config.patience,
            page,
            intake: Intake::default(),
            meters: ops.telemetry.meters.clone(),
            ops: ops.clone(),
            scrapes: Arc::new(Semaphore::new(1)),
            commits: {
                let redb = redb.clone();
                Box::new(move || redb.commits())
            },
            tasks: tasks.clone(),
        });
        let board = keeper.board();
        tasks.spawn("board", keeper.run(tasks.clone()));
        let within = tasks.clone();
        tasks.spawn("commands", async move { commands.run(&within).await });
        let within = tasks.clone();
        tasks.spawn("batches", async move { batches.run(&within).await });
        let (within, settled) = (tasks.clone(), ops.clone());
        tasks.spawn("configurations", async move { settled.configs.run(&within).await });
        tasks.spawn("audit", audit.clone().run(tasks.clone()));
        tasks.spawn("port", http.run(listener));
        if let Some(certificate) = certificate {
            tasks.spawn("certificate", certificate.keep(events.clone(), tasks.clone()));
        }
        let seen = tasks::write_seen(world.clone(), presence.clone(), tasks.clone());
        tasks.spawn("last seen", seen);
        tasks.spawn(
            "settled",
            tasks::heed_settled(redb.clone(), ops.clone(), hub_of_links, tasks.clone()),
        );
        tasks.spawn("ballast", tasks::keep_ballast(redb.clone(), events.clone(), tasks.clone()));
        tasks.spawn("check", tasks::check(database, tasks.clone()));
        tasks.spawn(
            "retention",
            tasks::retain(world.clone(), audit.clone(), config.keep.clone(), tasks.clone()),
        );
        events.record_all(start_events(&keys, &reach)).await;
        Ok(Self {
            address,
            url: reach.local_url(),
            identity: keys.server.public().identity(),
            database: config.database,
            admin_path: keys.admin_path,
            notes: keys.notes,
            store: redb,
            board,
            world,
            presence,
            audit,
            tasks,
        })
    }

    /// Tells the service manager from now on how the server is, and that it goes on.
    pub fn tell(&self, notifier: Notifier) {
        if notifier.is_heard() {
            let (store, board) = (self.store.clone(), self.board.clone());
            let watchdog = Watchdog { notifier, store, board, tasks: self.tasks.clone() };
            self.tasks.spawn("watchdog", watchdog.run());
        }
    }

    /// Stops accepting, finishes what is under way, and closes the store.
    pub async fn stop(self) {
        if let Err(late) = self.tasks.finish(DRAIN).await {
            tracing::warn!(?late, "some tasks did not end in time");
        }
        tasks::write_seen_once(&self.world, &self.presence).await;
        if let Err(error) = self.audit.seal().await {
            tracing::warn!(error = %Chain(&error), "the audit record was not signed");
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for people on this host.
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Who it is.
    pub fn identity(&self) -> ServerIdentity {
        self.identity
    }

    /// Its database.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Where its admin key lies.
    pub fn admin_path(&self) -> &Path {
        &self.admin_path
    }

    /// What a person should know about this start.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn wire(
    world: &World,
    keys: &Complete,
    presence: &Arc<Presence>,
    hub: &Arc<Hub>,
    events: &Arc<Events>,
    watched: &Arc<Watched>,
    reach: &Reach,
) -> Ops {
    let world = || world.clone();
    let versions = Arc::new(Versions::default());
    let layers = Arc::new(Layers::new(world()));
    let server = || keys.server.clone();
    let meters = Arc::new(Meters::default());
    let audit = Arc::new(Audit::new(world(), server()));
    let devices = || Devices {
        world: world(),
        presence: presence.clone(),
        versions: versions.clone(),
        layers: layers.clone(),
        hub: hub.clone(),
        events: events.clone(),
    };
    let reports: Arc<Bell> = Arc::default();
    let commands = Arc::new(Commands {
        world: world(),
        hub: hub.clone(),
        server: server(),
        presence: presence.clone(),
        meters: meters.clone(),
        waiting: Waiting::default(),
        ended: Arc::default(),
    });
    Ops {
        devices: devices(),
        batches: Arc::new(Batches {
            world: world(),
            hub: hub.clone(),
            devices: devices(),
            commands: commands.clone(),
            versions: versions.clone(),
            layers: layers.clone(),
            reports: reports.clone(),
            events: events.clone(),
            told: Bell::default(),
        }),
        commands,
        telemetry: Telemetry {
            world: world(),
            presence: presence.clone(),
            watched: watched.clone(),
            senders: Senders::new(world(), hub.clone(), events.clone(), audit.clone()),
            templates: Arc::default(),
            meters,
            lookers: Arc::new(Semaphore::new(LOOKERS_MAX)),
        },
        configs: Configs {
            world: world(),
            versions: versions.clone(),
            hub: hub.clone(),
            server: server(),
            events: events.clone(),
            reports,
            layers: layers.clone(),
        },
        grants: Grants { world: world(), hub: hub.clone(), server: server(), reach: reach.clone() },
        enrolment: Enrolment {
            world: world(),
            server: server().public(),
            presence: presence.clone(),
            versions: versions.clone(),
            hub: hub.clone(),
            events: events.clone(),
            audit: audit.clone(),
        },
        preauths: Preauths::new(world()),
        keys: Keys::new(world(), server().public().identity(), events.clone()),
        sessions: Sessions { world: world() },
        events: events.clone(),
        audit,
        presence: presence.clone(),
        doubles: Doubles::new(world(), presence.clone(), hub.clone(), events.clone()),
        world: world(),
    }
}

/// What the server did so far, of its own accord.
fn start_events(keys: &Complete, reach: &Reach) -> Vec<NewEvent> {
    let event = |kind, text| {
        let actor = Actor::Server.to_string();
        NewEvent { kind, actor, device: None, text }
    };
    let key = |id: &String| format!("operator key {id} ({ADMIN_LABEL})");
    let made = keys.made.iter().map(|id| event(EventKind::KeyCreated, key(id)));
    let ended = keys.ended.iter().map(|id| event(EventKind::KeyRevoked, key(id)));
    let text = format!("release {} serves {}", fleet_core::VERSION, reach.local_url());
    made.chain(ended).chain([event(EventKind::ServerStarted, text)]).collect()
}

/// What the store remembers of the devices' last words.
async fn remembered(world: &World) -> Result<Presence, StoreError> {
    let devices = world.store.device_list().await?;
    // A clock that was ahead when it was written must not make a device look alive until then.
    let now = world.now();
    let keyless = devices.iter().filter(|device| device.key.is_none());
    let keyless = keyless.map(|device| device.uid).collect();
    let seen: Vec<_> = devices
        .into_iter()
        .filter_map(|device| Some((device.uid, device.last_seen?.min(now))))
        .collect();
    // The last that was written down, of whatever kind, is when the server last listened.
    let newest = EventQuery {
        about: None,
        kinds: Vec::new(),
        since: Timestamp::from_millis(0),
        until: now,
        before: u64::MAX,
        limit: 1,
    };
    let happened = world.store.event_list(newest).await?.into_iter().map(|(_, event)| event.at);
    let listened = seen.iter().map(|(_, at)| *at).chain(happened).max();
    let deaf = listened.map(|from| Deaf { from, to: now });
    let presence = Presence::rebuilt(
        seen,
        world.store.latest_all().await?,
        &keyless,
        deaf,
        world.clock.clone(),
    );
    for (uid, double) in world.store.double_list().await? {
        presence.set_double(uid, double);
    }
    Ok(presence)
}

/// Listens on the configured address; on all of IPv4 where the host has no IPv6.
async fn listen(config: &ServerConfig) -> Result<TcpListener, StartError> {
    let wanted = SocketAddr::new(config.listen_address(), config.port);
    let bound = match TcpListener::bind(wanted).await {
        Err(error) if config.bind.is_none() && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, config.port)).await
        }
        bound => bound,
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { port: config.port },
        _ => StartError::Listen { address: wanted, source },
    })
}

fn local_address(config: &ServerConfig, listener: &TcpListener) -> Result<SocketAddr, StartError> {
    let wanted = SocketAddr::new(config.listen_address(), config.port);
    listener.local_addr().map_err(|source| StartError::Listen { address: wanted, source })
}
