//! Configurations: what a device shall be, and what it says it is.

mod layer_ops;
mod layers;
mod settle;
mod versions;
mod view;

use std::sync::Arc;

use fleet_core::api::{
    ConfigUpdate, ConfigVersionView, ConfigView, Difference, EventKind, Role, SERVER_URL,
    config_of_paths, config_paths, diff,
};
use fleet_core::id::Uid;
use fleet_core::identity::PrivateKey;
use fleet_core::limits::ERROR_CHARS_MAX;
use fleet_core::untrusted::cut;
use fleet_core::wire::{ConfigPush, ConfigReported, ConfigTrial, TrialState};

pub(crate) use self::layers::{Cause, Layers, TAGS_ENTRY, own_of, server_url, tags_of};
use self::layers::{Stack, canonical, own_part, parsed};
pub(crate) use self::versions::{Latest, Versions};
pub(super) use self::view::set;
use self::view::{hash, not_applied, version_view, view};
use serde_json::Value;

use super::devices::find;
use super::events::NewEvent;
use super::{Access, Actor, Events, OpsError, World};
use crate::bell::Bell;
use crate::hub::Hub;
use crate::store::{ConfigVersion, Device, NewConfig, ReportedConfig, ReportedPhase};

/// Bytes of a comment.
const COMMENT_BYTES_MAX: usize = 1000;
/// The path that a device tells the value of by itself.
const INTERVAL_PATH: &str = "telemetry.interval";
/// The document before the first version.
pub(super) const EMPTY_DOCUMENT: &str = "{}";

/// Operations on configurations.
pub(crate) struct Configs {
    pub(crate) world: World,
    pub(crate) versions: Arc<Versions>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) server: Arc<PrivateKey>,
    pub(crate) events: Arc<Events>,
    /// Rings for devices that have said something new, as the batches that wait for it want to know.
    pub(crate) reports: Arc<Bell>,
    pub(crate) layers: Arc<Layers>,
}

impl Configs {
    /// A device's configuration.
    pub(crate) async fn get(&self, access: &Access, name: &str) -> Result<ConfigView, OpsError> {
        let device = find(&self.world, access, name).await?;
        let latest = self.world.store.config_latest(device.uid).await?;
        self.view(&device, latest).await
    }

