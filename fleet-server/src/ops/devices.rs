//! Devices: listing them, noting things about them, letting them in and out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_core::api::{self, DeviceFacts, DeviceUpdate, EventKind, LatestReport};
use fleet_core::field::SortKey;
use fleet_core::filter::{Filter, compare};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::limits::{
    METADATA_ENTRIES_MAX, METADATA_NAME_BYTES_MAX, METADATA_VALUE_BYTES_MAX, SHOWN_CHARS_MAX,
};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use serde_json::Value;

use super::configs::{Cause, Layers, Versions, tags_of};
use super::deleted::kept_until;
use super::events::NewEvent;
use super::status::{Standing, double, standing};
use super::vitals::TEMPERATURE;
use super::{Access, Actor, Events, OpsError, Presence, World, tags};
use crate::hub::Hub;
use crate::store::{Admission, Device, NamedValue, Refusal, StoreError};

/// Bytes of a reason that an operator gives.
const REASON_BYTES_MAX: usize = 500;

/// Operations on devices.
pub(crate) struct Devices {
    pub(crate) world: World,
    pub(crate) presence: Arc<Presence>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) events: Arc<Events>,
}

/// What an operator can say about a device.
struct Sentence {
    state: Admission,
    kind: EventKind,
    words: &'static str,
    allowed: fn(Admission) -> Result<(), &'static str>,
}

