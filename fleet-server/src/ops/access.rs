//! What whoever asks may see and do: a role and rights, and the devices of their scope.
//!
//! Every operation that finds or lists devices takes an [`Access`], so that none can forget to
//! ask. One is made of a key's record when it is shown, or for the server's own work, and nowhere
//! else. A scope is a filter over what is lasting about a device; a device out of it is as if it
//! were not there.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fleet_core::api::{Might, Right, Rights, Role};
use fleet_core::filter::{Filter, FilterError, Words};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::{Actor, OpsError, World};
use crate::export::Within;
use crate::store::{Device, Directory, KeyRecord, Profile, StoreError};

/// What somebody may see and do.
#[derive(Clone, Debug)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As whom they do it, where records say so.
    actor: Actor,
    might: Might,
    scope: Option<Scope>,
}

#[derive(Debug)]
struct Scope {
    filter: Filter,
    /// The devices in it, at a revision of the directory.
    members: Mutex<Option<(u64, Arc<HashSet<Uid>>)>>,
}

impl Access {
    /// The server's own: everything.
    pub(crate) fn server() -> Self {
        static ALL: LazyLock<Access> = LazyLock::new(|| {
            let might = Might { role: Role::Admin, rights: Rights::new() };
            Access(Arc::new(Inner { actor: Actor::Server, might, scope: None }))
        });
        ALL.clone()
    }

    /// That of an operator's key. A scope that this release cannot read opens nothing.
    pub(super) fn of(record: &KeyRecord) -> Result<Self, FilterError> {
        let scope = record.scope.as_deref().map(|text| Filter::parse(text, Words::Refused));
        let scope = scope.transpose()?.map(|filter| Scope { filter, members: Mutex::default() });
        let actor = Actor::Operator(record.id.clone());
        Ok(Self(Arc::new(Inner { actor, might: record.might.clone(), scope })))
    }

    /// Has the directory know what scopes ask for, if it does not yet.
    pub(super) async fn prepare(&self, world: &World) -> Result<(), StoreError> {
        let directory = world.store.directory();
        if self.0.scope.is_some() && !directory.has_all_profiles() {
            // Changes from now on are told, too, so what is read next is never newer than those.
            directory.keep_profiles();
            directory.tell_profiles(&world.store.device_list().await?);
        }
        Ok(())
    }

    /// The role and the rights.
    pub(crate) fn might(&self) -> &Might {
        &self.0.might
    }

    /// Refuses whoever has not at least a role.
    pub(crate) fn require_role(&self, role: Role) -> Result<(), OpsError> {
        self.0.might.require_role(role).map_err(|lacking| OpsError::Forbidden(lacking.to_string()))
    }

    /// Refuses whoever has not a right.
    pub(crate) fn require_right(&self, right: Right) -> Result<(), OpsError> {
        let lacking = self.0.might.require_right(right);
        lacking.map_err(|lacking| OpsError::Forbidden(lacking.to_string()))
    }

    /// The filter of the scope, if there is one.
    pub(crate) fn scope(&self) -> Option<&Filter> {
        self.0.scope.as_ref().map(|scope| &scope.filter)
    }

    /// Refuses what concerns more than the devices of a scope.
    pub(crate) fn require_whole_fleet(&self, what: &str) -> Result<(), OpsError> {
        match self.scope() {
            None => Ok(()),
            Some(scope) => Err(OpsError::Forbidden(format!(
                "{what} concerns the whole fleet, and the key is for the devices of {scope} only"
            ))),
        }
    }

    /// Whether a device is in the scope.
    pub(crate) fn has(&self, device: &Device) -> bool {
        let Some(scope) = &self.0.scope else { return true };
        // Nothing that a scope asks for depends on the time.
        scope.filter.matches(&Profile::of(device), Timestamp::from_millis(0))
    }

    /// The same for whoever has only the uid. A device that is not listed any more is in no scope.
    pub(crate) fn has_listed(&self, directory: &Directory, uid: Uid) -> bool {
        match &self.0.scope {
            None => true,
            Some(scope) => directory.is_found(uid, &scope.filter),
        }
    }

    /// The devices of the scope, if there is one, for whoever looks at many.
    pub(crate) fn members(&self, directory: &Directory) -> Option<Arc<HashSet<Uid>>> {
        let scope = self.0.scope.as_ref()?;
        let mut members = scope.members.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = directory.revision();
        if let Some((of, known)) = &*members
            && *of == revision
        {
            return Some(known.clone());
        }
        let found = Arc::new(directory.found(&scope.filter));
        *members = Some((revision, found.clone()));
        Some(found)
    }

    /// What an export for them holds.
    pub(super) fn within(&self, directory: &Directory) -> Option<Within> {
        let devices = self.members(directory)?;
        Some(Within { devices, actor: self.0.actor.to_string() })
    }

    /// Whether something that happened is theirs to see: about a device of the scope, or done by
    /// themselves.
    pub(crate) fn has_event(
        &self,
        directory: &Directory,
        device: Option<Uid>,
        actor: &str,
    ) -> bool {
        match (&self.0.scope, device) {
            (None, _) => true,
            (Some(_), Some(uid)) => self.has_listed(directory, uid),
            (Some(_), None) => self.0.actor.to_string() == actor,
        }
    }
}
