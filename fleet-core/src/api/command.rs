//! Commands in JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::later::{self, LaterWord};
use crate::id::{DeviceId, Uid};
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandState {
    /// It waits for the device.
    Queued,
    /// It is on its way there, or the device has it and has not said so.
    Sent,
    /// The device will do it.
    Accepted,
    /// The device is at it.
    Running,
    /// It was done.
    Succeeded,
    /// It was not, or not well.
    Failed,
    /// Its time was over before the device began.
    Expired,
    /// It was taken back before the device began.
    Cancelled,
    /// The device was interrupted, or has not been heard of since.
    Unknown,
    /// What only a later release knows. Read by clients, never made.
    Later(LaterWord),
}

impl CommandState {
    /// Every state that this release knows.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Sent,
        Self::Accepted,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// The word in JSON and on screens. Safe to show.
    pub fn word(&self) -> &str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::Later(word) => word.as_str(),
        }
    }

    /// The state with this word, if this release knows it.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Whether nothing is to come any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Sent | Self::Accepted | Self::Running)
    }
}

impl Serialize for CommandState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for CommandState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read =
            |word: &str| Self::from_word(word).unwrap_or_else(|| Self::Later(LaterWord::new(word)));
        later::read(deserializer, read)
    }
}

/// The body of `POST /commands`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// The command's number, if whoever asks gives it one: asking again under the same number asks
    /// for nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uid>,
    /// The device, by id or uid.
    pub device_id: String,
    /// The command's word; with its arguments, if there are no `args`.
    pub command: String,
    /// Its arguments, one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// How long it may wait for the device, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// How long it may run, such as `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandView {
    /// Its number.
    pub id: Uid,
    /// The device that it is for.
    pub device_id: DeviceId,
    /// That device's uid.
    pub uid: Uid,
    /// Its word.
    pub command: Untrusted,
    /// Its arguments.
    pub args: Vec<Untrusted>,
    /// How far it has come.
    pub state: CommandState,
    /// Why it is in this state.
    pub why: Untrusted,
    /// When it came to be in this state.
    pub state_at: Timestamp,
    /// Who asked for it.
    pub author: Untrusted,
    /// When.
    pub created_at: Timestamp,
    /// When it is too late to begin.
    pub expires_at: Timestamp,
    /// The code that its program ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What its program wrote; in lists it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Untrusted>,
    /// How many bytes of that were not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_go_by_their_words() {
        for state in CommandState::ALL {
            assert_eq!(CommandState::from_word(state.word()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
        let later: CommandState = serde_json::from_value("paused".into()).unwrap();
        assert_eq!((later.word(), later.is_over()), ("paused", true));
    }
}
