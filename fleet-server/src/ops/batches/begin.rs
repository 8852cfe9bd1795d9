//! How a device of a batch begins: what it is given, in one commit with that it was given it, and
//! what that means for those who wait for it.

use fleet_core::api::{EventKind, MemberState};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::engine::Live;
use super::{Batches, patch};
use crate::ops::OpsError;
use crate::ops::commands::{self, require_able};
use crate::ops::configs::{self, own_of, server_url, tags_of};
use crate::ops::events::NewEvent;
use crate::store::{
    Action, BatchRecord, Begun, CommandRecord, Conflict, Device, MemberChange, NewConfig,
    ReportedPhase, Step, StoreError, Tell,
};

/// How often a configuration is made anew because somebody else changed it meanwhile.
const TRIES_MAX: usize = 5;

/// Members that do not begin, or are over at once, by their places.
type Ended = Vec<(u32, MemberChange)>;

impl Batches {
    /// Has members begin.
    pub(super) async fn begin_some(
        &self,
        live: &mut Live,
        places: &[usize],
    ) -> Result<(), OpsError> {
        let seats = places.iter().map(|place| &live.members[*place]);
        let mut members: Vec<_> = seats.map(|seat| (seat.ordinal, seat.device)).collect();
        for _ in 0..TRIES_MAX {
            if members.is_empty() {
                return Ok(());
            }
            members = self.try_to_begin(live, members).await?;
            // Whoever has waited for a turn has it before the next try.
            tokio::task::yield_now().await;
        }
        let why = "its configuration was changed by others all the time";
        let failed = members.iter().map(|(ordinal, _)| (*ordinal, self.failed_at_once(why)));
        let failed = failed.collect();
        self.change_members(live, failed).await
    }

