//! When to measure what: the device's own file is the floor, and what its server configured lies
//! on top of it. Measurements go into the queue, whether the server can be reached or not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::Chain;
use fleet_core::api::ConfigDocument;
use fleet_core::codec::CodecError;
use fleet_core::metric::Sample;
use fleet_core::net::backoff;
use fleet_core::time::Clock;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::collect::{Collected, Sampler, Selection, SelectionError};
use crate::config;
use crate::queue::{Placed, Queue};
use crate::state::membership::Membership;

/// Between reports while somebody looks at the device, unless its plan is faster.
const WATCHED_INTERVAL: Duration = Duration::from_secs(1);
/// For how long a server may ask for that at once. It asks again as long as somebody looks.
const WATCH_MAX: Duration = Duration::from_secs(60);
/// The span, as a part of the interval, over which a report is moved by chance, so that a fleet
/// that was switched on at once does not report at once.
const JITTER: f64 = 0.1;

/// The collectors, and the plan by which they run.
pub struct Telemetry {
    sampler: Mutex<Sampler>,
    floor: Plan,
    plan: watch::Sender<Plan>,
    /// Until when somebody looks at the device.
    watched: watch::Sender<Option<Instant>>,
    /// When the last report was begun, while there is somebody to report to.
    begun: watch::Sender<Option<Instant>>,
}

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Between reports.
    pub interval: Duration,
    /// Which metrics.
    pub selection: Selection,
}

impl Telemetry {
    /// With the plan of the device's own file.
    pub fn new(sampler: Sampler, file: &config::Telemetry) -> Result<Self, SelectionError> {
        let selection = match &file.metrics {
            Some(metrics) => sampler.select(metrics)?,
            None => Selection::Everything,
        };
        let floor = Plan { interval: file.interval, selection };
        let plan = watch::Sender::new(floor.clone());
        let watched = watch::Sender::new(None);
        let begun = watch::Sender::new(None);
        Ok(Self { sampler: Mutex::new(sampler), floor, plan, watched, begun })
    }

    /// The plan that a server's configuration makes on top of the file's.
    pub fn plan_for(&self, document: &ConfigDocument) -> Result<Plan, SelectionError> {
        let selection = match &document.telemetry.metrics {
            Some(metrics) => {
                let names: Vec<String> = metrics.iter().map(ToString::to_string).collect();
                self.sampler().select(&names)?
            }
            None => self.floor.selection.clone(),
        };
        let interval = document.telemetry.interval.unwrap_or(self.floor.interval);
        Ok(Plan { interval, selection })
    }

    /// Follows another plan from now on.
    pub fn follow(&self, plan: Plan) {
        self.plan.send_replace(plan);
    }

    /// Follows the device's own file alone.
    pub fn follow_file(&self) {
        self.follow(self.floor.clone());
    }

    /// Reports every second for a while, because somebody looks at the device; with no time, no
    /// more. What the device says of its interval stays as it is.
    pub fn watch(&self, time: Duration) {
        let until = Instant::now() + time.min(WATCH_MAX);
        self.watched.send_replace(Some(until).filter(|_| !time.is_zero()));
    }

    /// Whether somebody looks at the device.
    pub fn is_watched(&self) -> bool {
        self.watched.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// The plan, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Plan> {
        self.plan.subscribe()
    }

    /// Between reports, as it is now.
    pub fn interval(&self) -> Duration {
        self.plan.borrow().interval
    }

    /// For how long the next report should have begun already.
    pub fn overdue(&self) -> Duration {
        let begun = *self.begun.borrow();
        begun.map_or(Duration::ZERO, |begun| {
            begun.elapsed().saturating_sub(self.interval().mul_f64(1.0 + JITTER))
        })
    }

    /// Measures from the moment the device has a server, without end.
    pub async fn run(self: Arc<Self>, queue: Arc<Queue>, device: &Membership, clock: &dyn Clock) {
        let mut targets = device.subscribe();
        let mut resets = device.resets();
        let mut plan = self.subscribe();
        let mut watched = self.watched.subscribe();
        // Rates need two looks; this is the first one.
        self.measure(Instant::now());
        loop {
            self.begun.send_replace(None);
            if targets.wait_for(Option::is_some).await.is_err() {
                return;
            }
            plan.mark_unchanged();
            watched.mark_unchanged();
            let collected = Instant::now();
            if let Some(server) = device.server() {
                queue.serve(server);
            }
            if let Err(error) = self.report(&queue, collected, clock) {
                tracing::warn!(%error, "a report is lost");
            }
            self.begun.send_replace(Some(collected));
            tokio::select! {
                () = self.rest_until_due(collected, &mut plan, &mut watched) => {}
                // The next server hears of the device at once too.
                _ = resets.changed() => {}
            }
        }
    }

    /// Measures now, whenever the next report is due, and gives the number of values.
    pub fn report_now(&self, queue: &Queue, clock: &dyn Clock) -> Result<usize, CodecError> {
        Ok(self.report(queue, Instant::now(), clock)?.map_or(0, |(values, _)| values))
    }

    /// The same, and says where the report stands; nothing if there was nothing to measure.
    pub fn report_placed(
        &self,
        queue: &Queue,
        clock: &dyn Clock,
    ) -> Result<Option<Placed>, CodecError> {
        Ok(self.report(queue, Instant::now(), clock)?.map(|(_, place)| place))
    }

