//! What the journal's rows come to: each command, and how far it has come.

use std::collections::HashMap;
use std::time::Duration;

use fleet_core::limits::COMMAND_EXPIRY_MAX;

use super::row::{About, Begun, CommandId, Doubt, Over, Row, Words};

/// How long a command is remembered after it is over, at least: as long as an order of it can be on
/// its way, and as long again.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// The same from the moment at which it was too late to begin it. What is begun is over long before
/// the day is.
const KEPT_AFTER_EXPIRY: Duration = Duration::from_secs(15 * 24 * 3600);

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What can be known of it at any time.
    pub about: About,
    /// Grows from command to command.
    pub number: u64,
    /// What is to be done, until that is over.
    pub words: Option<Words>,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a command has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It will be done.
    Accepted,
    /// It was begun.
    Running(Begun),
    /// It is over.
    Done(Over),
}

impl Entry {
    /// Whether its server waits for something.
    pub fn is_live(&self) -> bool {
        !matches!(&self.stage, Stage::Done(over) if over.noted)
    }
}

/// All commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    entries: HashMap<CommandId, Entry>,
    next_number: u64,
    /// Whether rows were lost.
    pub(super) doubt: Option<Doubt>,
    /// The server's clock, when it was last heard.
    server_millis: Option<i64>,
}

impl Book {
    pub(super) fn entry(&self, id: &CommandId) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn live(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_live()).count()
    }

    pub(super) fn server_millis(&self) -> Option<i64> {
        self.server_millis
    }

    /// All commands, in the order in which they came.
    pub(super) fn entries(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_unstable_by_key(|entry| entry.number);
        entries
    }

    /// Takes in a row. What is over stays over, whatever comes.
    pub(super) fn take(&mut self, row: Row) {
        match row {
            Row::Accepted { about, words } => {
                let entry = self.entry_of(about);
                if !matches!(entry.stage, Stage::Done(_)) {
                    entry.words = Some(words);
                }
            }
            Row::Running { about, begun } => {
                let entry = self.entry_of(about);
                if !matches!(entry.stage, Stage::Done(_)) {
                    entry.stage = Stage::Running(begun);
                }
            }
            Row::Done { about, over } => {
                let entry = self.entry_of(about);
                if !matches!(entry.stage, Stage::Done(_)) {
                    entry.stage = Stage::Done(over);
                    entry.words = None;
                }
            }
            Row::Noted { id } => self.noted(&id),
            Row::Doubt(doubt) => self.doubt = doubt,
        }
    }

    fn entry_of(&mut self, about: About) -> &mut Entry {
        if about.came_millis.is_some() && !self.entries.contains_key(&about.id) {
            self.server_millis = about.came_millis;
        }
        let number = self.next_number;
        self.entries.entry(about.id).or_insert_with(|| {
            self.next_number += 1;
            Entry { about, number, words: None, stage: Stage::Accepted }
        })
    }

    /// The server has a result, so what the program wrote need not be kept.
    fn noted(&mut self, id: &CommandId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Stage::Done(over) = &mut entry.stage {
            over.noted = true;
            let output = std::mem::take(&mut over.result.output);
            over.result.left_out_bytes =
                over.result.left_out_bytes.saturating_add(output.len() as u64);
        }
    }

    /// The rows that come to the same.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if self.doubt.is_some() {
            rows.push(Row::Doubt(self.doubt));
        }
        for entry in self.entries() {
            let about = || entry.about.clone();
            if let Some(words) = &entry.words {
                rows.push(Row::Accepted { about: about(), words: words.clone() });
            }
            match &entry.stage {
                Stage::Accepted => {}
                Stage::Running(begun) => {
                    rows.push(Row::Running { about: about(), begun: *begun });
                }
                Stage::Done(over) => rows.push(Row::Done { about: about(), over: over.clone() }),
            }
        }
        rows
    }

    /// Forgets what no order can be on its way for.
    pub(super) fn prune(&mut self, wall_millis: i64) {
        let Some(server_millis) = self.server_millis else { return };
        self.entries.retain(|_, entry| match &entry.stage {
            Stage::Done(over) if over.noted => {
                !is_long_over(&entry.about, over, wall_millis, server_millis)
            }
            Stage::Accepted | Stage::Running(_) | Stage::Done(_) => true,
        });
    }
}

/// Whether both clocks say so. Either may be set, forwards or backwards, and cannot do harm alone;
/// the device's has no say where it was set back behind the command's end.
fn is_long_over(about: &About, over: &Over, wall_millis: i64, server_millis: i64) -> bool {
    let passed = |since: i64, now: i64, least: Duration| {
        i128::from(now) - i128::from(since)
            >= i128::try_from(least.as_millis()).unwrap_or(i128::MAX)
    };
    passed(about.expires_millis, server_millis, KEPT_AFTER_EXPIRY)
        && (wall_millis < over.at_millis || passed(over.at_millis, wall_millis, KEPT))
}

/// Whether an order may be one of those whose rows were lost. Such an order came before that was
/// found out, so it was made before, and its time is over in [`COMMAND_EXPIRY_MAX`]. The numbers
/// that servers give say when they were given.
pub(super) fn may_be_lost(doubt: Doubt, about: &About) -> bool {
    let Some(since) = doubt.since_millis else { return true };
    let made_later = made_millis(&about.id).is_some_and(|made| made > since);
    let is_order = about.came_millis.is_some();
    !(made_later || is_order && outlasts(since, about.expires_millis))
}

/// Whether a moment is beyond the time of all orders that there were at another.
pub(super) fn outlasts(since_millis: i64, millis: i64) -> bool {
    let longest = i64::try_from(COMMAND_EXPIRY_MAX.as_millis()).unwrap_or(i64::MAX);
    millis > since_millis.saturating_add(longest)
}

/// When a number was given, if it is a UUID of version 7.
fn made_millis(id: &CommandId) -> Option<i64> {
    let millis = id[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
    (id[6] >> 4 == 7).then_some(millis)
}
