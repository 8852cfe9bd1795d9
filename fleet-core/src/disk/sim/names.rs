//! A folder's names: those that are, and those that a power cut may bring back or take away.

use std::collections::BTreeMap;
use std::mem;

use super::{Dice, Fate};

/// Names of files, which are known by their numbers.
#[derive(Default)]
pub(super) struct Names {
    now: BTreeMap<String, u64>,
    /// What is there after a power cut that no change survives.
    sure: BTreeMap<String, u64>,
    /// What was done since, oldest first.
    changes: Vec<Change>,
}

struct Change {
    fate: Fate,
    taken: Option<String>,
    given: Option<String>,
    file: u64,
}

impl Names {
    pub(super) fn all(&self) -> Vec<String> {
        self.now.keys().cloned().collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<u64> {
        self.now.get(name).copied()
    }

    /// Whether a file has a name.
    pub(super) fn has(&self, file: u64) -> bool {
        self.now.values().any(|named| *named == file)
    }

    /// Whether a file has a name, or may have one after a power cut.
    pub(super) fn may_have(&self, file: u64) -> bool {
        self.has(file)
            || self.sure.values().any(|named| *named == file)
            || self.changes.iter().any(|change| change.file == file)
    }

    pub(super) fn make(&mut self, name: &str, file: u64) {
        self.change(None, Some(name), file);
    }

    pub(super) fn remove(&mut self, name: &str, file: u64) {
        self.change(Some(name), None, file);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, file: u64) {
        self.change(Some(from), Some(to), file);
    }

    fn change(&mut self, taken: Option<&str>, given: Option<&str>, file: u64) {
        let (taken, given) = (taken.map(str::to_owned), given.map(str::to_owned));
        let change = Change { fate: Fate::Unsure, taken, given, file };
        change.apply(&mut self.now);
        self.changes.push(change);
    }

    pub(super) fn sync(&mut self, succeeds: bool) {
        Fate::settle(&mut self.changes, |change| &mut change.fate, succeeds);
        if self.changes.is_empty() {
            self.sure.clone_from(&self.now);
        }
    }

    /// The names that are left after a power cut.
    pub(super) fn cut(&mut self, dice: &mut Dice) {
        let keeps_all = dice.one_in(4);
        for change in mem::take(&mut self.changes) {
            if change.fate == Fate::Sure || keeps_all || dice.one_in(2) {
                change.apply(&mut self.sure);
            }
        }
        self.now.clone_from(&self.sure);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some(taken) = &self.taken
            && names.get(taken) == Some(&self.file)
        {
            names.remove(taken);
        }
        if let Some(given) = &self.given {
            names.insert(given.clone(), self.file);
        }
    }
}
