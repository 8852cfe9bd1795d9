//! Keeps the board true: looks at devices about which something may have changed, and judges those
//! whose status ends by itself as time passes. Nobody else writes to the board.
//!
//! Each active device has one moment at which its silence will mean something else. Until then it
//! costs nothing, so a fleet in which nothing happens takes one look a device and interval.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::Chain;
use fleet_core::api::{DeviceStatus, EventKind};
use fleet_core::id::Uid;
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Timestamp;

use super::again::Again;
use super::board::Board;
use super::row::row;
use crate::hub::Hub;
use crate::ops::events::NewEvent;
use crate::ops::status::{self, Standing, Terms};
use crate::ops::{Actor, Ops, OpsError, Presence, judgement};
use crate::store::{Admission, Device, StoreError};

/// The clock may jump, so the keeper looks at it at least so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the whole fleet, for changes whose author went away before the bell rang.
const SWEEP_INTERVAL: Duration = Duration::from_secs(300);
/// After its start the server says of no device that has not come back yet that it is silent, for
/// as long as a device may take to dial again.
const RETURN_MAX: Duration = Duration::from_secs(330);

/// Who keeps the board.
pub(crate) struct Keeper {
    ops: Arc<Ops>,
    board: Arc<Board>,
    active: HashMap<Uid, Active>,
    /// When the active devices' statuses end.
    ends: BTreeSet<(Timestamp, Uid)>,
    /// Devices that could not be read.
    again: Again,
    /// What happened and is not written down yet.
    news: Vec<NewEvent>,
    swept: Instant,
}

struct Active {
    terms: Terms,
    status: DeviceStatus,
    /// The status that the events so far tell of.
    told: DeviceStatus,
    /// Since when it is silent, if it is.
    silent_since: Option<Timestamp>,
    /// When to look again.
    until: Option<Timestamp>,
}

impl Keeper {
    /// Reads the whole fleet.
    pub(crate) async fn begin(ops: Arc<Ops>) -> Result<Self, StoreError> {
        let mut keeper = Self {
            ops,
            board: Arc::default(),
            active: HashMap::new(),
            ends: BTreeSet::new(),
            again: Again::every(LOOK_INTERVAL),
            news: Vec::new(),
            swept: Instant::now(),
        };
        for device in keeper.ops.world.store.device_list().await? {
            let uid = device.uid;
            let shown = keeper.show(device).await;
            keeper.note(uid, shown);
        }
        let millis = keeper.swept.elapsed().as_millis();
        tracing::debug!(devices = keeper.board.len(), millis, "the fleet is on the board");
        Ok(keeper)
    }

    /// What it keeps.
    pub(crate) fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// Keeps the board until told to stop.
    pub(crate) async fn run(mut self, tasks: Tasks) {
        let ops = self.ops.clone();
        loop {
            let changed = tokio::select! {
                () = tasks.stopping() => return,
                changed = ops.devices.hub.changed() => changed,
                returned = ops.presence.returned() => returned,
                () = tokio::time::sleep(self.rest()) => Vec::new(),
            };
            // In a busy fleet something changes all the time, so nothing may wait for the rest.
            let again = self.again.due(Instant::now());
            for uid in changed.into_iter().chain(again).chain(self.ended()) {
                self.look(uid).await;
            }
            if self.swept.elapsed() >= SWEEP_INTERVAL {
                self.swept = Instant::now();
                self.sweep().await;
            }
            let news = std::mem::take(&mut self.news);
            if !news.is_empty() {
                ops.events.record_all(news).await;
            }
        }
    }

    /// How long nothing ends.
    fn rest(&self) -> Duration {
        let now = self.ops.world.now();
        let next = self.ends.first().map_or(LOOK_INTERVAL, |(at, _)| at.since(now));
        next.min(LOOK_INTERVAL)
    }

    /// The devices whose status has ended. Those that were heard meanwhile go on as they were.
    fn ended(&mut self) -> Vec<Uid> {
        let now = self.ops.world.now();
        let mut ended = Vec::new();
        while let Some((at, uid)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.remove(&(at, uid));
            let Some(active) = self.active.get_mut(&uid) else { continue };
            active.until = None;
            let judged = active.terms.judge(&self.ops.presence, &self.ops.devices.hub, now);
            if judged.status == active.status && judged.status == active.told {
                self.schedule(uid, judged.until);
            } else {
                ended.push(uid);
            }
        }
        ended
    }

