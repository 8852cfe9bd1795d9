//! Whom posted telemetry is for: devices that somebody speaks for, and those that are made because
//! somebody does.

use std::sync::Arc;

use fleet_core::api::EventKind;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::Facts;
use futures_util::future::join_all;

use super::devices::{find, no_device};
use super::events::NewEvent;
use super::keys::Principal;
use super::{Access, Actor, Audit, Events, OpsError, World, audit};
use crate::hub::Hub;
use crate::store::{Admission, Conflict, Device, OtherKeys, StoreError};

/// Devices that one request makes.
const MADE_PER_REQUEST_MAX: usize = 1_000;
/// Devices without a key of their own that a server keeps. A tag that is different in each line
/// must not fill it.
const KEYLESS_MAX: usize = 20_000;
/// What is known of a device that only others speak for.
const MADE_TYPE: &str = "other";

/// Why a device's key does not post for another.
pub(super) const OWN_ONLY: &str = "a device key posts for its own device only";

/// Finds the devices that posts are for.
pub(crate) struct Senders {
    world: World,
    hub: Arc<Hub>,
    events: Arc<Events>,
    audit: Arc<Audit>,
}

/// A device that may be posted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) uid: Uid,
    /// Whether what is posted is a sign of life of the device itself: it has no other way to give
    /// one, or it is the device that posts.
    pub(crate) is_heard: bool,
}

/// How a post says whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Not at all: it is for the device whose key it came with.
    Own,
    /// By id or uid.
    Named(String),
}

impl Senders {
    pub(crate) fn new(world: World, hub: Arc<Hub>, events: Arc<Events>, audit: Arc<Audit>) -> Self {
        Self { world, hub, events, audit }
    }

    /// The device that a post names, if whoever posts may speak for it.
    pub(crate) async fn subject(
        &self,
        name: &str,
        poster: &Principal,
    ) -> Result<Subject, OpsError> {
        let found = self.world.store.directory().find(name);
        let (uid, device) = match (poster, found) {
            (Principal::Device { uid: own, .. }, Some((uid, device))) if *own == uid => {
                (uid, device)
            }
            // Whether another device exists is not for a device to know.
            (Principal::Device { .. }, _) => {
                return Err(OpsError::Forbidden(OWN_ONLY.to_owned()));
            }
            (Principal::Operator { access, .. }, Some((uid, _)))
                if !access.has_listed(self.world.store.directory(), uid) =>
            {
                return Err(no_device(name));
            }
            (_, Some(found)) => found,
            (_, None) => return Err(no_device(name)),
        };
        if device.state != Admission::Active {
            // It may have changed meanwhile.
            check_active(&find(&self.world, &Access::server(), name).await?)?;
        }
        let is_own = matches!(poster, Principal::Device { .. });
        Ok(Subject { uid, is_heard: is_own || device.is_keyless })
    }

    /// The devices that the parts of a request name; for each that may not be spoken for, why. An
    /// operator's request makes those that are not there yet.
    pub(crate) async fn subjects(
        &self,
        parts: Vec<Whose>,
        poster: &Principal,
    ) -> Result<Vec<Result<Subject, String>>, OpsError> {
        let mut subjects = Vec::with_capacity(parts.len());
        let mut absent = Vec::new();
        for whose in parts {
            let found = match (&whose, poster) {
                (Whose::Own, Principal::Device { uid, .. }) => {
                    Ok(Subject { uid: *uid, is_heard: true })
                }
                (Whose::Own, _) => Err(OpsError::NotFound("device".to_owned())),
                (Whose::Named(name), _) => self.subject(name, poster).await,
            };
            subjects.push(match (found, whose) {
                (Ok(subject), _) => Ok(subject),
                (Err(OpsError::Store(error)), _) => return Err(error.into()),
                (Err(error @ OpsError::NotFound(_)), Whose::Named(name)) => {
                    absent.push((subjects.len(), name));
                    Err(error.to_string())
                }
                (Err(error), _) => Err(error.to_string()),
            });
        }
        // Who has a scope brings no devices in.
        if let Principal::Operator { key, access } = poster
            && access.scope().is_none()
            && !absent.is_empty()
        {
            let (places, names): (Vec<usize>, Vec<String>) = absent.into_iter().unzip();
            for (place, made) in places.into_iter().zip(self.make(names, key).await?) {
                subjects[place] = made;
            }
        }
        Ok(subjects)
    }

    /// Makes devices for what an operator's key posts.
    async fn make(
        &self,
        names: Vec<String>,
        key: &str,
    ) -> Result<Vec<Result<Subject, String>>, OpsError> {
        let keyless = self.world.store.directory().keyless();
        let room = KEYLESS_MAX.saturating_sub(keyless).min(MADE_PER_REQUEST_MAX);
        // Together, so that they share their commits.
        let made = names.into_iter().enumerate().map(|(number, name)| async move {
            if number < room { self.make_one(&name, key).await } else { Ok(Err(no_room(&name))) }
        });
        let made = join_all(made).await;
        // Those that are there now are told of, also if others could not be made.
        let new = made.iter().filter_map(|made| match made {
            Ok(Ok((device, true))) => Some(device),
            _ => None,
        });
        let ids: Vec<String> = new.clone().map(|device| device.id.to_string()).collect();
        if !ids.is_empty() {
            self.audit.note(audit::posted(key, ids), None).await;
        }
        let told = new.map(|device| {
            self.hub.wake(device.uid);
            let (kind, actor) = (EventKind::DeviceEnrolled, Actor::Operator(key.to_owned()));
            NewEvent::about(device, kind, actor, &*device.state_reason)
        });
        self.events.record_all(told.collect()).await;
        let subject = |(device, _): (Device, bool)| Subject {
            uid: device.uid,
            is_heard: device.key.is_none(),
        };
        made.into_iter().map(|made| Ok(made?.map(subject))).collect()
    }

    /// Makes a device, unless somebody else has done so meanwhile; and whether it did.
    async fn make_one(
        &self,
        name: &str,
        key: &str,
    ) -> Result<Result<(Device, bool), String>, OpsError> {
        // What looks like a uid names a device that was here once, or is elsewhere.
        let (Err(_), Ok(id)) = (name.parse::<Uid>(), name.parse::<DeviceId>()) else {
            return Ok(Err(format!("there is no device {}", Untrusted::from(name))));
        };
        let now = self.world.now();
        let device = Device {
            uid: Uid::new(),
            id: id.clone(),
            key: None,
            name: None,
            state: Admission::Active,
            state_reason: format!("made for what the key {key} posts"),
            state_at: now,
            facts: Facts { device_type: MADE_TYPE.to_owned(), ..Facts::default() },
            metadata: std::collections::BTreeMap::new(),
            created_at: now,
            last_seen: Some(now),
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        };
        match self.world.store.device_insert(device.clone()).await {
            Ok(()) => Ok(Ok((device, true))),
            Err(StoreError::Conflict(Conflict::DeviceId(_))) => {
                let device = find(&self.world, &Access::server(), id.as_str()).await?;
                Ok(check_active(&device)
                    .map(|()| (device, false))
                    .map_err(|error| error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn check_active(device: &Device) -> Result<(), OpsError> {
    if device.state == Admission::Active {
        return Ok(());
    }
    let reason = format!("the device {} is not active: {}", device.id, device.state_reason);
    Err(OpsError::Conflict(reason))
}

fn no_room(name: &str) -> String {
    format!(
        "there is no device {}, and this request or this server has made as many as it may",
        Untrusted::from(name)
    )
}