    /// Versions of a device's configuration, newest first; only those below `before`, if that is
    /// said.
    pub(crate) async fn history(
        &self,
        access: &Access,
        name: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConfigVersionView>, OpsError> {
        let device = find(&self.world, access, name).await?;
        let versions = self.world.store.config_list(device.uid, before, limit).await?;
        Ok(versions.into_iter().map(version_view).collect())
    }

    /// Gives a device its next configuration, if `expected` is its version or not said. One that
    /// says what the current one says is no new version.
    pub(crate) async fn update(
        &self,
        access: &Access,
        name: &str,
        expected: Option<u64>,
        mut update: ConfigUpdate,
        author: &Actor,
    ) -> Result<ConfigView, OpsError> {
        let device = find(&self.world, access, name).await?;
        if update.expect.is_some() {
            return Err(OpsError::invalid("expect", "goes with a layer"));
        }
        let stack = self.layers.stack().await?;
        let mut not_applied = not_applied(&update);
        if let Some(version) = update.rollback_to {
            let stays = self.take_over(&device, version, &stack, &mut update).await?;
            not_applied = not_applied.or(stays);
        }
        let latest = self.world.store.config_latest(device.uid).await?;
        if let Some(latest) = &latest {
            self.versions.grew(device.uid, Some(latest));
        }
        let expected = basis(expected, &update, latest.as_ref());
        let new = self.new_config(&device, latest.as_ref(), &stack, update, author)?;
        require_place(access, own_of(latest.as_ref()), own_part(&new))?;
        // Who wants what a device went back from, or refused, wants it tried anew.
        let failed = device.reported.as_ref().filter(|reported| reported.error.is_some());
        let failed = failed.map(|reported| reported.version);
        let is_same = |latest: &ConfigVersion| {
            says_the_same(&new, &latest.config) && failed != Some(latest.version)
        };
        let (stored, is_new) = match latest.filter(is_same) {
            Some(latest) if expected.is_none_or(|expected| expected == latest.version) => {
                (latest, false)
            }
            Some(latest) => {
                let (expected, current) = (expected.unwrap_or(0), latest.version);
                return Err(OpsError::Stale { expected, current });
            }
            None => {
                let appended = self.world.store.config_append(device.uid, expected, new).await;
                // A store that fails over a commit may have made it all the same: ask it next time.
                (appended.inspect_err(|_| self.versions.forget(device.uid))?, true)
            }
        };
        self.versions.grew(device.uid, Some(&stored));
        self.hub.wake(device.uid);
        if is_new {
            // A layer may have changed since it was looked at.
            self.layers.look_at(device.uid, None);
            let event = NewEvent::about(&device, EventKind::ConfigSet, author, set(&stored));
            self.events.record(event).await;
        }
        let view = self.view(&device, Some(stored)).await?;
        Ok(ConfigView { status: Some("updated".to_owned()), not_applied, ..view })
    }

    /// The configuration to send to a device that has `known`, signed.
    pub(crate) async fn push_after(
        &self,
        uid: Uid,
        known: u64,
    ) -> Result<Option<ConfigPush>, OpsError> {
        if self.versions.latest(&self.world, uid).await?.version <= known {
            return Ok(None);
        }
        let Some(latest) = self.world.store.config_latest(uid).await? else { return Ok(None) };
        let document = latest.config.document;
        Ok(Some(ConfigPush::sign(uid.bytes(), latest.version, document, &self.server)))
    }

    /// Takes note that a device was sent a version.
    pub(crate) fn sent(&self, uid: Uid, version: u64) {
        if self.versions.sent(uid, version) {
            self.hub.note(uid);
        }
    }

    /// The version that a device last said it has; 0 if none.
    pub(crate) async fn reported_version(&self, uid: Uid) -> Result<u64, OpsError> {
        let device = self.world.store.device_get(uid).await?;
        Ok(device.and_then(|device| device.reported).map_or(0, |reported| reported.version))
    }

    /// Notes what a device says about a version. Saying it again changes nothing.
    pub(crate) async fn reported(&self, uid: Uid, word: ConfigReported) -> Result<(), OpsError> {
        self.heard(uid, word.version, word.error, ReportedPhase::Said).await
    }

    /// Notes how far a device is with trying a version.
    pub(crate) async fn tried(&self, uid: Uid, word: ConfigTrial) -> Result<(), OpsError> {
        let (error, phase) = match word.state {
            TrialState::Trying => (None, ReportedPhase::Trying),
            TrialState::Reverted { holds, why } => (Some(why), ReportedPhase::Reverted { holds }),
        };
        self.heard(uid, word.version, error, phase).await
    }

    async fn heard(
        &self,
        uid: Uid,
        version: u64,
        error: Option<String>,
        phase: ReportedPhase,
    ) -> Result<(), OpsError> {
        let Some(version) = self.world.store.config_get(uid, version).await? else {
            // Version 0, or one of another server's: the device has none of ours.
            return Ok(());
        };
        let error = error.map(|error| cut(error, ERROR_CHARS_MAX));
        let reported = ReportedConfig {
            version: version.version,
            hash: hash(&version.config.document),
            at: self.world.now(),
            error,
            phase,
        };
        let is_known = |device: &Device, reported: &ReportedConfig| {
            device.reported.as_ref().is_some_and(|known| {
                let said = |it: &ReportedConfig| (it.version, it.error.clone(), it.phase);
                // A device that refused a version goes on with the one before, and says so whenever
                // it connects.
                let goes_on = known.error.is_some()
                    && reported.error.is_none()
                    && reported.version < known.version;
                said(known) == said(reported) || goes_on
            })
        };
        let device = self.world.store.device_get(uid).await?;
        if device.is_some_and(|device| is_known(&device, &reported)) {
            return Ok(());
        }
        let outcome = outcome(&reported);
        let change = move |device: &mut Device| {
            let is_news = !is_known(device, &reported);
            if is_news {
                device.reported = Some(reported);
            }
            Ok(is_news)
        };
        let (device, is_news) = self.world.change(uid, change).await?;
        if is_news {
            self.hub.wake(uid);
            if let Some((kind, text)) = outcome {
                self.reports.ring(uid);
                self.events.record(NewEvent::about(&device, kind, Actor::Device, text)).await;
            }
        }
        Ok(())
    }

    async fn view(
        &self,
        device: &Device,
        latest: Option<ConfigVersion>,
    ) -> Result<ConfigView, OpsError> {
        let stack = self.layers.stack().await?;
        let effective = stack.effective(&tags_of(device), own_of(latest.as_ref()))?;
        let known = self.versions.latest(&self.world, device.uid).await?;
        let drift = self.drift(device, latest.as_ref()).await?;
        let view = view(device, latest, effective);
        Ok(ConfigView { state: Some(known.state(device)), drift, ..view })
    }

    /// What a device goes by that is otherwise than it shall be, as far as that is known. What it is
    /// trying now it goes by.
    async fn drift(
        &self,
        device: &Device,
        latest: Option<&ConfigVersion>,
    ) -> Result<Vec<Difference>, OpsError> {
        let Some(latest) = latest else { return Ok(Vec::new()) };
        let desired = parsed(&latest.config.document)?;
        let held = match device.reported.as_ref().map(ReportedConfig::holds) {
            Some(None) => return Ok(Vec::new()),
            None | Some(Some(0)) => parsed(EMPTY_DOCUMENT)?,
            Some(Some(version)) => match self.world.store.config_get(device.uid, version).await? {
                Some(held) => parsed(&held.config.document)?,
                None => return Ok(Vec::new()),
            },
        };
        let mut drift = diff(&held, &desired);
        let is_told = drift.iter().any(|known| known.path.raw() == INTERVAL_PATH);
        let wanted = config_paths(&desired).remove(INTERVAL_PATH);
        let has = Some(Value::from(device.facts.interval_secs));
        let is_other = wanted.is_some() && device.facts.interval_secs > 0 && wanted != has;
        if !is_told && is_other {
            drift.push(Difference { path: INTERVAL_PATH.into(), before: has, after: wanted });
        }
        Ok(drift)
    }

    /// Makes an update say what an earlier version said, as far as the device's own part can: what its
    /// layers say now and the version did not say stays, which is told.
    async fn take_over(
        &self,
        device: &Device,
        version: u64,
        stack: &Stack,
        update: &mut ConfigUpdate,
    ) -> Result<Option<String>, OpsError> {
        if update.config.is_some() {
            return Err(OpsError::invalid("rollback_to", "goes without config"));
        }
        let stored = self.world.store.config_get(device.uid, version).await?;
        let stored =
            stored.ok_or_else(|| OpsError::NotFound(format!("version {version} to go back to")))?;
        let wanted = parsed(&stored.config.document)?;
        let mut own = config_paths(&parsed(own_part(&stored.config))?);
        let now = stack.effective(&tags_of(device), own_part(&stored.config))?;
        let mut stays = Vec::new();
        for difference in diff(&parsed(&now.document)?, &wanted) {
            match difference.after {
                Some(value) => drop(own.insert(difference.path.into_raw(), value)),
                None => stays.push(difference.path.to_string()),
            }
        }
        update.config = Some(config_of_paths(&own));
        update.comment.get_or_insert_with(|| format!("as version {version}"));
        let told =
            |stays: String| format!("{stays}: its layers say so, and version {version} did not");
        Ok((!stays.is_empty()).then(|| told(stays.join(", "))))
    }

    fn new_config(
        &self,
        device: &Device,
        latest: Option<&ConfigVersion>,
        stack: &Stack,
        update: ConfigUpdate,
        author: &Actor,
    ) -> Result<NewConfig, OpsError> {
        let mut own = match update.config {
            Some(value) => value,
            None => parsed(own_of(latest))?,
        };
        if let (Some(url), Some(own)) = (update.server_url, own.as_object_mut()) {
            own.insert(SERVER_URL.to_owned(), url.into());
        }
        let own = canonical(&own)?;
        let document = stack.effective(&tags_of(device), &own)?.document;
        let own = (own != document).then_some(own);
        check_comment(update.comment.as_deref())?;
        Ok(NewConfig {
            server_url: server_url(&document)?,
            document,
            own,
            author: author.to_string(),
            at: self.world.now(),
            comment: update.comment,
        })
    }
}

/// Refuses whoever may not have devices go to another server: what they are told there is not ours.
fn require_place(access: &Access, before: &str, after: &str) -> Result<(), OpsError> {
    if server_url(before)? == server_url(after)? {
        return Ok(());
    }
    let might = access.might().require_role(Role::Admin);
    might.map_err(|lacking| OpsError::Forbidden(format!("server_url is to change: {lacking}")))
}

/// Refuses a comment that is too long.
fn check_comment(comment: Option<&str>) -> Result<(), OpsError> {
    if comment.is_some_and(|comment| comment.len() > COMMENT_BYTES_MAX) {
        let problem = format!("must not be longer than {COMMENT_BYTES_MAX} bytes");
        return Err(OpsError::invalid("comment", problem));
    }
    Ok(())
}

/// The version that a new one may follow. What takes over the document of the one before follows
/// that one only: it would undo what somebody else sets meanwhile.
fn basis(
    expected: Option<u64>,
    update: &ConfigUpdate,
    latest: Option<&ConfigVersion>,
) -> Option<u64> {
    let taken_over = || latest.map_or(0, |latest| latest.version);
    expected.or_else(|| update.config.is_none().then(taken_over))
}

/// Whether a configuration adds nothing to the one before it.
fn says_the_same(new: &NewConfig, before: &NewConfig) -> bool {
    new.document == before.document && own_part(new) == own_part(before)
}

/// What is told of a device's word about a version; nothing of one on the way.
fn outcome(reported: &ReportedConfig) -> Option<(EventKind, String)> {
    let version = reported.version;
    let error = reported.error.as_deref().unwrap_or_default();
    match reported.phase {
        ReportedPhase::Trying => None,
        ReportedPhase::Said if reported.error.is_none() => {
            Some((EventKind::ConfigApplied, format!("version {version}")))
        }
        ReportedPhase::Said => {
            Some((EventKind::ConfigRefused, format!("version {version}: {error}")))
        }
        ReportedPhase::Reverted { holds } => {
            let text = format!("version {version}, back to {}: {error}", named(holds));
            Some((EventKind::ConfigReverted, text))
        }
    }
}

/// What a device went back to.
fn named(holds: u64) -> String {
    if holds == 0 { "its own file".to_owned() } else { format!("version {holds}") }
}

#[cfg(test)]
mod tests {
    use fleet_core::time::{SystemClock, Timestamp};

