//! Settling: each device has the version that its layers make, some time after they have changed.
//!
//! A change of a layer, or of a device's tags, is on the disk before anybody is told of it; what it
//! means for each device is worked out afterwards, here. A server that dies in between does it when it
//! starts, and a device that comes is looked at first. A device whose latest version says what its
//! layers say is left alone, and the next version is added only to the one that was looked at, so it is
//! added once, however often it is looked at.

use std::collections::HashMap;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{ConfigLayer, EventKind, diff};
use fleet_core::id::Uid;
use fleet_core::net::shutdown::Tasks;
use futures_util::future::join_all;

use super::layers::{Cause, Effective, Stack, Unsettled, own_of, parsed, server_url, tags_of};
use super::view::set;
use super::{Configs, EMPTY_DOCUMENT};
use crate::ops::commands::require_able;
use crate::ops::events::NewEvent;
use crate::ops::{Actor, OpsError};
use crate::store::{ConfigVersion, Conflict, Device, NewConfig, StoreError};

/// Devices that are looked at at once, and share their commits; others need not wait long.
pub(super) const WAVE_DEVICES_MAX: usize = 200;
/// Until the next try while the store does not work.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Configs {
    /// Settles what is to be settled, until the server stops.
    pub(crate) async fn run(&self, tasks: &Tasks) {
        loop {
            let wanted = tokio::select! {
                wanted = self.layers.wanted() => wanted,
                () = tasks.stopping() => return,
            };
            let outcome = self.settle_wanted(wanted.clone(), tasks).await;
            let Err(error) = outcome else { continue };
            tracing::warn!(error = %Chain(&error), "configurations are not settled at present");
            tokio::select! {
                () = tokio::time::sleep(TRY_AGAIN) => {}
                () = tasks.stopping() => return,
            }
            // What was done meanwhile is found to be done.
            for (uid, cause) in wanted.some {
                self.layers.look_at(uid, cause);
            }
            if wanted.is_all {
                self.layers.look_at_all(wanted.why_all);
            }
        }
    }

    /// Settles one device before it is told what it shall be.
    pub(crate) async fn settle(&self, uid: Uid) -> Result<(), OpsError> {
        if self.layers.stack().await?.is_empty() {
            return Ok(());
        }
        let device = self.world.store.device_get(uid).await?;
        let wave = device.into_iter().map(|device| (device, None)).collect();
        self.settle_wave(wave).await
    }

    async fn settle_wanted(&self, wanted: Unsettled, tasks: &Tasks) -> Result<(), OpsError> {
        let Unsettled { is_all, why_all, mut some } = wanted;
        if self.layers.stack().await?.is_empty() {
            return Ok(());
        }
        let mut devices = Vec::new();
        if is_all {
            for device in self.world.store.device_list().await? {
                // Who is looked at for a reason of its own has that one.
                let cause = some.remove(&device.uid).unwrap_or_else(|| why_all.clone());
                devices.push((device, cause));
            }
        }
        for (uid, cause) in some {
            let device = self.world.store.device_get(uid).await?;
            devices.extend(device.map(|device| (device, cause)));
        }
        while !devices.is_empty() && !tasks.is_stopping() {
            let wave = devices.split_off(devices.len().saturating_sub(WAVE_DEVICES_MAX));
            self.settle_wave(wave).await?;
        }
        Ok(())
    }

    async fn settle_wave(&self, wave: Vec<(Device, Option<Cause>)>) -> Result<(), OpsError> {
        let stack = self.layers.stack().await?;
        let due = self.due(&stack, wave).await?;
        let (mut events, mut outcome) = (Vec::new(), Ok(()));
        let appends = due.into_iter().map(async |(device, expected, new)| {
            (self.world.store.config_append(device.uid, Some(expected), new).await, device)
        });
        for (appended, device) in join_all(appends).await {
            match appended {
                Ok(stored) => {
                    self.versions.grew(device.uid, Some(&stored));
                    self.hub.wake(device.uid);
                    let (kind, author) = (EventKind::ConfigSet, stored.config.author.clone());
                    events.push(NewEvent::about(&device, kind, author, set(&stored)));
                }
                // Somebody was faster: it is looked at anew.
                Err(StoreError::Conflict(Conflict::Config { .. })) => {
                    self.layers.look_at(device.uid, None);
                }
                Err(StoreError::Missing(_)) => {}
                Err(error) => {
                    // It may be stored all the same.
                    self.versions.forget(device.uid);
                    outcome = Err(error.into());
                }
            }
        }
        self.events.record_all(events).await;
        outcome
    }

    /// Of some devices those that shall be something else than their latest version says, with that
    /// version and the next one.
    async fn due(
        &self,
        stack: &Stack,
        devices: Vec<(Device, Option<Cause>)>,
    ) -> Result<Vec<(Device, u64, NewConfig)>, OpsError> {
        let able = devices.into_iter().filter(|(device, _)| require_able(device).is_ok());
        let mut able: HashMap<Uid, _> = able.map(|one| (one.0.uid, one)).collect();
        let uids = able.keys().copied().collect();
        let mut due = Vec::new();
        for (uid, latest) in self.world.store.config_latest_of(uids).await? {
            let Some((device, cause)) = able.remove(&uid) else { continue };
            let effective = stack.effective(&tags_of(&device), own_of(latest.as_ref()))?;
            let before = latest.as_ref().map_or(EMPTY_DOCUMENT, |latest| &latest.config.document);
            if effective.document == before {
                continue;
            }
            let cause = match cause {
                Some(cause) => cause,
                None => supposed(stack, &device, before, &effective)?,
            };
            let own = own_of(latest.as_ref());
            let own = (own != effective.document).then(|| own.to_owned());
            let expected = latest.as_ref().map_or(0, |latest| latest.version);
            let new = NewConfig {
                server_url: server_url(&effective.document)?,
                document: effective.document,
                own,
                author: cause.author,
                at: self.world.now(),
                comment: Some(cause.comment),
            };
            due.push((device, expected, new));
        }
        Ok(due)
    }

    /// Which devices that have a layer would get a new version with these layers; and how many have it.
    pub(super) async fn changed_by(
        &self,
        stack: &Stack,
        layer: &ConfigLayer,
    ) -> Result<(Vec<Device>, usize), OpsError> {
        let mut devices = self.having(layer).await?;
        let (mut changed, count) = (Vec::new(), devices.len());
        while !devices.is_empty() {
            let wave = devices.split_off(devices.len().saturating_sub(WAVE_DEVICES_MAX));
            let wave = wave.into_iter().map(|device| (device, None)).collect();
            changed.extend(self.due(stack, wave).await?.into_iter().map(|(device, ..)| device));
        }
        changed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((changed, count))
    }

    /// The devices of a layer.
    pub(super) async fn having(&self, layer: &ConfigLayer) -> Result<Vec<Device>, OpsError> {
        let mut devices = self.world.store.device_list().await?;
        devices.retain(|device| {
            require_able(device).is_ok() && super::layers::has_layer(&tags_of(device), layer)
        });
        Ok(devices)
    }
}

