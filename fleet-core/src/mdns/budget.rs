//! How much is asked about claims in a second, and by whose claims.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::claim::{Need, Source};

/// Questions a second.
pub(super) const QUESTIONS_MAX: usize = 64;
/// Those of them that keep what is known; the others are left for what is new.
const REFRESHES_MAX: usize = 48;
/// The most that one claim costs: its place, its text, and addresses of two families.
const CLAIM_QUESTIONS_MAX: usize = 4;
/// Incomplete claims of one address that are asked about in a second. A device has one.
const SOURCE_COMPLETIONS_MAX: u32 = 2;
const SECOND: Duration = Duration::from_secs(1);

/// What was asked in a second.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When the second began.
    since: Option<Instant>,
    spent: usize,
    completions: HashMap<Source, u32>,
}

impl Budget {
    /// Whether anything may be asked now. Begins another second, if the last one is over.
    pub(super) fn has_any(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + SECOND) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        self.has(QUESTIONS_MAX)
    }

    /// Whether there is room for one claim among so many questions.
    fn has(&self, most: usize) -> bool {
        self.spent + CLAIM_QUESTIONS_MAX <= most
    }

    /// Whether a claim of this address may be asked about; one that is incomplete counts as asked.
    pub(super) fn allows(&mut self, need: Need, source: Source) -> bool {
        let most = match need {
            Need::Refresh => REFRESHES_MAX,
            Need::Completion => QUESTIONS_MAX,
        };
        if !self.has(most) {
            return false;
        }
        if need == Need::Refresh {
            return true;
        }
        let asked = self.completions.entry(source).or_default();
        *asked += 1;
        *asked <= SOURCE_COMPLETIONS_MAX
    }

    /// Counts one question.
    pub(super) fn spend(&mut self) {
        self.spent += 1;
    }
}
