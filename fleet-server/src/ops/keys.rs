//! Keys: making, listing and withdrawing them, and telling who holds one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::api::role::listed;
use fleet_core::api::{
    ADMIN_LABEL, EventKind, KeyCreate, KeyCreated, KeyRotate, KeyView, Me, Might, OVERLAP_DEFAULT,
    Rights, Role,
};
use fleet_core::field::Field;
use fleet_core::filter::{Filter, Words};
use fleet_core::id::Uid;
use fleet_core::identity::ServerIdentity;
use fleet_core::secret::{ApiKey, KeyHash, KeyKind};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::devices::find;
use super::events::NewEvent;
use super::key_room;
use super::recent::Recent;
use super::{Access, Actor, Events, OpsError, World};
use crate::store::{Admission, Device, KeyOrigin, KeyRecord, StoreError};

/// Characters of a label.
const LABEL_CHARS_MAX: usize = 100;
/// The longest life of a key that expires.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// How exactly the last use of a key is known.
const LAST_USED_STEP: Duration = Duration::from_secs(60);

/// Operations on keys.
pub(crate) struct Keys {
    world: World,
    server: ServerIdentity,
    events: Arc<Events>,
    known: Recent<Arc<Known>>,
    /// How many keys were ended.
    ended: AtomicU64,
}

/// A key, and what an operator may do who holds it.
struct Known {
    record: KeyRecord,
    access: Access,
}

/// Who holds a key.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    Operator { key: String, access: Access },
    Enrol { key: String },
    Device { key: String, uid: Uid },
}

impl Principal {
    /// What records call whoever holds the key.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Operator { key, .. } => Actor::Operator(key.clone()),
            Self::Enrol { key } => Actor::Enrol(key.clone()),
            Self::Device { .. } => Actor::Device,
        }
    }

    /// The key's id.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Operator { key, .. } | Self::Enrol { key } | Self::Device { key, .. } => key,
        }
    }

    /// What an operator may see and do; nobody else asks for that.
    pub(crate) fn access(&self) -> Result<&Access, OpsError> {
        match self {
            Self::Operator { access, .. } => Ok(access),
            Self::Enrol { .. } | Self::Device { .. } => {
                Err(OpsError::Forbidden("this needs an operator key".to_owned()))
            }
        }
    }

    /// The device whose key it is, which speaks for no other.
    pub(crate) fn device(&self) -> Option<Uid> {
        match self {
            Self::Device { uid, .. } => Some(*uid),
            Self::Operator { .. } | Self::Enrol { .. } => None,
        }
    }
}

