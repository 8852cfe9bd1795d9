//! When the next frame may be painted: at once after a key, else as often as the way to the
//! terminal bears. A way is slow when its writes block, which needs no question to the terminal.

use std::time::{Duration, Instant};

use crate::terminal::present::Presented;

/// Between frames on this machine's own terminals, over ssh, and at the slowest.
const LOCAL: Duration = Duration::from_millis(100);
const REMOTE: Duration = Duration::from_millis(250);
const SLOWEST: Duration = Duration::from_secs(1);
/// A frame that takes so long to write has met a full pipe.
const SLOW: Duration = Duration::from_millis(30);
/// So long without a slow frame, and the pace is tried twice as fast.
const RECOVERED: Duration = Duration::from_secs(10);

/// The pace of frames.
#[derive(Debug)]
pub struct Pace {
    usual: Duration,
    wait: Duration,
    is_fixed: bool,
    last: Option<Instant>,
    is_hurried: bool,
    slow_in_a_row: u32,
    good_since: Instant,
}

impl Pace {
    /// A pace for a terminal that is near or far, or the one that was asked for.
    pub fn new(is_remote: bool, fixed: Option<Duration>) -> Self {
        let usual = fixed.unwrap_or(if is_remote { REMOTE } else { LOCAL });
        Self {
            usual,
            wait: usual,
            is_fixed: fixed.is_some(),
            last: None,
            is_hurried: true,
            slow_in_a_row: 0,
            good_since: Instant::now(),
        }
    }

    /// Somebody waits for the next frame.
    pub fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// When the next frame may be painted, if there is something new.
    pub fn next_frame(&self, is_dirty: bool) -> Instant {
        match self.last {
            Some(last) if is_dirty && !self.is_hurried => last + self.wait,
            _ => Instant::now(),
        }
    }

    /// Notes what a frame cost.
    pub fn presented(&mut self, presented: Presented) {
        let now = Instant::now();
        self.last = Some(now);
        self.is_hurried = false;
        if self.is_fixed {
            return;
        }
        if presented.took > SLOW {
            self.slow_in_a_row += 1;
            self.good_since = now;
        } else {
            self.slow_in_a_row = 0;
        }
        if self.slow_in_a_row >= 2 {
            self.wait = (self.wait * 2).min(SLOWEST);
            self.slow_in_a_row = 0;
        } else if now.duration_since(self.good_since) > RECOVERED {
            self.wait = (self.wait / 2).max(self.usual);
            self.good_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_halves_the_pace_and_a_key_goes_first() {
        let mut pace = Pace::new(true, None);
        let slow = Presented { bytes: 4_000, took: Duration::from_millis(50) };
        for _ in 0..8 {
            pace.presented(slow);
        }
        assert_eq!(pace.wait, SLOWEST);
        let last = pace.last.unwrap();
        assert_eq!(pace.next_frame(true), last + SLOWEST);
        pace.hurry();
        assert!(pace.next_frame(true) < last + SLOWEST);
        let mut fixed = Pace::new(false, Some(LOCAL / 2));
        fixed.presented(slow);
        fixed.presented(slow);
        assert_eq!(fixed.wait, LOCAL / 2);
    }
}