    /// Looks at the whole fleet.
    async fn sweep(&mut self) {
        let devices = match self.ops.world.store.device_list().await {
            Ok(devices) => devices,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the fleet cannot be read, trying again later");
                return;
            }
        };
        let listed: HashSet<Uid> = devices.iter().map(|device| device.uid).collect();
        for device in devices {
            let uid = device.uid;
            let shown = self.show(device).await;
            self.note(uid, shown);
        }
        for uid in self.board.listed().into_iter().filter(|uid| !listed.contains(uid)) {
            self.look(uid).await;
        }
    }

    /// Looks at a device; if it cannot be read now, again later.
    async fn look(&mut self, uid: Uid) {
        let read = self.read(uid).await;
        self.note(uid, read);
    }

    /// Sees to it that a device that could not be looked at is looked at again. The log is told of
    /// it once and not at each try, or a store that fails would fill it.
    fn note(&mut self, uid: Uid, looked: Result<(), OpsError>) {
        match looked {
            Ok(()) => self.again.done(uid),
            Err(error) if self.again.failed(uid) => {
                tracing::warn!(%uid, error = %Chain(&error), "a device cannot be read, trying again");
            }
            Err(_) => {}
        }
    }

    async fn read(&mut self, uid: Uid) -> Result<(), OpsError> {
        let found = self.ops.world.store.device_get(uid).await?;
        match found.filter(|device| device.state != Admission::Deleted) {
            Some(device) => self.show(device).await,
            None => {
                self.retire(uid);
                // Its link may have heard it once more after it was forgotten.
                self.presence().forget(uid);
                self.board.take_down(uid);
                Ok(())
            }
        }
    }

    /// Puts a device on the board as it is now.
    async fn show(&mut self, device: Device) -> Result<(), OpsError> {
        let uid = device.uid;
        let devices = &self.ops.devices;
        let latest = devices.versions.latest(&devices.world, uid).await?;
        let terms = Terms::of(&device);
        // Waiting begins before judging, so that what is heard in between is not missed.
        self.presence().await_return(uid, terms.is_some());
        let now = self.ops.world.now();
        let standing = status::standing(&device, self.presence(), self.hub(), now);
        if standing.status == DeviceStatus::Online {
            self.presence().await_return(uid, false);
        }
        let before = self.retire(uid);
        if let Some(terms) = terms {
            self.follow(terms, before, &device, &standing, now);
        }
        if let Err(error) = self.board.put(uid, |slot| row(slot, device, standing, &latest)) {
            tracing::error!(%uid, %error, "a device's row cannot be written");
        }
        Ok(())
    }

    /// Keeps an eye on an active device, and tells how it is doing if that is news.
    fn follow(
        &mut self,
        terms: Terms,
        before: Option<Active>,
        device: &Device,
        standing: &Standing,
        now: Timestamp,
    ) {
        let status = standing.status;
        let (uid, mut until) = (device.uid, standing.until);
        // What a device is as it joins, or as the server starts, is nothing that happened now.
        let mut told = before.as_ref().map_or(status, |before| before.told);
        let is_online = status == DeviceStatus::Online;
        if told != status {
            match self.return_until(uid, standing).filter(|until| now < *until && !is_online) {
                Some(return_until) => until = Some(until.unwrap_or(return_until).min(return_until)),
                None => {
                    let silent_since = before.as_ref().and_then(|before| before.silent_since);
                    self.news.push(news(device, standing, silent_since, now));
                    told = status;
                }
            }
        }
        let since = before.and_then(|before| before.silent_since).or(standing.last_seen);
        let silent_since = since.filter(|_| !is_online);
        let active = Active { terms, status, told, silent_since, until: None };
        self.active.insert(uid, active);
        self.schedule(uid, until);
    }

    /// Until when a device may still come back that begins anew as it was told, or that was not heard
    /// since the server's start.
    fn return_until(&self, uid: Uid, standing: &Standing) -> Option<Timestamp> {
        let after_start = self.presence().deaf().and_then(|deaf| {
            let is_back = standing.last_seen.is_some_and(|seen| seen > deaf.from);
            (!is_back).then(|| deaf.to.plus(RETURN_MAX))
        });
        after_start.max(self.presence().back_by(uid))
    }

    fn schedule(&mut self, uid: Uid, until: Option<Timestamp>) {
        let Some(active) = self.active.get_mut(&uid) else { return };
        active.until = until;
        if let Some(until) = until {
            self.ends.insert((until, uid));
        }
    }

    fn retire(&mut self, uid: Uid) -> Option<Active> {
        let active = self.active.remove(&uid)?;
        if let Some(until) = active.until {
            self.ends.remove(&(until, uid));
        }
        Some(active)
    }

    fn presence(&self) -> &Presence {
        &self.ops.presence
    }

    fn hub(&self) -> &Hub {
        &self.ops.devices.hub
    }
}

/// What became of an active device.
fn news(
    device: &Device,
    standing: &Standing,
    silent_since: Option<Timestamp>,
    now: Timestamp,
) -> NewEvent {
    let kind = match standing.status {
        DeviceStatus::Late => EventKind::DeviceLate,
        DeviceStatus::Lost => EventKind::DeviceLost,
        DeviceStatus::Offline => EventKind::DeviceOffline,
        // An active device has no other.
        _ => EventKind::DeviceOnline,
    };
    let text = match silent_since {
        Some(since) if kind == EventKind::DeviceOnline => {
            format!("heard again after {}", judgement::short(now.since(since)))
        }
        _ => standing.why.clone(),
    };
    NewEvent::about(device, kind, Actor::Server, text)
}
