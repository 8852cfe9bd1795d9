//! A command's row, and the row of what its program wrote, which is apart because lists go without
//! it.

use std::time::Duration;

use bincode::{Decode, Encode};
use fleet_core::api::CommandState;
use fleet_core::codec::CodecError;
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::device_id;
use crate::store::CommandRecord;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct CommandRow {
    device: [u8; 16],
    device_id: String,
    /// The command as its words, which are promised to everybody anyway.
    word: String,
    args: Vec<String>,
    author: String,
    created_at_millis: i64,
    expires_at_millis: i64,
    timeout_millis: u64,
    /// The state's word, likewise.
    state: String,
    why: String,
    state_at_millis: i64,
    cancel_asked_by: Option<String>,
    sent_at_millis: Option<i64>,
    accepted_at_millis: Option<i64>,
    /// Its place in the table of what is due, as it was written there.
    due_at_millis: Option<i64>,
    exit_code: Option<i32>,
    output_left_out: u64,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct CommandOutputRow {
    pub(in crate::store::redb) output: Vec<u8>,
}

impl CommandRow {
    /// The device that it is for.
    pub(in crate::store::redb) fn device(&self) -> Uid {
        Uid::from_bytes(self.device)
    }

    /// When it is due; never once it is over.
    pub(in crate::store::redb) fn due_at(&self) -> Option<Timestamp> {
        self.due_at_millis.map(Timestamp::from_millis)
    }

    /// The command of a row, without what its program wrote.
    pub(in crate::store::redb) fn into_command(self, id: Uid) -> Result<CommandRecord, CodecError> {
        Ok(CommandRecord {
            id,
            device: Uid::from_bytes(self.device),
            device_id: device_id(self.device_id)?,
            command: Command::read(&self.word, &self.args).map_err(|_| CodecError::Malformed)?,
            author: self.author,
            created_at: Timestamp::from_millis(self.created_at_millis),
            expires_at: Timestamp::from_millis(self.expires_at_millis),
            timeout: Duration::from_millis(self.timeout_millis),
            state: CommandState::from_word(&self.state).ok_or(CodecError::Malformed)?,
            why: self.why,
            state_at: Timestamp::from_millis(self.state_at_millis),
            cancel_asked_by: self.cancel_asked_by,
            sent_at: self.sent_at_millis.map(Timestamp::from_millis),
            accepted_at: self.accepted_at_millis.map(Timestamp::from_millis),
            exit_code: self.exit_code,
            output: None,
            output_left_out: self.output_left_out,
        })
    }
}

impl From<&CommandRecord> for CommandRow {
    fn from(command: &CommandRecord) -> Self {
        Self {
            device: command.device.bytes(),
            device_id: command.device_id.clone().into(),
            word: command.command.word().to_owned(),
            args: command.command.args(),
            author: command.author.clone(),
            created_at_millis: command.created_at.millis(),
            expires_at_millis: command.expires_at.millis(),
            timeout_millis: u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX),
            state: command.state.word().to_owned(),
            why: command.why.clone(),
            state_at_millis: command.state_at.millis(),
            cancel_asked_by: command.cancel_asked_by.clone(),
            sent_at_millis: command.sent_at.map(Timestamp::millis),
            accepted_at_millis: command.accepted_at.map(Timestamp::millis),
            due_at_millis: command.due_at().map(Timestamp::millis),
            exit_code: command.exit_code,
            output_left_out: command.output_left_out,
        }
    }
}
