//! The last run: the devices that were to be configured, how far each has come, what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::api::DiscoverOutcome;
use fleet_core::identity::Fingerprint;
use fleet_core::operator::claim::Target;
use fleet_core::operator::provision::{Outcome, Progress, Step};

use crate::event::Provisioning;

/// Devices of one run.
pub const RUN_MAX: usize = 1_000;

/// The last run.
#[derive(Debug, Default)]
pub struct Run {
    rows: Vec<RunRow>,
    places: BTreeMap<Fingerprint, usize>,
    /// When it began.
    pub started: Duration,
    /// Where the cursor is.
    pub cursor: usize,
    /// The first row in sight.
    pub top: usize,
}

/// One device of a run.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// The device.
    pub target: Target,
    /// The last step that is done.
    pub step: Option<Step>,
    /// What became of it, and when.
    pub end: Option<(Outcome, Duration)>,
    /// When it was asked for.
    pub started: Duration,
    /// The tags it is to have, until the server was asked to note them.
    pub tags: Vec<String>,
}

/// How many devices of a run have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub all: usize,
    /// In the fleet.
    pub configured: usize,
    /// They took their grant and wait, for approval or for their connection.
    pub pending: usize,
    /// Not reached, or refused.
    pub failed: usize,
}

impl Tally {
    /// Those that have ended, one way or the other.
    pub fn done(self) -> usize {
        self.configured + self.pending + self.failed
    }
}

impl RunRow {
    /// What became of it, in one word, once that is known.
    pub fn status(&self) -> Option<DiscoverOutcome> {
        self.end.as_ref().map(|(outcome, _)| outcome.status)
    }

    /// Whether it may be tried again.
    pub fn is_failed(&self) -> bool {
        matches!(self.status(), Some(DiscoverOutcome::Unreachable | DiscoverOutcome::Refused))
    }

    /// How long it took, or takes.
    pub fn took(&self, now: Duration) -> Duration {
        let end = self.end.as_ref().map_or(now, |(_, at)| *at);
        end.saturating_sub(self.started)
    }

    /// Why it is not configured and what would help, as far as it is known.
    pub fn trouble(&self) -> Option<String> {
        let (outcome, _) = self.end.as_ref()?;
        let reason = outcome.reason.as_deref()?;
        Some(match &outcome.hint {
            Some(hint) => format!("{}: {reason}; {hint}", self.target.device_id),
            None => format!("{}: {reason}", self.target.device_id),
        })
    }
}

impl Run {
    /// Every device, in order.
    pub fn rows(&self) -> &[RunRow] {
        &self.rows
    }

