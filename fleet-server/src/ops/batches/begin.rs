//! How a device of a batch begins: what it is given, in one commit with that it was given it, and
//! what that means for those who wait for it.

use fleet_core::api::{EventKind, MemberState};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use futures_util::future::join_all;

use super::engine::Live;
use super::{Batches, patch};
use crate::ops::OpsError;
use crate::ops::commands::require_able;
use crate::ops::configs::{self, own_of, tags_of};
use crate::ops::events::NewEvent;
use crate::store::{
    Action, BatchRecord, Begun, CommandRecord, Conflict, Device, MemberRecord, NewConfig, Place,
    ReportedPhase, Step, StoreError,
};

/// How often a configuration is made anew because somebody else changed it meanwhile.
const TRIES_MAX: usize = 5;

/// A member that was to begin, as it and its batch are now, and what is to be told.
type Started = (BatchRecord, u32, MemberRecord, Vec<NewEvent>);

impl Batches {
    /// Has members begin.
    pub(super) async fn begin_some(
        &self,
        live: &mut Live,
        places: &[usize],
    ) -> Result<(), OpsError> {
        let batch = &live.batch;
        let begun = places.iter().map(|place| {
            let seat = &live.members[*place];
            self.begin_one(batch, seat.ordinal, seat.device)
        });
        let (mut events, mut outcome) = (Vec::new(), Ok(()));
        for begun in join_all(begun).await {
            match begun {
                Ok((batch, ordinal, member, new)) => {
                    live.note(batch, ordinal, &member);
                    events.extend(new);
                }
                Err(error) => outcome = Err(error),
            }
        }
        self.events.record_all(events).await;
        outcome
    }

    async fn begin_one(
        &self,
        batch: &BatchRecord,
        ordinal: u32,
        device: Uid,
    ) -> Result<Started, OpsError> {
        let place = Place { batch: batch.id, ordinal };
        let called_off = async |why: String| {
            let state = MemberState::Cancelled;
            let (batch, ordinal, member) = self.settle(place, None, state, why).await?;
            Ok((batch, ordinal, member, Vec::new()))
        };
        let Some(device) = self.world.store.device_get(device).await? else {
            return called_off("the device was removed".to_owned()).await;
        };
        if let Err(problem) = require_able(&device) {
            return called_off(problem.to_string()).await;
        }
        for _ in 0..TRIES_MAX {
            let now = self.world.now();
            let step = match self.first_step(batch, &device, now).await {
                Ok(step) => step,
                Err(OpsError::Invalid { field, problem }) => {
                    return self.failed_at_once(place, format!("{field}: {problem}")).await;
                }
                Err(error) => return Err(error),
            };
            match self.world.store.batch_begin(place, now, step).await {
                Ok(begun) => return self.begun(begun, ordinal, &device).await,
                Err(StoreError::Conflict(Conflict::Config { .. })) => {}
                Err(error @ (StoreError::Conflict(_) | StoreError::TooLarge(_))) => {
                    return self.failed_at_once(place, error.to_string()).await;
                }
                Err(StoreError::Missing("device")) => {
                    return called_off("the device was removed".to_owned()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let why = "its configuration was changed by others all the time";
        self.failed_at_once(place, why.to_owned()).await
    }

    async fn failed_at_once(&self, place: Place, why: String) -> Result<Started, OpsError> {
        let waiting = Some(MemberState::Waiting);
        let (batch, ordinal, member) =
            self.settle(place, waiting, MemberState::Failed, why).await?;
        Ok((batch, ordinal, member, Vec::new()))
    }

    /// What a device begins with.
    async fn first_step(
        &self,
        batch: &BatchRecord,
        device: &Device,
        now: Timestamp,
    ) -> Result<Step, OpsError> {
        let text = match &batch.action {
            Action::Command(command) => {
                return Ok(Step::Command(Box::new(CommandRecord::queued(
                    Uid::new(),
                    device,
                    command.clone(),
                    batch.author.clone(),
                    (now, batch.expires_at),
                    batch.timeout,
                ))));
            }
            Action::Config(text) => text,
        };
        let latest = self.world.store.config_latest(device.uid).await?;
        let expected = latest.as_ref().map_or(0, |latest| latest.version);
        let before = own_of(latest.as_ref());
        // It changes what is the device's own; its layers stay below that.
        let own = patch::apply(before, text)?;
        let document = self.layers.stack().await?.effective(&tags_of(device), &own)?.document;
        let config = (own != before).then(|| NewConfig {
            own: (own != document).then_some(own),
            document,
            author: batch.author.clone(),
            at: now,
            comment: Some(format!("batch {}", batch.id)),
            server_url: None,
        });
        Ok(Step::Config { expected, config })
    }

    /// Has what a member begins with go its way.
    async fn begun(
        &self,
        begun: Begun,
        ordinal: u32,
        device: &Device,
    ) -> Result<Started, OpsError> {
        let Begun { batch, member, command, config } = begun;
        let mut events = Vec::new();
        if let Some(inserted) = command {
            events = self.commands.given(&inserted, &batch.author);
        } else if let Some(stored) = config {
            self.versions.grew(device.uid, Some(&stored));
            self.hub.wake(device.uid);
            // A layer may have changed since it was looked at.
            self.layers.look_at(device.uid, None);
            let kind = EventKind::ConfigSet;
            let text = configs::set(&stored);
            events.push(NewEvent::about(device, kind, &batch.author, text));
        } else {
            // The device may have said long ago that it has this version.
            let place = Place { batch: batch.id, ordinal };
            if let Some((state, why)) = said(device, member.version.unwrap_or(0)) {
                let running = Some(MemberState::Running);
                let (batch, ordinal, member) = self.settle(place, running, state, why).await?;
                return Ok((batch, ordinal, member, events));
            }
        }
        Ok((batch, ordinal, member, events))
    }
}

/// What a device has said of a version, or of one after it.
pub(super) fn said(device: &Device, version: u64) -> Option<(MemberState, String)> {
    if version == 0 {
        return Some((MemberState::Succeeded, "there was nothing to change".to_owned()));
    }
    let reported = device.reported.as_ref().filter(|reported| reported.version >= version)?;
    if reported.phase == ReportedPhase::Trying {
        // It has to show first that it works.
        return None;
    }
    match &reported.error {
        None => {
            let why = format!("the device has version {}", reported.version);
            Some((MemberState::Succeeded, why))
        }
        Some(error) if reported.version == version => {
            let went_back = match reported.phase {
                ReportedPhase::Reverted { .. } => "tried and left: ",
                ReportedPhase::Said | ReportedPhase::Trying => "",
            };
            Some((MemberState::Failed, format!("version {version}: {went_back}{error}")))
        }
        // What it says of a later version says nothing of this one.
        Some(_) => None,
    }
}
