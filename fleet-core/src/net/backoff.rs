//! When to try again: soon at first, then ever later, each time at a random point of the span so
//! that a thousand devices do not come back in one second.

use std::time::Duration;

/// The span before the first try.
const FIRST: Duration = Duration::from_secs(1);
/// The longest span.
const LAST: Duration = Duration::from_secs(300);

/// Spans that double from 1 s to 5 min; the wait is a random part of each.
#[derive(Clone, Debug)]
pub struct Backoff {
    span: Duration,
    last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::within(LAST)
    }
}

impl Backoff {
    /// One whose spans end at another limit.
    pub fn within(last: Duration) -> Self {
        Self { span: FIRST, last }
    }

    /// The next wait. `random` is any number, all values equally likely.
    pub fn next_wait(&mut self, random: u32) -> Duration {
        let wait = self.span.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.span = (self.span * 2).min(self.last);
        wait
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.span = FIRST;
    }
}

/// A random number for [`Backoff::next_wait`]. Without the system's random numbers, the middle:
/// retrying matters more than spreading.
pub fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_minutes_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..11).map(|_| backoff.next_wait(u32::MAX).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.next_wait(0), Duration::ZERO);
        backoff.reset();
        assert_eq!(backoff.next_wait(u32::MAX), FIRST);
        let mut backoff = Backoff::within(Duration::from_secs(15));
        let waits: Vec<u64> = (0..6).map(|_| backoff.next_wait(u32::MAX).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 15, 15]);
    }
}