    /// The devices, to note what was done about them.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut RunRow> {
        self.rows.iter_mut()
    }

    /// Whether there was none yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether something of it is still under way.
    pub fn is_under_way(&self) -> bool {
        self.rows.iter().any(|row| row.end.is_none())
    }

    /// The device at the cursor.
    pub fn at_cursor(&self) -> Option<&RunRow> {
        self.rows.get(self.cursor)
    }

    /// Those that may be tried again.
    pub fn failed(&self) -> impl Iterator<Item = &RunRow> {
        self.rows.iter().filter(|row| row.is_failed())
    }

    /// Puts the cursor at the first that failed, if any did.
    pub fn show_failure(&mut self) {
        self.cursor = self.rows.iter().position(RunRow::is_failed).unwrap_or(self.cursor);
    }

    /// How many have come how far.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { all: self.rows.len(), ..Tally::default() };
        for status in self.rows.iter().filter_map(RunRow::status) {
            match status {
                DiscoverOutcome::Configured => tally.configured += 1,
                DiscoverOutcome::Pending => tally.pending += 1,
                DiscoverOutcome::Unreachable | DiscoverOutcome::Refused => tally.failed += 1,
            }
        }
        tally
    }

    /// When the last of it ended; now while something is under way.
    pub fn took(&self, now: Duration) -> Duration {
        let ends = self.rows.iter().map(|row| row.end.as_ref().map_or(now, |(_, at)| *at));
        ends.max().unwrap_or(now).saturating_sub(self.started)
    }

    /// Begins with devices; returns those that are really begun. One that is under way stays as it
    /// is, one that ended begins anew. What is left of an earlier run goes, unless something of it
    /// is under way or is tried again.
    pub fn begin(&mut self, targets: Vec<Target>, tags: &[String], now: Duration) -> Vec<Target> {
        let is_again = targets.iter().any(|target| self.places.contains_key(&target.fingerprint));
        if !self.is_under_way() && !is_again {
            *self = Self { started: now, ..Self::default() };
        }
        let mut begun = Vec::new();
        for target in targets {
            let row = RunRow {
                target: target.clone(),
                step: None,
                end: None,
                started: now,
                tags: tags.to_vec(),
            };
            match self.places.get(&target.fingerprint) {
                Some(place) if self.rows[*place].end.is_none() => continue,
                Some(place) => self.rows[*place] = row,
                None if self.rows.len() < RUN_MAX => {
                    self.places.insert(target.fingerprint, self.rows.len());
                    self.rows.push(row);
                }
                None => continue,
            }
            begun.push(target);
        }
        begun
    }

    /// Takes news of one device.
    pub fn take(&mut self, news: Provisioning, now: Duration) {
        let Some(place) = self.places.get(&news.fingerprint) else { return };
        let row = &mut self.rows[*place];
        match news.progress {
            Progress::Step(step) => row.step = row.step.max(Some(step)),
            Progress::Done(outcome) => row.end = Some((outcome, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::identity::PrivateKey;

    use super::*;

    fn target(seed: u8) -> Target {
        let fingerprint = PrivateKey::from_seed(&[seed; 32]).public().fingerprint();
        let device_id = format!("device-{seed}").parse().unwrap();
        Target { device_id, addresses: Vec::new(), fingerprint, claim: None }
    }

    fn done(seed: u8, status: DiscoverOutcome) -> Provisioning {
        let outcome = Outcome { status, device_id: None, reason: None, hint: None };
        let fingerprint = target(seed).fingerprint;
        Provisioning { fingerprint, progress: Progress::Done(outcome) }
    }

    #[test]
    fn a_retry_begins_anew_what_ended_and_leaves_the_rest() {
        let at = Duration::from_secs;
        let mut run = Run::default();
        assert_eq!(run.begin(vec![target(1), target(2)], &[], at(1)).len(), 2);
        run.take(done(1, DiscoverOutcome::Unreachable), at(3));
        assert_eq!(run.begin(vec![target(1), target(2)], &[], at(4)), [target(1)]);
        assert_eq!((run.rows().len(), run.tally().failed), (2, 0));
        run.take(done(1, DiscoverOutcome::Configured), at(5));
        run.take(done(2, DiscoverOutcome::Refused), at(9));
        assert_eq!(run.took(at(20)), at(8), "it ended with its last device");

        run.begin(vec![target(3)], &[], at(30));
        assert_eq!(run.tally(), Tally { all: 1, ..Tally::default() }, "another run");
    }

    #[test]
    fn a_run_is_bounded_and_news_of_strangers_are_nobodys() {
        let mut run = Run::default();
        let many = (0..=u8::MAX).map(target).collect::<Vec<_>>();
        run.begin(many[..2].to_vec(), &[], Duration::ZERO);
        run.take(done(200, DiscoverOutcome::Configured), Duration::ZERO);
        assert_eq!(run.tally().done(), 0);
        let step = |step| Provisioning {
            fingerprint: many[0].fingerprint,
            progress: Progress::Step(step),
        };
        run.take(step(Step::Delivered), Duration::ZERO);
        run.take(step(Step::Met), Duration::ZERO);
        assert_eq!(run.rows()[0].step, Some(Step::Delivered), "steps never go back");
    }
}
