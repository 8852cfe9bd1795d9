//! Keeps the board true: looks at devices about which something may have changed, and judges those
//! whose status ends by itself as time passes. Nobody else writes to the board.
//!
//! Each active device has one moment at which its silence will mean something else. Until then it
//! costs nothing, so a fleet in which nothing happens takes one look a device and interval.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::DeviceStatus;
use fleet_core::id::Uid;
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Timestamp;

use super::board::Board;
use super::row::row;
use crate::hub::Hub;
use crate::ops::status::{self, Terms};
use crate::ops::{Ops, OpsError, Presence};
use crate::store::{Admission, Device, StoreError};

/// The clock may jump, so the keeper looks at it at least so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Who keeps the board.
pub(crate) struct Keeper {
    ops: Arc<Ops>,
    board: Arc<Board>,
    active: HashMap<Uid, Active>,
    /// When the active devices' statuses end.
    ends: BTreeSet<(Timestamp, Uid)>,
    /// Devices that could not be read.
    again: HashSet<Uid>,
}

struct Active {
    terms: Terms,
    status: DeviceStatus,
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
            again: HashSet::new(),
        };
        for device in keeper.ops.world.store.device_list().await? {
            let uid = device.uid;
            if let Err(error) = keeper.show(device).await {
                keeper.put_off(uid, &error);
            }
        }
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
                () = tokio::time::sleep(self.rest()) => self.again.drain().collect(),
            };
            for uid in changed.into_iter().chain(self.ended()) {
                self.look(uid).await;
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
            if judged.status == active.status {
                self.schedule(uid, judged.until);
            } else {
                ended.push(uid);
            }
        }
        ended
    }

    /// Looks at a device; if it cannot be read now, again later.
    async fn look(&mut self, uid: Uid) {
        if let Err(error) = self.read(uid).await {
            self.put_off(uid, &error);
        }
    }

    fn put_off(&mut self, uid: Uid, error: &OpsError) {
        tracing::warn!(%uid, error = %Chain(error), "a device cannot be read, trying again");
        self.again.insert(uid);
    }

    async fn read(&mut self, uid: Uid) -> Result<(), OpsError> {
        let found = self.ops.world.store.device_get(uid).await?;
        match found.filter(|device| device.state != Admission::Deleted) {
            Some(device) => self.show(device).await,
            None => {
                self.retire(uid);
                self.board.take_down(uid);
                Ok(())
            }
        }
    }

    /// Puts a device on the board as it is now.
    async fn show(&mut self, device: Device) -> Result<(), OpsError> {
        let uid = device.uid;
        let devices = &self.ops.devices;
        let config_version = devices.versions.latest(&devices.world, uid).await?;
        let terms = Terms::of(&device);
        // Waiting begins before judging, so that what is heard in between is not missed.
        self.presence().await_return(uid, terms.is_some());
        let now = self.ops.world.now();
        let standing = status::standing(&device, self.presence(), self.hub(), now);
        if standing.status == DeviceStatus::Online {
            self.presence().await_return(uid, false);
        }
        self.retire(uid);
        if let Some(terms) = terms {
            self.active.insert(uid, Active { terms, status: standing.status, until: None });
            self.schedule(uid, standing.until);
        }
        if let Err(error) = self.board.put(uid, |slot| row(slot, device, standing, config_version))
        {
            tracing::error!(%uid, %error, "a device's row cannot be written");
        }
        Ok(())
    }

    fn schedule(&mut self, uid: Uid, until: Option<Timestamp>) {
        let Some(active) = self.active.get_mut(&uid) else { return };
        active.until = until;
        if let Some(until) = until {
            self.ends.insert((until, uid));
        }
    }

    fn retire(&mut self, uid: Uid) {
        let active = self.active.remove(&uid);
        if let Some(until) = active.and_then(|active| active.until) {
            self.ends.remove(&(until, uid));
        }
    }

    fn presence(&self) -> &Presence {
        &self.ops.presence
    }

    fn hub(&self) -> &Hub {
        &self.ops.devices.hub
    }
}