/// Why a key lets nobody in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("the key is not known here")]
    Unknown,
    #[error("the key is for the server {0}, and this is {1}")]
    OtherServer(ServerIdentity, ServerIdentity),
    #[error("the key was revoked")]
    Revoked,
    #[error("the key has expired")]
    Expired,
    #[error("the key's device is no longer active")]
    Device,
    #[error("the key is for devices that this release cannot tell: its scope cannot be read")]
    Scope,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Keys {
    pub(crate) fn new(world: World, server: ServerIdentity, events: Arc<Events>) -> Self {
        Self { world, server, events, known: Recent::default(), ended: AtomicU64::new(0) }
    }

    /// Who holds a key, if it is good now, and shows it from an address.
    pub(crate) async fn authenticate(
        &self,
        key: &ApiKey,
        from: IpAddr,
    ) -> Result<Principal, Denied> {
        if let Some(named) = key.server()
            && named != self.server
        {
            return Err(Denied::OtherServer(named, self.server));
        }
        // What is known of a key holds until a key is ended.
        let change = self.ended.load(Ordering::SeqCst);
        let known = self.known.get(key.id(), change);
        let is_known = known.is_some();
        let known = match known {
            Some(known) => known,
            None => {
                let record = self.world.store.key_get(key.id()).await?.ok_or(Denied::Unknown)?;
                Arc::new(Known { access: access_of(&self.world, &record).await?, record })
            }
        };
        let record = &known.record;
        let same = record.kind == key.kind();
        if !KeyHash::from_bytes(record.hash).matches(key.hash()) || !same {
            return Err(Denied::Unknown);
        }
        if record.revoked_at.is_some() {
            return Err(Denied::Revoked);
        }
        if record.expires_at.is_some_and(|at| self.world.now() >= at) {
            return Err(Denied::Expired);
        }
        let principal = self.principal(&known)?;
        let last_used = self.note_use(record, from).await;
        // The uses of others are counted elsewhere.
        if record.uses_left.is_none() && !(is_known && last_used == record.last_used) {
            let record = KeyRecord { last_used, ..record.clone() };
            let known = Known { access: known.access.clone(), record };
            self.known.note([(known.record.id.clone(), Arc::new(known))], change);
        }
        Ok(principal)
    }

    /// Forgets what is known of keys: some were ended without anybody's word here.
    pub(crate) fn forget(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether an operator key that was good still is.
    pub(crate) async fn is_good(&self, id: &str) -> Result<bool, OpsError> {
        let record = self.world.store.key_get(id).await?;
        Ok(record.is_some_and(|record| record.is_good_operator(self.world.now())))
    }

    /// How many devices an enrolment key still lets in; without end if nothing is said.
    pub(crate) async fn uses_left(&self, id: &str) -> Result<Option<u32>, OpsError> {
        Ok(self.world.store.key_get(id).await?.and_then(|record| record.uses_left))
    }

    /// What people call a key.
    pub(crate) async fn label(&self, id: &str) -> Result<String, OpsError> {
        let record = self.world.store.key_get(id).await?;
        let label = record.map(|record| record.label).filter(|label| !label.is_empty());
        Ok(label.unwrap_or_else(|| id.to_owned()))
    }

    /// Makes a key, or takes one that was just made for the purpose. Its text is in the answer and
    /// nowhere else.
    pub(crate) async fn create(
        &self,
        request: KeyCreate,
        made: Option<ApiKey>,
        access: &Access,
        actor: &Actor,
    ) -> Result<KeyCreated, OpsError> {
        let device = self.device_of(&request, access).await?;
        check(&request)?;
        let (might, scope) = (might(&request, access)?, scope(&request, access)?);
        key_room::require(&self.world).await?;
        let key = made.map_or_else(|| self.generate(request.kind), Ok)?;
        let now = self.world.now();
        let life = request.life();
        let record = KeyRecord {
            id: key.id().to_owned(),
            kind: request.kind,
            hash: key.hash().bytes(),
            label: request.label,
            device: device.as_ref().map(|device| device.uid),
            uses_left: request.uses,
            created_at: now,
            expires_at: life.map(|life| now.plus(life)),
            revoked_at: None,
            last_used: None,
            last_used_from: None,
            might,
            scope,
            origin: Some(KeyOrigin { author: actor.to_string(), succeeds: None }),
        };
        self.world.store.key_insert(record.clone()).await?;
        let text = words(&record);
        self.events.record(event(EventKind::KeyCreated, text, device, actor)).await;
        Ok(key_room::made_known(&key, record))
    }

    /// Makes a key's successor, which may do the same for as long. The key itself goes on for a
    /// while.
    pub(crate) async fn rotate(
        &self,
        id: &str,
        request: &KeyRotate,
        access: &Access,
        actor: &Actor,
    ) -> Result<KeyCreated, OpsError> {
        let overlap = request.overlap_secs.map_or(OVERLAP_DEFAULT, Duration::from_secs);
        if overlap > LIFE_MAX {
            return Err(OpsError::invalid("overlap_secs", "must not be more than ten years"));
        }
        let old = self.find(id, access).await?;
        if old.label == ADMIN_LABEL {
            let problem = "the server's own key has no successor: stop the server, remove \
                           admin.key, and the next start makes a new one and revokes this one";
            return Err(OpsError::Conflict(problem.to_owned()));
        }
        if old.kind == KeyKind::Enrol {
            let problem = "an enrolment key has no successor: make another one";
            return Err(OpsError::Conflict(problem.to_owned()));
        }
        key_room::require(&self.world).await?;
        key_room::require_no_successor(&self.world, id).await?;
        let (now, key) = (self.world.now(), self.generate(old.kind)?);
        let successor = KeyRecord {
            id: key.id().to_owned(),
            hash: key.hash().bytes(),
            created_at: now,
            expires_at: old.expires_at.map(|end| now.plus(end.since(old.created_at))),
            revoked_at: None,
            last_used: None,
            last_used_from: None,
            origin: Some(KeyOrigin { author: actor.to_string(), succeeds: Some(id.to_owned()) }),
            ..old
        };
        let end = now.plus(overlap);
        let ended = self.world.store.key_succeed(id, successor.clone(), now, end).await;
        // Also if nobody can tell whether it was.
        self.forget();
        let ended = match ended {
            Err(StoreError::KeyRefused(refusal)) => {
                return Err(OpsError::Conflict(refusal.to_string()));
            }
            ended => ended?,
        };
        let end = ended.expires_at.unwrap_or(end);
        let text = format!("{}, in place of {id}, which ends at {end}", words(&successor));
        let device = self.device_behind(&successor).await;
        self.events.record(event(EventKind::KeyCreated, text, device, actor)).await;
        Ok(key_room::made_known(&key, successor))
    }

    /// All keys, without what would let anybody use them. Whoever has a scope sees those within it.
    pub(crate) async fn list(&self, access: &Access) -> Result<Vec<KeyView>, OpsError> {
        let records = self.world.store.key_list().await?;
        let mut successors = self.successors(&records);
        let mut views = Vec::new();
        for record in records {
            if !self.is_within(&record, access) {
                continue;
            }
            let device = match record.device {
                Some(uid) => self.world.store.device_get(uid).await?,
                None => None,
            };
            let is_operator = record.kind == KeyKind::Operator;
            let (created_by, succeeds) = match record.origin {
                Some(KeyOrigin { author, succeeds }) => (Some(Untrusted::new(author)), succeeds),
                None => (None, None),
            };
            views.push(KeyView {
                succeeded_by: successors.remove(&record.id),
                id: record.id,
                kind: record.kind,
                label: Untrusted::new(record.label),
                device_id: device.map(|device| device.id),
                uses_left: record.uses_left,
                created_at: record.created_at,
                created_by,
                succeeds,
                expires_at: record.expires_at,
                revoked_at: record.revoked_at,
                last_used: record.last_used,
                last_used_from: record.last_used_from,
                role: is_operator.then_some(record.might.role),
                rights: if is_operator { record.might.all_rights() } else { Rights::new() },
                scope: record.scope.map(Untrusted::new),
            });
        }
        Ok(views)
    }

    /// What takes the place of each key that is replaced: of several the newest that can.
    fn successors(&self, records: &[KeyRecord]) -> HashMap<String, String> {
        let now = self.world.now();
        let is_good = |key: &&KeyRecord| {
            key.revoked_at.is_none() && key.expires_at.is_none_or(|end| now < end)
        };
        let mut good: Vec<_> = records.iter().filter(is_good).collect();
        good.sort_by_key(|key| key.created_at);
        let succeeded = good
            .into_iter()
            .filter_map(|key| Some((key.origin.as_ref()?.succeeds.clone()?, key.id.clone())));
        succeeded.collect()
    }

    /// Who holds a key, for its holder.
    pub(crate) async fn me(&self, principal: &Principal) -> Result<Me, OpsError> {
        let id = principal.key();
        let record = self.world.store.key_get(id).await?;
        let record = record.ok_or_else(|| OpsError::NotFound(format!("key {id}")))?;
        let device = self.device_behind(&record).await;
        let is_operator = record.kind == KeyKind::Operator;
        Ok(Me {
            id: record.id,
            kind: record.kind,
            label: Untrusted::new(record.label),
            role: is_operator.then_some(record.might.role),
            rights: if is_operator { record.might.all_rights() } else { Rights::new() },
            scope: record.scope.map(Untrusted::new),
            device_id: device.map(|device| device.id),
            expires_at: record.expires_at,
        })
    }

    /// Ends a key for good.
    pub(crate) async fn revoke(
        &self,
        id: &str,
        access: &Access,
        actor: &Actor,
    ) -> Result<(), OpsError> {
        self.find(id, access).await?;
        let ended = self.world.store.key_revoke(id, self.world.now()).await;
        // Also if nobody can tell whether it was.
        self.forget();
        let key = match ended {
            Err(StoreError::Missing(_)) => return Err(no_key(id)),
            other => other?,
        };
        if key.revoked_at.is_none() {
            let device = self.device_behind(&key).await;
            self.events.record(event(EventKind::KeyRevoked, named(&key), device, actor)).await;
        }
        Ok(())
    }

    /// A key that whoever asks may see.
    async fn find(&self, id: &str, access: &Access) -> Result<KeyRecord, OpsError> {
        let record = self.world.store.key_get(id).await?;
        record.filter(|record| self.is_within(record, access)).ok_or_else(|| no_key(id))
    }

    /// Whether a key reaches no further than somebody does.
    fn is_within(&self, record: &KeyRecord, access: &Access) -> bool {
        let Some(own) = access.scope() else { return true };
        match (record.kind, record.device) {
            (KeyKind::Operator, _) => record.scope.as_deref().is_some_and(|scope| {
                Filter::parse(scope, Words::Refused).is_ok_and(|scope| scope.is_within(own))
            }),
            (KeyKind::Device, Some(uid)) => access.has_listed(self.world.store.directory(), uid),
            (KeyKind::Device, None) | (KeyKind::Enrol, _) => false,
        }
    }

    fn generate(&self, kind: KeyKind) -> Result<ApiKey, OpsError> {
        ApiKey::generate(kind, self.server)
            .map_err(|_| OpsError::Conflict("the system gives no random numbers".to_owned()))
    }

    fn principal(&self, known: &Known) -> Result<Principal, Denied> {
        let key = known.record.id.clone();
        match (known.record.kind, known.record.device) {
            (KeyKind::Operator, _) => Ok(Principal::Operator { key, access: known.access.clone() }),
            (KeyKind::Enrol, _) => Ok(Principal::Enrol { key }),
            (KeyKind::Device, Some(uid)) => match self.world.store.directory().state(uid) {
                Some(Admission::Active) => Ok(Principal::Device { key, uid }),
                _ => Err(Denied::Device),
            },
            (KeyKind::Device, None) => Err(Denied::Device),
        }
    }

    /// Notes that a key was used; now and then, because each note is a write. Returns what is
    /// noted.
    async fn note_use(&self, record: &KeyRecord, from: IpAddr) -> Option<Timestamp> {
        let now = self.world.now();
        let recent = record.last_used.is_some_and(|at| now.since(at) < LAST_USED_STEP);
        if recent || record.uses_left.is_some() {
            return record.last_used;
        }
        match self.world.store.key_use(&record.id, now, Some(from.to_canonical())).await {
            Ok(_) => Some(now),
            Err(error) => {
                tracing::debug!(key = record.id, %error, "the use of a key was not noted");
                record.last_used
            }
        }
    }

    /// The device that a key is for, if it can be told: the key is dealt with already.
    async fn device_behind(&self, key: &KeyRecord) -> Option<Device> {
        let found = self.world.store.device_get(key.device?).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(key = key.id, %error, "the device of a key cannot be read");
            None
        })
    }

    async fn device_of(
        &self,
        request: &KeyCreate,
        access: &Access,
    ) -> Result<Option<Device>, OpsError> {
        match (request.kind, &request.device_id) {
            (KeyKind::Device, Some(name)) => Ok(Some(find(&self.world, access, name).await?)),
            (KeyKind::Device, None) => {
                Err(OpsError::invalid("device_id", "a device key needs its device"))
            }
            (KeyKind::Operator | KeyKind::Enrol, Some(_)) => {
                Err(OpsError::invalid("device_id", "only a device key is for one device"))
            }
            (KeyKind::Enrol, None) => {
                access.require_whole_fleet("bringing in devices")?;
                Ok(None)
            }
            (KeyKind::Operator, None) => Ok(None),
        }
    }
}

