//! Who is connected: at most one link per device, each with a bell.
//!
//! Whoever changes something about a device rings its bell ([`Hub::wake`]); the link then looks at
//! the store and does what is to be done. A bell says "look", never what changed, so a ring that
//! comes twice or late does no harm. What rings for a link also rings for whoever keeps an eye on
//! the whole fleet ([`Hub::changed`]), as does a link that comes or goes. One that comes also rings
//! for whoever has something for devices that were away ([`Hub::came`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fleet_core::id::Uid;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bell::Bell;

/// The connected devices.
#[derive(Default)]
pub(crate) struct Hub {
    links: Mutex<HashMap<Uid, Entry>>,
    next: AtomicU64,
    changed: Bell,
    came: Bell,
}

struct Entry {
    number: u64,
    bell: Arc<Notify>,
    replaced: CancellationToken,
    /// Where the link comes from that replaced it.
    newer: Arc<OnceLock<IpAddr>>,
}

/// A link's place in the hub, given up when it is dropped.
pub(crate) struct Seat {
    hub: Arc<Hub>,
    uid: Uid,
    number: u64,
    bell: Arc<Notify>,
    replaced: CancellationToken,
    newer: Arc<OnceLock<IpAddr>>,
}

impl Hub {
    /// Takes a device's place for a link from this address; the link that had it ends.
    pub(crate) fn sit(self: &Arc<Self>, uid: Uid, from: IpAddr) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let bell = Arc::new(Notify::new());
        let replaced = CancellationToken::new();
        let newer: Arc<OnceLock<IpAddr>> = Arc::default();
        let entry =
            Entry { number, bell: bell.clone(), replaced: replaced.clone(), newer: newer.clone() };
        if let Some(older) = self.lock().insert(uid, entry) {
            // There is one that replaces it.
            let _ = older.newer.set(from);
            older.replaced.cancel();
        }
        self.changed.ring(uid);
        self.came.ring(uid);
        Seat { hub: self.clone(), uid, number, bell, replaced, newer }
    }

    /// Tells a device's link, and whoever waits for changes, to look at the store.
    pub(crate) fn wake(&self, uid: Uid) {
        self.ring(uid);
        self.changed.ring(uid);
    }

    /// Tells whoever waits for changes alone to look.
    pub(crate) fn note(&self, uid: Uid) {
        self.changed.ring(uid);
    }

    /// Tells a device's link alone to look.
    pub(crate) fn ring(&self, uid: Uid) {
        if let Some(entry) = self.lock().get(&uid) {
            entry.bell.notify_one();
        }
    }

    /// Waits for devices about which something may have changed. There is one who waits.
    pub(crate) async fn changed(&self) -> Vec<Uid> {
        self.changed.rung().await
    }

    /// Waits for devices that have connected. There is one who waits.
    pub(crate) async fn came(&self) -> Vec<Uid> {
        self.came.rung().await
    }

    /// How many devices are connected.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Whether a device is connected.
    pub(crate) fn is_connected(&self, uid: Uid) -> bool {
        self.lock().contains_key(&uid)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Entry>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits for the bell. A ring that came before is not lost.
    pub(crate) async fn woken(&self) {
        self.bell.notified().await;
    }

    /// Waits until a newer link has taken the place.
    pub(crate) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    /// Where that link comes from.
    pub(crate) fn replaced_from(&self) -> Option<IpAddr> {
        self.newer.get().copied()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut links = self.hub.lock();
        if links.get(&self.uid).is_some_and(|entry| entry.number == self.number) {
            links.remove(&self.uid);
            self.hub.changed.ring(self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_link_replaces_the_first_and_keeps_the_place() {
        let hub = Arc::new(Hub::default());
        let uid = Uid::new();
        let here = "10.0.0.2".parse().unwrap();
        let first = hub.sit(uid, here);
        assert_eq!(hub.came().await, [uid]);
        let second = hub.sit(uid, here);
        first.replaced().await;
        assert_eq!((first.replaced_from(), second.replaced_from()), (Some(here), None));
        drop(first);
        assert!(hub.is_connected(uid));
        hub.wake(uid);
        second.woken().await;
        drop(second);
        assert!(!hub.is_connected(uid));
    }
}
