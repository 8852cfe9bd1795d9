//! What becomes of commands that an earlier run of the agent left unfinished.
//!
//! | how far it was | what becomes of it |
//! |---|---|
//! | accepted | nothing was done yet: it is done, if it is not too late by the wall clock; after another boot only once its server has sent it again |
//! | running: `collect`, `logs`, `restart SERVICE` | the same from the start, [`ATTEMPTS_MAX`] times at most |
//! | running: `rotate-key` | gone on with: how far it is stands in its own file ([`crate::new_key`]) |
//! | running: `restart` | done, since this is another run |
//! | running: `reboot` | done if this is another boot; else there may be one yet, for five minutes |
//! | running: `exec` | unknown, and never done again |

use fleet_core::Chain;
use fleet_core::command::Command;
use fleet_core::identity::ServerIdentity;
use fleet_core::wire::{CommandResult, Outcome};

use super::{ASKED_MAX, AtHand, Desk};
use crate::commands::outcome::result;
use crate::journal::{Begun, CommandId, Stage};
use crate::spool::Moment;

/// How often something is begun that ends the agent each time.
const ATTEMPTS_MAX: u8 = 2;
/// The same of what goes on where it was, and ends the agent once by itself.
const STEPS_MAX: u8 = 12;

/// What was under way when the agent ended.
pub(super) fn interrupted() -> CommandResult {
    result(Outcome::Unknown, "interrupted: the agent ended while it ran")
}

impl Desk {
    /// Takes up what the journal has, as it is opened.
    pub(super) fn recover(&mut self, server: ServerIdentity, now: Moment) {
        let Some(journal) = &mut self.journal else { return };
        let server = server.to_string();
        if journal.entries().iter().any(|entry| entry.about.server != server) {
            if let Err(error) = journal.clear() {
                let error = Chain(&error);
                tracing::warn!(%error, "the old server's commands were left behind");
            }
            return;
        }
        let entries = journal.entries().into_iter().filter_map(|entry| match entry.stage {
            Stage::Accepted => Some((entry.about.id, None)),
            Stage::Running(begun) => Some((entry.about.id, Some(begun))),
            Stage::Done(_) => None,
        });
        let open: Vec<(CommandId, Option<Begun>)> = entries.collect();
        for (id, begun) in open {
            match begun {
                None => self.waiting.push_back(id),
                Some(begun) => self.take_up(id, begun, now),
            }
        }
        if self.news.is_heard() {
            self.connected();
        }
    }

    fn take_up(&mut self, id: CommandId, begun: Begun, now: Moment) {
        match self.command(&id) {
            Some(Command::Restart) => {
                self.over(id, result(Outcome::Succeeded, "the agent began anew"), now);
            }
            Some(Command::Reboot) => match (begun.boot, self.here.boot) {
                (Some(then), Some(here)) if then != here => {
                    self.over(id, result(Outcome::Succeeded, "the device rebooted"), now);
                }
                // One at a time is asked for.
                (Some(_), Some(_)) if self.at_hand.is_none() => {
                    let until = begun.up_millis.saturating_add(ASKED_MAX);
                    self.at_hand = Some(AtHand::Asked(id, until));
                }
                (Some(_), Some(_)) => self.over(id, interrupted(), now),
                (_, None) | (None, _) => {
                    let detail = "this device does not tell one boot from another";
                    self.over(id, result(Outcome::Unknown, detail), now);
                }
            },
            Some(Command::Collect | Command::Logs { .. } | Command::RestartService(_))
                if begun.attempt < ATTEMPTS_MAX =>
            {
                self.waiting.push_back(id);
            }
            Some(Command::RotateKey) if begun.attempt < STEPS_MAX => self.waiting.push_back(id),
            Some(
                Command::Collect
                | Command::Logs { .. }
                | Command::RotateKey
                | Command::RestartService(_)
                | Command::Exec(_),
            )
            | None => self.over(id, interrupted(), now),
        }
    }
}
