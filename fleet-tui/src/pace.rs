//! When the next frame may be painted: at once after a key, else as often as the way to the
//! terminal bears. A way is slow when its writes block, which needs no question to the terminal.

use std::time::{Duration, Instant};

use crate::terminal::present::Presented;

/// Frames a second on this machine's own terminals, over ssh, and at the slowest.
const FRAMES_LOCAL: u32 = 10;
const FRAMES_REMOTE: u32 = 4;
const FRAMES_MIN: u32 = 1;
/// A frame that takes so long to write has met a full pipe.
const SLOW: Duration = Duration::from_millis(30);
/// So long without a slow frame, and the pace is tried twice as fast.
const RECOVERED: Duration = Duration::from_secs(10);

/// The pace of frames.
#[derive(Debug)]
pub struct Pace {
    frames_max: u32,
    frames: u32,
    is_fixed: bool,
    last: Option<Instant>,
    is_hurried: bool,
    slow_in_a_row: u32,
    good_since: Instant,
}

impl Pace {
    /// A pace for a terminal that is near or far, or the one that was asked for.
    pub fn new(is_remote: bool, fixed: Option<u8>) -> Self {
        let usual = if is_remote { FRAMES_REMOTE } else { FRAMES_LOCAL };
        let frames = fixed.map_or(usual, |frames| u32::from(frames).max(FRAMES_MIN));
        Self {
            frames_max: frames,
            frames,
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
            Some(last) if is_dirty && !self.is_hurried => {
                last + Duration::from_secs(1) / self.frames
            }
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
            self.frames = (self.frames / 2).max(FRAMES_MIN);
            self.slow_in_a_row = 0;
        } else if now.duration_since(self.good_since) > RECOVERED {
            self.frames = (self.frames * 2).min(self.frames_max);
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
        assert_eq!(pace.frames, FRAMES_MIN);
        let last = pace.last.unwrap();
        assert_eq!(pace.next_frame(true), last + Duration::from_secs(1));
        pace.hurry();
        assert!(pace.next_frame(true) < last + Duration::from_secs(1));
        let mut fixed = Pace::new(false, Some(30));
        fixed.presented(slow);
        fixed.presented(slow);
        assert_eq!(fixed.frames, 30);
    }
}
