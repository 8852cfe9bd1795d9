//! The frames after the hello, version 1. Variants are added at an enum's end, fields never.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{CommandNews, CommandOrder, LogAsk, LogNews, NewKey};
use crate::codec::Coded;
use crate::identity::{PrivateKey, PublicKey};
use crate::metric::Sample;

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToServer {
    /// What the device is, when that changed.
    Facts(Box<Facts>),
    /// What it measured.
    Samples(Samples),
    /// What became of a configuration.
    ConfigReported(ConfigReported),
    /// How far a command has come.
    Command(CommandNews),
    /// Lines of a log that the server asked for.
    Logs(LogNews),
    /// How far a configuration is that has to show that it works.
    ConfigTrial(ConfigTrial),
    /// A key that it is to have from now on.
    NewKey(Box<NewKey>),
}

impl Coded for ToServer {
    const TAG: u8 = 4;
    const VERSION: u8 = 1;
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToAgent {
    /// How the device stands with the server; again whenever that changes.
    Standing(Standing),
    /// All samples of a stream up to this number are on the server's disk, or refused for good.
    Ack {
        /// The stream.
        stream: [u8; 16],
        /// The last number.
        seq: u64,
    },
    /// What the device shall be configured as.
    Config(ConfigPush),
    /// Somebody looks at the device: report every second, for so long from now.
    Watch {
        /// Seconds; 0 ends it at once.
        secs: u16,
    },
    /// Something to do. The same order may come again; it is done once.
    Command(Box<CommandOrder>),
    /// An order is taken back, unless the device has begun. Either way it answers with news.
    CancelCommand {
        /// Which.
        id: [u8; 16],
    },
    /// What became of a command is on the server's disk.
    CommandNoted {
        /// Which.
        id: [u8; 16],
    },
    /// Lines of a log are wanted.
    Logs(Box<LogAsk>),
    /// They are wanted no longer.
    LogsEnd {
        /// The ask's number.
        ask: u64,
    },
    /// Lines of a log have come, so more may be sent.
    LogsNoted {
        /// The number of their ask.
        ask: u64,
    },
    /// The device may come with its new key from now on.
    NewKeyNoted {
        /// Which.
        device_pub: [u8; 32],
        /// Why it may not.
        refused: Option<String>,
    },
}

impl Coded for ToAgent {
    const TAG: u8 = 5;
    const VERSION: u8 = 1;
}

/// What a device is, as it says itself. Outside text to everybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Facts {
    /// The host's name.
    pub hostname: String,
    /// `raspberrypi`, `jetson`, `beaglebone`, `x86`, `arm`, `container` or `other`.
    pub device_type: String,
    /// The exact board, such as `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: String,
    /// The operating system, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's architecture, such as `aarch64`.
    pub arch: String,
    /// The agent's release.
    pub version: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// A name for people, from the agent's configuration.
    pub name: Option<String>,
    /// Processor cores.
    pub cores: u32,
    /// Memory, if known.
    pub memory_bytes: Option<u64>,
    /// The device's own addresses.
    pub addresses: Vec<String>,
    /// Seconds between its reports.
    pub interval_secs: u32,
}

/// Reports, numbered without gaps within a stream except where the agent dropped some.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Samples {
    /// Made anew whenever an agent starts counting from one.
    pub stream: [u8; 16],
    /// The reports, oldest first.
    pub reports: Vec<QueuedReport>,
}

/// A report on its way.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct QueuedReport {
    /// Its number in the stream, from 1.
    pub seq: u64,
    /// When it was collected, by the device's clock, in milliseconds since 1970.
    pub at_millis: i64,
    /// How long it waited on the device, by a clock that does not jump.
    pub age_millis: u64,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// How a device stands with its server.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Standing {
    /// It belongs to the fleet.
    Active {
        /// The server's own name for it.
        uid: [u8; 16],
        /// The id it goes by.
        device_id: String,
    },
    /// It waits for an operator's word.
    Pending {
        /// Why.
        reason: String,
    },
    /// An operator said no.
    Rejected {
        /// Why.
        reason: String,
    },
    /// It belonged to the fleet and does no more.
    Revoked {
        /// Why.
        reason: String,
    },
}

/// A configuration, signed by the server because the device keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ConfigPush {
    /// Grows with every change.
    pub version: u64,
    /// The JSON document.
    pub document: String,
    /// The server's signature over device, version and document.
    pub signature: [u8; 64],
}

impl ConfigPush {
    /// A configuration signed for one device.
    pub fn sign(uid: [u8; 16], version: u64, document: String, server: &PrivateKey) -> Self {
        let signature = server.sign(&Self::message(uid, version, &document));
        Self { version, document, signature }
    }

    /// Whether the server signed it for this device.
    pub fn is_signed(&self, uid: [u8; 16], server: PublicKey) -> bool {
        server.verify(&Self::message(uid, self.version, &self.document), &self.signature)
    }

    fn message(uid: [u8; 16], version: u64, document: &str) -> Vec<u8> {
        [b"FleetD config v1\0", uid.as_slice(), &version.to_le_bytes(), document.as_bytes()]
            .concat()
    }
}

/// What became of a configuration on the device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ConfigReported {
    /// Which one.
    pub version: u64,
    /// When, by the device's clock, in milliseconds since 1970.
    pub at_millis: i64,
    /// Why it was not applied.
    pub error: Option<String>,
}

/// How far the device is with trying a configuration. One that works is
/// [`ToServer::ConfigReported`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ConfigTrial {
    /// Which one.
    pub version: u64,
    /// Since when, by the device's clock, in milliseconds since 1970.
    pub at_millis: i64,
    /// How far.
    pub state: TrialState,
}

/// How far a trial is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TrialState {
    /// It is followed, and has to show that it works.
    Trying,
    /// It did not, and the device went back.
    Reverted {
        /// To which version; 0 to its own file.
        holds: u64,
        /// Why, in words.
        why: String,
    },
}
