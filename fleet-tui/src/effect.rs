//! What the state asks the world for. Nothing here does anything.

use std::time::Duration;

use fleet_core::api::{BatchRequest, DeviceUpdate, KeyCreate, MemberState, StreamView};
use fleet_core::claim::ClaimCode;
use fleet_core::command::Command;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::claim::Target;
use fleet_core::operator::logs::LogQuery;
use fleet_core::secret::ApiKey;
use fleet_core::time::Timestamp;

/// Something to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Tell the server what is looked at. Only the last one counts.
    Look(StreamView),
    /// Ask the server; the answer comes back with the request.
    Ask(Request),
    /// Begin or stop to look for devices on the local networks.
    Browse(bool),
    /// Bring these devices into the fleet.
    Provision {
        /// The devices.
        targets: Vec<Target>,
        /// Where they shall find the server; where the console does if absent.
        server_url: Option<ServerUrl>,
        /// The claim code of the one device that asks for it.
        code: Option<ClaimCode>,
    },
    /// Put a text into the clipboard of whoever sits at the terminal.
    Copy(String),
    /// The same with a key in full. Shows its id only, however it is written down.
    CopyKey(ApiKey),
    /// Write a file, and tell where.
    Export {
        /// How its name begins.
        stem: &'static str,
        /// How its name ends: `csv`.
        extension: &'static str,
        /// What is in it.
        contents: String,
    },
    /// Have lines of a device's log come, or no more. Only the last one counts.
    Logs(Option<LogAsk>),
    /// Connect again now.
    Reconnect,
    /// Leave this server for the one of a context.
    Switch(String),
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
    /// Paint every cell anew.
    Redraw,
    /// Give the terminal back until somebody calls the console to the front.
    Suspend,
    /// The end.
    Quit,
}

/// Which lines of which device's log to have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAsk {
    /// Its number: what comes bears it.
    pub number: u64,
    /// Whose.
    pub device: Uid,
    /// Which.
    pub query: LogQuery,
}

/// A question or a wish to the server. It comes back with its answer, so nothing has to be
/// remembered about it; the state then looks whether the answer still matters.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// What the key may do.
    Me,
    /// Curves of a device.
    Series {
        /// Whose.
        device: Uid,
        /// Of which metrics.
        metrics: Vec<&'static str>,
        /// From when.
        from: Timestamp,
        /// Until when.
        to: Timestamp,
        /// How long a step is.
        step: Duration,
    },
    /// All that is known of a device.
    Device(Uid),
    /// A device's configuration.
    Config(Uid),
    /// The newest versions of a device's configuration.
    Versions {
        /// Whose.
        device: Uid,
        /// So many at most.
        limit: usize,
    },
    /// Events before a number, of one device or of all.
    Events {
        /// Whose.
        device: Option<Uid>,
        /// Only older ones.
        before: Option<u64>,
    },
    /// One command, with what its program wrote.
    Command(Uid),
    /// The newest commands of a device.
    Commands(Uid),
    /// Change one device, or have it do something.
    Change(Uid, Change),
    /// Batches older than one, or the newest.
    Batches {
        /// Only older ones.
        before: Option<Uid>,
        /// So many at most.
        limit: usize,
    },
    /// One batch.
    Batch(Uid),
    /// Devices of a batch, by id.
    Members {
        /// Which batch.
        batch: Uid,
        /// In these states.
        states: Vec<MemberState>,
        /// Only those whose id comes after this one.
        after: Option<DeviceId>,
        /// So many at most.
        limit: usize,
    },
    /// What a batch would be.
    Preview(Box<BatchRequest>),
    /// Begin a batch.
    BeginBatch(Box<BatchRequest>),
    /// Have a batch go another way.
    ChangeBatch(Uid, BatchChange),
    /// Do the same again to so many devices of a batch that failed.
    RetryBatch(Uid, usize),
    /// The keys to the server.
    Keys,
    /// Make a key.
    MakeKey(Box<KeyCreate>),
    /// Make a key's successor.
    RotateKey {
        /// Of which key.
        id: String,
        /// How long that one goes on.
        overlap: Duration,
    },
    /// End a key.
    RevokeKey(String),
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchChange {
    /// No further device begins.
    Pause,
    /// It goes on.
    Continue,
    /// What has not begun is called off.
    Cancel,
    /// What failed is done again, by a batch of its own.
    Retry,
}

/// A change of one device, or something that it is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Let it in.
    Accept,
    /// Turn it away.
    Reject,
    /// Put it out for good.
    Revoke,
    /// Remove it.
    Delete,
    /// Have it back that was removed.
    Restore,
    /// Note a name or metadata.
    Update(DeviceUpdate),
    /// Have it report that often. The rest of its configuration stays.
    Interval(Duration),
    /// Give it a configuration that it had before.
    GoBack {
        /// Which version that was.
        to: u64,
        /// Only if this is the version that it shall have now.
        from: u64,
    },
    /// Have it do something.
    Command {
        /// What.
        command: Command,
        /// How long this waits for the device.
        expires_in: Duration,
    },
    /// Take back the command with this number.
    TakeBack(Uid),
}
