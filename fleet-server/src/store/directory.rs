//! Who is who: the ids and names of all devices that are not deleted, in memory, for those who ask
//! thousands of times a second.
//!
//! It follows the database: after each change of a device it is told what is stored then.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use fleet_core::id::{DeviceId, Uid};
use indexmap::IndexMap;

use super::{Admission, Device};

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

    /// Notes what is stored of a device now.
    pub(super) fn note(&self, uid: Uid, device: &Device) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let is_deleted = device.state == Admission::Deleted;
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
