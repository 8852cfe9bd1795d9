//! Batches: the same thing done to many devices.
//!
//! A batch's devices are found once, and are what it is about from then on. It is on the disk with
//! all of them before anybody is told that it is there, and each of them begins in one commit with
//! what it is to do. So a server that dies at any moment goes on where it was, and no device is
//! given anything twice. Whoever asks changes only the batch's state; the one background task
//! ([`Batches::run`]) does everything else.

mod begin;
mod engine;
mod machine;
mod patch;
mod view;
mod wish;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fleet_core::api::{
    self, BatchDevice, BatchMember, BatchPreview, BatchRequest, BatchState, BatchView,
    DeviceStatus, EventKind, Excluded, MemberState, Role, SERVER_URL, WhenOffline,
};
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::Filter;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::{BATCH_DEVICES_MAX, PAGE_ROWS_MAX};
use fleet_core::time::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;

use self::view::{counted, member_view, view, words};
use self::wish::{Chosen, Wish};
use super::commands::{self, require_able};
use super::configs::{Layers, Versions};
use super::events::NewEvent;
use super::{Access, Actor, Commands, Devices, Events, OpsError, World};
use crate::bell::Bell;
use crate::hub::Hub;
use crate::store::{
    Action, Admission, BatchRecord, Conflict, Counts, Failure, MemberQuery, MemberRecord, Refusal,
    StoreError,
};

const BY_ID: SortKey = SortKey { field: Field::Device, is_descending: false };

/// Operations on batches.
pub(crate) struct Batches {
    pub(crate) world: World,
    pub(crate) hub: Arc<Hub>,
    pub(crate) devices: Devices,
    pub(crate) commands: Arc<Commands>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) layers: Arc<Layers>,
    /// Rings for devices that have said something new of their configuration.
    pub(crate) reports: Arc<Bell>,
    pub(crate) events: Arc<Events>,
    /// Rings for batches of which somebody wants something.
    pub(crate) told: Bell,
}

/// Which members to look for.
#[derive(Debug)]
pub(crate) struct MembersAsked {
    /// In these states; in all states if there is none.
    pub(crate) states: Vec<MemberState>,
    /// Whose id comes after this one.
    pub(crate) after: Option<DeviceId>,
    pub(crate) limit: usize,
}

/// The devices that a batch is about.
struct Found {
    able: Vec<api::Device>,
    excluded: Vec<(api::Device, &'static str)>,
}

impl Batches {
    /// What a batch would be, without doing anything.
    pub(crate) async fn preview(
        &self,
        access: &Access,
        request: BatchRequest,
    ) -> Result<BatchPreview, OpsError> {
        let wish = Wish::read(request)?;
        let found = self.found(access, &wish).await?;
        let (mut by_status, mut by_type) = (BTreeMap::new(), BTreeMap::new());
        for device in &found.able {
            *by_status.entry(device.status.word().to_owned()).or_default() += 1;
            *by_type.entry(device.device_type.raw().to_owned()).or_default() += 1;
        }
        let bounds = wish.bounds(found.able.len());
        let is_away = |device: &&api::Device| !self.hub.is_connected(device.uid);
        let excluded = found.excluded.into_iter();
        Ok(BatchPreview {
            offline: found.able.iter().filter(is_away).count(),
            devices: found
                .able
                .into_iter()
                .map(|device| BatchDevice { device_id: device.id, uid: device.uid })
                .collect(),
            by_status,
            by_type,
            excluded: excluded
                .map(|(device, why)| Excluded { device_id: device.id, why: why.into() })
                .collect(),
            window: bounds.window,
            canary: bounds.canary,
            max_fail: bounds.max_fail,
            expires_at: self.world.now().plus(wish.expires_in),
        })
    }

