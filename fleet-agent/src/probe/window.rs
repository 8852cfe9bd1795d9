//! What the last outcomes of a probe come to.

use std::collections::VecDeque;
use std::time::Duration;

/// Outcomes that are remembered: five minutes of the usual interval.
const OUTCOMES_MAX: usize = 30;

/// The last outcomes of a probe, oldest first: how long an answer took, or that none came.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Option<Duration>>);

impl Window {
    pub(super) fn add(&mut self, outcome: Option<Duration>) {
        if self.0.len() == OUTCOMES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(outcome);
    }

    /// How long the last answer took, if the last question had one.
    pub(super) fn last(&self) -> Option<Duration> {
        *self.0.back()?
    }

    /// The time that 95 of 100 answers stayed within.
    pub(super) fn p95(&self) -> Option<Duration> {
        let mut times: Vec<Duration> = self.0.iter().copied().flatten().collect();
        times.sort_unstable();
        let rank = (times.len() * 95).div_ceil(100);
        times.get(rank.checked_sub(1)?).copied()
    }

    /// By how much one answer's time differs from the next one's, on average.
    pub(super) fn jitter(&self) -> Option<Duration> {
        let times: Vec<Duration> = self.0.iter().copied().flatten().collect();
        let pairs = u32::try_from(times.len().checked_sub(1)?).ok().filter(|pairs| *pairs > 0)?;
        let sum: Duration = times.windows(2).map(|pair| pair[0].abs_diff(pair[1])).sum();
        Some(sum / pairs)
    }

    /// How many of 100 questions had no answer.
    pub(super) fn loss_percent(&self) -> Option<f64> {
        let asked = self.0.len();
        let lost = self.0.iter().filter(|outcome| outcome.is_none()).count();
        (asked > 0).then(|| (lost as f64 * 10_000.0 / asked as f64).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(millis: &[Option<u64>]) -> Window {
        let mut window = Window::default();
        for one in millis {
            window.add(one.map(Duration::from_millis));
        }
        window
    }

    #[test]
    fn nothing_is_known_before_it_is_asked() {
        let window = window(&[]);
        assert_eq!((window.last(), window.p95(), window.jitter()), (None, None, None));
        assert_eq!(window.loss_percent(), None);
    }

    #[test]
    fn what_is_lost_has_no_time() {
        let window = window(&[Some(10), None, Some(30), Some(20), None]);
        let millis = Duration::from_millis;
        assert_eq!((window.last(), window.p95()), (None, Some(millis(30))));
        assert_eq!((window.jitter(), window.loss_percent()), (Some(millis(15)), Some(40.0)));
        let lost = self::window(&[None, None]);
        assert_eq!((lost.p95(), lost.jitter(), lost.loss_percent()), (None, None, Some(100.0)));
    }

    #[test]
    fn old_outcomes_are_forgotten() {
        let mut window = window(&[None; 5]);
        for time in 1..=30 {
            window.add(Some(Duration::from_millis(time)));
        }
        assert_eq!(window.loss_percent(), Some(0.0));
        assert_eq!(window.p95(), Some(Duration::from_millis(29)));
        assert_eq!(window.jitter(), Some(Duration::from_millis(1)));
    }
}
