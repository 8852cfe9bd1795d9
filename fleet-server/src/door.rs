//! The door: how many connections there may be at once, and how often one address may try keys.
//!
//! Addresses are those of sockets, or what a trusted proxy ([`Proxies`]) says of a request. An IPv6
//! visitor counts by its /64, since it has all of that to itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::id::Uid;
use hyper::header::HeaderMap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::proxies::Proxies;

/// Descriptors that are not for connections.
const DESCRIPTORS_KEPT: u64 = 256;
/// Connections at least, and at most.
const CONNECTIONS_MIN: u64 = 64;
const CONNECTIONS_MAX: u64 = 100_000;
/// Connections of one address that have not shown a key; requests, where a proxy passes them on.
const GUESTS_MAX: usize = 64;
/// Failed keys of one address within [`FAILURES_WINDOW`].
const FAILURES_MAX: u32 = 10;
const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered.
const FAILING_ADDRESSES_MAX: usize = 10_000;

/// Who may come in.
pub(crate) struct Door {
    connections: Arc<Semaphore>,
    guests: Mutex<HashMap<IpAddr, usize>>,
    failures: Mutex<HashMap<IpAddr, Failures>>,
    proxies: Proxies,
}

struct Failures {
    since: Instant,
    count: u32,
}

/// One connection's stay, or that of one request on it that a proxy passed on.
pub(crate) struct Visit {
    uid: Uid,
    requests: AtomicU64,
    remote: SocketAddr,
    door: Arc<Door>,
    is_guest: AtomicBool,
    /// The connection's place, which a request on it keeps, too: a link outlives its request.
    connection: Arc<OwnedSemaphorePermit>,
}

/// By which way a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// In plain text.
    Plain,
    /// Inside TLS that ends here; with that connection's secret.
    Tls {
        /// See [`fleet_core::net::tls::exporter`].
        exporter: [u8; 32],
    },
    /// In plain text from a trusted proxy, to which it came inside TLS.
    Proxy,
}

impl Way {
    /// Whether nobody on the way could read it.
    pub(crate) fn is_tls(self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls { .. } | Self::Proxy => true,
        }
    }
}

impl Door {
    /// A door for as many connections as the system gives us descriptors.
    pub(crate) fn new(proxies: Proxies) -> Self {
        let descriptors = raise_descriptors().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot raise the limit of open files");
            0
        });
        let connections =
            descriptors.saturating_sub(DESCRIPTORS_KEPT).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
        Self {
            connections: Arc::new(Semaphore::new(connections as usize)),
            guests: Mutex::default(),
            failures: Mutex::default(),
            proxies,
        }
    }

    /// Whether there may be a proxy in front of this server.
    pub(crate) fn has_proxies(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// Lets a connection in, unless there are too many. One of a trusted proxy is many visitors',
    /// who are counted each by themselves.
    pub(crate) fn enter(self: &Arc<Self>, remote: SocketAddr) -> Option<Visit> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        self.visit(remote, Arc::new(connection))
    }

    fn visit(
        self: &Arc<Self>,
        remote: SocketAddr,
        connection: Arc<OwnedSemaphorePermit>,
    ) -> Option<Visit> {
        let is_guest = !self.proxies.trusts(remote.ip());
        if is_guest {
            let mut guests = lock(&self.guests);
            let count = guests.entry(household(remote.ip())).or_default();
            if *count >= GUESTS_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Visit {
            uid: Uid::new(),
            requests: AtomicU64::new(0),
            remote,
            door: self.clone(),
            is_guest: AtomicBool::new(is_guest),
            connection,
        })
    }

    fn leave(&self, address: IpAddr) {
        let mut guests = lock(&self.guests);
        if let Some(count) = guests.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&address);
            }
        }
    }
}

impl Visit {
    /// Whose visit one request on this connection is, and by which way it came: the connection's
    /// own, unless a trusted proxy passed it on. None if whoever sent it has too many under way.
    pub(crate) fn of_request(
        self: &Arc<Self>,
        headers: &HeaderMap,
        exporter: Option<[u8; 32]>,
    ) -> (Option<Arc<Self>>, Way) {
        let passed = self.door.proxies.passed(self.remote.ip(), headers);
        let way = match (exporter, passed) {
            (Some(exporter), _) => Way::Tls { exporter },
            (None, Some(passed)) if passed.is_tls => Way::Proxy,
            (None, _) => Way::Plain,
        };
        let visit = match passed {
            Some(passed) => {
                let remote = SocketAddr::new(passed.address, 0);
                self.door.visit(remote, self.connection.clone()).map(Arc::new)
            }
            None => Some(self.clone()),
        };
        (visit, way)
    }

