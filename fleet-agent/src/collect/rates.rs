//! Counters of things that come and go, turned into rates.
//!
//! A thing has a rate when it was there before too, time has passed, and none of its counters
//! went back: one that did was reset or wrapped, and then the others cannot be trusted either.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The counters of the last collection.
#[derive(Debug)]
pub(super) struct Rates<const N: usize> {
    before: Option<(Instant, BTreeMap<String, [u64; N]>)>,
}

/// How far the counters of one thing moved, and in what time.
#[derive(Debug, PartialEq)]
pub(super) struct Moved<const N: usize> {
    pub(super) thing: String,
    pub(super) by: [u64; N],
    pub(super) within: Duration,
}

impl<const N: usize> Moved<N> {
    /// One counter's rate.
    pub(super) fn per_second(&self, counter: usize) -> f64 {
        self.by[counter] as f64 / self.within.as_secs_f64()
    }
}

impl<const N: usize> Rates<N> {
    pub(super) fn new() -> Self {
        Self { before: None }
    }

    /// Takes the counters of now and says how they moved since the last time, sorted by thing.
    pub(super) fn advance(
        &mut self,
        at: Instant,
        now: BTreeMap<String, [u64; N]>,
    ) -> Vec<Moved<N>> {
        let mut moved = Vec::new();
        if let Some((then, before)) = &self.before {
            let within = at.saturating_duration_since(*then);
            if within.is_zero() {
                return moved;
            }
            for (thing, counters) in &now {
                let by = before.get(thing).and_then(|earlier| difference(earlier, counters));
                moved.extend(by.map(|by| Moved { thing: thing.clone(), by, within }));
            }
        }
        self.before = Some((at, now));
        moved
    }
}

/// How far each counter went forward, if none went back.
fn difference<const N: usize>(earlier: &[u64; N], later: &[u64; N]) -> Option<[u64; N]> {
    let mut by = [0; N];
    for ((by, earlier), later) in by.iter_mut().zip(earlier).zip(later) {
        *by = later.checked_sub(*earlier)?;
    }
    Some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(things: &[(&str, [u64; 2])]) -> BTreeMap<String, [u64; 2]> {
        things.iter().map(|(thing, counters)| ((*thing).to_owned(), *counters)).collect()
    }

    #[test]
    fn only_what_went_forward_has_a_rate() {
        let start = Instant::now();
        let later = start + Duration::from_secs(4);
        let mut rates = Rates::new();
        let first = [("eth0", [100, 10]), ("eth1", [100, 10]), ("gone", [1, 1])];
        assert_eq!(rates.advance(start, counters(&first)), []);

        let second = [("eth0", [300, 10]), ("eth1", [900, 9]), ("new", [5, 5])];
        let moved = rates.advance(later, counters(&second));
        let within = Duration::from_secs(4);
        assert_eq!(moved, [Moved { thing: "eth0".to_owned(), by: [200, 0], within }]);
        assert!((moved[0].per_second(0) - 50.0).abs() < f64::EPSILON);

        assert_eq!(rates.advance(later, counters(&second)), [], "no time has passed");
    }
}
