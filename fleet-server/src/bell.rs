//! A bell that says which devices to look at. It never says what changed: whoever hears it reads
//! the store, so a ring that comes twice or late does no harm.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use fleet_core::id::Uid;
use tokio::sync::Notify;

/// A bell with one listener.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<HashSet<Uid>>,
    notify: Notify,
}

impl Bell {
    /// Rings for a device.
    pub(crate) fn ring(&self, uid: Uid) {
        let is_news = self.rung.lock().unwrap_or_else(PoisonError::into_inner).insert(uid);
        if is_news {
            self.notify.notify_one();
        }
    }

    /// Waits for rings, and takes all that there are, each device once.
    pub(crate) async fn rung(&self) -> Vec<Uid> {
        loop {
            let rung =
                std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner));
            if !rung.is_empty() {
                return rung.into_iter().collect();
            }
            self.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_ring_is_heard_once_however_often_it_comes() {
        let bell = Bell::default();
        let (one, other) = (Uid::new(), Uid::new());
        for uid in [one, other, one] {
            bell.ring(uid);
        }
        let mut rung = bell.rung().await;
        rung.sort();
        assert_eq!(rung, [one, other]);
        assert!(bell.rung().now_or_never().is_none());
        bell.ring(one);
        assert_eq!(bell.rung().await, [one]);
    }
}