    /// Begins a batch. The same under the same number is no new batch; whether it is one is told.
    pub(crate) async fn create(
        &self,
        access: &Access,
        request: BatchRequest,
        actor: &Actor,
    ) -> Result<(BatchView, bool), OpsError> {
        let wish = Wish::read(request)?;
        require_might(access, &wish.action)?;
        if let Some(id) = wish.id
            && let Some(known) = self.world.store.batch_get(id).await?
        {
            let is_the_same = known.action == wish.action
                && known.filter == wish.filter
                && self.is_inside(access, &known).await?;
            let other = || OpsError::Conflict(format!("another batch has the id {id}"));
            return if is_the_same { Ok((view(known), false)) } else { Err(other()) };
        }
        let found = self.found(access, &wish).await?;
        check(&wish, &found)?;
        let now = self.world.now();
        let member = |device: api::Device, state, why: String| MemberRecord {
            device: device.uid,
            device_id: device.id,
            state,
            why,
            state_at: now,
            begun_at: None,
            command: None,
            version: None,
        };
        let bounds = wish.bounds(found.able.len());
        let able = found.able.into_iter().map(|device| {
            let (state, why) = match wish.offline {
                WhenOffline::Skip if !self.hub.is_connected(device.uid) => {
                    (MemberState::Skipped, "it was not connected when the batch began")
                }
                WhenOffline::Fail if !self.hub.is_connected(device.uid) => {
                    (MemberState::Failed, "it was not connected when the batch began")
                }
                _ => (MemberState::Waiting, "its turn has not come"),
            };
            member(device, state, why.to_owned())
        });
        let excluded = found.excluded.into_iter();
        let excluded =
            excluded.map(|(device, why)| member(device, MemberState::Skipped, why.to_owned()));
        let mut members: Vec<_> = able.chain(excluded).collect();
        members.sort_by(|a, b| a.device_id.cmp(&b.device_id));
        let batch = BatchRecord {
            id: wish.id.unwrap_or_else(Uid::new),
            action: wish.action,
            state: BatchState::Running,
            why: "begun".to_owned(),
            state_at: now,
            filter: wish.filter,
            total: 0,
            counts: Counts::default(),
            forgiven: 0,
            window: small(bounds.window),
            canary: small(bounds.canary),
            max_fail: small(bounds.max_fail),
            timeout: wish.timeout,
            offline: wish.offline,
            expires_at: now.plus(wish.expires_in),
            author: actor.to_string(),
            created_at: now,
            reason: wish.reason,
            retry_of: None,
        };
        Ok((self.begin(batch, members, actor).await?, true))
    }

    /// One batch.
    pub(crate) async fn get(&self, access: &Access, id: Uid) -> Result<BatchView, OpsError> {
        Ok(view(self.load(access, id).await?))
    }

