//! What the journal's file holds: rows in frames, each as much as is known of one command at one
//! moment, so that none needs another to be understood.
//!
//! Behind each row stands an empty frame. So a row that was written and went bad since lies before a
//! whole frame, and is not taken for the end of a file that was cut off while it was written.

use bincode::{Decode, Encode};
use fleet_core::codec::{self, CodecError, Coded};
use fleet_core::frames::{self, Found};
use fleet_core::wire::CommandResult;

/// A command's number.
pub type CommandId = [u8; 16];

/// What can be known of a command at any time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct About {
    /// Its number.
    pub id: CommandId,
    /// The server that gave it.
    pub server: String,
    /// When it came, by the server's clock, in milliseconds since 1970. A word that takes back what
    /// never came does not say.
    pub came_millis: Option<i64>,
    /// When it is too late to begin, by the server's clock.
    pub expires_millis: i64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Words {
    /// The command's word.
    pub word: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How long it may run.
    pub timeout_millis: u64,
    /// When it came, by the device's clock.
    pub taken_millis: i64,
    /// When it is too late to begin, by the device's clock as it was when the order came.
    pub late_millis: i64,
}

/// How it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Begun {
    /// By which run of the agent.
    pub run: [u8; 16],
    /// In which boot, where the device tells one from another.
    pub boot: Option<[u8; 16]>,
    /// How long after that boot, in milliseconds.
    pub up_millis: u64,
    /// The how manieth time this is, from 1.
    pub attempt: u8,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Over {
    /// When, by the device's clock.
    pub at_millis: i64,
    /// What became of it. Once the server has that, what the program wrote is left out.
    pub result: CommandResult,
    /// Whether the server has it.
    pub noted: bool,
}

/// That rows were lost, nobody knows which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Doubt {
    /// The server's clock at the first order after that was found out, once there was one.
    pub since_millis: Option<i64>,
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Row {
    /// An order was taken.
    Accepted { about: About, words: Words },
    /// It is about to be done.
    Running { about: About, begun: Begun },
    /// It is over.
    Done { about: About, over: Over },
    /// The server has the result.
    Noted { id: CommandId },
    /// Rows were lost, or that no longer matters.
    Doubt(Option<Doubt>),
}

impl Coded for Row {
    const TAG: u8 = 70;
    const VERSION: u8 = 1;
}

/// Appends a row.
pub(super) fn put(out: &mut Vec<u8>, row: &Row) -> Result<(), CodecError> {
    let payload = codec::encode(row)?;
    frames::put(out, |out| out.extend(payload));
    frames::put(out, |_| {});
    Ok(())
}

/// Shows each row of a file. Says whether some of what was written is not there any more.
pub(super) fn read(bytes: &[u8], mut visit: impl FnMut(Row)) -> bool {
    let mut is_damaged = false;
    for found in frames::read(bytes) {
        match found {
            Found::Frame { payload: [], .. } => {}
            Found::Frame { payload, .. } => match codec::decode(payload) {
                Ok(row) => visit(row),
                Err(_) => is_damaged = true,
            },
            Found::Damage { .. } => is_damaged = true,
            // Nobody has relied on what was being written when the agent ended.
            Found::Torn { .. } => {}
        }
    }
    is_damaged
}
