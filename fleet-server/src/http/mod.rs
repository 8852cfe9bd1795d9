//! The port: connections in, requests answered, until told to stop.
//!
//! Handshakes happen off the accept loop, and every wait for a peer has an end, so a peer that is
//! slow, silent or mad costs a socket and nothing else. At the end, requests under way are
//! finished and idle connections closed.

pub(crate) mod audit;
mod audit_chain;
pub(crate) mod auth;
mod backup;
mod batches;
pub(crate) mod body;
mod commands;
mod configs;
mod devices;
mod discovery;
mod encoding;
mod events;
mod export;
mod fleetwide;
mod influx;
mod install;
pub(crate) mod intake;
pub(crate) mod logs;
mod metrics;
mod openapi;
pub(crate) mod posts;
pub(crate) mod query;
pub(crate) mod reply;
mod rows;
mod service;
mod stream;
mod telemetry;

use std::sync::Arc;

use fleet_core::identity::PrivateKey;
use fleet_core::net::accept;
use fleet_core::net::shutdown::Tasks;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::certificate::Certificate;
use crate::config::Patience;
use crate::discovery::Discovery;
use crate::door::{Door, Visit};
use crate::link::Links;
use crate::live::Live;
use crate::meters::Meters;
use crate::ops::{Backups, Database, Exports, Ops};
use crate::page::Page;
pub(crate) use install::Installer;
use intake::Intake;

/// Bytes that a request's head may have.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What the port needs.
pub(crate) struct Http {
    pub(crate) ops: Arc<Ops>,
    pub(crate) links: Arc<Links>,
    pub(crate) live: Arc<Live>,
    pub(crate) exports: Exports,
    pub(crate) backups: Backups,
    pub(crate) database: Arc<Database>,
    pub(crate) discovery: Discovery,
    pub(crate) installer: Installer,
    pub(crate) door: Arc<Door>,
    pub(crate) server: Arc<PrivateKey>,
    pub(crate) tls: Arc<ServerConfig>,
    /// The operator's certificate; with one, plain HTTP is sent on to https.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) patience: Patience,
    pub(crate) page: Page,
    pub(crate) intake: Intake,
    pub(crate) meters: Arc<Meters>,
    /// Whoever is being told what the whole fleet measured.
    pub(crate) scrapes: Arc<Semaphore>,
    /// How many commits there were.
    pub(crate) commits: Box<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) tasks: Tasks,
}

impl Http {
    /// Accepts connections until told to stop.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.tasks.stopping() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => match self.door.enter(remote) {
                    Some(visit) => {
                        self.tasks.spawn("connection", self.clone().connection(stream, visit));
                    }
                    None => tracing::debug!(%remote, "too many connections, closed one"),
                },
                Err(error) => accept::pause_after(&error).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, visit: Visit) {
        let remote = visit.remote();
        // Whoever asks and never reads the answer is shown out by the system.
        let shown_out = SockRef::from(&stream).set_tcp_user_timeout(Some(self.patience.reply));
        if let Err(error) = shown_out {
            tracing::debug!(%remote, %error, "a connection was gone at once");
            return;
        }
        let stream = tokio::select! {
            () = self.tasks.stopping() => return,
            stream = accept::negotiate(stream, self.tls.clone()) => stream,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%remote, %error, "a connection came to nothing");
                return;
            }
        };
        let exporter = stream.exporter();
        let visit = Arc::new(visit);
        let service =
            service_fn(|request| service::serve(self.clone(), visit.clone(), exporter, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience.head)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.tasks.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%remote, %error, "a connection ended early");
        }
    }
}
