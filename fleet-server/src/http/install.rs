//! Links by which agents are installed: what an operator is given, and what a device fetches.
//!
//! Whoever fetches pipes the answer into a shell, so a refusal is a script, too: one that says why.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::{InstallLink, KeyCreate, KeyCreated, Route};
use fleet_core::net::url::ServerUrl;
use fleet_core::secret::{ApiKey, KeyKind};
use fleet_core::untrusted::Untrusted;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Http;
use super::query::Query;
use super::reply::{Failure, Reply, pieces, whole};
use crate::door::Visit;
use crate::install::{self, Package, Packages, Script, Token, Trust};
use crate::ops::keys::{Denied, Principal};
use crate::ops::{Access, Actor};
use crate::reach::{Asked, Reach};

/// Packages that are sent at one time.
const SENDING_MAX: usize = 16;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// When to come back where there is no room.
const RETRY_SECS: u64 = 10;

/// What there is to install, and who is sent some of it.
pub(crate) struct Installer {
    reach: Reach,
    packages: Arc<Packages>,
    places: Arc<Semaphore>,
}

impl Installer {
    /// With the packages in a folder.
    pub(crate) fn new(reach: Reach, packages: Packages) -> Self {
        let places = Arc::new(Semaphore::new(SENDING_MAX));
        Self { reach, packages: Arc::new(packages), places }
    }

    async fn packages(&self) -> Result<Vec<Package>, Failure> {
        let packages = self.packages.clone();
        let found = spawn_blocking(move || packages.newest()).await;
        found.map_err(|_| Failure::internal())?.map_err(|error| {
            let detail = Chain(&error).to_string();
            tracing::warn!(error = detail, "there is nothing to install");
            Failure::new(StatusCode::CONFLICT, detail)
        })
    }
}

/// A path as logs have it: some are secrets.
pub(super) fn shown(path: &str, route: Option<&Route>) -> Untrusted {
    match route {
        Some(Route::Install(_)) => Untrusted::from("/install/(masked)"),
        _ => Untrusted::from(path),
    }
}

/// Makes a key, and a link to go with it if that is asked for.
pub(super) async fn key_create(
    http: &Http,
    headers: &HeaderMap,
    wish: KeyCreate,
    access: &Access,
    actor: &Actor,
) -> Result<KeyCreated, Failure> {
    let has_link = wish.install_url && wish.kind == KeyKind::Enrol;
    let link = if has_link { Some(link(http, headers).await?) } else { None };
    let (key, install) = link.unzip();
    let made = http.ops.keys.create(wish, key, access, actor).await?;
    Ok(KeyCreated { install, ..made })
}

/// A link that an operator is about to be given, and the key that follows from it.
async fn link(http: &Http, headers: &HeaderMap) -> Result<(ApiKey, InstallLink), Failure> {
    // A link that leads to nothing is worse than none.
    http.installer.packages().await?;
    let token = Token::generate()
        .map_err(|_| Failure::new(StatusCode::CONFLICT, "the system gives no random numbers"))?;
    // Devices are not answered by a name that is not the server's own.
    let used = used(http, headers).ok().flatten();
    let url = install::url(&server(http, used, None), &token.text());
    let command = install::command(&url, &trust(http));
    Ok((token.key(http.server.public().identity()), InstallLink { url, command }))
}

/// `GET /install/TOKEN`: the script, or with `architecture` the package that it fetches.
pub(super) async fn answer(
    http: &Arc<Http>,
    visit: &Visit,
    headers: &HeaderMap,
    token: &str,
    query: Result<Query, Failure>,
) -> Reply {
    let answer = async {
        let query = query?;
        let key = key(http, visit, token).await?;
        let packages = http.installer.packages().await?;
        match query.get("architecture") {
            None => script(http, visit, headers, token, &key, &packages),
            Some(architecture) => {
                let package = packages.iter().find(|package| package.architecture == architecture);
                let none = || Failure::new(StatusCode::NOT_FOUND, "there is no such package");
                send(http, package.ok_or_else(none)?)
            }
        }
    };
    answer.await.unwrap_or_else(|failure: Failure| {
        let mut reply = shell(install::refusal(&failure.detail().to_string()));
        *reply.status_mut() = failure.status();
        failure.copy_headers(&mut reply);
        reply
    })
}