/// What the holder of a key may see and do.
pub(super) async fn access_of(world: &World, record: &KeyRecord) -> Result<Access, Denied> {
    let access = Access::of(record).map_err(|error| {
        tracing::warn!(key = record.id, %error, "the scope of a key cannot be read");
        Denied::Scope
    })?;
    access.prepare(world).await?;
    Ok(access)
}

/// What a key shall do: no more than whoever makes it.
fn might(request: &KeyCreate, access: &Access) -> Result<Might, OpsError> {
    if request.kind != KeyKind::Operator {
        let none = Might { role: Role::Viewer, rights: Rights::new() };
        return match (request.role, request.rights.is_empty()) {
            (None, true) => Ok(none),
            (Some(_), _) => Err(OpsError::invalid("role", "only an operator key has one")),
            (None, false) => Err(OpsError::invalid("rights", "only an operator key has some")),
        };
    }
    let role = request.role.unwrap_or(Role::Operator);
    access.require_role(role)?;
    for right in &request.rights {
        if !role.takes(*right) {
            let problem = format!("a key of the role {role} cannot have the right {right}");
            return Err(OpsError::invalid("rights", problem));
        }
        access.require_right(*right)?;
    }
    // An admin has all of them, also those that are to come.
    let rights = if role == Role::Admin { Rights::new() } else { request.rights.clone() };
    Ok(Might { role, rights })
}

