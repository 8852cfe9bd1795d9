//! Those who wait for something to become of a command. Each waits for one command; a ring says
//! "look", never what changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::id::Uid;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How many may wait at one time.
const WAITERS_MAX: usize = 1_000;

/// All who wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Arc<Mutex<Waiters>>);

#[derive(Debug, Default)]
struct Waiters {
    bells: HashMap<Uid, (Arc<Notify>, usize)>,
    count: usize,
}

/// A place among those who wait for one command, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    waiters: Arc<Mutex<Waiters>>,
    id: Uid,
    bell: Arc<Notify>,
}

impl Waiting {
    /// Takes a place; none if all are taken.
    pub(crate) fn take(&self, id: Uid) -> Option<Place> {
        let mut waiters = lock(&self.0);
        if waiters.count >= WAITERS_MAX {
            return None;
        }
        waiters.count += 1;
        let (bell, count) = waiters.bells.entry(id).or_default();
        *count += 1;
        let bell = bell.clone();
        Some(Place { waiters: self.0.clone(), id, bell })
    }

    /// Rings for all who wait for a command.
    pub(super) fn ring(&self, id: Uid) {
        if let Some((bell, _)) = lock(&self.0).bells.get(&id) {
            bell.notify_waiters();
        }
    }
}

impl Place {
    /// Which command it is about.
    pub(super) fn id(&self) -> Uid {
        self.id
    }

    /// The next ring, from the moment at which this is called.
    pub(super) fn ring(&self) -> Notified<'_> {
        self.bell.notified()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiters = lock(&self.waiters);
        waiters.count -= 1;
        if let Some((_, count)) = waiters.bells.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                waiters.bells.remove(&self.id);
            }
        }
    }
}

fn lock(waiters: &Mutex<Waiters>) -> MutexGuard<'_, Waiters> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_ring_is_heard_by_those_who_wait_for_that_command() {
        let waiting = Waiting::default();
        let (one, other) = (Uid::new(), Uid::new());
        waiting.ring(one);
        let places = [one, one, other].map(|id| waiting.take(id).unwrap());
        let rings = places.each_ref().map(Place::ring);
        waiting.ring(one);
        let heard = rings.map(|ring| ring.now_or_never().is_some());
        assert_eq!(heard, [true, true, false]);
    }

    #[test]
    fn places_are_bounded_and_given_up() {
        let waiting = Waiting::default();
        let id = Uid::new();
        let places: Vec<_> = (0..WAITERS_MAX).map(|_| waiting.take(id).unwrap()).collect();
        assert!(waiting.take(Uid::new()).is_none());
        drop(places);
        assert!(waiting.take(id).is_some());
        assert!(lock(&waiting.0).bells.is_empty());
    }
}
