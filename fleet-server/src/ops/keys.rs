//! Keys: making, listing and withdrawing them, and telling who holds one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::api::{EventKind, KeyCreate, KeyCreated, KeyView};
use fleet_core::id::Uid;
use fleet_core::identity::ServerIdentity;
use fleet_core::secret::{ApiKey, KeyHash, KeyKind};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::devices::find;
use super::events::NewEvent;
use super::recent::Recent;
use super::{Actor, Events, OpsError, World};
use crate::keyring::ADMIN_LABEL;
use crate::store::{Admission, Device, KeyRecord, StoreError};

/// Characters of a label.
const LABEL_CHARS_MAX: usize = 100;
/// Keys that one server keeps.
const KEYS_MAX: usize = 10_000;
/// The longest life of a key that expires.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// How exactly the last use of a key is known.
const LAST_USED_STEP: Duration = Duration::from_secs(60);

/// Operations on keys.
pub(crate) struct Keys {
    world: World,
    server: ServerIdentity,
    events: Arc<Events>,
    known: Recent<Arc<KeyRecord>>,
    /// How many keys were ended.
    ended: AtomicU64,
}

/// Who holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    Operator { key: String },
    Enrol { key: String },
    Device { key: String, uid: Uid },
}

impl Principal {
    /// What records call whoever holds the key.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Operator { key } => Actor::Operator(key.clone()),
            Self::Enrol { key } => Actor::Enrol(key.clone()),
            Self::Device { .. } => Actor::Device,
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
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Keys {
    pub(crate) fn new(world: World, server: ServerIdentity, events: Arc<Events>) -> Self {
        Self { world, server, events, known: Recent::default(), ended: AtomicU64::new(0) }
    }

    /// Who holds a key, if it is good now.
    pub(crate) async fn authenticate(&self, key: &ApiKey) -> Result<Principal, Denied> {
        if let Some(named) = key.server()
            && named != self.server
        {
            return Err(Denied::OtherServer(named, self.server));
        }
        // What is known of a key holds until a key is ended.
        let change = self.ended.load(Ordering::SeqCst);
        let known = self.known.get(key.id(), change);
        let is_known = known.is_some();
        let record = match known {
            Some(record) => record,
            None => Arc::new(self.world.store.key_get(key.id()).await?.ok_or(Denied::Unknown)?),
        };
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
        let principal = self.principal(&record)?;
        let last_used = self.note_use(&record).await;
        // The uses of others are counted elsewhere.
        if record.uses_left.is_none() && !(is_known && last_used == record.last_used) {
            let record = KeyRecord { last_used, ..KeyRecord::clone(&record) };
            self.known.note([(record.id.clone(), Arc::new(record))], change);
        }
        Ok(principal)
    }

    /// Whether an operator key that was good still is.
    pub(crate) async fn is_good(&self, id: &str) -> Result<bool, OpsError> {
        let record = self.world.store.key_get(id).await?;
        Ok(record.is_some_and(|record| record.is_good_operator(self.world.now())))
    }

    /// What people call a key.
    pub(crate) async fn label(&self, id: &str) -> Result<String, OpsError> {
        let record = self.world.store.key_get(id).await?;
        let label = record.map(|record| record.label).filter(|label| !label.is_empty());
        Ok(label.unwrap_or_else(|| id.to_owned()))
    }

    /// Makes a key. Its text is in the answer and nowhere else.
    pub(crate) async fn create(
        &self,
        request: KeyCreate,
        actor: &Actor,
    ) -> Result<KeyCreated, OpsError> {
        let device = self.device_of(&request).await?;
        check(&request)?;
        if self.world.store.key_list().await?.len() >= KEYS_MAX {
            return Err(OpsError::Conflict(format!("a server keeps at most {KEYS_MAX} keys")));
        }
        let key = ApiKey::generate(request.kind, self.server)
            .map_err(|_| OpsError::Conflict("the system gives no random numbers".to_owned()))?;
        let now = self.world.now();
        let record = KeyRecord {
            id: key.id().to_owned(),
            kind: request.kind,
            hash: key.hash().bytes(),
            label: request.label,
            device: device.as_ref().map(|device| device.uid),
            uses_left: request.uses,
            created_at: now,
            expires_at: request.expires_in_secs.map(|secs| now.plus(Duration::from_secs(secs))),
            revoked_at: None,
            last_used: None,
        };
        self.world.store.key_insert(record.clone()).await?;
        self.events.record(event(EventKind::KeyCreated, &record, device, actor)).await;
        Ok(KeyCreated { id: key.id().to_owned(), key: key.reveal().to_string() })
    }

    /// All keys, without what would let anybody use them.
    pub(crate) async fn list(&self) -> Result<Vec<KeyView>, OpsError> {
        let mut views = Vec::new();
        for record in self.world.store.key_list().await? {
            let device = match record.device {
                Some(uid) => self.world.store.device_get(uid).await?,
                None => None,
            };
            views.push(KeyView {
                id: record.id,
                kind: record.kind,
                label: Untrusted::new(record.label),
                device_id: device.map(|device| device.id),
                uses_left: record.uses_left,
                created_at: record.created_at,
                expires_at: record.expires_at,
                revoked_at: record.revoked_at,
                last_used: record.last_used,
            });
        }
        Ok(views)
    }

    /// Ends a key for good.
    pub(crate) async fn revoke(&self, id: &str, actor: &Actor) -> Result<(), OpsError> {
        let ended = self.world.store.key_revoke(id, self.world.now()).await;
        // Also if nobody can tell whether it was.
        self.ended.fetch_add(1, Ordering::SeqCst);
        let key = match ended {
            Err(StoreError::Missing(_)) => {
                return Err(OpsError::NotFound(format!("key {}", Untrusted::from(id))));
            }
            other => other?,
        };
        if key.revoked_at.is_none() {
            let device = self.device_behind(&key).await;
            self.events.record(event(EventKind::KeyRevoked, &key, device, actor)).await;
        }
        Ok(())
    }

    fn principal(&self, record: &KeyRecord) -> Result<Principal, Denied> {
        let key = record.id.clone();
        match (record.kind, record.device) {
            (KeyKind::Operator, _) => Ok(Principal::Operator { key }),
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
    async fn note_use(&self, record: &KeyRecord) -> Option<Timestamp> {
        let now = self.world.now();
        let recent = record.last_used.is_some_and(|at| now.since(at) < LAST_USED_STEP);
        if recent || record.uses_left.is_some() {
            return record.last_used;
        }
        match self.world.store.key_use(&record.id, now).await {
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

    async fn device_of(&self, request: &KeyCreate) -> Result<Option<Device>, OpsError> {
        match (request.kind, &request.device_id) {
            (KeyKind::Device, Some(name)) => Ok(Some(find(&self.world, name).await?)),
            (KeyKind::Device, None) => {
                Err(OpsError::invalid("device_id", "a device key needs its device"))
            }
            (KeyKind::Operator | KeyKind::Enrol, Some(_)) => {
                Err(OpsError::invalid("device_id", "only a device key is for one device"))
            }
            (KeyKind::Operator | KeyKind::Enrol, None) => Ok(None),
        }
    }
}

/// What is told of a key.
fn event(kind: EventKind, key: &KeyRecord, device: Option<Device>, actor: &Actor) -> NewEvent {
    let mut text = format!("{} key {}", key.kind, key.id);
    if !key.label.is_empty() {
        text = format!("{text} ({})", key.label);
    }
    let device = device.map(|device| (device.id, device.uid));
    NewEvent { kind, actor: actor.to_string(), device, text }
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
    match request.expires_in_secs {
        Some(secs) if secs == 0 || secs > LIFE_MAX.as_secs() => {
            Err(OpsError::invalid("expires_in_secs", "must be from one second to ten years"))
        }
        _ => Ok(()),
    }
}