    /// The other end; with port 0 if it is behind a proxy.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// What its next request is called, in logs and answers.
    pub(crate) fn next_request(&self) -> String {
        format!("{}.{}", self.uid, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// The visitor has shown who it is and no longer counts as a stranger.
    pub(crate) fn welcome(&self) {
        if self.is_guest.swap(false, Ordering::Relaxed) {
            self.door.leave(household(self.remote.ip()));
        }
    }

    /// How long this address must wait before it may show another key.
    pub(crate) fn wait_before_key(&self, now: Instant) -> Option<Duration> {
        let failures = lock(&self.door.failures);
        let failures = failures.get(&household(self.remote.ip()))?;
        let left = FAILURES_WINDOW.checked_sub(now.saturating_duration_since(failures.since))?;
        (failures.count >= FAILURES_MAX && !left.is_zero()).then_some(left)
    }

    /// Notes a key that was not good.
    pub(crate) fn key_failed(&self, now: Instant) {
        let mut failures = lock(&self.door.failures);
        let is_over = |f: &Failures| now.saturating_duration_since(f.since) >= FAILURES_WINDOW;
        if failures.len() >= FAILING_ADDRESSES_MAX {
            failures.retain(|_, failures| !is_over(failures));
        }
        if failures.len() >= FAILING_ADDRESSES_MAX
            && let Some(oldest) = failures.iter().min_by_key(|(_, f)| f.since).map(|(a, _)| *a)
        {
            failures.remove(&oldest);
        }
        let entry = failures
            .entry(household(self.remote.ip()))
            .or_insert(Failures { since: now, count: 0 });
        if is_over(entry) {
            *entry = Failures { since: now, count: 0 };
        }
        entry.count = entry.count.saturating_add(1);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.welcome();
    }
}

/// Takes as many descriptors as the system lets us have, and can be of use. A shell's usual limit
/// would end at some hundred devices.
fn raise_descriptors() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(CONNECTIONS_MAX + DESCRIPTORS_KEPT).max(soft);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    Ok(wanted)
}

/// What counts as one visitor.
pub(crate) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn strangers_of_one_address_are_counted_and_friends_are_not() {
        let door = Arc::new(Door::new(Proxies::default()));
        let mut visits: Vec<Visit> = Vec::new();
        while let Some(visit) = door.enter(remote("10.0.0.1:1")) {
            visits.push(visit);
        }
        assert_eq!(visits.len(), GUESTS_MAX);
        assert!(door.enter(remote("[::ffff:10.0.0.1]:2")).is_none());
        visits[0].welcome();
        visits[0].welcome();
        assert!(door.enter(remote("10.0.0.1:3")).is_some());
        drop(visits);
        assert!(lock(&door.guests).is_empty());
    }

    #[test]
    fn what_outlives_its_request_keeps_the_connections_place() {
        let door = Arc::new(Door::new(Proxies::new(vec!["127.0.0.1".parse().unwrap()])));
        let places = door.connections.available_permits();
        let connection = Arc::new(door.enter(remote("127.0.0.1:1")).unwrap());
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "10.0.0.9".parse().unwrap());
        let link = connection.of_request(&headers, None).0.unwrap();
        assert_eq!(link.remote().ip(), remote("10.0.0.9:1").ip());
        drop(connection);
        assert_eq!(door.connections.available_permits(), places - 1);
        drop(link);
        assert_eq!(door.connections.available_permits(), places);
    }

    #[test]
    fn a_proxys_clients_are_counted_and_not_the_proxy() {
        let door = Arc::new(Door::new(Proxies::new(vec!["127.0.0.1".parse().unwrap()])));
        let connections: Vec<_> =
            (0..2 * GUESTS_MAX).map_while(|_| door.enter(remote("127.0.0.1:1"))).collect();
        assert_eq!(connections.len(), 2 * GUESTS_MAX);
        let connection = Arc::new(door.enter(remote("127.0.0.1:1")).unwrap());
        let request = |from: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", from.parse().unwrap());
            connection.of_request(&headers, None).0
        };
        let requests: Vec<_> = (0..2 * GUESTS_MAX).map_while(|_| request("192.0.2.1")).collect();
        assert_eq!(requests.len(), GUESTS_MAX);
        assert!(request("192.0.2.2").is_some_and(|visit| visit.remote() == remote("192.0.2.2:0")));
        requests[0].welcome();
        assert!(request("192.0.2.1").is_some());
        drop(requests);
        assert!(lock(&door.guests).is_empty());
    }

    #[test]
    fn no_word_of_a_stranger_changes_the_way() {
        let door = Arc::new(Door::new(Proxies::new(vec!["10.0.0.0/24".parse().unwrap()])));
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let secret = [7; 32];
        for (from, exporter, is_tls, is_proxy) in [
            ("10.0.0.1:1", None, true, true),
            ("10.0.1.1:1", None, false, false),
            // What ended here has a secret, and no proxy's word stands for that.
            ("10.0.0.1:1", Some(secret), true, false),
            ("10.0.1.1:1", Some(secret), true, false),
        ] {
            let visit = Arc::new(door.enter(remote(from)).unwrap());
            let (_, way) = visit.of_request(&headers, exporter);
            assert_eq!(way.is_tls(), is_tls, "{from}");
            assert_eq!(matches!(way, Way::Proxy), is_proxy, "{from}");
        }
    }

    #[test]
    fn ten_wrong_keys_a_minute_are_enough() {
        let door = Arc::new(Door::new(Proxies::default()));
        let visit = door.enter(remote("[2001:db8::1]:1")).unwrap();
        let neighbour = door.enter(remote("[2001:db8::2]:1")).unwrap();
        let other = door.enter(remote("[2001:db8:0:1::1]:1")).unwrap();
        let start = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert_eq!(visit.wait_before_key(start), None);
            visit.key_failed(start);
        }
        assert_eq!(neighbour.wait_before_key(start), Some(FAILURES_WINDOW));
        assert_eq!(other.wait_before_key(start), None);
        assert_eq!(visit.wait_before_key(start + FAILURES_WINDOW), None);
    }
}
