//! Finding devices on the local networks, and configuring them.

use crossterm::event::KeyEvent;
use fleet_core::identity::Fingerprint;
use fleet_core::operator::browse::Sighting;

use super::Desk;
use super::popup::Command;
use crate::event::Provisioning;
use crate::keys::Action;

/// Finding and configuring devices.
#[derive(Debug, Default)]
pub struct DiscoverScreen {}

impl DiscoverScreen {
    /// How many devices could be configured.
    pub fn new_devices(&self) -> usize {
        0
    }

    /// Begins to look, if nobody does yet.
    pub fn entered(&mut self, _desk: &mut Desk) {}

    /// Takes what the network shows.
    pub fn saw(&mut self, _sightings: Vec<Sighting>) {}

    /// Notes that nobody can look.
    pub fn browse_failed(&mut self, _reason: String) {}

    /// Takes news of a device that is being configured.
    pub fn provisioning(&mut self, _news: Provisioning, _desk: &mut Desk) {}

    /// Configures devices.
    pub fn provision(&mut self, _chosen: Vec<Fingerprint>, _desk: &mut Desk) {}

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        if action == Action::Back {
            desk.go_back();
        }
        None
    }

    /// Takes a key while something is typed. False if nothing is.
    pub fn types(&mut self, _key: &KeyEvent, _desk: &mut Desk) -> bool {
        false
    }

    /// Takes pasted text while something is typed.
    pub fn paste(&mut self, _text: &str) -> bool {
        false
    }
}
