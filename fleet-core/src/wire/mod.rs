//! The link between agent and server: one WebSocket at `GET /api/v1/link`, subprotocol
//! [`SUBPROTOCOL`], always inside TLS; each binary message is one frame.
//!
//! ```text
//! agent  → Hello                 versions, its key, a nonce
//! server → Greeting::Welcome     version, its key, a nonce, its signature    (or Refused)
//! agent  → Proof                 its signature, who it says it is
//! server → ToAgent::Standing     active, pending, rejected or revoked
//! then ToServer and ToAgent frames, both ways, until either closes
//! ```
//!
//! Both signatures cover both nonces, both keys and a secret that only this TLS connection has
//! ([`LinkContext`]), so a recorded or relayed link is of no use; where a proxy ends TLS, the name
//! that its certificate is for takes the secret's place ([`Binding`]). [`Hello`] and [`Greeting`] keep
//! their bytes for ever; the enums of frames only grow at their end.

mod command;
mod frames;
mod hello;
mod key;
mod log;

pub use command::{CommandNews, CommandOrder, CommandResult, Outcome, Progress};
pub use frames::{
    ConfigPush, ConfigReported, ConfigTrial, Facts, QueuedReport, Samples, Standing, ToAgent,
    ToServer, TrialState,
};
pub use hello::{Binding, Greeting, Hello, LinkContext, Proof, RefusedReason};
pub use key::NewKey;
pub use log::{CUT_MARK, LogAsk, LogEnd, LogLine, LogNews, LogSource, Severity};

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "fleetd.v1";
/// The newest version of the frames that this release speaks.
pub const VERSION: u16 = 1;
/// The label under which both ends take the TLS exporter.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-fleetd-link-v1";
