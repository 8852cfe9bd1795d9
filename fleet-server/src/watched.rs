//! Which devices somebody looks at closely, and what those reported lately.
//!
//! While a device is watched its link asks it to report every second, and its reports are kept here
//! for the streams that watch it: the newest few, so that a curve loses no second.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::id::Uid;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;

use crate::hub::Hub;

/// Reports of one watched device that are kept.
pub(crate) const REPORTS_MAX: usize = 60;

/// The watched devices.
pub(crate) struct Watched {
    hub: Arc<Hub>,
    devices: Mutex<HashMap<Uid, Device>>,
}

#[derive(Default)]
struct Device {
    watchers: usize,
    reports: VecDeque<Arc<WatchedReport>>,
    /// Of the newest report, from 1.
    number: u64,
}

/// A report of a watched device.
#[derive(Debug)]
pub(crate) struct WatchedReport {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) samples: Vec<Sample>,
}

/// Somebody watches a device, until this is dropped.
pub(crate) struct Watch {
    watched: Arc<Watched>,
    uid: Uid,
    /// The newest report that was given out.
    taken: u64,
}

impl Watched {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, devices: Mutex::default() }
    }

    /// Begins to watch a device.
    pub(crate) fn watch(self: &Arc<Self>, uid: Uid) -> Watch {
        let mut devices = self.lock();
        let device = devices.entry(uid).or_default();
        device.watchers += 1;
        let (is_first, taken) = (device.watchers == 1, device.number);
        drop(devices);
        if is_first {
            self.hub.ring(uid);
        }
        Watch { watched: self.clone(), uid, taken }
    }

    /// Whether anybody watches a device.
    pub(crate) fn is_watched(&self, uid: Uid) -> bool {
        self.lock().contains_key(&uid)
    }

    /// Takes a stored report, if anybody watches its device.
    pub(crate) fn reported(&self, uid: Uid, at: Timestamp, samples: Vec<Sample>) {
        if let Some(device) = self.lock().get_mut(&uid) {
            device.number += 1;
            if device.reports.len() == REPORTS_MAX {
                device.reports.pop_front();
            }
            let number = device.number;
            device.reports.push_back(Arc::new(WatchedReport { number, at, samples }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Which device.
    pub(crate) fn uid(&self) -> Uid {
        self.uid
    }

    /// The reports since the last call, oldest first, and how many are lost.
    pub(crate) fn take(&mut self) -> (Vec<Arc<WatchedReport>>, u64) {
        let devices = self.watched.lock();
        let Some(device) = devices.get(&self.uid) else { return (Vec::new(), 0) };
        let news = device.number - self.taken;
        let taken = std::mem::replace(&mut self.taken, device.number);
        let reports: Vec<_> =
            device.reports.iter().filter(|report| report.number > taken).cloned().collect();
        let lost = news - reports.len() as u64;
        (reports, lost)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut devices = self.watched.lock();
        let Some(device) = devices.get_mut(&self.uid) else { return };
        device.watchers -= 1;
        if device.watchers > 0 {
            return;
        }
        devices.remove(&self.uid);
        drop(devices);
        self.watched.hub.ring(self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_gets_every_report_since_it_came() {
        let watched = Arc::new(Watched::new(Arc::default()));
        let uid = Uid::new();
        let at = Timestamp::from_millis;
        let report = |millis| watched.reported(uid, at(millis), Vec::new());
        let times = |watch: &mut Watch| {
            let (reports, lost) = watch.take();
            (reports.iter().map(|report| report.at.millis()).collect::<Vec<_>>(), lost)
        };
        report(1);
        assert!(!watched.is_watched(uid));
        let mut first = watched.watch(uid);
        report(2);
        let mut second = watched.watch(uid);
        report(3);
        assert_eq!(times(&mut first), (vec![2, 3], 0));
        assert_eq!(times(&mut second), (vec![3], 0));
        assert_eq!(times(&mut second), (vec![], 0));
        drop(first);
        assert!(watched.is_watched(uid));
        for millis in 0..70 {
            report(millis);
        }
        let (found, lost) = times(&mut second);
        assert_eq!((found.len(), found[0], lost), (REPORTS_MAX, 10, 10));
        drop(second);
        assert!(!watched.is_watched(uid));
        assert!(watched.lock().is_empty());
    }

    #[tokio::test]
    async fn the_link_is_told_when_watching_begins_and_ends() {
        let hub = Arc::new(Hub::default());
        let watched = Arc::new(Watched::new(hub.clone()));
        let uid = Uid::new();
        let seat = hub.sit(uid, std::net::Ipv4Addr::LOCALHOST.into());
        let watch = watched.watch(uid);
        seat.woken().await;
        drop(watch);
        seat.woken().await;
    }
}
