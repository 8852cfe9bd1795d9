//! Since when something has been under way that should end: how a thread that hangs, as on a disk
//! that answers nothing, is told from one that has nothing to do.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Of a thread that does one thing at a time.
#[derive(Debug, Default)]
pub(crate) struct Underway(Mutex<Option<Instant>>);

impl Underway {
    /// Something begins, and ends when the outcome is dropped.
    pub(crate) fn begin(&self) -> Doing<'_> {
        *self.lock() = Some(Instant::now());
        Doing(self)
    }

    /// How long what is under way has been; nothing if nothing is.
    pub(crate) fn lasts(&self) -> Duration {
        self.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is under way.
pub(crate) struct Doing<'a>(&'a Underway);

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_under_way_lasts() {
        let underway = Underway::default();
        assert_eq!(underway.lasts(), Duration::ZERO);
        let doing = underway.begin();
        std::thread::sleep(Duration::from_millis(2));
        assert!(underway.lasts() >= Duration::from_millis(2));
        drop(doing);
        assert_eq!(underway.lasts(), Duration::ZERO);
    }
}