/// The key behind a token, if it still lets devices in. Guesses count as those of keys do.
async fn key(http: &Http, visit: &Visit, token: &str) -> Result<ApiKey, Failure> {
    let gone = |detail: &str| Failure::new(StatusCode::NOT_FOUND, detail);
    let unknown = || gone("this link is not known here: look whether it is whole, or make another");
    let key = Token::parse(token).ok_or_else(unknown)?.key(http.server.public().identity());
    if let Some(wait) = visit.wait_before_key(Instant::now()) {
        let detail = "too many wrong links and keys came from this address: wait a minute";
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(failure.retry_after(wait.as_secs().max(1)));
    }
    match http.ops.keys.authenticate(&key, visit.remote().ip()).await {
        Ok(Principal::Enrol { key: id }) => {
            if http.ops.keys.uses_left(&id).await? == Some(0) {
                return Err(gone("this link has let in as many devices as it may: make another"));
            }
            Ok(key)
        }
        Err(Denied::Store(error)) => Err(error.into()),
        Err(Denied::Expired) => Err(gone("this link has expired: make another")),
        Err(Denied::Revoked) => Err(gone("this link was revoked: make another")),
        Ok(_) | Err(_) => {
            visit.key_failed(Instant::now());
            Err(unknown())
        }
    }
}

fn script(
    http: &Http,
    visit: &Visit,
    headers: &HeaderMap,
    token: &str,
    key: &ApiKey,
    packages: &[Package],
) -> Result<Reply, Failure> {
    let used = used(http, headers)?;
    let server = server(http, used.clone(), Some(visit.remote().ip()));
    let script = Script {
        identity: &http.server.public().identity().to_string(),
        server: &server,
        url: &install::url(used.as_ref().unwrap_or(&server), token),
        trust: &trust(http),
        key: &key.reveal(),
        packages,
    };
    tracing::info!(key = key.id(), remote = %visit.remote(), "an agent's installer is handed out");
    Ok(shell(script.text().to_string()))
}

fn shell(text: String) -> Reply {
    let mut reply = Response::new(whole(text.into()));
    let kind = HeaderValue::from_static("text/x-shellscript; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// The URL by which whoever asks came, which so is one that works.
fn used(http: &Http, headers: &HeaderMap) -> Result<Option<ServerUrl>, Failure> {
    let authority = http.page.own_name(headers)?;
    let scheme = if http.certificate.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{authority}").parse().ok())
}

/// The server's URL for a device at an address, or for any.
fn server(http: &Http, used: Option<ServerUrl>, device: Option<IpAddr>) -> ServerUrl {
    let reach = &http.installer.reach;
    let urls = reach.urls(used.map(Asked::Used), device);
    urls.into_iter().next().unwrap_or_else(|| reach.local_url())
}

/// Where this server shows a certificate of its own, or none but its identity, that is pinned: it
/// holds whoever signed it. Where a proxy speaks TLS the system's authorities must do.
fn trust(http: &Http) -> Trust {
    let reach = &http.installer.reach;
    match &http.certificate {
        Some(certificate) if !http.door.has_proxies() => Trust::key(&certificate.key_info()),
        None if !reach.public_url.as_ref().is_some_and(ServerUrl::is_secure) => {
            Trust::identity(http.server.public())
        }
        _ => Trust::System,
    }
}

fn send(http: &Arc<Http>, package: &Package) -> Result<Reply, Failure> {
    let place = http.installer.places.clone().try_acquire_owned().map_err(|_| {
        let detail = "many devices are being installed: come again";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_SECS)
    })?;
    let file = package.open().map_err(|error| {
        tracing::warn!(name = package.name, %error, "a package cannot be read");
        Failure::internal()
    })?;
    // One piece waits while the one before is being sent.
    let (sender, receiver) = mpsc::channel(1);
    let patience = http.patience.reply;
    http.tasks.spawn("package", send_all(file, sender, patience, place));
    let mut reply = Response::new(pieces(receiver));
    let kind = HeaderValue::from_static("application/vnd.debian.binary-package");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(reply)
}

/// Sends a file piece by piece to somebody who takes each in time. What breaks off is noticed by
/// its hash.
async fn send_all(
    mut file: File,
    sender: mpsc::Sender<Bytes>,
    patience: Duration,
    _place: OwnedSemaphorePermit,
) {
    loop {
        let read = spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            io::Result::Ok((file, piece))
        });
        let piece = match read.await {
            Ok(Ok((_, piece))) if piece.is_empty() => return,
            Ok(Ok((rest, piece))) => {
                file = rest;
                piece
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a package could not be read to its end");
                return;
            }
            Err(_) => return,
        };
        if !matches!(timeout(patience, sender.send(piece.into())).await, Ok(Ok(()))) {
            tracing::debug!("a package was not taken to its end");
            return;
        }
    }
}