/// The scope of a key that is made, in its one spelling: within that of whoever makes it.
fn scope(request: &KeyCreate, access: &Access) -> Result<Option<String>, OpsError> {
    let asked = match request.scope.as_deref() {
        None => None,
        Some(_) if request.kind != KeyKind::Operator => {
            return Err(OpsError::invalid("scope", "only an operator key has one"));
        }
        Some(text) => Some(asked_scope(text)?),
    };
    // Keys of devices and for devices have none, and are looked at by themselves.
    let own = access.scope().filter(|_| request.kind == KeyKind::Operator);
    let scope = match (own, asked) {
        (None, None) => return Ok(None),
        (Some(own), None) => own.clone(),
        (None, Some(asked)) => asked,
        (Some(own), Some(asked)) if asked.is_within(own) => asked,
        (Some(own), Some(asked)) => own.and(&asked),
    };
    let text = scope.to_string();
    // Together they may be longer than a filter is.
    match Filter::parse(&text, Words::Refused) {
        Ok(read) if read == scope => Ok(Some(text)),
        _ => Err(OpsError::invalid("scope", "is too long together with that of your own key")),
    }
}

fn asked_scope(text: &str) -> Result<Filter, OpsError> {
    let scope = Filter::parse(text, Words::Refused)
        .map_err(|error| OpsError::invalid("scope", error.caret(text)))?;
    if scope.is_empty() {
        let problem = "asks for nothing: leave it out for a key to the whole fleet";
        return Err(OpsError::invalid("scope", problem));
    }
    if let Some(field) = scope.fields().into_iter().find(|field| !field.is_lasting()) {
        let lasting: Vec<_> = Field::all().filter(|field| field.is_lasting()).collect();
        let lasting: Vec<_> = lasting.iter().map(|field| field.spec().name).collect();
        return Err(OpsError::invalid(
            "scope",
            format!(
                "{field} changes with how a device is doing, and a scope is made of what a device \
                 is: {}, or entries of its metadata",
                lasting.join(", ")
            ),
        ));
    }
    Ok(scope)
}

