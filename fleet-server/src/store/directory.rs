//! Who is who: the ids and names of all devices that are not deleted, in memory, for those who ask
//! thousands of times a second.
//!
//! It follows the database: after each change of a device it is told what is stored then.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use fleet_core::filter::Filter;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::time::Timestamp;
use indexmap::IndexMap;

use super::{Admission, Device, Profile};

/// The devices by id and by uid.
#[derive(Debug, Default)]
pub struct Directory {
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<Box<str>, Uid>,
    /// In the order in which they came, mostly: the quickest to look at them all.
    by_uid: IndexMap<Uid, Listed>,
    keyless: usize,
    /// What each device is, for scopes of keys; kept from when the first of those is used.
    profiles: Option<HashMap<Uid, Profile>>,
    /// Whether all were told of.
    has_all_profiles: bool,
    /// Grows with each change.
    revision: u64,
}

/// A device in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it goes by.
    pub id: DeviceId,
    /// How it stands with the server.
    pub state: Admission,
    /// Whether it has no key, so that only others speak for it.
    pub is_keyless: bool,
}

impl Directory {
    /// The device that an id or a uid names.
    pub fn find(&self, name: &str) -> Option<(Uid, Listed)> {
        let entries = self.read();
        let uid = match name.parse::<Uid>() {
            Ok(uid) => uid,
            Err(_) => *entries.by_id.get(name)?,
        };
        Some((uid, entries.by_uid.get(&uid)?.clone()))
    }

    /// How a device stands with the server.
    pub fn state(&self, uid: Uid) -> Option<Admission> {
        Some(self.read().by_uid.get(&uid)?.state)
    }

    /// How many devices have no key.
    pub fn keyless(&self) -> usize {
        self.read().keyless
    }

    /// What each device goes by, for whoever asks about many.
    pub fn ids(&self) -> Ids<'_> {
        Ids(self.read())
    }

    /// Whether it is known what each device is.
    pub(crate) fn has_all_profiles(&self) -> bool {
        self.read().has_all_profiles
    }

    /// From now on it is kept what each device is. What was stored before is still to be told.
    pub(crate) fn keep_profiles(&self) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.profiles.get_or_insert_default();
    }

    /// Is told of devices that were stored before, as far as nothing newer is known of them.
    pub(crate) fn tell_profiles(&self, devices: &[Device]) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let Entries { by_uid, profiles, .. } = &mut *entries;
        let profiles = profiles.get_or_insert_default();
        for device in devices.iter().filter(|device| by_uid.contains_key(&device.uid)) {
            profiles.entry(device.uid).or_insert_with(|| Profile::of(device));
        }
        (entries.has_all_profiles, entries.revision) = (true, entries.revision + 1);
    }

    /// A number that grows with each change.
    pub(crate) fn revision(&self) -> u64 {
        self.read().revision
    }

    /// Whether a filter of what devices are finds one.
    pub(crate) fn is_found(&self, uid: Uid, filter: &Filter) -> bool {
        let entries = self.read();
        let profile = entries.profiles.as_ref().and_then(|profiles| profiles.get(&uid));
        profile.is_some_and(|profile| filter.matches(profile, Timestamp::from_millis(0)))
    }

    /// The devices that such a filter finds.
    pub(crate) fn found(&self, filter: &Filter) -> HashSet<Uid> {
        let entries = self.read();
        let found = entries.profiles.iter().flatten().filter(|(_, profile)| {
            // Nothing that such a filter asks for depends on the time.
            filter.matches(*profile, Timestamp::from_millis(0))
        });
        found.map(|(uid, _)| *uid).collect()
    }

    /// Notes what is stored of a device now.
    pub(super) fn note(&self, uid: Uid, device: &Device) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.revision += 1;
        let is_deleted = device.state == Admission::Deleted;
        if let Some(profiles) = &mut entries.profiles {
            if is_deleted {
                profiles.remove(&uid);
            } else {
                profiles.insert(uid, Profile::of(device));
            }
        }
        let before = if is_deleted {
            entries.by_uid.swap_remove(&uid)
        } else {
            let (id, state, is_keyless) = (device.id.clone(), device.state, device.key.is_none());
            entries.by_uid.insert(uid, Listed { id, state, is_keyless })
        };
        if let Some(before) = before {
            entries.keyless -= usize::from(before.is_keyless);
            if entries.by_id.get(before.id.as_str()) == Some(&uid) {
                entries.by_id.remove(before.id.as_str());
            }
        }
        if !is_deleted {
            entries.keyless += usize::from(device.key.is_none());
            entries.by_id.insert(device.id.as_str().into(), uid);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The devices' ids. While this is there, no device comes or goes.
#[derive(Debug)]
pub struct Ids<'a>(RwLockReadGuard<'a, Entries>);

impl Ids<'_> {
    /// What a device goes by, if it is listed.
    pub fn of(&self, uid: Uid) -> Option<&DeviceId> {
        Some(&self.0.by_uid.get(&uid)?.id)
    }

    /// The same, faster for who asks about most devices in the order in which they came. `next` is
    /// where the next one is expected.
    pub fn following(&self, next: &mut usize, uid: Uid) -> Option<&DeviceId> {
        let devices = &self.0.by_uid;
        let expected = devices.get_index(*next).filter(|(known, _)| **known == uid);
        let (place, listed) = match expected {
            Some((_, listed)) => (*next, listed),
            None => devices.get_full(&uid).map(|(place, _, listed)| (place, listed))?,
        };
        *next = place + 1;
        Some(&listed.id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.by_uid.len()
    }
}