    use super::*;
    use crate::store::{Admission, OtherKeys, RedbStore, Store};

    fn device() -> Device {
        Device {
            uid: Uid::new(),
            id: "a".parse().unwrap(),
            key: None,
            name: None,
            state: Admission::Active,
            state_reason: String::new(),
            state_at: Timestamp::default(),
            facts: fleet_core::wire::Facts::default(),
            metadata: std::collections::BTreeMap::new(),
            created_at: Timestamp::default(),
            last_seen: None,
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        }
    }

    #[tokio::test]
    async fn a_version_that_was_stored_unnoticed_is_sent_after_all() {
        let store: Arc<dyn Store> = Arc::new(RedbStore::in_memory());
        let world = World { store: store.clone(), clock: Arc::new(SystemClock) };
        let configs = Configs {
            events: Arc::new(Events::new(world.clone())),
            versions: Arc::default(),
            hub: Arc::default(),
            server: Arc::new(PrivateKey::from_seed(&[1; 32])),
            reports: Arc::default(),
            layers: Arc::new(Layers::new(world.clone())),
            world,
        };
        let device = device();
        let uid = device.uid;
        store.device_insert(device.clone()).await.unwrap();
        assert!(configs.push_after(uid, 0).await.unwrap().is_none());
        let stack = Stack::default();
        let update = ConfigUpdate::default();
        let new = configs.new_config(&device, None, &stack, update, &Actor::Server).unwrap();
        store.config_append(uid, None, new).await.unwrap();
        let again = configs
            .update(&Access::server(), "a", Some(0), ConfigUpdate::default(), &Actor::Server)
            .await;
        assert!(matches!(again, Err(OpsError::Stale { expected: 0, current: 1 })));
        assert_eq!(configs.push_after(uid, 0).await.unwrap().map(|push| push.version), Some(1));
    }

    #[test]
    fn what_takes_over_a_document_follows_its_version_only() {
        let config = NewConfig {
            document: EMPTY_DOCUMENT.to_owned(),
            own: None,
            author: String::new(),
            at: Timestamp::default(),
            comment: None,
            server_url: None,
        };
        let latest = ConfigVersion { version: 3, config };
        let comment = ConfigUpdate { comment: Some("c".to_owned()), ..ConfigUpdate::default() };
        let whole = ConfigUpdate { config: Some(serde_json::json!({})), ..comment.clone() };
        for (expected, update, latest, follows) in [
            (None, &comment, Some(&latest), Some(3)),
            (None, &comment, None, Some(0)),
            (Some(2), &comment, Some(&latest), Some(2)),
            (None, &whole, Some(&latest), None),
            (Some(2), &whole, Some(&latest), Some(2)),
        ] {
            assert_eq!(basis(expected, update, latest), follows, "{update:?}");
        }
    }
}
