//! Devices that could not be looked at, for another try.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fleet_core::id::Uid;

/// Devices that wait for another try, all at one time.
pub(super) struct Again {
    uids: HashSet<Uid>,
    interval: Duration,
    tried: Instant,
}

impl Again {
    /// Nobody waits; tries are this far apart.
    pub(super) fn every(interval: Duration) -> Self {
        Self { uids: HashSet::new(), interval, tried: Instant::now() }
    }

    /// A device could not be looked at; whether that is news.
    pub(super) fn failed(&mut self, uid: Uid) -> bool {
        self.uids.insert(uid)
    }

    /// A device was looked at.
    pub(super) fn done(&mut self, uid: Uid) {
        self.uids.remove(&uid);
    }

    /// Those to try now. They wait on until they are [`done`](Self::done).
    pub(super) fn due(&mut self, now: Instant) -> Vec<Uid> {
        if now.saturating_duration_since(self.tried) < self.interval {
            return Vec::new();
        }
        self.tried = now;
        self.uids.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_in_turn_and_is_news_once() {
        let second = Duration::from_secs(1);
        let mut again = Again::every(second);
        let (uid, begun) = (Uid::new(), again.tried);
        assert!(again.failed(uid));
        // However often somebody asks in between, the turn comes.
        let half = begun + second / 2;
        assert_eq!((again.due(half), again.due(half)), (vec![], vec![]));
        assert_eq!(again.due(begun + second), [uid]);
        assert!(!again.failed(uid), "it was known");
        assert_eq!(again.due(begun + second), []);
        assert_eq!(again.due(begun + second * 2), [uid]);
        again.done(uid);
        assert_eq!(again.due(begun + second * 3), []);
        assert!(again.failed(uid));
    }
}
