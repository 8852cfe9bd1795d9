//! What was read from the store a moment ago, so that it is not asked the same with each request.
//!
//! Whoever changes what others may remember counts the change, once it is on the disk; what was read
//! before a change is then forgotten, all of it, so that whoever puts somebody out is obeyed at once.
//! It is also forgotten now and then, in case somebody changed something without a word.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names that are remembered; a fleet with room to spare.
const NAMES_MAX: usize = 50_000;
/// How long anything is remembered.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Values by name, as they were at a change.
#[derive(Debug)]
pub(super) struct Recent<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    values: HashMap<String, T>,
    /// The count of changes when this was true.
    change: u64,
    since: Instant,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(State { values: HashMap::new(), change: 0, since: Instant::now() }))
    }
}

impl<T: Clone> Recent<T> {
    /// The value with a name, if it is known and nothing has changed since.
    pub(super) fn get(&self, name: &str, change: u64) -> Option<T> {
        let state = self.lock();
        let is_fresh = state.change == change && state.since.elapsed() < AGE_MAX;
        if is_fresh { state.values.get(name).cloned() } else { None }
    }

    /// Notes values that were read. `change` is the count from before they were read.
    pub(super) fn note(&self, values: impl IntoIterator<Item = (String, T)>, change: u64) {
        let mut state = self.lock();
        if change < state.change {
            return;
        }
        if change > state.change || state.since.elapsed() >= AGE_MAX {
            state.begin(change);
        }
        for (name, value) in values {
            if state.values.len() >= NAMES_MAX {
                state.begin(change);
            }
            state.values.insert(name, value);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn begin(&mut self, change: u64) {
        self.values.clear();
        self.change = change;
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: u8) -> [(String, u8); 1] {
        [(name.to_owned(), value)]
    }

    #[test]
    fn a_change_makes_all_unknown() {
        let recent = Recent::default();
        recent.note(one("a", 1), 7);
        recent.note(one("b", 2), 7);
        assert_eq!([recent.get("a", 7), recent.get("b", 7)], [Some(1), Some(2)]);
        assert_eq!([recent.get("c", 7), recent.get("a", 8)], [None, None]);
        // Somebody read it before the change, and says so only now.
        recent.note(one("c", 3), 8);
        recent.note(one("a", 1), 7);
        assert_eq!([recent.get("a", 8), recent.get("a", 7)], [None, None]);
        assert_eq!([recent.get("b", 8), recent.get("c", 8)], [None, Some(3)]);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let recent = Recent::default();
        recent.note((0..NAMES_MAX + 5).map(|number| (number.to_string(), ())), 1);
        assert_eq!(recent.lock().values.len(), 5);
        assert!(recent.get(&(NAMES_MAX + 4).to_string(), 1).is_some());
    }
}
