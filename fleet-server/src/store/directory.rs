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
}

/// A device in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it goes by.
    pub id: DeviceId,
    /// How it stands with the server.
    pub state: Admission,
}

impl Directory {
    /// The device that goes by an id.
    pub fn find(&self, id: &str) -> Option<(Uid, Admission)> {
        let entries = self.read();
        let uid = entries.by_id.get(id)?;
        Some((*uid, entries.by_uid.get(uid)?.state))
    }

    /// A device.
    pub fn get(&self, uid: Uid) -> Option<Listed> {
        self.read().by_uid.get(&uid).cloned()
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
        if let Some(before) = entries.by_uid.remove(&uid)
            && entries.by_id.get(before.id.as_str()) == Some(&uid)
        {
            entries.by_id.remove(before.id.as_str());
        }
        if device.state != Admission::Deleted {
            let listed = Listed { id: device.id.clone(), state: device.state };
            entries.by_id.insert(device.id.as_str().into(), uid);
            entries.by_uid.insert(uid, listed);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }
}
