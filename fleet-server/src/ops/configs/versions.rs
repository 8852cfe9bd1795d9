//! What is known in memory of devices' latest versions, so that a list of devices is not a thousand
//! reads; and how far each device is with its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet_core::api::{ConfigState, config_paths};
use fleet_core::id::Uid;

use super::layers::parsed;
use super::view::hash;
use super::{EMPTY_DOCUMENT, INTERVAL_PATH};
use crate::ops::{OpsError, World};
use crate::store::{ConfigVersion, Device, ReportedPhase};

/// The devices' latest versions.
#[derive(Default)]
pub(crate) struct Versions(Mutex<HashMap<Uid, Latest>>);

/// What decides of a device's latest version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest {
    /// Its number; 0 if there is none.
    pub(crate) version: u64,
    hash: String,
    /// Seconds between reports, if it says so.
    interval_secs: Option<u64>,
    /// The version that the device was sent last since the server began.
    sent: u64,
}

impl Latest {
    fn of(latest: Option<&ConfigVersion>) -> Self {
        let document = latest.map_or(EMPTY_DOCUMENT, |latest| &latest.config.document);
        let interval = parsed(document).ok().and_then(|document| {
            config_paths(&document).get(INTERVAL_PATH).and_then(serde_json::Value::as_u64)
        });
        let version = latest.map_or(0, |latest| latest.version);
        Self { version, hash: hash(document), interval_secs: interval, sent: 0 }
    }

    /// How far a device is with it.
    pub(crate) fn state(&self, device: &Device) -> ConfigState {
        let said = device.reported.as_ref().filter(|said| said.version == self.version);
        match said.map(|said| (said.phase, said.error.is_some())) {
            _ if self.version == 0 => ConfigState::None,
            Some((ReportedPhase::Trying, _)) => ConfigState::Trying,
            Some((ReportedPhase::Reverted { .. }, _)) => ConfigState::Reverted,
            Some((ReportedPhase::Said, true)) => ConfigState::Refused,
            Some((ReportedPhase::Said, false)) => ConfigState::Applied,
            None if self.sent == self.version => ConfigState::Sent,
            None => ConfigState::Waiting,
        }
    }

    /// Whether a device goes by something else than it shall.
    pub(crate) fn has_drifted(&self, device: &Device) -> bool {
        let has_it = device
            .reported
            .as_ref()
            .is_some_and(|said| said.error.is_none() && said.hash == self.hash);
        let interval = u64::from(device.facts.interval_secs);
        let is_other = |wanted: u64| interval > 0 && wanted != interval;
        self.version > 0 && (!has_it || self.interval_secs.is_some_and(is_other))
    }
}

impl Versions {
    pub(crate) async fn latest(&self, world: &World, uid: Uid) -> Result<Latest, OpsError> {
        if let Some(latest) = self.lock().get(&uid) {
            return Ok(latest.clone());
        }
        let stored = world.store.config_latest(uid).await?;
        Ok(self.grew(uid, stored.as_ref()))
    }

    /// Notes a version, and gives what is known now. Versions only grow, so of two notes the one with
    /// the larger number is right.
    pub(in crate::ops) fn grew(&self, uid: Uid, stored: Option<&ConfigVersion>) -> Latest {
        let mut versions = self.lock();
        let known = versions.entry(uid).or_insert_with(|| Latest::of(stored));
        if stored.is_some_and(|stored| stored.version > known.version) {
            *known = Latest { sent: known.sent, ..Latest::of(stored) };
        }
        known.clone()
    }

    /// Notes that a device was sent a version. Says whether that is news.
    pub(super) fn sent(&self, uid: Uid, version: u64) -> bool {
        let mut versions = self.lock();
        let Some(known) = versions.get_mut(&uid) else { return false };
        std::mem::replace(&mut known.sent, version) != version
    }

    pub(crate) fn forget(&self, uid: Uid) {
        self.lock().remove(&uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Latest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
