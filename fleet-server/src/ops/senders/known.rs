//! Devices that were posted for lately, so that the store is not asked about each with each post.
//!
//! What is known is forgotten as soon as the hub tells of a change of any device, so that whoever
//! puts a device out is obeyed at once; and now and then, in case somebody changed one without a word.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::id::Uid;

use crate::store::{Admission, Device};

/// Names that are remembered; a fleet with room to spare.
const NAMES_MAX: usize = 50_000;
/// How long anything is remembered.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Active devices by id and uid, as they were at a change.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    devices: HashMap<String, KnownDevice>,
    /// The hub's count of changes when this was true.
    change: u64,
    since: Option<Instant>,
}

/// What of a device matters to whoever posts for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownDevice {
    pub(super) uid: Uid,
    /// Whether it has no key, so that others speak for it.
    pub(super) is_keyless: bool,
}

impl KnownDevice {
    pub(super) fn of(device: &Device) -> Self {
        Self { uid: device.uid, is_keyless: device.key.is_none() }
    }
}

impl Known {
    /// The active device with a name, if that is known and nothing has changed since.
    pub(super) fn get(&self, name: &str, change: u64) -> Option<KnownDevice> {
        let state = self.lock();
        let is_fresh = state.since.is_some_and(|since| since.elapsed() < AGE_MAX);
        if !is_fresh || state.change != change {
            return None;
        }
        state.devices.get(name).copied()
    }

    /// How many of these names are not known.
    pub(super) fn missing<'a>(&self, names: impl Iterator<Item = &'a str>, change: u64) -> usize {
        names.filter(|name| self.get(name, change).is_none()).count()
    }

    /// Notes a device under the name by which it was found. `change` is from before it was read.
    pub(super) fn note(&self, name: &str, device: &Device, change: u64) {
        if device.state == Admission::Active
            && let Some(devices) = self.lock().room_at(change)
        {
            devices.insert(name.to_owned(), KnownDevice::of(device));
        }
    }

    /// Notes all devices. `change` is from before they were read.
    pub(super) fn note_all(&self, devices: &[Device], change: u64) {
        let mut state = self.lock();
        for device in devices.iter().filter(|device| device.state == Admission::Active) {
            let Some(known) = state.room_at(change) else { return };
            known.insert(device.id.to_string(), KnownDevice::of(device));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The devices as of a change, with room for one more; nothing if there was another since.
    fn room_at(&mut self, change: u64) -> Option<&mut HashMap<String, KnownDevice>> {
        if change < self.change {
            return None;
        }
        let is_old = self.since.is_none_or(|since| since.elapsed() >= AGE_MAX);
        if is_old || self.change != change || self.devices.len() >= NAMES_MAX {
            self.devices.clear();
            self.change = change;
            self.since = Some(Instant::now());
        }
        Some(&mut self.devices)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fleet_core::time::Timestamp;
    use fleet_core::wire::Facts;

    use super::*;

    fn device(id: &str, state: Admission) -> Device {
        let at = Timestamp::from_millis(0);
        Device {
            uid: Uid::new(),
            id: id.parse().unwrap(),
            key: None,
            name: None,
            state,
            state_reason: String::new(),
            state_at: at,
            facts: Facts::default(),
            metadata: BTreeMap::new(),
            created_at: at,
            last_seen: None,
            missed_reports: 0,
            reported: None,
        }
    }

    #[test]
    fn a_change_makes_all_unknown() {
        let known = Known::default();
        let (one, other) = (device("a", Admission::Active), device("b", Admission::Pending));
        known.note_all(&[one.clone(), other.clone()], 7);
        known.note("b", &other, 7);
        assert_eq!(known.get("a", 7), Some(KnownDevice { uid: one.uid, is_keyless: true }));
        assert_eq!(known.get("b", 7), None, "it is not active");
        assert_eq!(known.missing(["a", "b", "c"].into_iter(), 7), 2);
        assert_eq!(known.get("a", 8), None);
        // Somebody read it before the change, and says so only now.
        known.note("c", &one, 8);
        known.note("a", &one, 7);
        assert_eq!([known.get("a", 8), known.get("a", 7)], [None, None]);
        assert!(known.get("c", 8).is_some());
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let known = Known::default();
        let one = device("a", Admission::Active);
        for number in 0..NAMES_MAX + 5 {
            known.note(&format!("name-{number}"), &one, 1);
        }
        assert_eq!(known.lock().devices.len(), 5);
    }
}
