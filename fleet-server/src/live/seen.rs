//! Which rows a reader is shown: those that it asks for, as far as its key's scope goes. Devices
//! come into a scope and leave it.

use std::collections::HashSet;
use std::sync::Arc;

use fleet_core::id::Uid;

use super::board::Board;
use crate::ops::Access;
use crate::store::Directory;

/// Which rows a reader is shown.
pub(super) struct Seen {
    access: Access,
    /// What it asks for; everything if nothing is said.
    only: Option<Arc<HashSet<Uid>>>,
    /// The devices of the scope; all if there is none.
    members: Option<Arc<HashSet<Uid>>>,
    /// Both together.
    shown: Option<Arc<HashSet<Uid>>>,
    /// Devices whose rows it has not been shown since they came into the scope.
    come: Vec<Uid>,
}

/// What of a scope's change is to be said now.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Rows, in JSON.
    pub(super) rows: Vec<bytes::Bytes>,
    /// Slots whose devices are not to be seen any more.
    pub(super) gone: Vec<u32>,
}

impl Seen {
    pub(super) fn new(access: Access, only: Option<HashSet<Uid>>, directory: &Directory) -> Self {
        let only = only.map(Arc::new);
        let members = access.members(directory);
        let shown = both(only.as_ref(), members.as_ref());
        Self { access, only, members, shown, come: Vec::new() }
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// The devices that it asks for by name.
    pub(super) fn only(&self) -> Option<&HashSet<Uid>> {
        self.only.as_deref()
    }

    /// The devices that it is shown, if those are not all.
    pub(super) fn shown(&self) -> Option<&HashSet<Uid>> {
        self.shown.as_deref()
    }

    /// Whether it is shown a device.
    pub(super) fn has(&self, uid: Uid) -> bool {
        self.shown.as_ref().is_none_or(|shown| shown.contains(&uid))
    }

    /// Whether everything was said of devices that came into the scope.
    pub(super) fn is_settled(&self) -> bool {
        self.come.is_empty()
    }

    /// Looks at the scope anew. As little as a reader without one needs, this costs it.
    pub(super) fn look(&mut self, directory: &Directory, board: &Board) -> Moved {
        let Some(members) = self.access.members(directory) else { return Moved::default() };
        let mut moved = Moved::default();
        if !self.members.as_ref().is_some_and(|known| Arc::ptr_eq(known, &members)) {
            let before = self.members.replace(members);
            let before = both(self.only.as_ref(), before.as_ref());
            self.shown = both(self.only.as_ref(), self.members.as_ref());
            if let (Some(before), Some(now)) = (before, &self.shown) {
                let left = before.difference(now).copied();
                moved.gone = board.slots(left).into_iter().flatten().collect();
                self.come.extend(now.difference(&before).copied());
            }
        }
        if !self.come.is_empty() {
            // Who came and left again is not shown.
            self.come.retain(|uid| self.shown.as_ref().is_none_or(|shown| shown.contains(uid)));
            moved.rows = board.take_rows(&mut self.come);
        }
        moved
    }
}

fn both(
    only: Option<&Arc<HashSet<Uid>>>,
    members: Option<&Arc<HashSet<Uid>>>,
) -> Option<Arc<HashSet<Uid>>> {
    match (only, members) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (Some(only), Some(members)) => {
            Some(Arc::new(only.intersection(members).copied().collect()))
        }
    }
}
