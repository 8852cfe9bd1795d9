//! What the server counts of its own doing since its start, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The statuses that HTTP has room for.
const STATUS_MIN: u16 = 100;
const STATUSES: usize = 500;
/// Between words in the log about samples that are left out.
const SAY_AGAIN: Duration = Duration::from_secs(60);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($variant,)*
        }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant),*];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// What a request is about, in words that stay few.
    Subject {
        Health "health",
        Metrics "metrics",
        Page "page",
        Link "link",
        Stream "stream",
        Devices "devices",
        Telemetry "telemetry",
        Influx "influx",
        Database "database",
        Events "events",
        Config "config",
        Commands "commands",
        Batches "batches",
        Discovery "discovery",
        Keys "keys",
        About "about",
        Unknown "unknown",
    }
}

words! {
    /// How telemetry comes in.
    Door {
        Link "link",
        Json "json",
        Influx "influx",
    }
}

/// The counts. Nobody waits for another to count.
#[derive(Debug)]
pub(crate) struct Meters {
    started: Instant,
    requests: Vec<AtomicU64>,
    reports: [AtomicU64; Door::ALL.len()],
    samples: [AtomicU64; Door::ALL.len()],
    lines_refused: AtomicU64,
    strings_skipped: AtomicU64,
    samples_left_out: AtomicU64,
    news_ignored: AtomicU64,
    /// When that was said last, in seconds since the start and one more; 0 if never.
    left_out_said: AtomicU64,
}

impl Default for Meters {
    fn default() -> Self {
        let requests = Subject::ALL.len() * STATUSES;
        Self {
            started: Instant::now(),
            requests: (0..requests).map(|_| AtomicU64::new(0)).collect(),
            reports: Default::default(),
            samples: Default::default(),
            lines_refused: AtomicU64::new(0),
            strings_skipped: AtomicU64::new(0),
            samples_left_out: AtomicU64::new(0),
            news_ignored: AtomicU64::new(0),
            left_out_said: AtomicU64::new(0),
        }
    }
}

impl Meters {
    /// Counts a request that was answered.
    pub(crate) fn request(&self, subject: Subject, status: u16) {
        let place = usize::from(status.saturating_sub(STATUS_MIN)).min(STATUSES - 1);
        add(&self.requests[subject as usize * STATUSES + place], 1);
    }

    /// Counts what was stored.
    pub(crate) fn stored(&self, door: Door, reports: usize, samples: usize) {
        add(&self.reports[door as usize], reports as u64);
        add(&self.samples[door as usize], samples as u64);
    }

    /// Counts what lines had in them that was not stored.
    pub(crate) fn left_out(&self, lines_refused: usize, strings_skipped: u64) {
        add(&self.lines_refused, lines_refused as u64);
        add(&self.strings_skipped, strings_skipped);
    }

    /// Counts samples of links that were left out because their series got no number. Returns
    /// whether it is time to say so, as it is once in a while however many there are.
    pub(crate) fn samples_left_out(&self, samples: usize) -> bool {
        add(&self.samples_left_out, samples as u64);
        let now = self.started.elapsed().as_secs() + 1;
        let said = read(&self.left_out_said);
        let is_time = said == 0 || now - said.min(now) >= SAY_AGAIN.as_secs();
        let swap = |place: &AtomicU64| {
            place.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed)
        };
        is_time && swap(&self.left_out_said).is_ok()
    }

    /// How many samples of links were left out.
    pub(crate) fn left_out_count(&self) -> u64 {
        read(&self.samples_left_out)
    }

    /// Counts a device's word about a command that is not its own.
    pub(crate) fn news_ignored(&self) {
        add(&self.news_ignored, 1);
    }

    /// How many of those there were.
    pub(crate) fn news_ignored_count(&self) -> u64 {
        read(&self.news_ignored)
    }

    /// Since when it counts.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The requests that there were, by what they were about and how they were answered.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let counts = self.requests.iter().map(read).enumerate().filter(|(_, count)| *count > 0);
        counts.map(|(place, count)| {
            let subject = Subject::ALL[place / STATUSES].word();
            (subject, STATUS_MIN + (place % STATUSES) as u16, count)
        })
    }

    /// Reports and samples that came in by each door.
    pub(crate) fn doors(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let counts = self.reports.iter().map(read).zip(self.samples.iter().map(read));
        let doors = Door::ALL.iter().zip(counts);
        doors.map(|(door, (reports, samples))| (door.word(), reports, samples))
    }

    /// Lines that were refused, and strings that were left out.
    pub(crate) fn lines(&self) -> (u64, u64) {
        (read(&self.lines_refused), read(&self.strings_skipped))
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_in_its_own_place() {
        let meters = Meters::default();
        for (position, subject) in Subject::ALL.iter().enumerate() {
            assert_eq!(*subject as usize, position);
        }
        meters.request(Subject::Health, 200);
        meters.request(Subject::Health, 200);
        meters.request(Subject::Unknown, 599);
        meters.request(Subject::Health, 7);
        meters.request(Subject::Unknown, 999);
        let found: Vec<_> = meters.requests().collect();
        assert_eq!(found, [("health", 100, 1), ("health", 200, 2), ("unknown", 599, 2)]);
        meters.stored(Door::Influx, 2, 24);
        let found: Vec<_> = meters.doors().collect();
        assert_eq!(found, [("link", 0, 0), ("json", 0, 0), ("influx", 2, 24)]);
        let said = (0..100).filter(|_| meters.samples_left_out(3)).count();
        assert_eq!((meters.left_out_count(), said), (300, 1));
    }
}