fn no_key(id: &str) -> OpsError {
    OpsError::NotFound(format!("key {}", Untrusted::from(id)))
}

/// What is told of a key.
fn event(kind: EventKind, text: String, device: Option<Device>, actor: &Actor) -> NewEvent {
    let device = device.map(|device| (device.id, device.uid));
    NewEvent { kind, actor: actor.to_string(), device, text }
}

fn named(key: &KeyRecord) -> String {
    let text = format!("{} key {}", key.kind, key.id);
    if key.label.is_empty() { text } else { format!("{text} ({})", key.label) }
}

/// A key and what it may do.
fn words(key: &KeyRecord) -> String {
    let mut text = named(key);
    if key.kind == KeyKind::Operator {
        text = format!("{text}, {}", key.might.role);
        if !key.might.rights.is_empty() {
            text = format!("{text} with {}", listed(&key.might.rights));
        }
    }
    match &key.scope {
        Some(scope) => format!("{text}, for {scope}"),
        None => text,
    }
}

fn check(request: &KeyCreate) -> Result<(), OpsError> {
    if request.label.chars().count() > LABEL_CHARS_MAX {
        let problem = format!("must not be longer than {LABEL_CHARS_MAX} characters");
        return Err(OpsError::invalid("label", problem));
    }
    if request.label == ADMIN_LABEL {
        return Err(OpsError::invalid("label", "is what the server calls its own key"));
    }
    match (request.kind, request.uses) {
        (_, Some(0)) => Err(OpsError::invalid("uses", "must be at least 1")),
        (KeyKind::Operator | KeyKind::Device, Some(_)) => {
            Err(OpsError::invalid("uses", "only an enrolment key's uses are counted"))
        }
        _ => Ok(()),
    }?;
    if request.install_url && request.kind != KeyKind::Enrol {
        return Err(OpsError::invalid("install_url", "goes with an enrolment key only"));
    }
    if request.never_expires && request.expires_in_secs.is_some() {
        return Err(OpsError::invalid("never_expires", "goes without expires_in_secs"));
    }
    match request.expires_in_secs {
        Some(secs) if secs == 0 || secs > LIFE_MAX.as_secs() => {
            Err(OpsError::invalid("expires_in_secs", "must be from one second to ten years"))
        }
        _ => Ok(()),
    }
}
