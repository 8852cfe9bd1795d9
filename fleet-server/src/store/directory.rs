//! Who is who: the ids and names of all devices that are not deleted, in memory, for those who ask
//! thousands of times a second.
//!
//! It follows the database: after each change of a device it is told what is stored then.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use fleet_core::id::{DeviceId, Uid};

use super::{Admission, Device};

/// The devices by id and by uid.
#[derive(Debug, Default)]
pub struct Directory {
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<Box<str>, Uid>,
    by_uid: HashMap<Uid, Listed>,
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

    /// Shows what each of some devices goes by; those that are not listed are passed over.
    pub fn ids<T>(
        &self,
        devices: impl IntoIterator<Item = (Uid, T)>,
        mut show: impl FnMut(&DeviceId, T),
    ) {
        let entries = self.read();
        for (uid, with) in devices {
            if let Some(listed) = entries.by_uid.get(&uid) {
                show(&listed.id, with);
            }
        }
    }

    /// Notes what is stored of a device now.
    pub(super) fn note(&self, uid: Uid, device: &Device) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = entries.by_uid.remove(&uid) {
            entries.keyless -= usize::from(before.is_keyless);
            if entries.by_id.get(before.id.as_str()) == Some(&uid) {
                entries.by_id.remove(before.id.as_str());
            }
        }
        if device.state != Admission::Deleted {
            let (id, state, is_keyless) = (device.id.clone(), device.state, device.key.is_none());
            entries.keyless += usize::from(is_keyless);
            entries.by_id.insert(device.id.as_str().into(), uid);
            entries.by_uid.insert(uid, Listed { id, state, is_keyless });
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }
}