    /// Has members begin, in one commit. Returns those whose configuration somebody else changed
    /// meanwhile.
    async fn try_to_begin(
        &self,
        live: &mut Live,
        members: Vec<(u32, Uid)>,
    ) -> Result<Vec<(u32, Uid)>, OpsError> {
        let now = self.world.now();
        let (mut steps, mut ended) = (Vec::with_capacity(members.len()), Ended::new());
        for (ordinal, uid) in &members {
            match self.first_step(&live.batch, *uid, now).await? {
                Ok(step) => steps.push((*ordinal, step)),
                Err(change) => ended.push((*ordinal, change)),
            }
        }
        let mut again = Vec::new();
        let mut outcome = Ok(());
        if !steps.is_empty() {
            let all: Vec<u32> = steps.iter().map(|(ordinal, _)| *ordinal).collect();
            let tell = tell(live.batch.author.clone(), now);
            match self.world.store.batch_begin(live.batch.id, now, steps, tell).await {
                Ok(begun) => {
                    live.note(&begun.batch);
                    for (ordinal, begun) in begun.members {
                        match begun {
                            Ok(begun) => {
                                live.note_member(ordinal, &begun.member);
                                match self.begun(begun).await {
                                    Ok(over) => ended.extend(over.map(|change| (ordinal, change))),
                                    // The others have begun, too, and must hear of it.
                                    Err(error) => outcome = Err(error),
                                }
                            }
                            Err(StoreError::Conflict(Conflict::Config { .. })) => {
                                again.extend(members.iter().find(|(known, _)| *known == ordinal));
                            }
                            Err(error) => match self.not_begun(error) {
                                Ok(change) => ended.push((ordinal, change)),
                                Err(error) => outcome = Err(error.into()),
                            },
                        }
                    }
                }
                // There are too many commands for all of them.
                Err(error @ StoreError::Conflict(_)) => {
                    let why = error.to_string();
                    ended.extend(
                        all.into_iter().map(|ordinal| (ordinal, self.failed_at_once(&why))),
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.change_members(live, ended).await?;
        outcome.map(|()| again)
    }

    /// What becomes of a member that the store had not begin; back comes what is no reason of it.
    fn not_begun(&self, error: StoreError) -> Result<MemberChange, StoreError> {
        match error {
            StoreError::Conflict(_) | StoreError::TooLarge(_) => {
                Ok(self.failed_at_once(&error.to_string()))
            }
            StoreError::Missing("device") => Ok(self.called_off("the device was removed")),
            error => Err(error),
        }
    }

    fn failed_at_once(&self, why: &str) -> MemberChange {
        self.settled(Some(MemberState::Waiting), MemberState::Failed, why.to_owned())
    }

    fn called_off(&self, why: &str) -> MemberChange {
        self.settled(None, MemberState::Cancelled, why.to_owned())
    }

    /// What a device begins with; or what becomes of it because it cannot.
    async fn first_step(
        &self,
        batch: &BatchRecord,
        device: Uid,
        now: Timestamp,
    ) -> Result<Result<Step, MemberChange>, OpsError> {
        let device = match self.world.store.device_get(device).await {
            Ok(Some(device)) => device,
            Ok(None) => return Ok(Err(self.called_off("the device was removed"))),
            // One row that cannot be read holds up nobody else.
            Err(error @ StoreError::Damaged { .. }) => {
                return Ok(Err(self.failed_at_once(&error.to_string())));
            }
            Err(error) => return Err(error.into()),
        };
        if let Err(problem) = require_able(&device) {
            return Ok(Err(self.called_off(&problem.to_string())));
        }
        match &batch.action {
            Action::Command(command) => {
                let mut command = CommandRecord::queued(
                    Uid::new(),
                    &device,
                    command.clone(),
                    batch.author.clone(),
                    (now, batch.expires_at),
                    batch.timeout,
                );
                self.commands.send_if_connected(&mut command);
                Ok(Ok(Step::Command(Box::new(command))))
            }
            Action::Config(text) => match self.config_step(batch, text, &device, now).await {
                Ok(step) => Ok(Ok(step)),
                Err(OpsError::Invalid { field, problem }) => {
                    Ok(Err(self.failed_at_once(&format!("{field}: {problem}"))))
                }
                Err(OpsError::Store(error @ StoreError::Damaged { .. })) => {
                    Ok(Err(self.failed_at_once(&error.to_string())))
                }
                Err(error) => Err(error),
            },
        }
    }

    async fn config_step(
        &self,
        batch: &BatchRecord,
        text: &str,
        device: &Device,
        now: Timestamp,
    ) -> Result<Step, OpsError> {
        let latest = self.world.store.config_latest(device.uid).await?;
        let expected = latest.as_ref().map_or(0, |latest| latest.version);
        let before = own_of(latest.as_ref());
        // It changes what is the device's own; its layers stay below that.
        let own = patch::apply(before, text)?;
        let document = self.layers.stack().await?.effective(&tags_of(device), &own)?.document;
        let server_url = server_url(&document)?;
        let config = (own != before).then(|| NewConfig {
            own: (own != document).then_some(own),
            document,
            author: batch.author.clone(),
            at: now,
            comment: Some(format!("batch {}", batch.id)),
            server_url,
        });
        Ok(Step::Config { expected, config })
    }

    /// Has what a member begins with go its way; what becomes of it if it is over at once.
    async fn begun(&self, begun: Begun) -> Result<Option<MemberChange>, OpsError> {
        let Begun { member, command, config } = begun;
        if let Some(inserted) = command {
            self.commands.given(&inserted);
            return Ok(None);
        }
        if let Some(stored) = config {
            self.versions.grew(member.device, Some(&stored));
            self.hub.wake(member.device);
            // A layer may have changed since it was looked at.
            self.layers.look_at(member.device, None);
            return Ok(None);
        }
        // The device may have said long ago that it has this version.
        let Some(device) = self.world.store.device_get(member.device).await? else {
            return Ok(Some(self.called_off("the device was removed")));
        };
        let said = said(&device, member.version.unwrap_or(0));
        Ok(said.map(|(state, why)| self.settled(Some(MemberState::Running), state, why)))
    }
}

/// Tells of what members begin with.
fn tell(author: String, at: Timestamp) -> Tell<Begun> {
    Box::new(move |begun| match (&begun.command, &begun.config) {
        (Some(inserted), _) if inserted.is_new => commands::told(inserted),
        (_, Some(stored)) => {
            let device = Some((begun.member.device_id.clone(), begun.member.device));
            let (kind, actor, text) = (EventKind::ConfigSet, author.clone(), configs::set(stored));
            vec![NewEvent { kind, actor, device, text }.at(at)]
        }
        (Some(_) | None, _) => Vec::new(),
    })
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