    fn report(
        &self,
        queue: &Queue,
        collected: Instant,
        clock: &dyn Clock,
    ) -> Result<Option<(usize, Placed)>, CodecError> {
        let at = clock.now();
        let samples = self.measure(collected);
        let values = samples.len();
        if values == 0 {
            return Ok(None);
        }
        let place = queue.push(at, collected, samples)?;
        tracing::debug!(seq = place.seq, at = at.millis(), "collected");
        Ok(Some((values, place)))
    }

    /// Measures by the plan. A collector's failure is news only once, so it is told here.
    fn measure(&self, at: Instant) -> Vec<Sample> {
        let selection = self.plan.borrow().selection.clone();
        let Collected { samples, failures } = self.sampler().collect(at, &selection);
        for failure in failures {
            tracing::warn!(error = %Chain(&failure), "some measurements are missing");
        }
        samples
    }

    async fn rest_until_due(
        &self,
        since: Instant,
        plan: &mut watch::Receiver<Plan>,
        watched: &mut watch::Receiver<Option<Instant>>,
    ) {
        loop {
            // The senders are in `self`, so they are still there.
            tokio::select! {
                () = sleep_until(self.due(since).into()) => return,
                _ = plan.changed() => {}
                _ = watched.changed() => {}
            }
        }
    }

    /// When the report after that of `since` is due.
    fn due(&self, since: Instant) -> Instant {
        let interval = self.interval();
        if self.is_watched() {
            since + interval.min(WATCHED_INTERVAL)
        } else {
            since + jittered(interval, backoff::random())
        }
    }

    /// The sampler contains the panics of its collectors.
    fn sampler(&self) -> std::sync::MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An interval, longer or shorter by at most half of [`JITTER`].
fn jittered(interval: Duration, random: u32) -> Duration {
    let share = f64::from(random) / f64::from(u32::MAX) - 0.5;
    interval.mul_f64(1.0 + JITTER * share)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sys::SysRoot;

    fn telemetry(metrics: Option<&[&str]>) -> Result<Telemetry, SelectionError> {
        let metrics = metrics.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        let file = config::Telemetry { interval: Duration::from_secs(60), metrics };
        Telemetry::new(Sampler::new(&SysRoot::real()), &file)
    }

    fn document(value: serde_json::Value) -> ConfigDocument {
        ConfigDocument::from_json(&value).unwrap()
    }

    #[test]
    fn the_file_is_the_floor_under_the_servers_word() {
        let telemetry = telemetry(Some(&["cpu_usage"])).unwrap();
        let plan = |value| telemetry.plan_for(&document(value)).unwrap();
        let faster = plan(json!({"telemetry": {"interval": "5s"}}));
        assert_eq!(faster.interval, Duration::from_secs(5));
        assert_eq!(faster.selection, telemetry.floor.selection);
        telemetry.follow(faster);
        assert_eq!(telemetry.interval(), Duration::from_secs(5));

        let other = plan(json!({"telemetry": {"metrics": ["memory_usage"]}}));
        assert_eq!(other.interval, Duration::from_secs(60));
        assert!(other.selection.has("memory_usage") && !other.selection.has("cpu_usage"));
        assert_eq!(plan(json!({})), telemetry.floor);
    }

    #[test]
    fn what_selects_nothing_is_an_error() {
        assert!(telemetry(Some(&["cpu_usge"])).is_err());
        let telemetry = telemetry(None).unwrap();
        let wrong = json!({"telemetry": {"interval": 5, "metrics": ["nonsense"]}});
        assert!(telemetry.plan_for(&document(wrong)).is_err());
    }

    #[test]
    fn who_is_watched_reports_every_second_until_it_ends() {
        let telemetry = telemetry(None).unwrap();
        let now = Instant::now();
        let secs = || telemetry.due(now).duration_since(now).as_secs();
        assert!(secs() >= 57);
        telemetry.watch(Duration::from_secs(15));
        assert_eq!(secs(), 1);
        assert_eq!(telemetry.interval(), Duration::from_secs(60));
        telemetry.watch(Duration::ZERO);
        assert!(secs() >= 57);
        // A server that asks for ever gets a minute.
        telemetry.watch(Duration::MAX);
        let until = telemetry.watched.borrow().unwrap();
        assert!(until <= Instant::now() + WATCH_MAX);
        // What was asked for is over by itself.
        telemetry.watched.send_replace(Some(now));
        assert!(secs() >= 57);
    }

    #[test]
    fn a_report_that_does_not_come_is_overdue() {
        let telemetry = telemetry(None).unwrap();
        assert_eq!(telemetry.overdue(), Duration::ZERO, "there is nobody to report to");
        let now = Instant::now();
        telemetry.begun.send_replace(Some(now));
        assert_eq!(telemetry.overdue(), Duration::ZERO);
        let late = now.checked_sub(Duration::from_secs(100)).expect("a machine that runs");
        telemetry.begun.send_replace(Some(late));
        assert_eq!(telemetry.overdue().as_secs(), 34);
    }

    #[test]
    fn reports_spread_over_a_tenth_of_the_interval() {
        let minute = Duration::from_secs(60);
        assert_eq!(jittered(minute, 0), Duration::from_secs(57));
        assert_eq!(jittered(minute, u32::MAX), Duration::from_secs(63));
    }
}
