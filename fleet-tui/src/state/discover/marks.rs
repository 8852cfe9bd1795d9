//! Marks: only for what can be configured, and only for the key and the id that somebody saw.

use std::collections::BTreeMap;

use fleet_core::operator::claim::Target;
use fleet_core::operator::standing::Standing;

use super::DiscoverScreen;
use super::run::RUN_MAX;
use super::seen::Seen;
use crate::state::Desk;

impl DiscoverScreen {
    /// Whether a device is marked.
    pub fn is_marked(&self, seen: &Seen) -> bool {
        let is_it =
            |target: &Target| self.marks.get(&target.fingerprint) == Some(&target.device_id);
        seen.target().is_some_and(is_it)
    }

    /// How many are marked, and how many of those the filter hides.
    pub fn marked(&self) -> (usize, usize) {
        let in_sight = self.shown().filter(|seen| self.is_marked(seen)).count();
        (self.marks.len(), self.marks.len().saturating_sub(in_sight))
    }

    /// The devices that configuring is about: the marked ones, or else the one at the cursor; only
    /// those that can be configured now.
    pub fn chosen(&self, desk: &Desk) -> Vec<Target> {
        let ours = desk.settings.identity;
        let is_chosen = |seen: &&Seen| self.marks.is_empty() || self.is_marked(seen);
        let at_cursor = self.at_cursor().filter(|_| self.marks.is_empty());
        let rows: Vec<&Seen> = match at_cursor {
            Some(seen) => vec![seen],
            None if self.marks.is_empty() => Vec::new(),
            None => self.seen.rows().iter().filter(is_chosen).collect(),
        };
        let new = rows.into_iter().filter(|seen| seen.is_new(ours));
        new.filter_map(|seen| seen.target().cloned()).collect()
    }

    pub(super) fn mark(&mut self, desk: &mut Desk) {
        let Some(seen) = self.at_cursor() else { return };
        let Some(target) = seen.target().filter(|_| self.is_marked(seen)).cloned() else {
            match self.why_not(seen, desk) {
                Some(reason) => desk.say(format!("not marked: {reason}")),
                None => {
                    let target = seen.target().cloned();
                    self.add_marks(target, desk);
                    self.put_cursor(self.place + 1);
                }
            }
            return;
        };
        self.marks.remove(&target.fingerprint);
        self.put_cursor(self.place + 1);
    }

    pub(super) fn mark_range(&mut self, desk: &mut Desk) {
        let Some(from) = self.range_from.take() else {
            self.range_from.clone_from(&self.cursor);
            return;
        };
        let Some(from) = self.shown().position(|seen| seen.name == from) else { return };
        self.mark_between(from.min(self.place), from.max(self.place), desk);
    }

    pub(super) fn mark_all(&mut self, desk: &mut Desk) {
        if self.shown.is_empty() {
            return;
        }
        self.mark_between(0, self.shown.len() - 1, desk);
        if self.marks.is_empty() {
            desk.say("nothing here can be configured");
        }
    }

    fn mark_between(&mut self, first: usize, last: usize, desk: &mut Desk) {
        let ours = desk.settings.identity;
        let rows = self.shown().skip(first).take(last + 1 - first);
        let new = rows.filter(|seen| seen.is_new(ours));
        let targets: Vec<_> = new.filter_map(|seen| seen.target().cloned()).collect();
        self.add_marks(targets, desk);
    }

    fn add_marks(&mut self, targets: impl IntoIterator<Item = Target>, desk: &mut Desk) {
        for target in targets {
            if self.marks.len() == RUN_MAX && !self.marks.contains_key(&target.fingerprint) {
                desk.say(format!("{RUN_MAX} devices are configured at one time at most"));
                return;
            }
            self.marks.insert(target.fingerprint, target.device_id);
        }
    }

    /// A mark is for a device that is to be configured; when that is over it is of no use.
    pub(super) fn prune_marks(&mut self, desk: &Desk) {
        let ours = desk.settings.identity;
        let stays = |seen: &Seen| seen.standing(ours) == Standing::New;
        let rows = self.seen.rows().iter().filter(|seen| stays(seen));
        let targets: BTreeMap<_, _> = rows
            .filter_map(Seen::target)
            .filter(|target| self.marks.get(&target.fingerprint) == Some(&target.device_id))
            .map(|target| (target.fingerprint, target.device_id.clone()))
            .collect();
        self.marks = targets;
    }
}