    /// Batches older than one, newest first.
    pub(crate) async fn list(
        &self,
        access: &Access,
        before: Option<Uid>,
        limit: usize,
    ) -> Result<Vec<BatchView>, OpsError> {
        let limit = limit.min(PAGE_ROWS_MAX);
        let at_once = if access.scope().is_some() { PAGE_ROWS_MAX } else { limit };
        let (mut found, mut before) = (Vec::new(), before);
        // With a scope some of a page may be nobody's business, and further ones are looked at.
        loop {
            let batches = self.world.store.batch_list(before, at_once).await?;
            let is_last = batches.len() < at_once;
            before = batches.last().map(|batch| batch.id);
            for batch in batches {
                if found.len() < limit && self.is_inside(access, &batch).await? {
                    found.push(view(batch));
                }
            }
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// Whether all devices of a batch are in somebody's scope.
    async fn is_inside(&self, access: &Access, batch: &BatchRecord) -> Result<bool, OpsError> {
        let Some(scope) = access.members(self.world.store.directory()) else { return Ok(true) };
        if batch.total as usize > scope.len() {
            return Ok(false);
        }
        let (states, limit) = (Vec::new(), BATCH_DEVICES_MAX);
        let query = MemberQuery { batch: batch.id, states, after: None, limit };
        let members = self.world.store.batch_members(query).await?;
        Ok(members.iter().all(|(_, member)| scope.contains(&member.device)))
    }

    /// Devices of a batch, by id.
    pub(crate) async fn members(
        &self,
        access: &Access,
        id: Uid,
        asked: MembersAsked,
    ) -> Result<Vec<BatchMember>, OpsError> {
        let batch = self.load(access, id).await?;
        let MembersAsked { states, after, limit } = asked;
        let query = MemberQuery { batch: id, states, after, limit: limit.min(PAGE_ROWS_MAX) };
        let found = self.world.store.batch_members(query).await?;
        let shown = |(_, member)| {
            let why = self.waits_for(&batch, &member);
            member_view(member, why)
        };
        Ok(found.into_iter().map(shown).collect())
    }

    /// Has no further device begin, until somebody says so.
    pub(crate) async fn pause(
        &self,
        access: &Access,
        id: Uid,
        actor: &Actor,
    ) -> Result<BatchView, OpsError> {
        self.load(access, id).await?;
        let (by, now) = (actor.to_string(), self.world.now());
        let change = move |batch: &mut BatchRecord| match batch.state {
            BatchState::Running => {
                (batch.state, batch.state_at) = (BatchState::Paused, now);
                batch.why = format!("paused by {by}");
                Ok(true)
            }
            BatchState::Paused => Ok(false),
            _ => Err(over(batch)),
        };
        self.change(id, EventKind::BatchPaused, actor, change).await
    }

    /// Has a batch that is paused go on. What has failed so far counts no more.
    pub(crate) async fn go_on(
        &self,
        access: &Access,
        id: Uid,
        actor: &Actor,
    ) -> Result<BatchView, OpsError> {
        require_might(access, &self.load(access, id).await?.action)?;
        let (by, now) = (actor.to_string(), self.world.now());
        let change = move |batch: &mut BatchRecord| match batch.state {
            BatchState::Paused => {
                (batch.state, batch.state_at) = (BatchState::Running, now);
                batch.why = format!("had to go on by {by}");
                batch.forgiven = batch.counts.failures();
                Ok(true)
            }
            BatchState::Running => Ok(false),
            _ => Err(over(batch)),
        };
        self.change(id, EventKind::BatchContinued, actor, change).await
    }

    /// Calls off what has not begun. Devices that are at it go on.
    pub(crate) async fn cancel(
        &self,
        access: &Access,
        id: Uid,
        actor: &Actor,
    ) -> Result<BatchView, OpsError> {
        self.load(access, id).await?;
        let (by, now) = (actor.to_string(), self.world.now());
        let change = move |batch: &mut BatchRecord| match batch.state {
            BatchState::Running | BatchState::Paused => {
                (batch.state, batch.state_at) = (BatchState::Cancelled, now);
                batch.why = format!("cancelled by {by}");
                Ok(true)
            }
            BatchState::Cancelled => Ok(false),
            _ => Err(over(batch)),
        };
        self.change(id, EventKind::BatchCancelled, actor, change).await
    }

    /// Does the same again to those devices of a batch that failed, as a batch of its own; only if
    /// there are as many as expected.
    pub(crate) async fn retry(
        &self,
        access: &Access,
        id: Uid,
        expect: Option<usize>,
        actor: &Actor,
    ) -> Result<BatchView, OpsError> {
        let old = self.load(access, id).await?;
        require_might(access, &old.action)?;
        let states = vec![MemberState::Failed, MemberState::Unknown];
        let query = MemberQuery { batch: id, states, after: None, limit: BATCH_DEVICES_MAX };
        let failed = self.world.store.batch_members(query).await?;
        if failed.is_empty() {
            return Err(OpsError::NotFound(format!("device of batch {id} that has failed")));
        }
        if let Some(expect) = expect.filter(|expect| *expect != failed.len()) {
            let count = failed.len();
            let problem = format!("{count} devices of it have failed, and {expect} were expected");
            return Err(OpsError::Conflict(problem));
        }
        let now = self.world.now();
        let total = small(failed.len());
        let mut members = Vec::with_capacity(failed.len());
        for (_, member) in failed {
            // One that is not there any more would be waited for in vain.
            let device = self.world.store.device_get(member.device).await?;
            let device = device.filter(|device| device.state != Admission::Deleted);
            let (state, why) = match device.map(|device| require_able(&device)) {
                Some(Ok(())) => (MemberState::Waiting, "its turn has not come".to_owned()),
                Some(Err(problem)) => (MemberState::Cancelled, problem.to_string()),
                None => (MemberState::Cancelled, "the device was removed".to_owned()),
            };
            members.push(MemberRecord {
                state,
                why,
                state_at: now,
                begun_at: None,
                command: None,
                version: None,
                ..member
            });
        }
        let batch = BatchRecord {
            id: Uid::new(),
            state: BatchState::Running,
            why: "begun".to_owned(),
            state_at: now,
            forgiven: 0,
            window: old.window.min(total),
            canary: old.canary.min(total),
            max_fail: old.max_fail.min(total),
            expires_at: now.plus(old.expires_at.since(old.created_at)),
            author: actor.to_string(),
            created_at: now,
            retry_of: Some(id),
            ..old
        };
        self.begin(batch, members, actor).await
    }

    /// The devices that a wish is about, by id.
    async fn found(&self, access: &Access, wish: &Wish) -> Result<Found, OpsError> {
        let (filter, chosen) = match &wish.chosen {
            Chosen::Filter(filter) => (filter.clone(), None),
            Chosen::Devices(uids) => {
                let all: HashSet<Uid> = uids.iter().copied().collect();
                (Filter::default(), Some(all))
            }
        };
        let mut devices = self.devices.select(access, &filter, BY_ID).await?;
        if let Some(chosen) = &chosen {
            devices.retain(|device| chosen.contains(&device.uid));
            let gone = chosen.len() - devices.len();
            if gone > 0 {
                let total = chosen.len();
                let problem = format!("{gone} of these {total} devices are not there any more");
                return Err(OpsError::Conflict(problem));
            }
        }
        let mut found = Found { able: Vec::new(), excluded: Vec::new() };
        for device in devices {
            match problem(&device) {
                None => found.able.push(device),
                Some(why) => found.excluded.push((device, why)),
            }
        }
        let count = found.able.len() + found.excluded.len();
        if count > BATCH_DEVICES_MAX {
            let problem = format!("finds {count} devices, and a batch has {BATCH_DEVICES_MAX}");
            return Err(OpsError::invalid("filter", problem));
        }
        Ok(found)
    }

    async fn begin(
        &self,
        batch: BatchRecord,
        members: Vec<MemberRecord>,
        actor: &Actor,
    ) -> Result<BatchView, OpsError> {
        let id = batch.id;
        let begun = match self.world.store.batch_insert(batch, members).await {
            Err(StoreError::Conflict(Conflict::Exists(_))) => {
                return Err(OpsError::Conflict(format!("another batch has the id {id}")));
            }
            begun => begun?,
        };
        self.told.ring(id);
        let text = format!("{}: {}", words(&begun), counted(&begun));
        self.events.record(event(EventKind::BatchBegun, actor, text)).await;
        Ok(view(begun))
    }

    /// A batch, unless some of its devices are out of scope.
    async fn load(&self, access: &Access, id: Uid) -> Result<BatchRecord, OpsError> {
        match self.world.store.batch_get(id).await? {
            Some(batch) if self.is_inside(access, &batch).await? => Ok(batch),
            Some(_) | None => Err(OpsError::NotFound(format!("batch {id}"))),
        }
    }

    /// Changes a batch in one piece, and tells of it if that was news.
    async fn change(
        &self,
        id: Uid,
        kind: EventKind,
        actor: &Actor,
        change: impl FnOnce(&mut BatchRecord) -> Result<bool, Refusal> + Send + 'static,
    ) -> Result<BatchView, OpsError> {
        let (tell, told) = oneshot::channel();
        let change = move |batch: &mut BatchRecord| {
            // Whoever asked may have gone; the change holds all the same.
            tell.send(change(batch)?).ok();
            Ok(())
        };
        let batch = match self.world.store.batch_change(id, Box::new(change)).await {
            Err(StoreError::Missing(_)) => return Err(OpsError::NotFound(format!("batch {id}"))),
            changed => changed?,
        };
        let is_news = told.await.map_err(|_| StoreError::from(Failure::Closed))?;
        self.told.ring(id);
        if is_news {
            let text = format!("{}: {}; {}", words(&batch), batch.why, counted(&batch));
            self.events.record(event(kind, actor, text)).await;
        }
        Ok(view(batch))
    }

    /// Why a device that has not begun has not, in words of this moment.
    fn waits_for(&self, batch: &BatchRecord, member: &MemberRecord) -> Option<String> {
        if member.state != MemberState::Waiting || self.hub.is_connected(member.device) {
            return None;
        }
        let until = batch.expires_at;
        Some(match self.devices.presence.last_seen(member.device) {
            Some(seen) => {
                format!("offline since {}; waited for until {until}", to_the_second(seen))
            }
            None => format!("not seen since the server began; waited for until {until}"),
        })
    }
}

/// Refuses whoever may not have this done.
fn require_might(access: &Access, action: &Action) -> Result<(), OpsError> {
    match action {
        Action::Command(command) => commands::require_might(access, command),
        Action::Config(patch) => {
            let patch: Value = serde_json::from_str(patch).map_err(|_| OpsError::Defect)?;
            if patch.get(SERVER_URL).is_some() { access.require_role(Role::Admin) } else { Ok(()) }
        }
    }
}

/// Refuses what whoever asks cannot have meant.
fn check(wish: &Wish, found: &Found) -> Result<(), OpsError> {
    let count = found.able.len();
    match wish.expect {
        Some(expect) if expect != count => {
            let problem = format!("{count} devices are found now, and {expect} were expected");
            Err(OpsError::Conflict(problem))
        }
        _ if count == 0 => Err(OpsError::NotFound(match found.excluded.first() {
            None => "device that fits the filter".to_owned(),
            Some((device, why)) => format!("device that can take part: {} is {why}", device.id),
        })),
        _ => Ok(()),
    }
}

/// Why a device cannot take part.
fn problem(device: &api::Device) -> Option<&'static str> {
    match device.status {
        DeviceStatus::Pending => Some("pending: accept it first"),
        DeviceStatus::Rejected => Some("rejected"),
        DeviceStatus::Revoked => Some("revoked"),
        _ if device.fingerprint.is_none() => Some("reported by a third party"),
        _ => None,
    }
}

fn over(batch: &BatchRecord) -> Refusal {
    Refusal(format!("the batch is over: {}", batch.state.word()))
}

fn event(kind: EventKind, actor: &Actor, text: String) -> NewEvent {
    NewEvent { kind, actor: actor.to_string(), device: None, text }
}

/// A number of devices, which are never so many.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.millis() - time.millis().rem_euclid(1_000))
}
