//! Everything that can happen to the console. One event after the other, in one order: what the
//! state becomes depends on nothing else.

use std::time::Duration;

use crossterm::event::KeyEvent;
use fleet_core::api::{
    BatchMember, BatchPreview, BatchView, CommandView, ConfigVersionView, ConfigView, Device,
    EventView, KeyView, LogMessage, Me, SeriesReply, StreamMessage,
};
use fleet_core::identity::Fingerprint;
use fleet_core::mdns::Interface;
use fleet_core::operator::browse::Sighting;
use fleet_core::operator::provision::Progress;
use fleet_core::secret::ApiKey;
use fleet_core::time::Timestamp;
use ratatui::layout::Size;

use crate::effect::Request;

/// When an event happened: the wall's clock for people, and one that never jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The time of day.
    pub wall: Timestamp,
    /// Since the console started.
    pub since_start: Duration,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The wheel was turned.
    Wheel {
        /// Away from the person.
        is_up: bool,
    },
    /// The terminal has another size.
    Resize(Size),
    /// Time passed.
    Tick,
    /// The link to the server.
    Link(LinkEvent),
    /// A request was answered.
    Answer(Request, Result<Answer, Failed>),
    /// The devices that the network shows, all of them.
    Sightings(Vec<Sighting>),
    /// Devices are looked for on these interfaces.
    Searching(Vec<Interface>),
    /// Looking for devices does not work.
    BrowseFailed(String),
    /// A device's provisioning goes on, or has ended.
    Provisioning(Provisioning),
    /// News of lines of a log, by the number of who asked.
    Log(u64, LogNews),
    /// An effect that a person should hear of.
    Told(Notice),
}

/// News of lines of a device's log.
#[derive(Debug)]
pub enum LogNews {
    /// The server said something.
    Message(LogMessage),
    /// The stream broke off, and why.
    Ended(String),
}

/// News of the link to the server.
#[derive(Debug)]
pub enum LinkEvent {
    /// A connection is being made.
    Connecting,
    /// The server said something.
    Message(Box<StreamMessage>),
    /// The link is down.
    Down {
        /// Why, in words.
        reason: String,
        /// When the next attempt is made; none if a retry is of no use before something changes.
        retry_in: Option<Duration>,
        /// Whether the server refuses the key or what it may do.
        is_denied: bool,
    },
}

/// What a request brought.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What the key may do.
    Me(Box<Me>),
    /// Curves.
    Series(SeriesReply),
    /// A device.
    Device(Box<Device>),
    /// A configuration.
    Config(Box<ConfigView>),
    /// Versions of a configuration, newest first.
    Versions(Vec<ConfigVersionView>),
    /// Events, newest first.
    Events(Vec<EventView>),
    /// A command, as far as it has come.
    Command(Box<CommandView>),
    /// Commands, newest first.
    Commands(Vec<CommandView>),
    /// A batch, as far as it has come.
    Batch(Box<BatchView>),
    /// Batches, newest first.
    Batches(Vec<BatchView>),
    /// Devices of a batch, by id.
    Members(Vec<BatchMember>),
    /// What a batch would be.
    Preview(Box<BatchPreview>),
    /// Keys to the server, without what would let anybody use them.
    Keys(Vec<KeyView>),
    /// A key that was just made. Shows its id only, however it is written down.
    NewKey(Box<ApiKey>),
    /// It is done.
    Done,
}

/// Why a request was not answered as hoped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What went wrong, and what helps, safe to show.
    pub text: String,
    /// The request's number in the server's log.
    pub request_id: Option<String>,
    /// The part of the request that does not do, as the server names it, if it is about one.
    pub field: Option<String>,
}

/// How far one device's provisioning has come.
#[derive(Clone, Debug)]
pub struct Provisioning {
    /// Whose, by its key.
    pub fingerprint: Fingerprint,
    /// How far.
    pub progress: Progress,
}

/// A word to the person at the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The words, safe to show.
    pub text: String,
    /// Whether something went wrong; then it stays until it is dismissed.
    pub is_error: bool,
}