/// Why a device is to be something else, where nobody remembers: by the layers that what is new is
/// from; where something is gone, most likely by the layer that changed last.
fn supposed(
    stack: &Stack,
    device: &Device,
    before: &str,
    effective: &Effective,
) -> Result<Cause, OpsError> {
    let differences = diff(&parsed(before)?, &parsed(&effective.document)?);
    let new = differences.iter().find_map(|difference| {
        let layer = effective.provenance.get(difference.path.raw())?.parse().ok()?;
        stack.all().find(|(known, _)| **known == layer)
    });
    let found: Option<(&ConfigLayer, &ConfigVersion)> =
        new.or_else(|| stack.newest(&tags_of(device)));
    Ok(match found {
        Some((layer, stored)) => by_layer(layer, stored),
        None => Cause {
            author: Actor::Server.to_string(),
            comment: "its layers say nothing any more".to_owned(),
        },
    })
}

/// The cause that a layer's version is.
pub(super) fn by_layer(layer: &ConfigLayer, stored: &ConfigVersion) -> Cause {
    let comment = match stored.config.comment.as_deref() {
        Some(comment) if !comment.is_empty() => {
            format!("layer {layer}, version {}: {comment}", stored.version)
        }
        Some(_) | None => format!("layer {layer}, version {}", stored.version),
    };
    Cause { author: stored.config.author.clone(), comment }
}
