//! How the link stands, for `/info` and `fleetd status`, and how long its round trips take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::api::{LinkState, LinkView};
use fleet_core::time::{Clock, Timestamp};
use fleet_core::untrusted::Untrusted;
use tokio::sync::watch;

use crate::collect::{Batch, CollectError, Collector};

/// The link's state, as everybody may see it.
pub struct LinkStatus {
    view: watch::Sender<LinkView>,
    clock: Arc<dyn Clock>,
    resets: AtomicU64,
}

impl LinkStatus {
    /// Before anything was dialled.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let view = LinkView {
            state: LinkState::Unclaimed,
            since: clock.now(),
            last_error: None,
            asks_again: None,
        };
        Self { view: watch::Sender::new(view), clock, resets: AtomicU64::new(0) }
    }

    /// How it stands now.
    pub fn view(&self) -> LinkView {
        self.view.borrow().clone()
    }

    /// How often the link has let go of a server that was forgotten.
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::Relaxed)
    }

    pub(super) fn forgotten(&self) {
        self.set(LinkState::Unclaimed);
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set(&self, state: LinkState) {
        let now = self.clock.now();
        self.view.send_if_modified(|view| {
            let changed = view.state != state;
            if changed {
                view.state = state;
                view.since = now;
            }
            view.asks_again = None;
            if matches!(state, LinkState::Connected | LinkState::Unclaimed) {
                view.last_error = None;
            }
            changed
        });
    }

    pub(super) fn failed(&self, state: LinkState, error: Untrusted) {
        self.set(state);
        self.view.send_modify(|view| view.last_error = Some(error));
    }

    pub(super) fn asks_again_in(&self, wait: Duration) {
        let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let at = Timestamp::from_millis(self.clock.now().millis().saturating_add(millis));
        self.view.send_modify(|view| view.asks_again = Some(at));
    }
}

/// The last round trip of a link that is up.
#[derive(Clone, Debug, Default)]
pub struct Latency(Arc<AtomicU64>);

impl Latency {
    /// Stands for no link; a real round trip takes at least a microsecond.
    const NONE: u64 = 0;

    pub(super) fn set(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros.max(1), Ordering::Relaxed);
    }

    pub(super) fn forget(&self) {
        self.0.store(Self::NONE, Ordering::Relaxed);
    }

    fn millis(&self) -> Option<f64> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros != Self::NONE).then(|| micros as f64 / 1000.0)
    }
}

/// Measures the link like everything else; without a link there is nothing to measure.
impl Collector for Latency {
    fn name(&self) -> &'static str {
        "link"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["latency_ms"]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        batch.push_known("latency_ms", self.millis());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::time::SystemClock;

    use super::*;

    #[test]
    fn an_error_stays_until_the_device_is_connected() {
        let status = LinkStatus::new(Arc::new(SystemClock));
        status.failed(LinkState::Connecting, "nobody there".into());
        status.set(LinkState::Connecting);
        assert_eq!(status.view().last_error, Some(Untrusted::from("nobody there")));
        status.set(LinkState::Connected);
        assert_eq!(status.view().last_error, None);
    }

    #[test]
    fn without_a_link_there_is_no_latency() {
        let latency = Latency::default();
        assert_eq!(latency.millis(), None);
        latency.set(Duration::from_micros(2_500));
        assert_eq!(latency.millis(), Some(2.5));
        latency.forget();
        assert_eq!(latency.millis(), None);
    }
}
