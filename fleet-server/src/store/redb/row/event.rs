//! An event's row, without its number and its device's uid, which are its key in the table.

use bincode::{Decode, Encode};
use fleet_core::api::EventKind;
use fleet_core::codec::CodecError;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::device_id;
use crate::store::Event;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct EventRow {
    at_millis: i64,
    /// The kind's word, which is promised to everybody anyway.
    kind: String,
    actor: String,
    device_id: Option<String>,
    text: String,
}

impl EventRow {
    /// The event of a row; `uid` is its device's.
    pub(in crate::store::redb) fn into_event(self, uid: Uid) -> Result<Event, CodecError> {
        let device = self.device_id.map(device_id).transpose()?.map(|id| (id, uid));
        Ok(Event {
            at: Timestamp::from_millis(self.at_millis),
            kind: EventKind::from_word(&self.kind).ok_or(CodecError::Malformed)?,
            actor: self.actor,
            device,
            text: self.text,
        })
    }
}

impl From<Event> for EventRow {
    fn from(event: Event) -> Self {
        Self {
            at_millis: event.at.millis(),
            kind: event.kind.word().to_owned(),
            actor: event.actor,
            device_id: event.device.map(|(id, _)| id.into()),
            text: event.text,
        }
    }
}
