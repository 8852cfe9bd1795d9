//! The rows of batches and their members.

use std::time::Duration;

use bincode::{Decode, Encode};
use fleet_core::api::{BatchState, MemberState, WhenOffline};
use fleet_core::codec::CodecError;
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::device_id;
use crate::store::{Action, BatchRecord, Counts, MemberRecord, Place};

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct BatchRow {
    action: ActionRow,
    /// States go by their words, which are promised to everybody anyway.
    state: String,
    why: String,
    state_at_millis: i64,
    filter: Option<String>,
    total: u32,
    /// By state, as many as there are.
    counts: Vec<(String, u32)>,
    forgiven: u32,
    window: u32,
    canary: u32,
    max_fail: u32,
    timeout_millis: u64,
    offline: String,
    expires_at_millis: i64,
    author: String,
    created_at_millis: i64,
    reason: Option<String>,
    retry_of: Option<[u8; 16]>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
enum ActionRow {
    Command { word: String, args: Vec<String> },
    Config(String),
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct MemberRow {
    device: [u8; 16],
    device_id: String,
    state: String,
    why: String,
    state_at_millis: i64,
    begun_at_millis: Option<i64>,
    command: Option<[u8; 16]>,
    version: Option<u64>,
}

/// Which member something belongs to.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct PlaceRow {
    batch: [u8; 16],
    ordinal: u32,
}

impl BatchRow {
    pub(in crate::store::redb) fn into_batch(self, id: Uid) -> Result<BatchRecord, CodecError> {
        let mut counts = Counts::default();
        for (word, count) in self.counts {
            let state = MemberState::from_word(&word).ok_or(CodecError::Malformed)?;
            counts.set(state, count);
        }
        let offline = WhenOffline::ALL.into_iter().find(|(word, _)| *word == self.offline);
        Ok(BatchRecord {
            id,
            action: match self.action {
                ActionRow::Command { word, args } => {
                    Action::Command(Command::read(&word, &args).map_err(|_| CodecError::Malformed)?)
                }
                ActionRow::Config(patch) => Action::Config(patch),
            },
            state: BatchState::from_word(&self.state).ok_or(CodecError::Malformed)?,
            why: self.why,
            state_at: Timestamp::from_millis(self.state_at_millis),
            filter: self.filter,
            total: self.total,
            counts,
            forgiven: self.forgiven,
            window: self.window,
            canary: self.canary,
            max_fail: self.max_fail,
            timeout: Duration::from_millis(self.timeout_millis),
            offline: offline.ok_or(CodecError::Malformed)?.1,
            expires_at: Timestamp::from_millis(self.expires_at_millis),
            author: self.author,
            created_at: Timestamp::from_millis(self.created_at_millis),
            reason: self.reason,
            retry_of: self.retry_of.map(Uid::from_bytes),
        })
    }
}

impl From<&BatchRecord> for BatchRow {
    fn from(batch: &BatchRecord) -> Self {
        let counts = MemberState::ALL.iter().map(|state| (state, batch.counts.get(*state)));
        let counts = counts.filter(|(_, count)| *count > 0);
        Self {
            action: match &batch.action {
                Action::Command(command) => {
                    ActionRow::Command { word: command.word().to_owned(), args: command.args() }
                }
                Action::Config(patch) => ActionRow::Config(patch.clone()),
            },
            state: batch.state.word().to_owned(),
            why: batch.why.clone(),
            state_at_millis: batch.state_at.millis(),
            filter: batch.filter.clone(),
            total: batch.total,
            counts: counts.map(|(state, count)| (state.word().to_owned(), count)).collect(),
            forgiven: batch.forgiven,
            window: batch.window,
            canary: batch.canary,
            max_fail: batch.max_fail,
            timeout_millis: u64::try_from(batch.timeout.as_millis()).unwrap_or(u64::MAX),
            offline: batch.offline.word().to_owned(),
            expires_at_millis: batch.expires_at.millis(),
            author: batch.author.clone(),
            created_at_millis: batch.created_at.millis(),
            reason: batch.reason.clone(),
            retry_of: batch.retry_of.map(Uid::bytes),
        }
    }
}

impl MemberRow {
    /// The command that it was given.
    pub(in crate::store::redb) fn command(&self) -> Option<Uid> {
        self.command.map(Uid::from_bytes)
    }

    /// The version that it was given, and of whose configuration.
    pub(in crate::store::redb) fn version(&self) -> Option<(Uid, u64)> {
        self.version.map(|version| (Uid::from_bytes(self.device), version))
    }

    pub(in crate::store::redb) fn into_member(self) -> Result<MemberRecord, CodecError> {
        Ok(MemberRecord {
            device: Uid::from_bytes(self.device),
            device_id: device_id(self.device_id)?,
            state: MemberState::from_word(&self.state).ok_or(CodecError::Malformed)?,
            why: self.why,
            state_at: Timestamp::from_millis(self.state_at_millis),
            begun_at: self.begun_at_millis.map(Timestamp::from_millis),
            command: self.command.map(Uid::from_bytes),
            version: self.version,
        })
    }
}

impl From<&MemberRecord> for MemberRow {
    fn from(member: &MemberRecord) -> Self {
        Self {
            device: member.device.bytes(),
            device_id: member.device_id.clone().into(),
            state: member.state.word().to_owned(),
            why: member.why.clone(),
            state_at_millis: member.state_at.millis(),
            begun_at_millis: member.begun_at.map(Timestamp::millis),
            command: member.command.map(Uid::bytes),
            version: member.version,
        }
    }
}

impl PlaceRow {
    pub(in crate::store::redb) fn place(&self) -> Place {
        Place { batch: Uid::from_bytes(self.batch), ordinal: self.ordinal }
    }
}

impl From<Place> for PlaceRow {
    fn from(place: Place) -> Self {
        Self { batch: place.batch.bytes(), ordinal: place.ordinal }
    }
}
