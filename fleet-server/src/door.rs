//! The door: how many connections there may be at once, and how often one address may try keys.
//!
//! Addresses are those of sockets, never of headers. An IPv6 visitor counts by its /64, since it
//! has all of that to itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::id::Uid;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that are not for connections.
const DESCRIPTORS_KEPT: u64 = 256;
/// Connections at least, and at most.
const CONNECTIONS_MIN: u64 = 64;
const CONNECTIONS_MAX: u64 = 100_000;
/// Connections of one address that have not shown a key.
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
}

struct Failures {
    since: Instant,
    count: u32,
}

/// One connection's stay.
pub(crate) struct Visit {
    uid: Uid,
    requests: AtomicU64,
    remote: SocketAddr,
    door: Arc<Door>,
    is_guest: AtomicBool,
    _connection: OwnedSemaphorePermit,
}

impl Door {
    /// A door for as many connections as the system gives us descriptors.
    pub(crate) fn new() -> Self {
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
        }
    }

    /// Lets a connection in, unless there are too many.
    pub(crate) fn enter(self: &Arc<Self>, remote: SocketAddr) -> Option<Visit> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        let mut guests = lock(&self.guests);
        let count = guests.entry(household(remote.ip())).or_default();
        if *count >= GUESTS_MAX {
            return None;
        }
        *count += 1;
        drop(guests);
        Some(Visit {
            uid: Uid::new(),
            requests: AtomicU64::new(0),
            remote,
            door: self.clone(),
            is_guest: AtomicBool::new(true),
            _connection: connection,
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
    /// The other end.
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
fn household(address: IpAddr) -> IpAddr {
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
        let door = Arc::new(Door::new());
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
    fn ten_wrong_keys_a_minute_are_enough() {
        let door = Arc::new(Door::new());
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
