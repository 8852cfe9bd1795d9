//! One device: its curves, its configuration, what it is and what happened to it.

use fleet_core::api::{EventView, LiveReport, StreamView};
use fleet_core::id::Uid;

use super::Desk;
use super::popup::Command;
use crate::effect::Request;
use crate::event::{Answer, Failed};
use crate::keys::Action;

/// One device.
#[derive(Debug)]
pub struct DeviceScreen {
    /// Which.
    pub uid: Uid,
}

impl DeviceScreen {
    /// A device of which nothing is known beyond its row.
    pub fn new(uid: Uid) -> Self {
        Self { uid }
    }

    /// Asks for what is missing.
    pub fn settle(&mut self, _desk: &mut Desk) {}

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        if action == Action::Back {
            desk.go_back();
        }
        None
    }

    /// What the server is to send while this is shown.
    pub fn wants(&self, _desk: &Desk) -> StreamView {
        StreamView::default()
    }

    /// Takes a live report.
    pub fn reported(&mut self, _report: LiveReport, _desk: &Desk) {}

    /// Takes an event, of any device.
    pub fn happened(&mut self, _event: &EventView) {}

    /// Notes that the link was down: reports were missed.
    pub fn reconnected(&mut self) {}

    /// Takes an answer, which may be about a device that was shown before.
    pub fn answered(
        &mut self,
        _request: &Request,
        _answer: Result<Answer, Failed>,
        _desk: &mut Desk,
    ) {
    }
}