impl Devices {
    /// All devices by id, beginning after `after`, at most `limit`.
    pub(crate) async fn list(
        &self,
        access: &Access,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<api::Device>, OpsError> {
        let mut devices = self.world.store.device_list().await?;
        devices.retain(|device| after.is_none_or(|after| device.id > *after) && access.has(device));
        devices.sort_by(|a, b| a.id.cmp(&b.id));
        devices.truncate(limit);
        let mut views = Vec::with_capacity(devices.len());
        for device in devices {
            views.push(self.view(device).await?);
        }
        Ok(views)
    }

    /// The devices that a filter finds, in the order of a key.
    pub(crate) async fn select(
        &self,
        access: &Access,
        filter: &Filter,
        sort: SortKey,
    ) -> Result<Vec<api::Device>, OpsError> {
        let now = self.world.now();
        let mut views = Vec::new();
        for device in self.world.store.device_list().await? {
            if !access.has(&device) {
                continue;
            }
            let view = self.view(device).await?;
            if filter.matches(&view, now) {
                views.push(view);
            }
        }
        views.sort_by(|a, b| compare(sort, a, b));
        Ok(views)
    }

    /// One device.
    pub(crate) async fn get(&self, access: &Access, name: &str) -> Result<api::Device, OpsError> {
        let device = self.find(access, name).await?;
        self.view(device).await
    }

    /// The device that an id or uid names.
    pub(crate) async fn find(&self, access: &Access, name: &str) -> Result<Device, OpsError> {
        find(&self.world, access, name).await
    }

    /// Notes a name and metadata. What is absent stays.
    pub(crate) async fn update(
        &self,
        access: &Access,
        name: &str,
        update: DeviceUpdate,
        actor: &Actor,
    ) -> Result<(), OpsError> {
        self.update_if(access, name, update, |_| Ok(()), actor).await
    }

    /// The same, unless the device as it is then speaks against it. Nobody moves a device out of
    /// their own scope: it would be gone for them, and only others could bring it back.
    pub(crate) async fn update_if(
        &self,
        access: &Access,
        name: &str,
        update: DeviceUpdate,
        check: impl FnOnce(&Device) -> Result<(), Refusal> + Send + 'static,
        actor: &Actor,
    ) -> Result<(), OpsError> {
        let device = self.find(access, name).await?;
        let entries = metadata_changes(update.metadata)?;
        let tags = update.tags.unwrap_or_default();
        tags::check(&tags)?;
        if update.name.as_ref().is_some_and(|name| name.chars().count() > SHOWN_CHARS_MAX) {
            let problem = format!("must not be longer than {SHOWN_CHARS_MAX} characters");
            return Err(OpsError::invalid("name", problem));
        }
        let change = move |device: &mut Device| {
            check(device)?;
            let before = device.clone();
            if let Some(name) = update.name {
                device.name = Some(name).filter(|name| !name.is_empty());
            }
            for (name, value) in entries {
                match value {
                    Some(value) => device.metadata.insert(name, value),
                    None => device.metadata.remove(&name),
                };
            }
            tags::change(&mut device.metadata, &tags)?;
            if device.metadata.len() > METADATA_ENTRIES_MAX {
                let reason =
                    format!("a device has at most {METADATA_ENTRIES_MAX} metadata entries");
                return Err(Refusal(reason));
            }
            let is_tagged_anew = tags_of(&before) != tags_of(device);
            Ok((differences(&before, device), is_tagged_anew))
        };
        let (access, leaves) = (access.clone(), Arc::new(AtomicBool::new(false)));
        let change = {
            let leaves = leaves.clone();
            move |device: &mut Device| {
                let changed = change(device)?;
                if !access.has(device) {
                    leaves.store(true, Ordering::SeqCst);
                    return Err(Refusal("the device would leave the scope of the key".to_owned()));
                }
                Ok(changed)
            }
        };
        let (device, (differences, is_tagged_anew)) =
            match self.world.change(device.uid, change).await {
                Err(StoreError::Refused(Refusal(reason))) if leaves.load(Ordering::SeqCst) => {
                    return Err(OpsError::Forbidden(reason));
                }
                changed => changed?,
            };
        self.hub.wake(device.uid);
        if is_tagged_anew {
            let comment = "its tags were changed".to_owned();
            self.layers.look_at(device.uid, Some(Cause { author: actor.to_string(), comment }));
        }
        if !differences.is_empty() {
            let text = differences.join("; ");
            let event = NewEvent::about(&device, EventKind::DeviceUpdated, actor, text);
            self.events.record(event).await;
        }
        Ok(())
    }

    /// Ends a device: it has no access from now on, and its data goes later. Says which, and until
    /// when it can be had back.
    pub(crate) async fn delete(
        &self,
        access: &Access,
        name: &str,
        actor: &Actor,
    ) -> Result<(Uid, Timestamp), OpsError> {
        let device = self.find(access, name).await?;
        let now = self.world.now();
        self.world.store.device_delete(device.uid, now).await?;
        self.presence.forget(device.uid);
        self.versions.forget(device.uid);
        self.hub.wake(device.uid);
        let text = "removed by an operator";
        self.events.record(NewEvent::about(&device, EventKind::DeviceDeleted, actor, text)).await;
        Ok((device.uid, kept_until(now)))
    }

    /// Lets a waiting device in.
    pub(crate) async fn accept(
        &self,
        access: &Access,
        name: &str,
        reason: &str,
        actor: &Actor,
    ) -> Result<(), OpsError> {
        let sentence = Sentence {
            state: Admission::Active,
            kind: EventKind::DeviceAccepted,
            words: "accepted by an operator",
            allowed: |state| match state {
                Admission::Pending | Admission::Rejected | Admission::Active => Ok(()),
                Admission::Revoked | Admission::Deleted => {
                    Err("the device was revoked: delete it, and it may ask anew")
                }
            },
        };
        self.judge(access, name, sentence, reason, actor).await.map(drop)
    }

    /// Turns a waiting device away.
    pub(crate) async fn reject(
        &self,
        access: &Access,
        name: &str,
        reason: &str,
        actor: &Actor,
    ) -> Result<(), OpsError> {
        let sentence = Sentence {
            state: Admission::Rejected,
            kind: EventKind::DeviceRejected,
            words: "rejected by an operator",
            allowed: |state| match state {
                Admission::Pending | Admission::Rejected => Ok(()),
                Admission::Active | Admission::Revoked | Admission::Deleted => {
                    Err("only a pending device can be rejected: revoke this one")
                }
            },
        };
        self.judge(access, name, sentence, reason, actor).await.map(drop)
    }

    /// Puts a device out for good; says which.
    pub(crate) async fn revoke(
        &self,
        access: &Access,
        name: &str,
        reason: &str,
        actor: &Actor,
    ) -> Result<Uid, OpsError> {
        let sentence = Sentence {
            state: Admission::Revoked,
            kind: EventKind::DeviceRevoked,
            words: "revoked by an operator",
            allowed: |_| Ok(()),
        };
        self.judge(access, name, sentence, reason, actor).await
    }

    async fn judge(
        &self,
        access: &Access,
        name: &str,
        sentence: Sentence,
        reason: &str,
        actor: &Actor,
    ) -> Result<Uid, OpsError> {
        let Sentence { state, kind, words, allowed } = sentence;
        if reason.len() > REASON_BYTES_MAX {
            let problem = format!("must not be longer than {REASON_BYTES_MAX} bytes");
            return Err(OpsError::invalid("reason", problem));
        }
        let device = self.find(access, name).await?;
        let at = self.world.now();
        let text = if reason.is_empty() { words.to_owned() } else { format!("{words}: {reason}") };
        let change = move |device: &mut Device| {
            allowed(device.state).map_err(|reason| Refusal(reason.to_owned()))?;
            let is_news = device.state != state;
            if is_news {
                device.state = state;
                device.state_reason = text;
                device.state_at = at;
            }
            Ok(is_news)
        };
        let (device, is_news) = self.world.change(device.uid, change).await?;
        self.hub.wake(device.uid);
        if is_news {
            let text = device.state_reason.as_str();
            self.events.record(NewEvent::about(&device, kind, actor, text)).await;
        }
        Ok(device.uid)
    }

    /// What a device measured last, with what others posted since: the values without labels, and
    /// the hottest sensor's temperature.
    fn latest(&self, uid: Uid) -> Option<LatestReport> {
        let own = self.presence.own(uid);
        let mut newest = self.world.store.newest_of(uid);
        newest.retain(|newest| own.is_none_or(|own| own <= newest.at));
        let timestamp = own.or_else(|| newest.iter().map(|newest| newest.at).max())?;
        let mut metrics: BTreeMap<String, f64> = BTreeMap::new();
        for NamedValue { name, value, .. } in newest {
            if name.labels.is_empty() {
                metrics.insert(name.metric.to_string(), value);
            } else if *name.metric == *TEMPERATURE {
                let hottest = metrics.entry(TEMPERATURE.to_owned()).or_insert(value);
                *hottest = hottest.max(value);
            }
        }
        Some(LatestReport { timestamp, metrics })
    }

    /// The devices of the fleet, and whether each is heard as often as it should be, or nearly.
    pub(crate) async fn heard(&self, access: &Access) -> Result<Vec<(Device, bool)>, OpsError> {
        let now = self.world.now();
        let mut devices = self.world.store.device_list().await?;
        devices.retain(|device| device.state == Admission::Active && access.has(device));
        let is_heard = |device: Device| {
            let standing = standing(&device, &self.presence, &self.hub, now);
            (device, standing.status.is_heard())
        };
        Ok(devices.into_iter().map(is_heard).collect())
    }

    pub(super) async fn view(&self, device: Device) -> Result<api::Device, OpsError> {
        let Standing { status, why, last_seen, .. } =
            standing(&device, &self.presence, &self.hub, self.world.now());
        let double = double(&device, &self.presence);
        let latest = self.versions.latest(&self.world, device.uid).await?;
        let (config_state, config_drift) = (latest.state(&device), latest.has_drifted(&device));
        let config_version = latest.version;
        let name = device.name.or(device.facts.name.clone());
        Ok(api::Device {
            name: Untrusted::new(name.unwrap_or_else(|| device.id.to_string())),
            device_type: or_other(&device.facts.device_type),
            version: Untrusted::from(device.facts.version.as_str()),
            status,
            last_seen,
            why: Untrusted::new(why),
            uid: device.uid,
            fingerprint: device.key.map(PublicKey::fingerprint),
            metadata: metadata(device.metadata),
            created_at: device.created_at,
            missed_reports: device.missed_reports,
            config_version,
            config_reported: device.reported.as_ref().map(|reported| reported.version),
            config_error: device
                .reported
                .filter(|reported| reported.version == config_version)
                .and_then(|reported| reported.error)
                .map(Untrusted::new),
            config_state: Some(config_state),
            config_drift,
            double: double.map(|double| api::DoubleView {
                since: double.since,
                last: double.last,
                addresses: double.addresses,
                sign: double.sign,
            }),
            clock_skew_secs: self.presence.skew_secs(device.uid),
            latest: self.latest(device.uid),
            facts: DeviceFacts {
                hostname: device.facts.hostname.into(),
                model: device.facts.model.into(),
                os: device.facts.os.into(),
                kernel: device.facts.kernel.into(),
                arch: device.facts.arch.into(),
                cores: device.facts.cores,
                memory_bytes: device.facts.memory_bytes,
                addresses: device.facts.addresses.into_iter().map(Untrusted::new).collect(),
                interval_secs: device.facts.interval_secs,
            },
            id: device.id,
        })
    }
}

/// The device that an id or uid names, deleted ones left out. One out of scope is not there.
pub(super) async fn find(world: &World, access: &Access, name: &str) -> Result<Device, OpsError> {
    let found = match name.parse::<Uid>() {
        Ok(uid) => world.store.device_get(uid).await?,
        Err(_) => match name.parse::<DeviceId>() {
            Ok(id) => world.store.device_find(&id).await?,
            Err(_) => None,
        },
    };
    let found = found.filter(|device| device.state != Admission::Deleted && access.has(device));
    found.ok_or_else(|| no_device(name))
}

/// The same, as far as the directory tells it: for questions that come often.
pub(super) fn find_listed(
    world: &World,
    access: &Access,
    name: &str,
) -> Result<(Uid, DeviceId), OpsError> {
    let directory = world.store.directory();
    let found = directory.find(name).filter(|(uid, _)| access.has_listed(directory, *uid));
    let (uid, listed) = found.ok_or_else(|| no_device(name))?;
    Ok((uid, listed.id))
}

/// Tells that nothing goes by a name.
pub(super) fn no_device(name: &str) -> OpsError {
    OpsError::NotFound(format!("device {}", Untrusted::from(name)))
}

/// What operators noted, as JSON.
pub(crate) fn metadata(entries: BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let read = |(name, value): (String, String)| {
        // The store holds what serde_json wrote; anything else still shows, as text.
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        (name, value)
    };
    entries.into_iter().map(read).collect()
}

/// What an operator changed about a device, in words.
fn differences(before: &Device, after: &Device) -> Vec<String> {
    let mut words = Vec::new();
    if before.name != after.name {
        words.push(match &after.name {
            Some(name) => format!("name {name}"),
            None => "name removed".to_owned(),
        });
    }
    let is_set = |(name, value): &(&String, &String)| before.metadata.get(*name) != Some(value);
    let set: Vec<&str> =
        after.metadata.iter().filter(is_set).map(|(name, _)| name.as_str()).collect();
    if !set.is_empty() {
        words.push(format!("metadata set: {}", set.join(", ")));
    }
    let is_gone = |name: &&String| !after.metadata.contains_key(*name);
    let gone: Vec<&str> = before.metadata.keys().filter(is_gone).map(String::as_str).collect();
    if !gone.is_empty() {
        words.push(format!("metadata removed: {}", gone.join(", ")));
    }
    words
}

/// A device's type, as it is shown.
pub(crate) fn or_other(device_type: &str) -> Untrusted {
    Untrusted::from(if device_type.is_empty() { "other" } else { device_type })
}

/// What to set, as JSON text, and what to remove.
fn metadata_changes(metadata: Option<Value>) -> Result<BTreeMap<String, Option<String>>, OpsError> {
    let entries = match metadata {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(OpsError::invalid("metadata", "must be an object")),
    };
    let check = |(name, value): (String, Value)| {
        let field = || format!("metadata.{}", Untrusted::from(name.as_str()));
        if name.is_empty() || name.len() > METADATA_NAME_BYTES_MAX {
            let problem = format!("a name has 1 to {METADATA_NAME_BYTES_MAX} bytes");
            return Err(OpsError::invalid(field(), problem));
        }
        let text = value.to_string();
        if text.len() > METADATA_VALUE_BYTES_MAX {
            let problem = format!("must not be longer than {METADATA_VALUE_BYTES_MAX} bytes");
            return Err(OpsError::invalid(field(), problem));
        }
        Ok((name, if value.is_null() { None } else { Some(text) }))
    };
    entries.into_iter().map(check).collect()
}
